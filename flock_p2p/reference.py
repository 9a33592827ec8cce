"""docs/cli.md, written from the parsers: `python -m flock_p2p.reference > docs/cli.md`. A test compares the two."""

import sys

from flock_p2p.arguments.walk import Argument, Listed, walk
from flock_p2p.cli import EXIT_CODES, build_parser

_HEAD = """# Commands

Written by `python -m flock_p2p.reference > docs/cli.md` from the parsers; do not edit it by hand. Installed from a
package the command is `flock-p2p`, from anywhere `python -m flock_p2p`. Every command has `--help`; what reports has
`--json`: one object on standard output, and nothing else there. Completion for a shell: `flock-p2p completion --help`.
"""


def render() -> str:
    codes = "\n".join("    " + line.strip() for line in EXIT_CODES.splitlines()[1:])
    parts = [_HEAD, f"## Exit codes\n\n{codes}\n"]
    parts += [_describe(command) for command in walk(build_parser())]
    return "\n".join(parts)


def _describe(command: Listed) -> str:
    lines = [f"## {command.name}", "", command.description]
    rows = [_row(argument) for argument in command.arguments if argument.options != ("-h", "--help")]
    if rows:
        lines += ["", "| argument | what it is |", "|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _row(argument: Argument) -> str:
    name = ", ".join(argument.options) or argument.value
    if argument.options and argument.value:
        name += f" {argument.value}"
    text = argument.help + (" (required)" if argument.is_required and argument.options else "")
    if not argument.options and argument.value.startswith("{"):  # one with a name lists them in its help
        text = f"{text}; one of {', '.join(argument.choices)}" if text else f"one of {', '.join(argument.choices)}"
        name = "ACTION"
    return f"| `{name}` | {text} |".replace("||", "|")


if __name__ == "__main__":
    sys.stdout.write(render())
