"""Long runs of the contracts' state machines and of raw calldata.

    python benchmarks/contract_soak.py board|stake|delegation|two-tasks|calldata

Runs parts of a hundred examples, each with a seed of its own, until `--examples` are done. Finished parts are kept in
`--state`, so that an interrupted run goes on, and N processes can share the work (`--part I/N`). A run that outlives
the terminal: `nohup nice -n 19 python benchmarks/contract_soak.py board > soak.log 2>&1 &`. A failure is shrunk,
printed with its steps, and ends the run with exit status 1; `--json` gives one object.
"""

import argparse
import importlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "contracts")]

MACHINES = {
    "board": "test_board_machine", "stake": "test_stake_machine", "delegation": "test_delegation_machine",
    "two-tasks": "test_two_tasks_machine", "calldata": "test_calldata_fuzz",
}  # fmt: skip
PART = 100  # examples
FIRST_SEED = 1_000  # those below are the test suite's

RunPart = Callable[[int, int], Counter[str]]


def read_parts(state: Path, machine: str) -> dict[int, dict[str, Any]]:
    """Finished parts by their seed."""
    if not state.exists():
        return {}
    rows = [json.loads(line) for line in state.read_text("utf-8").splitlines()]
    return {row["seed"]: row for row in rows if row["machine"] == machine}


def run(machine: str, seeds: list[int], state: Path, run_part: RunPart) -> None:
    for seed in seeds:
        began = time.process_time()
        found = run_part(seed, PART)
        seconds = round(time.process_time() - began, 1)
        row = {"machine": machine, "seed": seed, "seconds": seconds, "found": dict(found)}
        state.parent.mkdir(parents=True, exist_ok=True)
        with state.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        rate = found["calls and blocks"] / max(seconds, 0.1)
        print(f"seed {seed}: {found['examples']} examples, {rate:,.0f} steps/s", file=sys.stderr, flush=True)


def summarise(machine: str, rows: dict[int, dict[str, Any]]) -> dict[str, Any]:
    found: Counter[str] = Counter()
    for row in rows.values():
        found.update(row["found"])
    seconds = sum(row["seconds"] for row in rows.values())
    steps = found.pop("calls and blocks", 0)
    return {
        "machine": machine, "parts": len(rows), "examples": found.pop("examples", 0), "steps": steps,
        "cpu_seconds": round(seconds), "steps_per_cpu_second": round(steps / seconds) if seconds else 0,
        "reached": dict(sorted(found.items())),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("machine", choices=MACHINES)
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--state", type=Path, default=ROOT / "build" / "contract_soak.jsonl")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="every N-th part: N processes share one --state")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    index, count = map(int, arguments.part.split("/"))
    seeds = list(range(FIRST_SEED, FIRST_SEED + -(-arguments.examples // PART)))
    done = read_parts(arguments.state, arguments.machine)
    run_part: RunPart = importlib.import_module(MACHINES[arguments.machine]).run_part
    run(arguments.machine, [seed for seed in seeds[index - 1 :: count] if seed not in done], arguments.state, run_part)
    result = summarise(arguments.machine, read_parts(arguments.state, arguments.machine))
    if arguments.json:
        print(json.dumps(result))
    else:
        reached = result.pop("reached")
        for name, value in {**result, **reached}.items():
            print(f"{name:32} {value if isinstance(value, str) else format(value, ',')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
