"""The paper's voting rule in Python: the contract's decision, recomputed by `verify`, and the measure that a vote
rests on. Pure; knows no storage and no money.

Voters judge the aggregate alone: +1 is the candidate's content id, -1 that of the adapter before the round.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from flock_chain.errors import Misuse
from flock_chain.tally import Verdict

RULE_PROPOSALS, RULE_PAPER = 0, 1  # a task's `voting_rule`
ABSTAIN = bytes(32)  # who could not compute the candidate names no adapter: it has no vote, earns and pays nothing
MILLIONTHS = 10**6  # the unit of a tolerance, and of the metrics that are compared


@dataclass(frozen=True)
class PaperOutcome:
    verdict: Verdict  # of every proposal of the input set: ACCEPTED, REJECTED_AGGREGATE, or VOID without a decision
    adapter: bytes  # the global adapter after the round
    majority: tuple[int, ...]  # voters' seats that earn
    minority: tuple[int, ...]  # voters' seats that pay


def is_acceptable(before: int, after: int, *, tolerance: int, rises: bool) -> bool:
    """Whether the aggregate is no worse than before by more than `tolerance` millionths of the metric's amount.

    `rises`: whether a larger metric is the better one (an accuracy, or a loss with its sign turned); a loss falls.
    The amount is what counts: (1 - eps) times a negative metric would demand an improvement.
    """
    if not 0 <= tolerance <= MILLIONTHS:
        raise Misuse(f"vote: a tolerance of {tolerance} is not within 0 to {MILLIONTHS} millionths")
    worse_by = before - after if rises else after - before
    return MILLIONTHS * worse_by <= tolerance * abs(before)


def is_acceptable_loss(before: float, after: float, tolerance: int) -> bool:
    """A loss falls where things improve. What is no number is never acceptable, unless it was none before."""
    if not math.isfinite(after):
        return False
    if not math.isfinite(before):
        return True
    return is_acceptable(round(before * MILLIONTHS), round(after * MILLIONTHS), tolerance=tolerance, rises=False)


def compute_paper_outcome(choices: Mapping[int, bytes], seats: int, previous: bytes) -> PaperOutcome:
    """From the revealed choices, by voter's seat. More than half of the votes decide, where half of the seats voted.

    A tie pays nobody and slashes nobody; who names another id than the leading one is in the minority.
    """
    if len(choices) > seats or any(not 0 <= seat < seats for seat in choices):
        raise Misuse(f"vote: choices of seats {sorted(choices)} in a round of {seats} voters")
    choices = {seat: choice for seat, choice in choices.items() if choice != ABSTAIN}
    for choice in sorted(set(choices.values())):
        majority = tuple(sorted(seat for seat, named in choices.items() if named == choice))
        if 2 * len(majority) > len(choices) and 2 * len(choices) >= seats:
            verdict = Verdict.REJECTED_AGGREGATE if choice == previous else Verdict.ACCEPTED
            return PaperOutcome(verdict, choice, majority, tuple(sorted(set(choices) - set(majority))))
    return PaperOutcome(Verdict.VOID, previous, (), ())
