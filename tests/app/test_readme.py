"""What README.md and docs/ tell people to type is understood, and what they name exists.

What the pages for users tell them is also run: tests/process/test_documented_commands.py.
"""

import re
import shlex
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
    for target in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_reference_is_what_the_parsers_say() -> None:
    written = (ROOT / "docs" / "cli.md").read_text()
    assert written == render(), "run `python -m flock_p2p.reference > docs/cli.md`"
    for command in COMMANDS:
        assert f"## {command.name}\n" in written
