"""How a round is decided: by the literature's rules, by the paper's vote on the aggregate, or by ours. Knows no draw.

The filters, the tally, the adoption and the aggregation are those that peers and contract use, called here with what
voters of this process measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from flock_chain.aggregation import Delta, GlobalAdapter, apply, compute_gram, filter_bits, from_floats
from flock_chain.aggregation.format import RATE_ONE
from flock_chain.audit_rule import has_majority
from flock_chain.paper_rule import compute_paper_outcome, is_acceptable_loss
from flock_chain.suspicion import MIN_PROPOSALS, choose_compared, compute_cosines, find_suspects
from flock_chain.tally import (
    FILTER_NEAR_DUPLICATE,
    FILTER_NORM_REJECT,
    FILTER_NORM_SLASH,
    SCORE_LIMIT,
    SEATS_MAX,
    Verdict,
    compute_tally,
    has_two_thirds,
)
from flock_p2p.experiment import baselines
from flock_p2p.experiment.attackers import Attackers
from flock_p2p.experiment.audits import AUDIT_ROUNDS, Audits
from flock_p2p.experiment.money import Money
from flock_p2p.experiment.rows import PARTICIPANTS, PROPOSERS, Row
from flock_peers.tasks import Terms
from flock_peers.training.laboratory import Laboratory
from flock_peers.training.recital import Suspect

# The task's `loss_limit`: a quarter step of one domain costs voters of four others up to three per cent; the default
# of two rejects the honest: then what is left is lopsided, and not adopted either.
LOSS_LIMIT = 40_000
# And its `tolerance`: a round of few domains costs an honest voter of another up to 7.5 per cent (seed 1, no attack),
# and one who votes against it beside two liars of seven keeps the previous adapter. Of a round that adds the mean: one
# that adds twice as much costs twice as much.
TOLERANCE = 100_000
# Adagrad's v only grows: at the others' rate it learns little in eight rounds, and no backdoor. Of 0.02 and 0.05 the
# better one on seed 1.
ADAGRAD_RATE = 5e-2
REJECTED = frozenset({Verdict.REJECTED_LOSS, Verdict.REJECTED_NORM, Verdict.ACCUSED_NORM, Verdict.DUPLICATE,
                      Verdict.REJECTED_AGGREGATE})  # fmt: skip


@dataclass(frozen=True)
class Seats:
    """One round before its decision."""

    number: int
    proposers: Sequence[int]
    voters: Sequence[int]
    deltas: Sequence[Delta]
    adapter: GlobalAdapter


@dataclass(frozen=True)
class Decision:
    adapter: GlobalAdapter
    verdicts: Sequence[Verdict]  # by seat of a proposer
    paid_voters: Sequence[int] = ()
    slashes: Sequence[tuple[int, int]] = ()  # participant and basis points
    forfeits: bool = False  # the slashed stake goes to the next accepted round
    adopted: bool = True
    notes: dict[str, object] = field(default_factory=dict)


class Judge(Protocol):
    proximal: float

    def decide(self, seats: Seats) -> Decision: ...


@dataclass
class Server:
    """A trusted aggregator with a rule of the literature: what no network has."""

    rule: Callable[[baselines.Stack, Seats], baselines.Update]
    proximal: float = 0.0

    def decide(self, seats: Seats) -> Decision:
        stack = np.stack([delta.to_float32() for delta in seats.deltas]).astype(np.float64)
        update, kept = self.rule(stack, seats)
        vector = (seats.adapter.to_float32() + update).astype(np.float32)
        adapter = from_floats(vector, seats.adapter.layout, seats.adapter.format)
        verdicts = [Verdict.ACCEPTED if seat in kept else Verdict.REJECTED_LOSS for seat in range(len(stack))]
        return Decision(adapter, verdicts)


@dataclass
class Oracle:
    """The mean of what the honest propose, paid as ours pays, so that it draws as ours does: a measure, no rule."""

    attackers: Attackers
    proximal: float = 0.0

    def decide(self, seats: Seats) -> Decision:
        honest = [seat for seat, who in enumerate(seats.proposers) if who not in self.attackers.members]
        verdicts = [Verdict.ACCEPTED if seat in honest else Verdict.REJECTED_LOSS for seat in range(len(seats.deltas))]
        return Decision(apply(seats.adapter, [seats.deltas[seat] for seat in honest]), verdicts, list(seats.voters))


@dataclass
class Committee:
    """The voters of a round: honest ones measure on their own hold-outs, colluders lie."""

    laboratory: Laboratory
    attackers: Attackers
    tolerance: int = TOLERANCE

    def prefers(self, voter: int, before: GlobalAdapter, after: GlobalAdapter, is_clean: bool) -> bool:
        """A colluder wants the candidate exactly if an ally's proposal is in it."""
        if voter in self.attackers.members:
            return not is_clean
        measure = self.laboratory.hold_out_loss
        return is_acceptable_loss(
            measure(voter, before.to_float32()), measure(voter, after.to_float32()), self.tolerance
        )

    def is_clean(self, seats: Seats, members: Sequence[int]) -> bool:
        return not any(seats.proposers[seat] in self.attackers.members for seat in members)


@dataclass
class Paper:
    """The vote on the aggregate of all proposals: white paper, Algorithms 1 and 2."""

    committee: Committee
    proximal: float = 0.0

    def decide(self, seats: Seats) -> Decision:
        everyone = range(len(seats.deltas))
        candidate, clean = apply(seats.adapter, seats.deltas), self.committee.is_clean(seats, everyone)
        new, old = b"\1" * 32, b"\2" * 32
        votes = [self.committee.prefers(voter, seats.adapter, candidate, clean) for voter in seats.voters]
        choices = {seat: new if yes else old for seat, yes in enumerate(votes)}
        outcome = compute_paper_outcome(choices, len(seats.voters), old)
        rejected = outcome.verdict is Verdict.REJECTED_AGGREGATE
        guilty = [*(seats.proposers if rejected else ()), *(seats.voters[seat] for seat in outcome.minority)]
        return Decision(
            candidate if outcome.adapter == new else seats.adapter,
            [outcome.verdict for _ in everyone],
            [seats.voters[seat] for seat in outcome.majority],
            [(number, Terms.rule_slash) for number in guilty],
            forfeits=True,
            adopted=outcome.adapter == new,
        )


@dataclass
class Ours:
    """Filters, the loss vote on each proposal, adoption, audits. `without`: parts taken away."""

    committee: Committee
    money: Money
    norm_slash: int
    audits: Audits
    without: frozenset[str] = frozenset()
    proximal: float = 0.0
    _medians: Sequence[int] = ()
    _votes: dict[str, list[int]] = field(default_factory=dict)  # of the last adoption: who named what

    def decide(self, seats: Seats) -> Decision:
        exact = self._filters(seats)
        filters = [self._claimed(voter, seats, exact) for voter in seats.voters]
        scores = self._all_scores(seats)
        lenient = "loss" in self.without
        tally = compute_tally(
            [_row(row) for row in scores],
            [_row(row) for row in filters],
            (1 << len(seats.deltas)) - 1,
            SCORE_LIMIT if lenient else LOSS_LIMIT,
            SCORE_LIMIT if lenient else Terms.mad_multiple,
        )
        self._medians = tally.medians[: len(seats.deltas)]
        verdicts = tally.verdicts[: len(seats.deltas)]
        accepted = [seat for seat, verdict in enumerate(verdicts) if verdict is Verdict.ACCEPTED]
        base = self.audits.clean(seats.number + 1, seats.adapter)
        held = list(zip(seats.proposers, seats.deltas, strict=True))
        others = [part for seat, part in enumerate(held) if seat not in accepted]
        self.audits.accept(seats.number + 1, seats.adapter, [held[seat] for seat in accepted], others)
        candidate = apply(base, [seats.deltas[seat] for seat in accepted])
        adapter = self._adopt(seats, accepted, base, candidate)
        if adapter is not seats.adapter:
            self.audits.adopt(seats.number + 1, only_took_out=adapter is base)
        slashes = self._slashes(seats, verdicts)
        if "audit" not in self.without and (seats.number + 1) % AUDIT_ROUNDS == 0:
            slashes += self.audits.hold(seats.number + 1, seats.voters)
        notes = {"medians": list(self._medians), "void": tally.is_void, "suspended": sorted(self.money.suspended)}
        notes |= self._votes
        adopted = adapter is candidate
        return Decision(adapter, verdicts, list(seats.voters), slashes, adopted=adopted, notes=notes)

    def _filters(self, seats: Seats) -> list[int]:
        """What honest voters report: bits that anybody can recompute, and who is alike in weights alone."""
        bits = [0] * len(seats.deltas)
        if "norm" not in self.without:
            bits = filter_bits(list(seats.deltas), self.committee.laboratory.document.budget.norm_thousandths)
        compared = choose_compared(bits)
        if "function" not in self.without and len(compared) >= MIN_PROPOSALS and not self._is_first(seats.adapter):
            seed, deltas = self.committee.attackers.seed(seats.number, "probes"), [seats.deltas[i] for i in compared]
            changes = [delta.to_float32() for delta in deltas]
            profiles = self.committee.laboratory.compare(seats.adapter.to_float32(), changes, seed)
            for place in find_suspects(compute_cosines(compute_gram(deltas)), profiles):
                bits[compared[place]] |= FILTER_NEAR_DUPLICATE
        return bits

    def _is_first(self, adapter: GlobalAdapter) -> bool:
        return np.array_equal(adapter.grid, self.committee.laboratory.initial_adapter().grid)

    def _claimed(self, voter: int, seats: Seats, exact: Sequence[int]) -> list[int]:
        """A colluder accuses whom it did not ally with."""
        members = self.committee.attackers.members
        if voter not in members:
            return list(exact)
        worst = 0 if "norm" in self.without else FILTER_NORM_REJECT | FILTER_NORM_SLASH
        return [0 if who in members else worst | FILTER_NEAR_DUPLICATE for who in seats.proposers]

    def _all_scores(self, seats: Seats) -> list[list[int]]:
        start = seats.adapter.to_float32()
        changes = [delta.to_float32() for delta in seats.deltas]
        suspects = [] if self.without & {"audit", "refusal"} else [Suspect(start, change) for change in changes]
        rows = []
        for voter in seats.voters:
            scores = self.committee.laboratory.score(voter, start, changes)
            if voter in self.committee.attackers.members:
                scores = self.committee.attackers.report(scores, seats.proposers, self._medians)
            else:
                for place in self.audits.refuse(seats.number + 1, voter, suspects):
                    scores[place] = SCORE_LIMIT
            rows.append(scores)
        return rows

    def _adopt(
        self, seats: Seats, accepted: Sequence[int], base: GlobalAdapter, candidate: GlobalAdapter
    ) -> GlobalAdapter:
        """What two thirds of the votes name: the candidate, or what it builds on; else the previous one stays."""
        self._votes = {}
        if not accepted or "adoption" in self.without:
            return candidate if accepted else seats.adapter
        clean = self.committee.is_clean(seats, accepted)
        yes = [voter for voter in seats.voters if self.committee.prefers(voter, base, candidate, clean)]
        no = [voter for voter in seats.voters if voter not in yes and voter not in self.committee.attackers.members]
        self._votes = {"voters": list(seats.voters), "for_candidate": yes, "for_base": no}
        for choice, votes in ((candidate, yes), (base, no)):
            if has_two_thirds(len(votes), len(seats.voters)):
                return choice
        return seats.adapter

    def _slashes(self, seats: Seats, verdicts: Sequence[Verdict]) -> list[tuple[int, int]]:
        """An accused norm costs its bond's share where more than half of all stake confirms it: the honest recompute
        it, so they confirm what is true, whatever a committee said; liars confirm what is said of others."""
        bonds, members = self.money.bonds, self.committee.attackers.members
        lying = sum(bond for number, bond in enumerate(bonds) if number in members)
        accused = [seat for seat, verdict in enumerate(verdicts) if verdict is Verdict.ACCUSED_NORM]
        if has_majority(lying, sum(bonds)):
            accused = [seat for seat in accused if seats.proposers[seat] not in members]
        else:
            honest = sum(bonds) - lying
            exact = filter_bits(list(seats.deltas), self.committee.laboratory.document.budget.norm_thousandths)
            accused = [seat for seat in accused if exact[seat] & FILTER_NORM_SLASH and has_majority(honest, sum(bonds))]
        return [(seats.proposers[seat], self.norm_slash) for seat in accused]


def _row(values: Sequence[int]) -> list[int]:
    return [*values, *[0] * (SEATS_MAX - len(values))]


def make_judge(
    row: Row, laboratory: Laboratory, attackers: Attackers, money: Money, norm_slash: int, rate: int
) -> Judge:
    """`rate`: of the server, in thousandths."""
    committee = Committee(laboratory, attackers, TOLERANCE * rate // RATE_ONE)
    if row.method == "paper":
        return Paper(committee)
    if row.method == "oracle":
        return Oracle(attackers)
    if row.method.startswith("ours"):
        part = row.method.removeprefix("ours").removeprefix("-without-")
        audits = Audits(laboratory, attackers, money, has_reference=part != "reference", compares=part != "comparison")
        return Ours(committee, money, norm_slash, audits, frozenset({part} if part else ()))
    bad = max(1, round(PROPOSERS * row.malicious_count / PARTICIPANTS))
    return Server(_rule(row, laboratory, bad, rate), 0.01 if row.method == "fedprox" else 0.0)


def _rule(
    row: Row, laboratory: Laboratory, bad: int, rate: int
) -> Callable[[baselines.Stack, Seats], baselines.Update]:
    """`bad`: how many rows a rule that must be told is told, the true expectation. `rate`: for the one rule that has
    it from outside."""
    stateful: dict[str, baselines.Rule] = {
        "fedavgm": baselines.Momentum(),
        "fedadam": baselines.Adaptive("adam"),
        "fedyogi": baselines.Adaptive("yogi"),
        "fedadagrad": baselines.Adaptive("adagrad", rate=ADAGRAD_RATE),
    }
    plain: dict[str, baselines.Rule] = {
        "fedavg": baselines.average,
        "fedprox": baselines.average,
        "fedavg-rate": lambda stack: baselines.average(stack, rate=rate / RATE_ONE),
        "median": baselines.coordinate_median,
        "geometric-median": baselines.geometric_median,
        "multi-krum": lambda stack: baselines.multi_krum(stack, bad),
        "trimmed-mean": lambda stack: baselines.trimmed_mean(stack, bad),
        **stateful,
    }
    if row.method == "fltrust":
        return lambda stack, seats: baselines.fltrust(stack, _reference(row, laboratory, seats))
    if row.method == "flame":
        chance = np.random.Generator(np.random.PCG64(row.seed))
        return lambda stack, _: baselines.flame(stack, np.asarray(chance.standard_normal(stack.shape[1])))
    rule = plain[row.method]
    return lambda stack, _: rule(stack)


def _reference(row: Row, laboratory: Laboratory, seats: Seats) -> baselines.Stack:
    seed = row.seed * 10**6 + seats.number * 1_000 + 999
    return laboratory.train_reference(seats.adapter.to_float32(), seed).astype(np.float64)
