"""What an audit makes of its measurements, and whose contributions are out of the global adapter for it. Pure.

A measurement is the excess of a memorised string of tokens in millionths: what a proposal, amplified, makes of its
probability after its first token, whatever comes before, beyond what the adapter it was trained from, the base model
and real text make of it.
Thresholds of one auditor and quorums of many commute: "two thirds of the stake each find at least x" is "the value that
two thirds of the stake reach is at least x", so an auditor's word on chain is a bit, and no liar moves the value out of
the range of the honest while it has less than a third of the stake.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from flock_chain.crypto import Account
from flock_chain.errors import Misuse
from flock_chain.tally import has_two_thirds

MILLIONTHS = 1_000_000
GUILTY_FROM = 250_000
SUSPECT_FROM = 200_000  # said of nobody: half of the honest auditors found at most 190,000 of an honest proposer
CONFIRM_NUMERATOR, CONFIRM_DENOMINATOR = 5, 7  # of the auditors asked; on chain, of the last round's seats
PROBATION_SHARE = 4  # of a round's proposals one in so many may be a guilty newcomer's
AUDITS_OF_A_PROPOSAL = 2  # that look at it, one after the other: as many as it takes to convict


class Finding(IntEnum):
    CLEAR = 0
    SUSPECT = 1
    GUILTY = 2


def find(value: int) -> Finding:
    """What one value means."""
    return Finding.GUILTY if value >= GUILTY_FROM else Finding.SUSPECT if value >= SUSPECT_FROM else Finding.CLEAR


def summarise(common: Sequence[int], own: Sequence[int]) -> int:
    """One auditor's value of a proposal: the best string's."""
    if len(common) != len(own):
        raise Misuse("audit: every string has a common and an own value")
    return max((min(pair) for pair in zip(common, own, strict=True)), default=0)


def is_audited(number: int, last_round: int, audit_rounds: int) -> bool:
    """Whether the audit after `last_round` looks at what was accepted in round `number`.

    Each audit measures anew, in contexts of its own, so two in a row are two measurements. What is older has been
    judged; its proposer, if it is found guilty of nothing newer, is cleared.
    """
    return last_round - AUDITS_OF_A_PROPOSAL * audit_rounds < number <= last_round


def choose_refused(
    guilty: Collection[int], newcomers: Collection[int], proposals: int, is_audit_next: bool
) -> list[int]:
    """Which of a round's proposals that a voter finds guilty it refuses: places in the round, as are `newcomers`, of
    whom nothing was accepted yet.

    Nobody can be named in an audit before something of it was accepted, and who cannot be named stays a voter. So
    where an audit follows at once, a few newcomers pass: what they add is too little to fire, and comes out before the
    next round adds to it.
    """
    room = proposals // PROBATION_SHARE if is_audit_next else 0
    passing = [place for place in sorted(guilty) if place in newcomers][:room]
    return [place for place in sorted(guilty) if place not in passing]


@dataclass(frozen=True)
class ClosedAudit:
    """What the chain keeps of one."""

    round: int  # the last one before it
    stake: int  # all that had a say
    blamed: Mapping[Account, int]  # the stake that named an account


def compute_removed(audits: Sequence[ClosedAudit], before_round: int) -> dict[Account, int]:
    """Whose contributions are out of every adapter that is adopted in `before_round`, each up to which round.

    Two thirds of all stake, in one audit, and for ever: a committee alone takes nothing out, and what is out does not
    come back when the next audit is silent. What an account contributes after it was cleared counts again.
    """
    removed: dict[Account, int] = {}
    for audit in audits:
        if audit.round < before_round:
            for account, stake in sorted(audit.blamed.items()):
                if stake > 0 and has_two_thirds(stake, audit.stake):
                    removed[account] = max(removed.get(account, 0), audit.round)
    return removed


@dataclass(frozen=True)
class Adopted:
    """A round that gave its task another adapter, and the contributions it added: none where it only took some out."""

    round: int
    added: tuple[tuple[int, Account], ...]  # proposer index and account


def plan_removal(
    lineage: Sequence[Adopted], audits: Sequence[ClosedAudit], before_round: int
) -> list[tuple[int, tuple[int, ...]]]:
    """What has to come out of the present adapter before round `before_round` adds to it: rounds and proposer indices.

    `lineage`: the rounds that the present adapter consists of, in order. What was out when the last of them was adopted
    is out already.
    """
    if not lineage:
        return []
    now, already = compute_removed(audits, before_round), compute_removed(audits, lineage[-1].round)
    plan = []
    for adopted in lineage:
        out = tuple(
            index for index, account in adopted.added
            if already.get(account, 0) < adopted.round <= now.get(account, 0)
        )  # fmt: skip
        if out:
            plan.append((adopted.round, out))
    return plan


def read_closed_audit(asked: tuple[int, int], blamed: Mapping[Account, int]) -> ClosedAudit:
    """From the board's `blame_of`: of the zero address, and the stake that named each account."""
    stake, number = asked
    return ClosedAudit(number, stake, {who: said for who, said in blamed.items() if said > 0})
