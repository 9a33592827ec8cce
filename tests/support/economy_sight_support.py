"""What agents of an economy see of a round: drawn from benchmarks/detection_*.json, where all of it was measured.

A colluder is one of a measured run's, with its trigger and target, and stays that one: who is hard to find is so in
every round.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from flock_chain.aggregation.format import Format
from flock_chain.aggregation.measure import compute_filter_bits, compute_slash_floor
from flock_chain.audit_rule import accuses

MILLIONTHS = 10**6


class Looks:
    """What measured auditors find of one proposal: as voters who may refuse it, and in the audits that look at it."""

    def __init__(self, recital: list[int | None], audits: list[list[int | None]]) -> None:
        """By auditor; None is its own, which nobody measures."""
        self.recital = [accuses(value, is_out=False) for value in _fill(recital)]
        self.audits = [_fill(values) for values in audits]
        self.blamers = sum(accuses(value, is_out=False) for value in self.audits[0])

    def is_refused(self, number: int) -> bool:
        """By participant `number`, who sees what a measured auditor saw."""
        return self.recital[number % len(self.recital)]

    def is_guilty(self, audit: int, number: int, *, is_out: bool) -> bool:
        """In the `audit`th of those that look at it; each has contexts of its own."""
        values = self.audits[audit % len(self.audits)]
        return accuses(values[number % len(values)], is_out)


def _read_looks(row: dict[str, Any]) -> Looks:
    """Where its voters' refusals are not kept, they are taken to find what the first audit found."""
    recital, *audits = row["values"] if "values" in row else (row["audits"][0], *row["audits"])
    return Looks(recital, audits)


def _fill(values: list[int | None]) -> list[int]:
    """Where an auditor measured nothing, the next one's value counts."""
    return [(values[(place + 1) % len(values)] if value is None else value) or 0 for place, value in enumerate(values)]


UNSEEN = {0: [Looks([0], [[0]])]}  # of a kind that a run has no audits of: found by nobody


@dataclass
class Sight:
    """Of one round."""

    scores: list[list[int]]  # by domain of the hold-out, then by proposal
    filters: list[int]
    losses_before: list[int]  # by domain
    losses_after: list[int] | None  # of the plain average; None where fewer than five proposed
    looks: list[Looks]  # by proposal


class Measured:
    """Rounds of a real federation: squared norms, scores and losses, by how a proposal was made; and audits."""

    def __init__(self, path: Path, poison: str = "boosted", seed: int = 0) -> None:
        """`seed`: chooses which measured run the agents of this economy are of."""
        table = json.loads(path.read_text("utf-8"))
        self.rounds: list[dict[str, Any]] = table["rounds"]
        self.poison = poison
        self.floor = compute_slash_floor(table["budget"]["norm_thousandths"], Format(elo=table["budget"]["elo"]))
        self.domains = len(self.rounds[0]["losses_before"])
        self.luck = Random(f"looks {seed}")  # of its own: other draws do not depend on what auditors saw
        runs = sorted({row["run"] for row in table["audits"]["proposals"]})
        self.looks: dict[str, dict[int, list[Looks]]] = {}  # by kind and measured participant, of several rounds
        for row in table["audits"]["proposals"]:
            if row["run"] == runs[seed % len(runs)]:
                self.looks.setdefault(row["kind"], {}).setdefault(row["who"], []).append(_read_looks(row))

    def _look(self, kind: str, number: int) -> Looks:
        people = self.looks.get(kind, UNSEEN)
        return self.luck.choice(people[sorted(people)[number % len(people)]])

    def draw(self, chance: Random, numbers: list[int], is_bad: list[bool]) -> Sight:
        """What the voters of a round see in which these participants propose; the bad ones poison."""
        row = chance.choice(self.rounds)
        pools = row["pools"]
        good = chance.sample(range(len(pools["honest"]["squared_norms"])), is_bad.count(False))
        wrong = chance.sample(range(len(pools[self.poison]["squared_norms"])), is_bad.count(True))
        chosen = [(self.poison, wrong.pop()) if bad else ("honest", good.pop()) for bad in is_bad]
        norms = [pools[kind]["squared_norms"][index] for kind, index in chosen]
        gram = [[norm if i == j else 0 for j in range(len(norms))] for i, norm in enumerate(norms)]
        scores = [
            [pools[kind]["scores_by_voter"][domain][index] for kind, index in chosen] for domain in range(self.domains)
        ]
        bad_count = str(is_bad.count(True))
        kind = self.poison if bad_count != "0" else "boosted"  # averages without poison are kept once
        average = chance.choice(row["averages"][kind][bad_count]) if len(is_bad) == 5 else None
        return Sight(
            scores,
            compute_filter_bits(gram, self.floor),
            [round(loss * MILLIONTHS) for loss in row["losses_before"]],
            [round(loss * MILLIONTHS) for loss in average["losses"]] if average else None,
            [self._look(kind, number) for number, (kind, _) in zip(numbers, chosen, strict=True)],
        )
