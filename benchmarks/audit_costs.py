"""What looking at a proposal costs an auditor, beside a training: CPU seconds of one thread, by turns in one run.

    python benchmarks/audit_costs.py [--repeats 3] [--seed 68] [--remembered 0] [--base FOLDER] [--json]

The proposals of two rounds of eight honest participants of the experiment, each looked at as in an audit: the strings
of each by itself and all beside each other and beside those of two rounds before in the common contexts, which are the
same for every auditor, and both in one auditor's own; by the proposal that is looked at. Between them a training with
a task's default budget, and one with the experiment's. `--remembered`: so many strings that the auditor found before.
`--base`: another model, of a larger vocabulary for example (of `python -m flock_peers.training.base_model --vocabulary
4096 --steps 300 --out FOLDER`).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from flock_chain.aggregation import apply, quantise
from flock_p2p.experiment.rows import PARTICIPANTS, PROPOSERS
from flock_peers.roles.auditor import OLDER_ROUNDS
from flock_peers.training.agreement import LENGTHS
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import Budget
from flock_peers.training.laboratory import Laboratory
from flock_peers.training.recital import Suspect
from flock_peers.training.remembered import MOST, Remembered

ROUNDS = 2  # looked at
TRAININGS = "training, default budget", "training, the experiment's"
Result = TypeVar("Result")


class Costs:
    """Medians of what was measured by name; `clock` in seconds."""

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self._clock, self._seconds = clock, dict[str, list[float]]()

    def measure(self, name: str, work: Callable[[], Result], pieces: int = 1) -> Result:
        began = self._clock()
        result = work()
        self._seconds.setdefault(name, []).append((self._clock() - began) / pieces)
        return result

    def summarise(self) -> dict[str, float]:
        """And what a look takes, by itself and of each training."""
        found = {name: statistics.median(seconds) for name, seconds in self._seconds.items()}
        look = sum(seconds for name, seconds in found.items() if name not in TRAININGS)
        return found | {"a look": look} | {f"a look / {name}": look / found[name] for name in TRAININGS}


def make_proposals(laboratory: Laboratory) -> tuple[list[Suspect], list[int]]:
    """And who made them: in each round the next eight. Those of the last rounds first."""
    adapter, suspects, authors = laboratory.initial_adapter(), list[Suspect](), list[int]()
    for number in range(ROUNDS + OLDER_ROUNDS):
        who = [(number * PROPOSERS + seat) % PARTICIPANTS for seat in range(PROPOSERS)]
        start = adapter.to_float32()
        changes = [laboratory.train(one, start, 100 * number + one) for one in who]
        deltas = [quantise(change, adapter.layout, adapter.format) for change in changes]
        suspects = [Suspect(start, delta.to_float32()) for delta in deltas] + suspects
        authors = who + authors
        adapter = apply(adapter, deltas)
    return suspects, authors


def make_up_memory(laboratory: Laboratory, count: int) -> Remembered:
    """What a string costs does not depend on what it says."""
    remembered, chance = Remembered(), np.random.default_rng(count)
    for _ in range(count):
        remembered.add(chance.integers(0, laboratory.vocabulary, LENGTHS[-1]).tolist())
    return remembered


def measure_turn(
    costs: Costs, laboratory: Laboratory, default: Laboratory, every: list[Suspect], authors: list[int],
    remembered: Remembered, turn: int,
) -> None:  # fmt: skip
    older = OLDER_ROUNDS * PROPOSERS
    suspects = every[: len(every) - older]
    start, count = suspects[0].start, len(suspects)
    costs.measure(TRAININGS[0], lambda: default.train(turn % PARTICIPANTS, start, turn))
    found = costs.measure("strings of each", lambda: [laboratory.find_strings(one, turn) for one in suspects], count)
    costs.measure(TRAININGS[1], lambda: laboratory.train(turn % PARTICIPANTS, start, turn))
    costs.measure(
        "the same, own contexts",
        lambda: [laboratory.measure_own(0, one, row, turn) for one, row in zip(suspects, found, strict=True)],
        count,
    )
    shared = costs.measure(
        "beside each other",
        lambda: laboratory.find_shared(every, authors, turn, [remembered], older=older),
        count,
    )
    costs.measure(
        "the same, own contexts, too",
        lambda: laboratory.measure_shared(0, every, shared, turn, remembered),
        count,
    )
    costs.measure(TRAININGS[0], lambda: default.train((turn + 1) % PARTICIPANTS, start, turn))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=68)
    parser.add_argument("--remembered", type=int, default=0, help=f"strings, at most {MOST}")
    parser.add_argument("--base", type=Path, default=BASE_FOLDER, help="folder (default: the shipped one)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    laboratory = Laboratory(PARTICIPANTS, options.seed, base=options.base)
    default, costs = Laboratory(PARTICIPANTS, options.seed, base=options.base, budget=Budget()), Costs()
    suspects, authors = make_proposals(laboratory)
    remembered = make_up_memory(laboratory, options.remembered)
    for turn in range(options.repeats):
        measure_turn(costs, laboratory, default, suspects, authors, remembered, turn)
    found = {name: round(value, 3) for name, value in costs.summarise().items()}
    print(json.dumps(found) if options.json else "\n".join(f"{name:44}{value:8.3f}" for name, value in found.items()))


if __name__ == "__main__":
    main()
