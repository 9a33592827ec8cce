"""What contracts/README.md says is so: the tests that check an invariant are there, and the board is that large."""

import json
import re
from importlib import resources
from pathlib import Path

README = Path(__file__).parents[2] / "contracts" / "README.md"


def test_every_test_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", README.read_text("utf-8")))
    assert len(named) > 20
    for file, test in sorted(named):
        path = Path(__file__).parent / file
        assert path.exists(), file
        assert not test or f"def {test}(" in path.read_text("utf-8"), f"{file}::{test}"


def test_the_readme_says_how_much_of_its_code_the_board_fills() -> None:
    artifact = resources.files("flock_contracts").joinpath("artifacts", "TaskBoard.json").read_text("utf-8")
    size = len(json.loads(artifact)["runtime"]) // 2
    assert f"({size:,} of 65,535 bytes)" in README.read_text("utf-8")
