"""Wrong contracts, and what convicts each: small changes of the Vyper sources against the contract tests.

    python benchmarks/contract_mutants.py --count 60

Each mutant is compiled in a temporary place and the contract tests run on it, the fastest first, until one fails. A
mutant that does not compile, or compiles to the same code, is replaced by the next. Results are kept in `--state` by
the mutant and the text of its function, so that an interrupted run goes on, also where other functions have changed
since (`--fresh` forgets them, `--again` retries survivors).
Needs vyper and pytest. Exit code 1 where fewer than `--goal` per cent are killed.
"""

import argparse
import importlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from contract_mutation import Mutant, find_mutants, pick
from vyper.exceptions import VyperException

from flock_contracts.addresses import BY_NAME
from flock_contracts.build_artifacts import ARTIFACTS, SOURCES, compile_contract, render

ROOT = Path(__file__).resolve().parent.parent
TESTS = "tests/contracts"
TIME_LIMIT = 1_200  # seconds of one run: a mutant that makes a test wait for ever is convicted by it
SPARE = 4  # candidates for each mutant asked for; some do not compile
COMMON = ("edges", "sources", "calldata", "gas", "genesis", "artifacts")  # in the names of test files of all contracts
OWN_WORDS: dict[str, tuple[str, ...]] = {
    "Stake": ("stake", "delegat", "restart", *COMMON),
    "TaskBoard": ("board", "task", "draw", "rule", "token", "original", *COMMON),
    "Faucet": ("faucet", *COMMON),
    "Beacon": ("",),
}
SLOW_TO_IMPORT = ("eth.vm.forks.cancun.state", "eth.db.atomic", "hypothesis.stateful", "eth_abi", "numpy")


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


class Campaign:
    def __init__(self, state: Path, sources: Path, pytest_args: list[str]) -> None:
        self.state, self.sources, self.pytest_args = state, sources, pytest_args
        self.results: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, float] = {}  # of each test
        self._read()

    def _read(self) -> None:
        if not self.state.exists():
            return
        for line in self.state.read_text("utf-8").splitlines():
            row = json.loads(line)
            self.seconds |= row.pop("test_seconds", {})
            if "key" in row:
                self.results[row["key"]] = row

    def _append(self, row: dict[str, Any]) -> None:
        self.state.parent.mkdir(parents=True, exist_ok=True)
        with self.state.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def measure(self) -> None:
        """Every test once, on the right contracts: all must pass, and how long each takes orders the later runs."""
        if self.seconds:
            return
        print("no durations yet: all tests run once on the unchanged contracts", file=sys.stderr, flush=True)
        outcome, _ = self._test(ARTIFACTS, SOURCES, (), first_failure=False)
        if outcome["failed"]:
            raise SystemExit(f"the unchanged contracts fail {outcome['failed']}")
        self.seconds = outcome["seconds"]
        self._append({"test_seconds": self.seconds})

    def judge(self, mutant: Mutant) -> dict[str, Any]:
        users = users_of(mutant.module, self.sources)
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            sources, artifacts = Path(folder, "vyper"), Path(folder, "artifacts")
            shutil.copytree(self.sources, sources)
            artifacts.mkdir()
            mutant.apply(sources)
            row: dict[str, Any] = {
                "key": mutant.key, "module": mutant.module, "line": mutant.line, "operator": mutant.operator,
                "before": mutant.before.strip(), "after": mutant.after.strip(),
            }  # fmt: skip
            row |= self._judge_compiled(users, sources, artifacts)
        self.results[mutant.key] = row
        self._append(row)
        return row

    def _judge_compiled(self, users: list[str], sources: Path, artifacts: Path) -> dict[str, Any]:
        changed = False
        for name in users:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    artifact = compile_contract(name, sources)
            except (VyperException, AssertionError, ValueError) as error:
                return {"outcome": "not compiled", "why": type(error).__name__}
            changed |= artifact["runtime"] != json.loads((ARTIFACTS / f"{name}.json").read_text("utf-8"))["runtime"]
            (artifacts / f"{name}.json").write_text(render(artifact), "utf-8")
        is_lock = any("# @nonreentrant" in path.read_text("utf-8") for path in sources.glob("*.vy"))
        if not changed and not is_lock:
            return {"outcome": "same code"}
        outcome, seconds = self._test(artifacts, sources, users, first_failure=True)
        killed = outcome["failed"] is not None
        return {"outcome": "killed" if killed else "survived", "by": outcome["failed"], "test_time": round(seconds, 1)}

    def _test(
        self, artifacts: Path, sources: Path, users: Iterable[str], *, first_failure: bool
    ) -> tuple[dict[str, Any], float]:
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            order, result = Path(folder, "order.json"), Path(folder, "outcome.json")
            order.write_text(json.dumps(self._ranks()), "utf-8")
            environment = {
                "FLOCK_ARTIFACTS": str(artifacts), "FLOCK_SOURCES": str(sources), "FLOCK_ORDER": str(order),
                "FLOCK_OUTCOME": str(result), "FLOCK_WORDS": ",".join(own_words(users)),
            }  # fmt: skip
            arguments = ["-q", "-p", "mutant_plugin", "-p", "no:cacheprovider", *(["-x"] if first_failure else [])]
            began = time.monotonic()
            if not run_in_child([*arguments, *self.pytest_args, TESTS], environment, Path(folder, "log")):
                return {"failed": f"the time limit of {TIME_LIMIT} s", "seconds": {}}, float(TIME_LIMIT)
            if not result.exists():
                raise SystemExit(f"pytest left no result:\n{Path(folder, 'log').read_text('utf-8')[-4_000:]}")
            return json.loads(result.read_text("utf-8")), time.monotonic() - began

    def _ranks(self) -> dict[str, float]:
        """The fastest first."""
        ordered = sorted(self.seconds, key=lambda test: (self.seconds[test], test))
        return {test: float(rank) for rank, test in enumerate(ordered)}


def own_words(users: Iterable[str]) -> list[str]:
    """What the names of the test files hold that use these contracts; nothing for all files."""
    words = [word for user in users for word in OWN_WORDS[user]]
    return [] if "" in words else words


def run_in_child(arguments: list[str], environment: dict[str, str], log: Path) -> bool:
    """pytest in a fork of this process, which has imported what is slow to import; false at the time limit."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.environ.update(environment)
            target = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(target, 1)
            os.dup2(target, 2)
            os.chdir(ROOT)
            code = int(pytest.main(arguments))
        finally:
            os._exit(code)
    deadline = time.monotonic() + TIME_LIMIT
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'mutant':9} {'where':15} {'what':19} {'outcome':13} {'seconds':>7}  killed by, or the change"]
    for row in rows:
        why = (row.get("by") or "").removeprefix(f"{TESTS}/") or f"{row['before']}  ->  {row['after']}"
        where = f"{row['module']}:{row['line']}"
        seconds = row.get("test_time", 0.0)
        lines.append(f"{row['key']:9} {where:15} {row['operator']:19} {row['outcome']:13} {seconds:7.1f}  {why[:110]}")
    return "\n".join(lines)


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    valid = [row for row in rows if row["outcome"] in ("killed", "survived")]
    killed = [row for row in valid if row["outcome"] == "killed"]
    return {
        "mutants": len(valid),
        "killed": len(killed),
        "percent": round(100 * len(killed) / len(valid), 1) if valid else 0.0,
        "modules": len({row["module"] for row in valid}),
        "survivors": [row for row in valid if row["outcome"] == "survived"],
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
    parser.add_argument("--part", default="1/1", metavar="I/N", help="every N-th: N processes share one --state")
    parser.add_argument("--list", action="store_true", help="show the choice and run nothing")
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    parser.add_argument("--pytest", action="append", default=[], metavar="ARG", help="passed on to pytest")
    options = parser.parse_args()
    order = pick(find_mutants(SOURCES), SPARE * options.count, options.seed)
    if options.only:
        order = [mutant for mutant in find_mutants(SOURCES) if mutant.key in options.only]
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
    part, parts = map(int, options.part.split("/"))
    if parts > 1:
        order = order[part - 1 : options.count + SPARE : parts]
    rows = run(campaign, order, options.count, options.again)
    totals = summarise(rows)
    print(json.dumps({**totals, "rows": rows}) if options.json else table(rows))
    print(f"{totals['killed']} of {totals['mutants']} killed ({totals['percent']} %)", file=sys.stderr)
    return 0 if totals["percent"] >= options.goal else 1


def run(campaign: Campaign, order: list[Mutant], count: int, again: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    valid = 0
    for mutant in order:
        if valid == count:
            break
        row = campaign.results.get(mutant.key)
        if row is None or (again and row["outcome"] == "survived"):
            row = campaign.judge(mutant)
            print(table([row]).splitlines()[1], file=sys.stderr, flush=True)
        valid += row["outcome"] in ("killed", "survived")
        rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main())
