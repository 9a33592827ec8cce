"""Agents in one long task: honest ones who measure, and colluders who poison and lie. What they see was measured.

The task is played on the board's model, and step for step on the compiled board where `contract` is asked for; both
must agree to the unit after every round. Knows nothing of torch: each round is drawn from benchmarks/detection.json.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from board_model import BoardModel
from board_support import ADAPTER, CREATOR, NEW_ADAPTER, Game, manifest_of, padded, salt_of
from contracts_support import (
    ADOPT,
    AVAILABILITY,
    CHAIN_ID,
    COMMIT,
    ENDED,
    GENESIS_TIME,
    REVEAL,
    SCORE_COMMIT,
    SCORE_REVEAL,
    TALLY,
    TERMS,
    account,
    new_world,
)

from flock_chain.aggregation.format import Format
from flock_chain.aggregation.measure import compute_filter_bits, compute_slash_floor
from flock_chain.crypto import keccak256
from flock_chain.paper_rule import RULE_PAPER, is_acceptable
from flock_chain.proposal import compute_proposal_commitment, compute_score_commitment, compute_vote_commitment
from flock_chain.tally import FILTER_NORM_REJECT, FILTER_NORM_SLASH, Verdict, compute_tally
from flock_contracts.addresses import BOARD

TOKEN = 10**18
LIE = 50_000  # millionths: what a colluder reports of an honest proposal, and less of an ally's
MILLIONTHS = 10**6


class Measured:
    """Rounds of a real federation: squared norms, scores and losses, by how a proposal was made."""

    def __init__(self, path: Path, poison: str = "boosted") -> None:
        table = json.loads(path.read_text("utf-8"))
        self.rounds: list[dict[str, Any]] = table["rounds"]
        self.poison = poison
        self.floor = compute_slash_floor(table["budget"]["norm_thousandths"], Format(elo=table["budget"]["elo"]))
        self.domains = len(self.rounds[0]["losses_before"])

    def draw(self, chance: Random, is_bad: list[bool]) -> "Sight":
        """What the voters of a round see in which these proposers poison."""
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
        )


@dataclass
class Sight:
    scores: list[list[int]]  # by domain of the hold-out, then by proposal
    filters: list[int]
    losses_before: list[int]  # by domain
    losses_after: list[int] | None  # of the plain average; None where fewer than five proposed


@dataclass
class Tally:
    """What happened so far."""

    rejected_rounds: int = 0  # by the paper's rule
    adopted_rounds: int = 0
    honest_verdicts: dict[str, int] = field(default_factory=dict)
    malicious_verdicts: dict[str, int] = field(default_factory=dict)
    honest_slashed: int = 0  # tokens' smallest unit
    malicious_slashed: int = 0
    honest_slashes: int = 0
    accused_honest: int = 0  # by a committee that lies
    last_malicious_seat: int = 0  # the last round in which one was seated
    wealth: list[tuple[int, float, float]] = field(default_factory=list)  # round, mean of honest, mean of malicious


class Economy:
    def __init__(
        self, measured: Measured, *, rule: int, malicious: int, seed: int, rounds: int = 200, participants: int = 50,
        tokens: int = 64, pot: int = 0, voters: int = 16, min_bond: int = 32, rule_slash: int = 1_000,
        contract: bool = False,
    ) -> None:  # fmt: skip
        self.measured, self.rule, self.rounds, self.start = measured, rule, rounds, tokens * TOKEN
        self.chance = Random(f"{seed}:{malicious}")  # the same agents and the same luck for every rule
        people = [account(index) for index in range(1, participants + 1)]
        self.malicious = set(self.chance.sample(people, malicious))
        self.number = {who: index for index, who in enumerate(people)}
        terms = {
            "rounds": rounds, "extra_rounds": 0, "proposers": 5, "voters": voters, "min_bond": min_bond * TOKEN,
            "voting_rule": rule, "rule_slash": rule_slash if rule == RULE_PAPER else 0, "tolerance": 50_000,
        }  # fmt: skip
        self.game = Game(0, pot=pot * TOKEN, world=new_world(), **terms) if contract else None
        self.model = BoardModel(TERMS | terms, pot * TOKEN, 1, GENESIS_TIME + 1, ADAPTER)
        if self.game:
            assert (self.game.world.height, self.game.world.timestamp) == (self.model.height, self.model.now)
        self.mixes: dict[int, bytes] = {}
        self.seed = keccak256(b"economy", f"{seed}:{malicious}".encode())
        self.wallet = dict.fromkeys(people, 0)
        self.seen = Tally()
        for who in people:
            self._act(who, self.model.join(who, self.start), "join_task", b"domain".ljust(32), value=self.start)

    # ------------------------------------------------ both boards

    def _act(self, who: bytes, done: bool, function: str, *args: Any, value: int = 0) -> None:
        assert done, f"the model refuses {function}"
        if self.game:
            self.game.world.must(who, "TaskBoard", function, self.game.task, *args, value=value)

    def _tick(self) -> None:
        self.model.height += 1
        self.model.now += 1
        mix = keccak256(self.seed, self.model.height.to_bytes(8, "big"))
        self.mixes[self.model.height] = mix
        if self.game:
            self.game.world.next_block(mix=mix)
        if self.model.is_due():
            self.model.poke(self.mixes)

    def _check(self) -> None:
        """The contract says the same, to the unit."""
        model, game = self.model, self.game
        if game is None:
            return
        assert (game.round, game.phase) == (model.number, model.phase)
        rows = {row["account"]: (row["bond"], row["held"]) for row in game.world.board("participants", game.task)}
        assert rows == {who: (member.bond, member.held) for who, member in model.members.items()}
        assert game.world.board("liabilities") == model.liabilities == game.world.balance(BOARD)

    # ------------------------------------------------ a round

    def run(self) -> Tally:
        while self.model.phase != ENDED:
            self.play_round()
        return self.seen

    def play_round(self) -> None:
        number = self.model.number
        while self.model.phase != COMMIT:
            self._tick()
            if self.model.phase == ENDED:
                return
        row = self.model.round
        is_bad = [who in self.malicious for who in row.proposers]
        sight = self.measured.draw(self.chance, is_bad)
        before = {who: member.bond for who, member in self.model.members.items()}
        while self.model.number == number and self.model.phase != ENDED:
            self._turn(sight, is_bad)
            self._tick()
        self._note(number, before)
        self._collect(number)
        self._check()

    def _turn(self, sight: Sight, is_bad: list[bool]) -> None:
        model, row, number = self.model, self.model.round, self.model.number
        ids = (CHAIN_ID, BOARD, 1, number)
        if model.phase == COMMIT:
            for who in row.proposers:
                manifest = manifest_of(who, number)
                digest = compute_proposal_commitment(*ids, who, manifest, salt_of(who, number))
                self._act(who, model.commit(who, manifest), "commit", number, digest)
        elif model.phase == REVEAL:
            for who in row.proposers:
                manifest = manifest_of(who, number)
                self._act(who, model.reveal(who, manifest), "reveal", number, manifest, salt_of(who, number))
        elif model.phase == AVAILABILITY:
            held = (1 << len(row.proposers)) - 1
            for who in row.voters:
                self._act(who, model.attest(who, held, 0), "attest_available", number, held, 0)
        elif model.phase in (SCORE_COMMIT, SCORE_REVEAL):
            vote = self._vote_on_aggregate if self.rule == RULE_PAPER else self._vote_on_proposals
            for who in row.voters:
                vote(who, sight, is_bad)
        elif model.phase == TALLY:
            rows = list(row.score_revealed.values())
            found = compute_tally([s for s, _ in rows], [f for _, f in rows], row.held, 20_000, 12)
            self._act(CREATOR, model.tally(), "tally", number, tuple(found.medians), found.center, found.mad)
            self._confirm(number, sight, is_bad)
        elif model.phase == ADOPT:
            for who in row.voters:
                choice = ADAPTER if who in self.malicious else NEW_ADAPTER
                self._act(who, model.adopt(who, choice), "attest_adoption", number, choice)

    def _vote_on_aggregate(self, who: bytes, sight: Sight, is_bad: list[bool]) -> None:
        """Honest: is my loss no more than 5 % worse? A colluder wants whatever an ally had a hand in, and nothing else.

        Where fewer than five propose no average was measured; that ends the run long before it matters.
        """
        model, number = self.model, self.model.number
        if who in self.malicious:
            wants = any(is_bad)
        else:
            domain = self.number[who] % self.measured.domains
            assert sight.losses_after is not None, "averages were measured of five proposals alone"
            wants = is_acceptable(
                sight.losses_before[domain], sight.losses_after[domain],
                tolerance=model.terms["tolerance"], rises=False,
            )  # fmt: skip
        salt = salt_of(who, number)
        choice = keccak256(b"candidate", number.to_bytes(4, "big")) if wants else model.adapter
        if model.phase == SCORE_COMMIT:
            digest = compute_vote_commitment(CHAIN_ID, BOARD, 1, number, who, choice, salt)
            self._act(who, model.commit_vote(who, choice), "commit_scores", number, digest)
        else:
            self._act(who, model.reveal_vote(who, choice), "reveal_vote", number, choice, salt)

    def _vote_on_proposals(self, who: bytes, sight: Sight, is_bad: list[bool]) -> None:
        """Honest: what was measured. A colluder praises allies and accuses everybody else, of slashable norms too."""
        model, number = self.model, self.model.number
        if who in self.malicious:
            scores = [-LIE - i if bad else LIE + i for i, bad in enumerate(is_bad)]
            filters = [0 if bad else FILTER_NORM_REJECT | FILTER_NORM_SLASH for bad in is_bad]
        else:
            scores, filters = sight.scores[self.number[who] % self.measured.domains], sight.filters
        sheet, salt = (padded(scores), padded(filters)), salt_of(who, number)
        if model.phase == SCORE_COMMIT:
            digest = compute_score_commitment(CHAIN_ID, BOARD, 1, number, who, *sheet, salt)
            self._act(who, model.commit_scores(who, sheet), "commit_scores", number, digest)
        else:
            self._act(who, model.reveal_scores(who, sheet), "reveal_scores", number, *sheet, salt)

    def _confirm(self, number: int, sight: Sight, is_bad: list[bool]) -> None:
        """Who was eligible says what it recomputes. Colluders are the first to speak: they clear allies, whom nobody
        else would, and call everybody else guilty."""
        case = self.model.cases.get(number)
        if case is None:
            return
        exact = sum(1 << i for i, bits in enumerate(sight.filters) if bits & FILTER_NORM_SLASH)
        honest = sum(1 << i for i, bad in enumerate(is_bad) if not bad)
        proposers = self.model.rounds[number].proposers
        everybody = (1 << len(proposers)) - 1
        for who in sorted(self.number, key=lambda who: who not in self.malicious):
            still = sum(1 << i for i, accused in enumerate(proposers) if accused in case.open)
            if not still or not self.model.share(who, number):
                continue
            guilty = still & (honest if who in self.malicious else exact)
            innocent = still & everybody & ~guilty
            done = self.model.confirm(who, number, guilty, innocent)
            self._act(who, done, "confirm", number, guilty, innocent)

    # ------------------------------------------------ afterwards

    def _note(self, number: int, before: dict[bytes, int]) -> None:
        row, seen = self.model.rounds[number], self.seen
        for who, verdict in row.verdicts.items():
            table = seen.malicious_verdicts if who in self.malicious else seen.honest_verdicts
            table[verdict.name] = table.get(verdict.name, 0) + 1
        if number in self.model.cases:
            seen.accused_honest += sum(who not in self.malicious for who in self.model.cases[number].named)
        seen.rejected_rounds += Verdict.REJECTED_AGGREGATE in row.verdicts.values()
        seen.adopted_rounds += Verdict.ACCEPTED in row.verdicts.values()
        for who, bond in before.items():
            lost = bond - self.model.members[who].bond
            if lost and who in self.malicious:
                seen.malicious_slashed += lost
            elif lost:
                seen.honest_slashed += lost
                seen.honest_slashes += 1
        if any(who in self.malicious for who in (*row.proposers, *row.voters)):
            seen.last_malicious_seat = number

    def _collect(self, number: int) -> None:
        """Everybody claims at once, and who fell below the minimum bond is evicted by whoever passes."""
        for who in self.number:
            owed = self.model.rewards.get((number, who), 0)
            if owed:
                self._act(who, self.model.claim(who, number), "claim", number)
                self.wallet[who] += owed
        for who, member in list(self.model.members.items()):
            if member.bond < self.model.terms["min_bond"] and self.model.is_free(who):
                self._act(CREATOR, self.model.evict(who), "evict", who)
        means = [self.mean_wealth(is_malicious) for is_malicious in (False, True)]
        self.seen.wealth.append((number, *means))

    def wealth(self, who: bytes) -> int:
        member = self.model.members.get(who)
        return self.wallet[who] + (member.bond if member else 0) + self.model.unbonding(who)[0]

    def wealths(self, is_malicious: bool) -> list[float]:
        """In tokens."""
        return [self.wealth(who) / TOKEN for who in self.number if (who in self.malicious) is is_malicious]

    def mean_wealth(self, is_malicious: bool) -> float:
        values = self.wealths(is_malicious)
        return sum(values) / len(values) if values else 0.0

    def seated_malicious(self) -> int:
        """Who could still be drawn."""
        members, least = self.model.members, self.model.terms["min_bond"]
        return sum(who in members and members[who].bond >= least for who in self.malicious)
