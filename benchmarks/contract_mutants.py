"""Wrong contracts, and what convicts each: small changes of the Vyper sources against the contract tests.

    python benchmarks/contract_mutants.py --count 60

Each mutant is compiled in a temporary place and the contract tests that can see it run on it until one fails: those
first that are quick, killed others before, or are named after the changed module. A mutant that does not compile, or
compiles to the same code, is reported and replaced by the next. All limits are of CPU time: how busy the machine is
decides nothing. Results are kept in `--state` by the mutant and the text of its function, so that an interrupted run
goes on, also where other functions have changed since (`--fresh` forgets them, `--again` retries survivors). A run that
outlives the terminal: `setsid nohup python benchmarks/contract_mutants.py > mutants.log 2>&1 &`.
Needs vyper and pytest. Exit code 1 where fewer than `--goal` per cent are killed.
"""

import argparse
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from contract_mutation import Mutant, find_mutants, pick
from mutant_child import Ended, quick_compiler, run_in_child
from vyper.exceptions import VyperException

from flock_contracts.addresses import BY_NAME
from flock_contracts.build_artifacts import ARTIFACTS, SOURCES, compile_contract, render

ROOT = Path(__file__).resolve().parent.parent
TESTS = "tests/contracts"
TEST_LIMIT = 900  # CPU seconds of one run: more than three times what all tests take on the right contracts
COMPILE_LIMIT = 120  # CPU seconds; the largest contract takes ten
SPARE = 4  # candidates for each mutant asked for; some do not compile
NAMED_AFTER = 5.0  # how much likelier a test is to kill whose file is named after the changed module
LEAST_SECONDS = 0.05  # of a test, for the order: what is below is noise
COMMON = ("edges", "sources", "calldata", "genesis", "artifacts")  # in the names of test files of all contracts
OWN_WORDS: dict[str, tuple[str, ...]] = {  # of test files that can see a contract; after "-": that cannot
    "Stake": ("stake", "rules", *COMMON),
    "Faucet": ("faucet", *COMMON),
    "Beacon": (),
}
OTHER_WORDS = ("-test_stake",)  # of every other contract's tests
SLOW_TO_IMPORT = ("eth.vm.forks.cancun.state", "eth.db.atomic", "hypothesis.stateful", "eth_abi", "numpy")
JUDGED = ("killed", "survived", "timeout")


def imports_of(name: str, sources: Path) -> set[str]:
    """A module and everything that it is compiled from."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        path = next(iter(sources.glob(f"{waiting.pop()}.vy*")), None)
        if path is None or path.stem in found:
            continue
        found.add(path.stem)
        waiting += re.findall(r"^import (\w+)$", path.read_text("utf-8"), re.MULTILINE)
    return found


def users_of(module: str, sources: Path) -> list[str]:
    """The contracts that a module is compiled into."""
    return [name for name in BY_NAME if module in imports_of(name, sources)]


def revision() -> str:
    """Of the sources and tests, where there is git."""
    found = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip()


def compile_all(names: Iterable[str], sources: Path, artifacts: Path) -> dict[str, Any]:
    """Whether other code came out than what is committed, or why none did."""
    changed = False
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                artifact = compile_contract(name, sources)
        except (VyperException, AssertionError, ValueError) as error:
            return {"outcome": "not compiled", "why": type(error).__name__}
        changed |= artifact["runtime"] != json.loads((ARTIFACTS / f"{name}.json").read_text("utf-8"))["runtime"]
        (artifacts / f"{name}.json").write_text(render(artifact), "utf-8")
    return {} if changed else {"outcome": "same code"}


class Campaign:
    def __init__(self, state: Path, sources: Path, pytest_args: list[str]) -> None:
        self.state, self.sources, self.pytest_args = state, sources, pytest_args
        self.results: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, float] = {}  # CPU, of each test
        self.kills: Counter[str] = Counter()
        self.revision = revision()
        self._read()

    def _read(self) -> None:
        if not self.state.exists():
            return
        for line in self.state.read_text("utf-8").splitlines():
            row = json.loads(line)
            self.seconds |= row.pop("test_seconds", {})
            if "key" in row:
                self.results[row["key"]] = row
                self.kills[row.get("by") or ""] += 1

    def _append(self, row: dict[str, Any]) -> None:
        self.state.parent.mkdir(parents=True, exist_ok=True)
        with self.state.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def measure(self) -> None:
        """Every test once, on the right contracts: all must pass, and what each takes orders the later runs."""
        if self.seconds:
            return
        print("no durations yet: all tests run once on the unchanged contracts", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            outcome, _ = self._compile(list(BY_NAME), self.sources, Path(folder))
            if outcome != {"outcome": "same code"}:
                raise SystemExit(f"the sources do not compile to the committed artifacts: {outcome}")
        found, ended = self._test(ARTIFACTS, SOURCES, [], {}, first_failure=False)
        if ended.code is None or found["failed"]:
            raise SystemExit(f"the unchanged contracts fail {found['failed']} (None: at the limit of CPU time)")
        self.seconds = found["seconds"]
        self._append({"test_seconds": self.seconds, "revision": self.revision})

    def judge(self, mutant: Mutant) -> dict[str, Any]:
        users = users_of(mutant.module, self.sources)
        row: dict[str, Any] = {
            "key": mutant.key, "module": mutant.module, "line": mutant.line, "operator": mutant.operator,
            "before": mutant.before.strip(), "after": mutant.after.strip(), "revision": self.revision,
        }  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            sources, artifacts = Path(folder, "vyper"), Path(folder, "artifacts")
            shutil.copytree(self.sources, sources)
            artifacts.mkdir()
            mutant.apply(sources)
            outcome, compiled = self._compile(users, sources, artifacts)
            row |= outcome | {"compile_cpu": round(compiled.cpu, 1)}
            if not outcome:
                found, ended = self._test(artifacts, sources, users, self._ranks(mutant.module), first_failure=True)
                row |= {"outcome": verdict(found, ended), "by": found["failed"], "test_cpu": round(ended.cpu, 1)}
        self.results[mutant.key] = row
        self.kills[row.get("by") or ""] += 1
        self._append(row)
        return row

    def _compile(self, names: list[str], sources: Path, artifacts: Path) -> tuple[dict[str, Any], Ended]:
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            result = Path(folder, "outcome.json")

            def work() -> int:
                with quick_compiler():
                    result.write_text(json.dumps(compile_all(names, sources, artifacts)), "utf-8")
                return 0

            ended = run_in_child(work, COMPILE_LIMIT, Path(folder, "log"))
            if ended.code is None:
                return {"outcome": "not compiled", "why": "the limit of CPU time"}, ended
            if ended.code:
                raise SystemExit(f"the compiler failed:\n{Path(folder, 'log').read_text('utf-8')[-4_000:]}")
            return json.loads(result.read_text("utf-8")), ended

    def _test(
        self,
        artifacts: Path,
        sources: Path,
        users: list[str],
        ranks: dict[str, float],
        *,
        first_failure: bool,
        tests: Sequence[str] = (TESTS,),
    ) -> tuple[dict[str, Any], Ended]:
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            order, result, log = (Path(folder, name) for name in ("order.json", "outcome.json", "log"))
            order.write_text(json.dumps(ranks), "utf-8")
            environment = {
                "FLOCK_ARTIFACTS": str(artifacts), "FLOCK_SOURCES": str(sources), "FLOCK_ORDER": str(order),
                "FLOCK_OUTCOME": str(result), "FLOCK_WORDS": ",".join(own_words(users)), "FLOCK_SHRINK": "0",
            }  # fmt: skip
            arguments = ["-q", "-p", "mutant_plugin", "-p", "no:cacheprovider", *(["-x"] if first_failure else [])]

            def work() -> int:
                os.environ.update(environment)
                os.chdir(ROOT)
                return int(pytest.main([*arguments, *self.pytest_args, *tests]))

            ended = run_in_child(work, TEST_LIMIT, log)
            if ended.code is None:
                return {"failed": None, "seconds": {}}, ended
            if not result.exists():
                raise SystemExit(f"pytest left no result:\n{log.read_text('utf-8')[-4_000:]}")
            return json.loads(result.read_text("utf-8")), ended

    def _ranks(self, module: str) -> dict[str, float]:
        """The least CPU time for a likely kill comes first."""
        word = module.lower().rstrip("s")

        def rank(test: str) -> float:
            chance = 1.0 + self.kills[test]
            chance *= NAMED_AFTER if word in test.split("::")[0] else 1.0
            return max(self.seconds[test], LEAST_SECONDS) / chance

        return {test: rank(test) for test in self.seconds}


def verdict(found: dict[str, Any], ended: Ended) -> str:
    if ended.code is None:
        return "timeout"
    return "killed" if found["failed"] else "survived"


def own_words(users: Iterable[str]) -> list[str]:
    """What the names of the test files hold that can see these contracts; nothing for all files."""
    words = [OWN_WORDS.get(user, OTHER_WORDS) for user in users]
    return list(words[0]) if len(words) == 1 else []


def table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'mutant':9} {'where':17} {'what':19} {'outcome':13} {'CPU s':>7}  killed by, or the change"]
    for row in rows:
        why = (row.get("by") or "").removeprefix(f"{TESTS}/") or f"{row['before']}  ->  {row['after']}"
        where = f"{row['module']}:{row['line']}"
        seconds = row.get("compile_cpu", 0.0) + row.get("test_cpu", 0.0)
        lines.append(f"{row['key']:9} {where:17} {row['operator']:19} {row['outcome']:13} {seconds:7.1f}  {why[:110]}")
    return "\n".join(lines)


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A run that the limit ended is no kill: it wants an explanation, as a survivor does."""
    outcomes = Counter(row["outcome"] for row in rows)
    judged = sum(outcomes[outcome] for outcome in JUDGED)
    return {
        "mutants": judged,
        **{outcome: outcomes[outcome] for outcome in ("killed", "timeout", "same code", "not compiled")},
        "percent": round(100 * outcomes["killed"] / judged, 1) if judged else 0.0,
        "modules": len({row["module"] for row in rows if row["outcome"] in JUDGED}),
        "cpu_seconds": round(sum(row.get("compile_cpu", 0.0) + row.get("test_cpu", 0.0) for row in rows)),
        "survivors": [row for row in rows if row["outcome"] == "survived"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60, help="mutants that compile (default 60)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--goal", type=float, default=95.0, help="per cent (default 95)")
    parser.add_argument("--state", type=Path, default=ROOT / "build" / "contract_mutants.jsonl")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument("--again", action="store_true", help="run survivors again, after a test was added")
    parser.add_argument("--only", action="append", default=[], metavar="KEY", help="this mutant alone")
    parser.add_argument("--module", action="append", default=[], metavar="NAME", help="of this module alone")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="every N-th: N processes share one --state")
    parser.add_argument("--list", action="store_true", help="show the choice and run nothing")
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    parser.add_argument("--pytest", action="append", default=[], metavar="ARG", help="passed on to pytest")
    options = parser.parse_args()
    order = choose(options)
    if options.list:
        for mutant in order[: options.count]:
            print(f"{mutant.key} {mutant.module}:{mutant.line} {mutant.operator}: {mutant.after.strip()}")
        return 0
    os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    for name in SLOW_TO_IMPORT:
        importlib.import_module(name)
    if options.fresh:
        options.state.unlink(missing_ok=True)
    campaign = Campaign(options.state, SOURCES, options.pytest)
    campaign.measure()
    rows = run(campaign, order, options.count, options.again)
    totals = summarise(rows)
    print(json.dumps({**totals, "rows": rows}) if options.json else table(rows))
    print(f"{totals['killed']} of {totals['mutants']} killed ({totals['percent']} %)", file=sys.stderr)
    return 0 if totals["percent"] >= options.goal else 1


def choose(options: argparse.Namespace) -> list[Mutant]:
    found = [mutant for mutant in find_mutants(SOURCES) if not options.module or mutant.module in options.module]
    if options.only:
        return [mutant for mutant in found if mutant.key in options.only]
    order = pick(found, SPARE * options.count, options.seed)
    part, parts = map(int, options.part.split("/"))
    return order if parts == 1 else order[part - 1 : options.count + SPARE : parts]


def run(campaign: Campaign, order: list[Mutant], count: int, again: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    valid = 0
    for mutant in order:
        if valid == count:
            break
        row = campaign.results.get(mutant.key)
        if row is None or (again and row["outcome"] in ("survived", "timeout")):
            row = campaign.judge(mutant)
            print(table([row]).splitlines()[1], file=sys.stderr, flush=True)
        valid += row["outcome"] in JUDGED
        rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main())
