"""The share of a round in which its proposer trains, where that takes a minute."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rounds_ours import open_round_network, read_trace, wait_round

from flock_peers.training.document import Budget

MOST_PEERS = 4  # more than that measure how many share a core, at a minute a round
ROUNDS = 3
TRIAL_STEPS = 48


def measure_training(folder: Path, base: Path, peers: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """The project's own budget with as many steps as take `seconds` here; scores and votes as in any task."""
    rows = []
    for count in (count for count in peers if count <= MOST_PEERS):
        trial = _run(folder / f"{count}-trial", base, count, 1, TRIAL_STEPS)
        steps = max(1, round(TRIAL_STEPS * seconds / trial["training_seconds"]))
        rows.append({"peers": count, "steps": steps} | _run(folder / f"{count}-run", base, count, ROUNDS, steps))
    return rows


def _run(folder: Path, base: Path, peers: int, rounds: int, steps: int) -> dict[str, Any]:
    default = Budget()
    budget = {"steps": steps, "batch": default.batch, "seq_len": default.seq_len, "eval_windows": default.eval_windows}
    with open_round_network(folder, base, peers, rounds + 1, budget) as network:
        wait_round(network, rounds + 2)
        plan = network.plan
    trace = read_trace(plan)
    numbers = range(2, rounds + 2)
    whole = {number: trace.seconds(number) for number in numbers}
    return {
        "utilisation": round(statistics.median(trace.trained[number] / whole[number] for number in numbers), 4),
        "training_seconds": round(statistics.median(trace.trained[number] for number in numbers), 2),
        "round_seconds": round(statistics.median(whole.values()), 2),
        "rest_seconds": round(statistics.median(whole[number] - trace.trained[number] for number in numbers), 2),
        "phases": trace.breakdown(numbers),
    }
