"""What README.md and docs/ tell people to type is understood, and what they name exists.

What the pages for users tell them is also run: tests/process/test_documented_commands.py.
"""

import argparse
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from documented_support import NAMES, PROGRAM, ROOT, all_pages, find_commands, find_program

from flock_p2p.cli import COMMANDS, build_parser
from flock_p2p.reference import render

README = (ROOT / "README.md").read_text()
TEXTS = all_pages()
_PYTEST = re.compile(r"python -m pytest ([^`\n#\\]*)")
_PLACEHOLDERS = {"N": "3", "S": "3", "J": "2", "n": "4", "HEIGHT": "7"}  # words that stand for a number


LINES = {line for path in TEXTS for line in find_commands(path.read_text())}


@pytest.mark.parametrize("line", sorted(LINES))
def test_every_command_in_the_documents_is_understood(line: str) -> None:
    arguments = [_PLACEHOLDERS.get(word, word) for word in shlex.split(line.replace("[", "").replace("]", ""))]
    if "--help" in arguments:
        assert arguments[0] == "--help" or arguments[0] in NAMES
        return
    assert build_parser().parse_args(arguments).command == arguments[0]


PROGRAMS = {found for path in TEXTS for found in PROGRAM.findall(path.read_text())}


@pytest.mark.parametrize(("module", "script", "rest"), sorted(PROGRAMS))
def test_every_other_program_in_the_documents_is_there_and_knows_its_options(
    module: str, script: str, rest: str
) -> None:
    """Benchmarks and the like, which take minutes to hours: what is told to them stands in their source. Which of them
    run at their shortest: tests/process/test_documented_programs.py."""
    source = find_program(script or module)
    for option in re.findall(r"--[\w-]+", rest):
        assert f'"{option}"' in source.read_text(), option


def test_options_that_are_named_without_a_whole_command_are_there() -> None:
    """`join --disk-quota GB` in a sentence; or `--quick` alone, of what the same page names with its options."""
    known = {name: find_options(parser) for name, parser in find_parsers(build_parser()).items()}
    for path in TEXTS:
        text = path.read_text()
        programs = [find_program(script or module).read_text() for module, script, _ in PROGRAM.findall(text)]
        for words in (found.split() for found in re.findall(r"`([^`]+)`", text)):
            options = [word.rstrip(",") for word in words if word.startswith("--")]
            if words and words[0] in NAMES:
                assert set(options) <= known[words[0]], (path.name, words)
            elif words and options[:1] == words[:1]:
                for option in options:
                    is_ours = any(option in each for each in known.values())
                    assert is_ours or any(f'"{option}"' in each for each in programs), (path.name, words)


def find_parsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    rows = [row.choices for row in parser._actions if isinstance(row, argparse._SubParsersAction)]
    return {name: each for choices in rows for name, each in choices.items()}


def find_options(parser: argparse.ArgumentParser) -> set[str]:
    found = set(parser._option_string_actions)
    return found.union(*map(find_options, find_parsers(parser).values()))


_TOOLS = "make|pip|npm|node|curl|git|pytest|python3?|sudo|apt|docker|uv|conda|brew"
SHELL = re.compile(rf"^    (?:[A-Z_]+=\S+ )*((?:{_TOOLS})\b.*)")
SET_UP = {  # lines of a shell that are neither the product's nor a program's; and what of them is run, by `make test`
    "python3 -m venv .venv && . .venv/bin/activate": "-m venv $(VENV)",
    "pip install -c constraints.txt .": "pip install --quiet -c constraints.txt",
    "python -m pip install -e '.[fuzz]'": "",  # the engine of a campaign; the extra is there:
}


OWN_WORDS = {  # commands whose output is no report, or is JSON anyway
    "join": "runs on; `status --json` asks it", "demo": "`--report FILE` writes JSON", "abi": "is JSON",
    "completion": "is a shell's script",
}  # fmt: skip


def test_all_that_reports_has_json() -> None:
    for name, parser in find_parsers(build_parser()).items():
        leaves = find_parsers(parser).values() or [parser]
        assert name in OWN_WORDS or all("--json" in each._option_string_actions for each in leaves), name


def test_every_other_line_of_a_shell_is_of_a_kind_that_something_runs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    lines = [found[1] for path in TEXTS for line in path.read_text().splitlines() if (found := SHELL.match(line))]
    for line in (line.partition("    ")[0].strip() for line in lines):
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE), line
        elif not (find_commands(line) or PROGRAM.search(line) or _PYTEST.search(line)):
            assert SET_UP[line] in makefile, line
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for path in TEXTS:
        for names in re.findall(r"(?:flock-p2p|\.)\[([\w,]+)\]'", path.read_text()):
            assert set(names.split(",")) <= set(extras), (path.name, names)


def test_every_test_that_the_documents_name_is_there() -> None:
    named = {name for path in TEXTS for line in _PYTEST.findall(path.read_text()) for name in line.split()}
    paths = [name for name in named if name.startswith("tests/")]
    assert len(paths) > 10
    for name in paths:
        assert list(ROOT.glob(name)), name


def test_the_readme_lists_every_command_and_no_other() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))
    assert listed == {command.name for command in COMMANDS}


def test_the_two_set_up_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+) ", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_and_paths_of_the_readme_exist() -> None:
    for path in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"^    ([\w/]+/) ", README, re.MULTILINE):
        assert (ROOT / path).is_dir(), path


def test_the_documents_hold_the_commands_that_they_are_known_to_hold() -> None:
    """So that a pattern that finds nothing is noticed."""
    assert len(LINES) > 20 and any(line.startswith("restart propose") for line in LINES)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_every_document_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", path.read_text())
    for target, heading in links:
        found = path.parent / target if target else path
        assert found.exists(), target
        assert not heading or heading in find_headings(found), (target, heading)


def find_headings(path: Path) -> list[str]:
    """As a link names them: small letters, hyphens for spaces, and no other sign."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_the_reference_is_what_the_parsers_say() -> None:
    written = (ROOT / "docs" / "cli.md").read_text()
    assert written == render(), "run `python -m flock_p2p.reference > docs/cli.md`"
    for command in COMMANDS:
        assert f"## {command.name}\n" in written


@pytest.mark.parametrize("command", ["task", "stake"])
def test_what_each_order_of_a_command_does_is_said_by_its_help_or_the_page_that_its_help_names(command: str) -> None:
    """`task leave` stood in a list of seventeen words, and nowhere else."""
    parser = next(row for row in COMMANDS if row.name == command)
    told = argparse.ArgumentParser()
    parser.add_arguments(told)
    action = next(row for row in told._actions if row.dest == "action")
    assert action.help and "docs/validators.md" in action.help and action.choices
    page = (ROOT / "docs" / "validators.md").read_text()
    for order in action.choices:
        assert re.search(rf"\b{order}\b[^:;]*:", action.help) or f"`{command} {order}" in page or order == "status"
