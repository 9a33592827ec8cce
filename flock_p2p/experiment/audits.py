"""Audits of a run, as the board and its auditors do them: everybody bonded measures, stake and seats decide. Knows no
draw.

Two thirds of all stake take a proposer's contributions out and suspend it, a second time in a row they cost its bond;
five of seven of the last round's voters suspend it until the next audit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flock_chain.aggregation import Delta, GlobalAdapter, compute_clip_factors, compute_gram, remove_contribution
from flock_chain.audit_rule import (
    CONFIRM_DENOMINATOR,
    CONFIRM_NUMERATOR,
    MIN_PROPOSALS,
    ClosedAudit,
    Finding,
    compute_removed,
    find,
    summarise,
)
from flock_chain.crypto import Account
from flock_chain.tally import has_two_thirds
from flock_p2p.experiment.attackers import Attackers
from flock_p2p.experiment.money import Money
from flock_peers.tasks import Terms
from flock_peers.training.laboratory import Laboratory

AUDIT_ROUNDS = 2  # an audit after every so many
MAX_DELTAS = 8  # of one proposer, the newest


@dataclass(frozen=True)
class Contribution:
    round: int  # from 1
    who: int
    delta: Delta
    factor: int
    count: int


@dataclass
class Audits:
    laboratory: Laboratory
    attackers: Attackers
    money: Money
    _accepted: dict[int, list[Delta]] = field(default_factory=dict)
    _lineage: list[Contribution] = field(default_factory=list)  # what the global adapter consists of
    _closed: list[ClosedAudit] = field(default_factory=list)
    _blamed_before: set[int] = field(default_factory=set)
    notes: list[dict[str, object]] = field(default_factory=list)

    def accept(self, who: int, delta: Delta) -> None:
        self._accepted.setdefault(who, []).append(delta)

    def adopt(self, round: int, accepted: Sequence[tuple[int, Delta]]) -> None:
        """The candidate that this is part of has become the global adapter, less what `subtract` took out."""
        out = self._out(round)
        self._lineage = [part for part in self._lineage if part not in out]
        if accepted:
            gram = compute_gram([delta for _, delta in accepted])
            factors = compute_clip_factors([gram[i][i] for i in range(len(accepted))])
            self._lineage += [
                Contribution(round, who, delta, factor, len(accepted))
                for (who, delta), factor in zip(accepted, factors, strict=True)
            ]

    def subtract(self, round: int, adapter: GlobalAdapter) -> GlobalAdapter:
        """What the round adds to: without the contributions that audits took out, exactly."""
        for part in self._out(round):
            adapter = remove_contribution(adapter, part.delta, part.factor, part.count)
        return adapter

    def _out(self, round: int) -> list[Contribution]:
        removed = compute_removed(self._closed, round)
        return [part for part in self._lineage if part.round <= removed.get(_account(part.who), 0)]

    def hold(self, round: int, voters: Sequence[int], adapter: GlobalAdapter) -> list[tuple[int, int]]:
        """After a round: suspensions are set, and slashes returned as participant and basis points."""
        values = self._measure(round, adapter)
        bonds = self.money.bonds
        total = sum(bonds)
        named = {
            who: [judge for judge, of in values.items() if of.get(who) is Finding.GUILTY] for who in self._accepted
        }
        stake = {who: sum(bonds[judge] for judge in judges) for who, judges in named.items()}
        seats = {who: sum(judge in voters for judge in judges) for who, judges in named.items()}
        blamed = {who for who in named if stake[who] and has_two_thirds(stake[who], total)}
        suspected = {
            who for who in named if seats[who] and CONFIRM_DENOMINATOR * seats[who] >= CONFIRM_NUMERATOR * len(voters)
        }
        said = {_account(who): stake[who] for who in sorted(named) if stake[who]}
        self._closed.append(ClosedAudit(round, total, said))
        again = sorted(blamed & self._blamed_before)
        self._blamed_before = blamed
        self.money.suspended = blamed | suspected
        return [(who, Terms.audit_slash) for who in again]

    def _measure(self, round: int, adapter: GlobalAdapter) -> dict[int, dict[int, Finding]]:
        """By auditor, its word on each proposer. The common contexts are the same for all: measured once."""
        start, seed = adapter.to_float32(), self.attackers.seed(round, "audit")
        suspects = {who: deltas[-MAX_DELTAS:] for who, deltas in self._accepted.items() if len(deltas) >= MIN_PROPOSALS}
        words: dict[int, dict[int, Finding]] = {who: {} for who, bond in enumerate(self.money.bonds) if bond > 0}
        best: dict[int, int] = {}
        for who, deltas in sorted(suspects.items()):
            suspect = start + np.mean([delta.to_float32() for delta in deltas], axis=0, dtype=np.float32)
            pairs = self.laboratory.find_pairs(suspect, seed)
            seen = []
            for auditor, word in words.items():
                if auditor in self.attackers.members:
                    word[who] = Finding.CLEAR if who in self.attackers.members else Finding.GUILTY
                    continue
                own = self.laboratory.measure_own(auditor, suspect, pairs, self.attackers.seed(round, "own", auditor))
                seen.append(summarise(pairs.common, own))
                word[who] = find(seen[-1])
            best[who] = sorted(seen)[(len(seen) - 1) // 2] if seen else 0
        self.notes.append({"round": round, "medians": {who: value for who, value in best.items() if value}})
        return words


def _account(who: int) -> Account:
    return Account(who.to_bytes(20, "big"))
