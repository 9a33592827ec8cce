"""What the README tells a newcomer to type is understood, and what it names exists."""

import re
import shlex
from pathlib import Path

import pytest

from flock_p2p.cli import COMMANDS, build_parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LINES = re.findall(r"python -m flock_p2p ([^`\n#]+)", README)


@pytest.mark.parametrize("line", sorted(set(LINES)))
def test_every_command_in_the_readme_is_understood(line: str) -> None:
    arguments = shlex.split(line)
    if "--help" in arguments:
        assert arguments[0] in {command.name for command in COMMANDS}
        return
    assert build_parser().parse_args(arguments).command == arguments[0]


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
