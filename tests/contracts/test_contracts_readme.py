"""What contracts/README.md says is so: the tests that check an invariant are there, and the board is that large."""

import json
import re
from importlib import resources
from pathlib import Path

from flock_chain.tally import Verdict

README = Path(__file__).parents[2] / "contracts" / "README.md"
SOURCES = resources.files("flock_contracts").joinpath("vyper")


def test_every_test_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", README.read_text("utf-8")))
    assert len(named) > 20
    for file, test in sorted(named):
        path = Path(__file__).parent / file
        assert path.exists(), file
        assert not test or f"def {test}(" in path.read_text("utf-8"), f"{file}::{test}"


def test_the_readme_names_every_phase_every_verdict_and_every_module_of_the_sources() -> None:
    text = README.read_text("utf-8")
    numbers = re.findall(
        r"^([A-Z_]+): constant\(uint256\) = (\d+)", SOURCES.joinpath("types.vy").read_text("utf-8"), re.M
    )
    names = [name for name, _ in numbers]
    phases = names[names.index("WAITING") : names.index("ENDED") + 1]
    verdicts = names[names.index("UNJUDGED") + 1 : names.index("REJECTED_AGGREGATE") + 1]
    assert [number for _, number in numbers[names.index("WAITING") :]][: len(phases)] == [str(n) for n in range(12)]
    assert [phase for phase in phases if f"| {phase} |" not in text] == []
    assert verdicts == [verdict.name for verdict in Verdict if verdict]
    assert [verdict for verdict in verdicts if not re.search(rf"\b{verdict}\b", text)] == []
    modules = {file.name.split(".")[0] for file in SOURCES.iterdir() if file.name.endswith((".vy", ".vyi"))}
    assert [module for module in sorted(modules) if not re.search(rf"\b{module}\b", text)] == []


def test_every_row_of_a_table_of_invariants_names_a_test_and_every_defect_has_its_own() -> None:
    """A row without one says what nobody checks."""
    text = README.read_text("utf-8")
    invariants = text.split("## Invariants, and what checks each")[1].split("## What the originals got wrong")[0]
    rows = [line for line in invariants.splitlines() if line.startswith("| ") and "---" not in line]
    rows = [row for row in rows if row.split(" | ")[0] not in ("| sentence", "| invariant")]
    assert len(rows) > 90 and [row for row in rows if "`test_" not in row.split(" | ")[-1]] == []
    defects = text.split("| defect | test |")[1].split("## Threats")[0]
    tests = [row.split(" | ")[-1] for row in defects.splitlines() if row.startswith("| ") and "---" not in row]
    assert len(tests) == 12 and all("::test_" in test for test in tests)


def test_the_readme_says_how_much_of_its_code_the_board_fills() -> None:
    artifact = resources.files("flock_contracts").joinpath("artifacts", "TaskBoard.json").read_text("utf-8")
    size = len(json.loads(artifact)["runtime"]) // 2
    assert f"({size:,} of 65,535 bytes)" in README.read_text("utf-8")
