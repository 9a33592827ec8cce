"""Audits of a run, as the board and its auditors do them: everybody bonded measures, stake and seats decide. Knows no
draw.

More than half of all stake takes a proposer's contributions out and suspends it, two thirds in two audits in a row cost
its bond; five of seven of the last round's voters suspend it until the next audit. What is measured, of which
proposals, and what comes out for it, is flock_chain.audit_rule's and the trainer's, as with peers.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flock_chain.aggregation import Delta, GlobalAdapter, take_out
from flock_chain.audit_rule import (
    CONFIRM_DENOMINATOR,
    CONFIRM_NUMERATOR,
    Adopted,
    ClosedAudit,
    Finding,
    accuses,
    find,
    find_first_audited,
    has_majority,
    is_out_already,
    plan_removal,
    summarise,
)
from flock_chain.crypto import Account
from flock_chain.tally import has_two_thirds
from flock_p2p.experiment.attackers import Attackers
from flock_p2p.experiment.money import Money
from flock_peers.roles.auditor import OLDER_ROUNDS
from flock_peers.tasks import Terms
from flock_peers.training.client import Measured
from flock_peers.training.inspection import Shared, join
from flock_peers.training.laboratory import Laboratory, Vector
from flock_peers.training.recital import Strings, Suspect
from flock_peers.training.remembered import Remembered

AUDIT_ROUNDS = 1  # an audit after every so many


@dataclass(frozen=True)
class Accepted:
    """What a round accepted, adopted or not, and what it turned away."""

    start: Vector  # the adapter that it was trained from
    parts: tuple[tuple[int, Delta], ...]  # who, and what
    others: tuple[tuple[int, Delta], ...]

    @property
    def held(self) -> tuple[tuple[int, Delta], ...]:
        return self.parts + self.others


@dataclass
class Audits:
    laboratory: Laboratory
    attackers: Attackers
    money: Money
    has_reference: bool = True
    compares: bool = True  # proposals with each other
    _accepted: dict[int, Accepted] = field(default_factory=dict)  # by round, from 1
    _lineage: list[Adopted] = field(default_factory=list)  # what the global adapter consists of
    _closed: list[ClosedAudit] = field(default_factory=list)
    _blamed_before: set[int] = field(default_factory=set)
    _shown: tuple[tuple[int, str], list[Strings]] | None = None  # what the common contexts showed last, and when
    _remembered: defaultdict[int, Remembered] = field(default_factory=lambda: defaultdict(Remembered))  # by auditor
    notes: list[dict[str, object]] = field(default_factory=list)

    def accept(
        self, round: int, start: GlobalAdapter, parts: Sequence[tuple[int, Delta]],
        others: Sequence[tuple[int, Delta]] = (),
    ) -> None:  # fmt: skip
        self._accepted[round] = Accepted(start.to_float32(), tuple(parts), tuple(others))

    def adopt(self, round: int, *, only_took_out: bool = False) -> None:
        """The round gave the task another adapter: with what it accepted, or only without what `clean` took out."""
        parts = () if only_took_out else self._accepted[round].parts
        self._lineage.append(Adopted(round, tuple((place, _account(who)) for place, (who, _) in enumerate(parts))))

    def clean(self, round: int, adapter: GlobalAdapter) -> GlobalAdapter:
        """What the round adds to: without the contributions that audits took out, exactly."""
        for row in plan_removal(self._lineage, self._closed, round):
            parts = self._accepted[row.round].parts
            adapter = take_out(adapter, [parts[place][1] for place in row.present], row.places)
        return adapter

    def refuse(self, round: int, voter: int, suspects: Sequence[Suspect]) -> list[int]:
        """What an honest voter refuses of a round; places in it."""
        seen = self._look(round, "recital", voter, suspects)
        return [place for place, row in enumerate(seen) if find(summarise(row.common, row.own)) is Finding.GUILTY]

    def hold(self, round: int, voters: Sequence[int]) -> list[tuple[int, int]]:
        """After a round: suspensions are set, and slashes returned as participant and basis points."""
        guilty_by = self._measure(round)
        bonds, total = self.money.bonds, sum(self.money.bonds)
        stake = {who: sum(bonds[judge] for judge in judges) for who, judges in guilty_by.items()}
        seats = {who: sum(judge in voters for judge in judges) for who, judges in guilty_by.items()}
        out = {who for who in guilty_by if has_majority(stake[who], total)}
        blamed = {who for who in out if has_two_thirds(stake[who], total)}
        suspected = {
            who
            for who in guilty_by
            if seats[who] and CONFIRM_DENOMINATOR * seats[who] >= CONFIRM_NUMERATOR * len(voters)
        }
        self._closed.append(
            ClosedAudit(round, total, {_account(who): stake[who] for who in sorted(stake) if stake[who]})
        )
        again = sorted(blamed & self._blamed_before)
        self._blamed_before = blamed - set(again)  # two in a row make one offence
        self.money.suspended = out | suspected
        return [(who, Terms.audit_slash) for who in again]

    def _measure(self, round: int) -> dict[int, list[int]]:
        """Who of the bonded names each proposer."""
        first = find_first_audited([audit.round for audit in self._closed])  # nobody is absent here: all count
        whence, suspects = self._list_held(range(first, round + 1))
        before, older = self._list_held(range(max(1, first - OLDER_ROUNDS), first))
        named: dict[int, list[int]] = {who: [] for _, who in whence}
        table: dict[int, list[int]] = {}  # by honest auditor, of each proposal
        honest = [who for who, bond in enumerate(self.money.bonds) if bond > 0 and who not in self.attackers.members]
        every, authors = [*suspects, *older], [who for _, who in [*whence, *before]]
        shared = self._find_shared(round, every, authors, len(older), honest)
        for auditor in (who for who, bond in enumerate(self.money.bonds) if bond > 0):
            accused: Collection[int] = set(named) - self.attackers.members
            if auditor not in self.attackers.members:
                results = self._look(round, "audit", auditor, suspects)
                if self.compares:
                    results = self._compare(round, auditor, results, every, shared)
                values = table[auditor] = [summarise(row.common, row.own) for row in results]
                pairs = zip(whence, values, strict=True)
                accused = {who for (number, who), value in pairs if self.accuses(number, who, value)}
            for who in accused:
                if who != auditor:
                    named[who].append(auditor)
        self._note(round, whence, table, named)
        return named

    def _list_held(self, rounds: Iterable[int]) -> tuple[list[tuple[int, int]], list[Suspect]]:
        """Of what voters held in these rounds: the round and who proposed it, and what it is."""
        rows = [(number, self._accepted[number]) for number in rounds if number in self._accepted]
        whence = [(number, who) for number, row in rows for who, _ in row.held]
        return whence, [Suspect(row.start, delta.to_float32()) for _, row in rows for _, delta in row.held]

    def accuses(self, round: int, who: int, value: int) -> bool:
        """Whether who saw this of what was proposed in the round names its author in the next audit."""
        return accuses(value, is_out_already(self._closed, _account(who), round))

    def _note(
        self, round: int, whence: Sequence[tuple[int, int]], table: Mapping[int, Sequence[int]],
        named: Mapping[int, Sequence[int]],
    ) -> None:  # fmt: skip
        """What each honest auditor saw, on which other limits and quorums can be tried, and how many named whom."""
        self.notes.append({
            "round": round,
            "values": [
                [number, who, [None if judge == who else values[place] for judge, values in table.items()]]
                for place, (number, who) in enumerate(whence)
            ],
            "found": {
                who: [sum(judge in table for judge in naming), len(set(table) - {who})]
                for who, naming in named.items()
            },
        })  # fmt: skip

    def _find_shared(
        self, round: int, suspects: Sequence[Suspect], authors: Sequence[int], older: int, auditors: Sequence[int]
    ) -> Shared | None:
        """What strangers agree on in the common contexts, and what these show of what any auditor remembers."""
        if not self.compares:
            return None
        seed, remembered = self.attackers.seed(round, "audit"), [self._remembered[who] for who in auditors]
        return self.laboratory.find_shared(
            suspects, authors, seed, remembered, older=older, has_reference=self.has_reference
        )

    def _look(self, round: int, purpose: str, who: int, suspects: Sequence[Suspect]) -> list[Measured]:
        """What one honest participant sees of each by itself."""
        own_seed, has_reference = self.attackers.seed(round, purpose, "own", who), self.has_reference
        return [
            self.laboratory.measure_own(who, suspect, strings, own_seed, has_reference=has_reference)
            for suspect, strings in zip(suspects, self._common(round, purpose, suspects), strict=True)
        ]

    def _compare(
        self, round: int, who: int, results: Sequence[Measured], every: Sequence[Suspect], shared: Shared | None
    ) -> list[Measured]:
        """The same, and what it sees of each beside `every` one, of which they are the first. What it finds now is
        added to what it remembers, as with peers, also where too few propose to be compared."""
        own_seed, known = self.attackers.seed(round, "audit", "own", who), self._remembered[who]
        agreed = self.laboratory.measure_shared(who, every, shared, own_seed, known, has_reference=self.has_reference)
        found = join(results, agreed)
        known.add_guilty(found)
        return found

    def _common(self, round: int, purpose: str, suspects: Sequence[Suspect]) -> list[Strings]:
        """What the common contexts show: the same for all, so measured once."""
        key = (round, purpose)
        if self._shown is None or self._shown[0] != key:
            seed = self.attackers.seed(round, purpose)
            has_reference = self.has_reference
            self._shown = (
                key,
                [self.laboratory.find_strings(suspect, seed, has_reference=has_reference) for suspect in suspects],
            )
        return self._shown[1]


def _account(who: int) -> Account:
    return Account(who.to_bytes(20, "big"))
