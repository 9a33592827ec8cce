"""What an audit makes of its measurements, and whose contributions are out of the global adapter for it. Pure.

A measurement is the excess of a memorised string of tokens in millionths: what a proposal, amplified, makes of its
probability after its first token, whatever comes before, beyond what the adapter it was trained from, the base model
and real text make of it; weighed by whether it grew with the amplification (flock_peers.training.recital).
Thresholds of one auditor and quorums of many commute: "half of the stake each find at least x" is "the value that half
of the stake reach is at least x", a weighted median, so an auditor's word on chain is a bit, and liars move the value
not out of the range of the honest while they have less than half of the stake.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from flock_chain.crypto import Account
from flock_chain.errors import Misuse

MILLIONTHS = 1_000_000
GUILTY_FROM = 250_000
SUSPECT_FROM = 200_000  # a step before: for people, nothing follows from it. Honest proposers of narrow domains pass it
# For the bond of whom more than half of all stake named already, whose contribution is out whatever is said now: honest
# proposals were found twice with up to 0.45, where rounds add 3/2 of the mean, and most poison is beyond 0.6.
CONVICT_FROM = 500_000
CONFIRM_NUMERATOR, CONFIRM_DENOMINATOR = 5, 7  # of the auditors asked; on chain, of the last round's seats
AUDITS_OF_A_PROPOSAL = 2  # that count and look at it: as many as it takes to convict
# Audits, its own among them, over whose rounds a conviction reaches back. With 2, what it looked at, a backdoor stays
# that began below the limit; with all, blame of one honest participant costs its domain all it taught
# (docs/experiment.md).
REACH = 4
STRIKES_TO_EXPEL = 3  # proposals in a row for which more than half of all stake named their author, as on the board


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


def find_first_audited(counted: Sequence[int]) -> int:
    """The first round that the next audit looks at, as the board has it; from there on, at all that voters held.

    `counted`: the last round before each audit that counted, in order. Each audit measures anew, in contexts of its
    own, so two are two measurements, and a void one is made up for by the next. What is older has been judged; its
    proposer, if it is found guilty of nothing newer, is cleared. What was turned away is looked at like what was
    accepted: who tries is known, before it succeeds.
    """
    return counted[-AUDITS_OF_A_PROPOSAL] + 1 if len(counted) >= AUDITS_OF_A_PROPOSAL else 1


@dataclass(frozen=True)
class ClosedAudit:
    """What the chain keeps of one."""

    round: int  # the last one before it
    stake: int  # all that had a say
    blamed: Mapping[Account, int]  # the stake that named an account


def accuses(value: int, is_out: bool) -> bool:
    """Whether an auditor names an account for this value of one of its proposals. `is_out`: see `is_out_already`.

    The first time takes the contribution out and suspends, so it is the lower limit; what a second time adds is the
    loss of the bond, which no later audit gives back.
    """
    return value >= CONVICT_FROM if is_out else find(value) is Finding.GUILTY


def is_out_already(audits: Iterable[ClosedAudit], account: Account, round: int) -> bool:
    """Whether an audit that looked at what the account proposed in this round named it by more than half of all stake.

    `audits`: the closed ones, at least all from this round on.
    """
    return any(audit.round >= round and has_majority(audit.blamed.get(account, 0), audit.stake) for audit in audits)


def has_majority(stake: int, total: int) -> bool:
    """Whether so much stake takes contributions out and suspends, as the board has it: more than half of all.

    Two thirds, which it takes for a bond, would be too many: where 28 % lie, 12 of 13 honest auditors, and whoever has
    a third could keep what all others find. Of half, 28 % need 5 of 13 to err, and cannot prevent what 10 of 13 find.
    """
    return 2 * stake > total


def compute_removed(audits: Sequence[ClosedAudit], before_round: int, reach: int = REACH) -> dict[Account, list[range]]:
    """Whose contributions of which rounds are out of every adapter that is adopted in `before_round`.

    More than half of all stake, in one audit, and for ever: a committee alone takes nothing out, and what is out does
    not come back when the next audit is silent. What an account contributes after it was cleared counts again.
    `audits`: all closed ones, in order. Those that did not count are not told apart, so they shorten the reach; one
    that is heard again, after the same round, does not. Where too few were left to draw a round, all stake is heard
    again after rounds of which no audit is due, too, and such a hearing shortens the reach as well.
    """
    removed: dict[Account, list[range]] = {}
    ends = sorted({audit.round for audit in audits})
    first_of = {end: ends[place - reach] + 1 if place >= reach else 1 for place, end in enumerate(ends)}
    for audit in audits:
        if audit.round < before_round:
            for account, stake in sorted(audit.blamed.items()):
                if has_majority(stake, audit.stake):
                    removed.setdefault(account, []).append(range(first_of[audit.round], audit.round + 1))
    return removed


@dataclass(frozen=True)
class Adopted:
    """A round that gave its task another adapter, and the contributions it added: none where it only took some out."""

    round: int
    added: tuple[tuple[int, Account], ...]  # proposer index and account


@dataclass(frozen=True)
class RemovalStep:
    """Of one round, by proposer index: what it added that the adapter still has, and which of that has to come out."""

    round: int
    present: tuple[int, ...]
    out: tuple[int, ...]

    @property
    def places(self) -> tuple[int, ...]:
        return tuple(self.present.index(index) for index in self.out)


def plan_removal(
    lineage: Sequence[Adopted], audits: Sequence[ClosedAudit], before_round: int, reach: int = REACH
) -> list[RemovalStep]:
    """What has to come out of the present adapter before round `before_round` adds to it.

    `lineage`: the rounds that the present adapter consists of, in order. What was out when the last of them was adopted
    is out already.
    """
    if not lineage:
        return []
    now, already = compute_removed(audits, before_round, reach), compute_removed(audits, lineage[-1].round, reach)
    plan = []
    for adopted in lineage:
        present = [(index, who) for index, who in adopted.added if not _is_out(already, who, adopted.round)]
        out = tuple(index for index, who in present if _is_out(now, who, adopted.round))
        if out:
            plan.append(RemovalStep(adopted.round, tuple(index for index, _ in present), out))
    return plan


def _is_out(removed: Mapping[Account, Sequence[range]], account: Account, round: int) -> bool:
    return any(round in rounds for rounds in removed.get(account, ()))


def read_closed_audit(asked: tuple[int, int], blamed: Mapping[Account, int]) -> ClosedAudit:
    """From the board's `blame_of`: of the zero address, and the stake that named each account."""
    stake, number = asked
    return ClosedAudit(number, stake, {who: said for who, said in blamed.items() if said > 0})
