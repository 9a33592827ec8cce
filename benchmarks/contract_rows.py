"""Every row of the tables of invariants in contracts/README.md, broken on purpose: the tests it names must fail.

    python benchmarks/contract_rows.py [--tables first|others] [--only WORDS] [--json]

Each wrong contract is compiled in a temporary place, and the row's own tests run on it, no others, until one fails.
Exit code 1 where a row has no wrong contract here, or its tests pass on one.
"""

import argparse
import importlib
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from contract_mutants import ROOT, SLOW_TO_IMPORT, TESTS, Campaign, users_of
from contract_wrongs import MORE, WRONG, Wrong

from flock_contracts.build_artifacts import SOURCES

README = ROOT / "contracts" / "README.md"


def rows() -> dict[str, list[str]]:
    """The tests that each sentence of the tables names."""
    text = README.read_text("utf-8").split("## Invariants, and what checks each")[1].split("| defect | test |")[0]
    found = {}
    for line in text.splitlines():
        cells = line.strip("| ").split(" | ")
        tests = re.findall(r"`(test_\w+\.py(?:::test_\w+)?)`", cells[-1])
        if line.startswith("| ") and tests:
            found[cells[0]] = tests
    return found


class Rows(Campaign):
    """Wrong contracts with a known purpose; nothing is kept."""

    def __init__(self) -> None:
        super().__init__(Path(os.devnull), SOURCES, [])

    def break_row(self, wrong: Wrong, tests: list[str]) -> dict[str, Any]:
        row: dict[str, Any] = {"sentence": wrong.sentence, "module": wrong.module, "by": None}
        with tempfile.TemporaryDirectory(prefix="row-") as folder:
            sources, artifacts = Path(folder, "vyper"), Path(folder, "artifacts")
            shutil.copytree(self.sources, sources)
            artifacts.mkdir()
            path = sources / f"{wrong.module}.vy"
            text = path.read_text("utf-8")
            if text.count(wrong.before) != 1:
                return row | {"outcome": f"the text to change is there {text.count(wrong.before)} times"}
            path.write_text(text.replace(wrong.before, wrong.after), "utf-8")
            outcome, _ = self._compile(users_of(wrong.module, self.sources), sources, artifacts)
            if outcome:
                return row | outcome
            found, ended = self._test(artifacts, sources, [], {}, first_failure=True, tests=tests)
            killed = ended.code is not None and bool(found["failed"])
            by = (found["failed"] or "").removeprefix(f"{TESTS}/")
            return row | {"outcome": "failed" if killed else "passed", "by": by, "test_cpu": round(ended.cpu, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="sentences that hold these words")
    parser.add_argument("--tables", choices=("all", "first", "others"), default="all")
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    options = parser.parse_args()
    os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    for name in SLOW_TO_IMPORT:
        importlib.import_module(name)
    named, campaign, results = rows(), Rows(), []
    wrongs = {"first": WRONG, "others": MORE, "all": (*WRONG, *MORE)}[options.tables]
    for wrong in wrongs:
        if options.only and options.only not in wrong.sentence:
            continue
        tests = next(tests for sentence, tests in named.items() if sentence.startswith(wrong.sentence))
        results.append(campaign.break_row(wrong, [f"{TESTS}/{test}" for test in tests]))
        row = results[-1]
        print(
            f"{row['outcome']:8} {row['module']:10} {wrong.sentence:40} {row['by'] or ''}", file=sys.stderr, flush=True
        )
    untried = [one for one in named if not any(one.startswith(wrong.sentence) for wrong in (*WRONG, *MORE))]
    passed = [row for row in results if row["outcome"] != "failed"]
    if options.json:
        print(json.dumps({"rows": results, "untried": untried}))
    print(f"{len(results) - len(passed)} of {len(results)} seen to fail; untried: {untried or 'none'}", file=sys.stderr)
    return 1 if passed or untried else 0


if __name__ == "__main__":
    sys.exit(main())
