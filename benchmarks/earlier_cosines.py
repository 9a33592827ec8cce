"""What comparing a round's proposals by cosine with all of earlier rounds would take, and what it would catch.

    python benchmarks/earlier_cosines.py [--parameters 2097152] [--proposals 8] [--rounds 50] [--train] [--json]

CPU seconds of one voter in the last of so many rounds, from the stored files on (parsed, then exact dots as the filters
of a round compute them), and bytes read: both are measured on one batch and multiplied. The cosine that a copy keeps
under noise of so much of its norm. With `--train`: cosines of honest proposals of different rounds of one task on the
shipped base, which a threshold has to leave alone, and with the global adapter's steps (a minute of one core).
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from aggregation import make_layout

from flock_chain.aggregation import Delta, apply, compute_gram, cosine, encode_delta, parse_delta, quantise
from flock_chain.aggregation.format import Format
from flock_chain.aggregation.measure import MAX_DELTAS, ONE

TENSORS = 64
NOISES = (0.01, 0.04, 0.045, 0.05, 0.1, 0.2, 0.3, 0.5)
PEOPLE = (0, 1, 2, 3, 4, 5, 6, 9)  # of 18, over all five domains; three domains twice


def cpu_seconds(work: Callable[[], object], repeats: int = 3) -> float:
    found = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return statistics.median(found)


def measure_cost(parameters: int, proposals: int, rounds: int) -> dict[str, Any]:
    layout, format = make_layout(TENSORS, parameters // TENSORS), Format(elo=-24)
    chance = np.random.default_rng(1)
    vectors = [chance.standard_normal(layout.parameters).astype(np.float32) * np.float32(1e-3) for _ in range(2)]
    deltas = [quantise(vectors[i % 2], layout, format) for i in range(MAX_DELTAS)]
    data, stored = encode_delta(deltas[0]), proposals * rounds
    batches = math.ceil(stored / (MAX_DELTAS - proposals))
    parse = cpu_seconds(lambda: parse_delta(data, layout, format))
    dots = cpu_seconds(lambda: compute_gram(deltas))
    within = cpu_seconds(lambda: compute_gram(deltas[:proposals])) + proposals * parse
    total = stored * parse + batches * dots
    noise = {str(share): round(keep_under_noise(deltas[0], share), 4) for share in NOISES}
    return {
        "parameters": layout.parameters, "proposals": proposals, "rounds": rounds, "stored": stored,
        "megabytes_read": round(stored * len(data) / 1e6), "cpu_seconds": round(total, 1),
        "cpu_seconds_of_the_whole_task": round(total * rounds / 2), "ratio_to_within_a_round": round(total / within, 1),
        "cosine_under_noise": noise,
    }  # fmt: skip


def keep_under_noise(delta: Delta, share: float) -> float:
    vector = delta.to_float32()
    noise = np.random.default_rng(2).standard_normal(len(vector)).astype(np.float32)
    scale = np.float32(share * np.linalg.norm(vector) / np.linalg.norm(noise))
    return cosine(delta, quantise(vector + scale * noise, delta.layout, delta.format)) / ONE


def measure_honest(rounds: int = 4) -> dict[str, float]:
    """The highest cosine of each kind of pair; proposals of one round are in it for comparison."""
    from flock_peers.training.domains import assign_domain
    from flock_peers.training.laboratory import Laboratory

    laboratory = Laboratory(18, 31)
    adapter = laboratory.initial_adapter()
    made: list[tuple[int, int, Delta]] = []
    most: dict[str, float] = {}
    steps: list[Delta] = []

    def note(kind: str, first: Delta, second: Delta) -> None:
        most[kind] = max(most.get(kind, -1.0), round(cosine(first, second) / ONE, 4))

    for number in range(rounds):
        start = adapter.to_float32()
        changes = [laboratory.train(who, start, 1_000 * number + who) for who in PEOPLE]
        deltas = [quantise(change, adapter.layout, adapter.format) for change in changes]
        for who, delta in zip(PEOPLE, deltas, strict=True):
            for earlier, other, old in made:
                alike = "one participant" if who == other else "one domain"
                kind = alike if assign_domain(who)[0] == assign_domain(other)[0] else "other domains"
                note(f"of one round: {kind}" if earlier == number else kind, delta, old)
            for step in steps:
                note("a step of the global adapter", delta, step)
            made.append((number, who, delta))
        after = apply(adapter, deltas)
        steps.append(quantise((after.to_float32() - start).astype(np.float32), adapter.layout, adapter.format))
        adapter = after
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, default=1 << 21)
    parser.add_argument("--proposals", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure_cost(options.parameters, options.proposals, options.rounds)
    if options.train:
        found["honest"] = measure_honest()
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:32} {value}")


if __name__ == "__main__":
    main()
