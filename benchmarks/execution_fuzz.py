"""Random blocks on our state, on unmodified py-evm, and on Ethereum's executable specification: is anything different?

    python benchmarks/execution_fuzz.py [--scenarios N] [--seed S] [--specification] [--environment FOLDER] [--json]

Contracts of random code call, create, destroy, revert and write; blocks of signed transactions, calls by the system
and views run on them, with caches of one node and more. Compared: every outcome (status, gas, logs, output), and each
block's state root.
With --specification every second scenario holds transactions alone, and its state, receipt and transaction roots and
gas are compared with those of `ethereum-execution`, installed into an environment of its own on first use.
A difference prints its seed and what differs, and the exit status is 1; --seed S --scenarios 1 runs that one again.
"""

import argparse
import json
import subprocess
import sys
import time
import venv
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from flock_chain.execution import strict_rlp as rlp
from flock_chain.execution.blocks import compute_bloom, encode_receipt
from flock_chain.execution.machine import Outcome
from flock_chain.execution.ordered_trie import compute_ordered_root
from flock_chain.execution.state_cache import StateCache
from flock_chain.execution.transactions import Transaction

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
from evm_fuzz_support import (  # noqa: E402 - the tests' own scenarios, longer
    CHAIN_ID,
    Engine,
    OurState,
    Scenario,
    compare_with_stock,
    make_block_context,
    make_scenario,
)

SPECIFICATION = "ethereum-execution==2.20.0"
CACHED_NODES = (1, 3, 50, 10_000)


class Specification:
    """The specification's process."""

    def __init__(self, environment: Path) -> None:
        python = environment / "bin" / "python"
        if not (environment / "bin" / "ethereum-spec-evm").exists():
            print(f"installing {SPECIFICATION} into {environment} ...", file=sys.stderr)
            venv.create(environment, with_pip=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", SPECIFICATION], check=True)
        self._process = subprocess.Popen(
            [python, Path(__file__).with_name("execution_oracle.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={},
        )

    def ask(self, block: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(block) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the specification's process ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def compare_with_specification(scenario: Scenario, specification: Specification, cache: StateCache) -> None:
    """Raises AssertionError where a root or the gas differs."""
    ours = Engine(OurState, scenario.rows, cache)
    alloc: dict[str, Any] = {
        f"0x{address.hex()}": {
            "balance": hex(row.balance),
            "nonce": hex(row.nonce),
            "code": f"0x{row.code.hex()}",
            "storage": {hex(slot): hex(value) for slot, value in row.storage.items()},
        }
        for address, row in scenario.rows.items()
    }
    for number, steps in enumerate(scenario.blocks, 1):
        transactions = [step for step in steps if isinstance(step, Transaction)]
        outcomes = list(ours.run(tuple(transactions)))
        raws = [transaction.raw for transaction in transactions]
        theirs = specification.ask(
            {
                "alloc": alloc,
                "env": make_environment(number),
                "txs": f"0x{rlp.encode(raws).hex()}",
                "chain_id": CHAIN_ID,
            }
        )
        assert not theirs["rejected"] and not theirs["failure"], f"block {number}: the specification refused {theirs}"
        gas, receipts = 0, []
        for transaction, outcome in zip(transactions, outcomes, strict=True):
            assert isinstance(outcome, Outcome), f"block {number}: we refused {outcome}"
            gas += outcome.gas_used
            receipts.append(encode_receipt(transaction.type_id, outcome, gas, compute_bloom(outcome.logs)))
        mine = {
            "gas_used": gas,
            "receipt_root": compute_ordered_root(receipts).hex(),
            "transaction_root": compute_ordered_root(raws).hex(),
            "state_root": ours.root.hex(),
        }
        for name, value in mine.items():
            assert value == theirs[name], f"block {number}: {name} {value}, the specification's is {theirs[name]}"
        alloc = theirs["alloc"]


def make_environment(number: int) -> dict[str, Any]:
    context = make_block_context(number)
    return {
        "currentCoinbase": f"0x{context.proposer.hex()}",
        "currentGasLimit": hex(context.gas_limit),
        "currentNumber": hex(number),
        "currentTimestamp": hex(context.timestamp),
        "currentRandom": f"0x{context.mix.hex()}",
        "currentBaseFee": hex(context.base_fee),
        "currentExcessBlobGas": "0x0",
        "parentBeaconBlockRoot": f"0x{bytes(32).hex()}",
        "blockHashes": {hex(height): f"0x{bytes(32).hex()}" for height in range(number)},
        "withdrawals": [],
    }


def run(first_seed: int, count: int, specification: Specification | None) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    differences: list[str] = []
    start = time.monotonic()
    for seed in range(first_seed, first_seed + count):
        random = Random(seed)
        has_specification = specification is not None and seed % 2 == 1
        cache = StateCache(max_nodes=random.choice(CACHED_NODES), max_codes=random.choice((1, 100)))
        scenario = make_scenario(random, blocks=4, steps=8, only_transactions=has_specification)
        try:
            for outcomes in compare_with_stock(scenario, cache):
                counts["blocks"] += 1
                counts["steps"] += len(outcomes)
                counts["refused"] += sum(isinstance(outcome, str) for outcome in outcomes)
                counts["failed"] += sum(isinstance(outcome, Outcome) and not outcome.status for outcome in outcomes)
            if specification is not None and has_specification:
                compare_with_specification(scenario, specification, cache)
                counts["blocks by the specification"] += len(scenario.blocks)
        except AssertionError as error:
            differences.append(f"seed {seed}: {error}")
            print(differences[-1], file=sys.stderr)
        if sys.stderr.isatty():
            done = seed - first_seed + 1
            print(f"\r{done}/{count} scenarios, {len(differences)} differences", end="", file=sys.stderr)
    return {
        "first_seed": first_seed,
        "scenarios": count,
        "differences": differences,
        "seconds": round(time.monotonic() - start, 1),
        **counts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1, help="the first; each scenario takes the next")
    parser.add_argument("--specification", action="store_true", help="ask ethereum-execution too")
    parser.add_argument("--environment", type=Path, default=ROOT / ".oracle-venv", help="where that is installed")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args()
    specification = Specification(arguments.environment) if arguments.specification else None
    result = run(arguments.seed, arguments.scenarios, specification)
    if specification is not None:
        specification.close()
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        for name, value in result.items():
            print(f"{name:30}{len(value) if isinstance(value, list) else value}")
    sys.exit(1 if result["differences"] else 0)


if __name__ == "__main__":
    main()
