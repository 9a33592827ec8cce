"""What contracts/README.md says checks an invariant is there."""

import re
from pathlib import Path

README = Path(__file__).parents[2] / "contracts" / "README.md"


def test_every_test_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", README.read_text("utf-8")))
    assert len(named) > 20
    for file, test in sorted(named):
        path = Path(__file__).parent / file
        assert path.exists(), file
        assert not test or f"def {test}(" in path.read_text("utf-8"), f"{file}::{test}"
