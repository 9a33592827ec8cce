"""A program beside the product, started as a page says and stopped once it has understood what it is told.

All that it imports at its start is imported then, what it imports later is at least there, and every option with its
value was taken by its own parser. In a process of its own: programs change what they find.
"""

import argparse
import ast
import contextlib
import importlib.util
import io
import json
import runpy
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

from documented_support import ROOT, find_program

ELSEWHERE = {"atheris"}  # of the extra `fuzz` alone
NAMED = {"N": "3", "S": "3", "I": "1"}  # words of the pages that stand for a number


class Understood(BaseException):
    """The parser has taken everything."""


def main() -> None:
    """Reads rows of (program, words) from standard input, and prints those that failed, with why."""
    failures = {}
    for name, words in json.load(sys.stdin):
        try:
            rehearse(name, words)
        except Exception as error:  # noqa: BLE001 - the report's edge
            failures[f"{name} {' '.join(words)}".strip()] = f"{type(error).__name__}: {error}"
    print(json.dumps(failures))


def rehearse(name: str, words: Sequence[str]) -> None:
    """Raises where the program could not have begun."""
    source = find_program(name)
    for module in find_late_imports(source.read_text()):
        package = module.partition(".")[0]
        if package not in ELSEWHERE and importlib.util.find_spec(package) is None:
            raise ImportError(f"imports {module} while it runs, which is not here")
    said = io.StringIO()
    with patch.object(sys, "argv", [str(source), *words]), patch.object(sys, "path", [str(source.parent), *sys.path]):
        parts = runpy.run_path(str(source), run_name="rehearsal")
        if "ArgumentParser(" not in source.read_text():
            if words:
                raise ValueError("takes no options")
            return
        with stopping_at_the_parser(), contextlib.redirect_stderr(said):
            try:
                parts["main"]()
            except Understood:
                return
            except SystemExit as error:
                raise ValueError(said.getvalue().strip().splitlines()[-1]) from error
    raise ValueError("never asked its parser")


@contextlib.contextmanager
def stopping_at_the_parser() -> Iterator[None]:
    real = argparse.ArgumentParser.parse_args

    def parse(self: argparse.ArgumentParser, *arguments: object, **named: object) -> None:
        check_inputs(real(self, *arguments, **named))  # type: ignore[arg-type]
        raise Understood

    with patch.object(argparse.ArgumentParser, "parse_args", parse):
        yield


def check_inputs(options: argparse.Namespace) -> None:
    """What lies in this repository by its name is there; what a reader makes is theirs."""
    for name, value in vars(options).items():
        if (
            isinstance(value, Path)
            and value.parts[0] in ("benchmarks", "tests", "docs")
            and not (ROOT / value).exists()
        ):
            raise ValueError(f"--{name} {value}: is not there")


def find_late_imports(text: str) -> set[str]:
    """Modules that functions import."""
    tree = ast.parse(text)
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in tree.body:
            continue
        if isinstance(node, ast.Import):
            found |= {row.name for row in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


def as_typed(rest: str, names: dict[str, str]) -> list[str]:
    """The words behind a program on a page: `[--option VALUE]` may be left out, and is not; of `this|that`, this."""
    words = rest.partition(">")[0].replace("[", " ").replace("]", " ").replace(",...", "").replace(" ...", "").split()
    return [(NAMED | names).get(word, word.partition("|")[0]) for word in words]


if __name__ == "__main__":
    main()
