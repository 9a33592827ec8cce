"""Agents in one long task: honest ones who measure, and colluders who poison and lie. What they see was measured.

The task is played on the board's model, and step for step on the compiled board where `contract` is asked for; both
must agree to the unit after every round. Knows nothing of torch (economy_sight_support draws each round).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from board_model import BoardModel
from board_model_rows import Scores
from board_support import ADAPTER, CREATOR, NEW_ADAPTER, Game, manifest_of, padded, salt_of
from contracts_support import (
    ADOPT,
    AUDIT,
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
from economy_sight_support import Looks, Measured, Sight

from flock_chain.audit_rule import ClosedAudit, find_first_audited, is_out_already
from flock_chain.crypto import Account, keccak256
from flock_chain.paper_rule import RULE_PAPER, is_acceptable
from flock_chain.proposal import compute_proposal_commitment, compute_score_commitment, compute_vote_commitment
from flock_chain.tally import FILTER_NORM_REJECT, FILTER_NORM_SLASH, SCORE_LIMIT, SEATS_MAX, Verdict, compute_tally
from flock_contracts.addresses import BOARD

TOKEN = 10**18
LIE = 50_000  # millionths: what a colluder reports of an honest proposal, and less of an ally's


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
    honest_suspended: int = 0  # rounds that somebody honest began suspended
    malicious_suspended: int = 0
    honest_slashed_by_audits: int = 0  # how often
    malicious_slashed_by_audits: int = 0
    wealth: list[tuple[int, float, float]] = field(default_factory=list)  # round, mean of honest, mean of malicious


class Economy:
    board = BoardModel  # whose rules hold; `contract` knows no others

    def __init__(
        self, measured: Measured, *, rule: int, malicious: int, seed: int, rounds: int = 200, participants: int = 50,
        tokens: int = 64, pot: int = 0, voters: int = 16, min_bond: int = 32, rule_slash: int = 1_000,
        audit_rounds: int = 1, contract: bool = False,
    ) -> None:  # fmt: skip
        """`audit_rounds`: of our rule; the paper's has no audits."""
        self.measured, self.rule, self.rounds, self.start = measured, rule, rounds, tokens * TOKEN
        self.chance = Random(f"{seed}:{malicious}")  # the same agents and the same luck for every rule
        people = [account(index) for index in range(1, participants + 1)]
        self.malicious = set(self.chance.sample(people, malicious))
        self.number = {who: index for index, who in enumerate(people)}
        terms = {
            "rounds": rounds, "extra_rounds": 0, "proposers": 5, "voters": voters, "min_bond": min_bond * TOKEN,
            "voting_rule": rule, "rule_slash": rule_slash if rule == RULE_PAPER else 0, "tolerance": 50_000,
            "audit_rounds": 0 if rule == RULE_PAPER else audit_rounds,
        }  # fmt: skip
        self.game = Game(0, pot=pot * TOKEN, world=new_world(), **terms) if contract else None
        self.model = self.board(TERMS | terms, pot * TOKEN, 1, GENESIS_TIME + 1, ADAPTER)
        if self.game:
            assert (self.game.world.height, self.game.world.timestamp) == (self.model.height, self.model.now)
        self.mixes: dict[int, bytes] = {}
        self.seed = keccak256(b"economy", f"{seed}:{malicious}".encode())
        self.wallet = dict.fromkeys(people, 0)
        self.seen = Tally()
        self.sights: dict[int, Sight] = {}  # by round
        self.closed: list[ClosedAudit] = []  # all of them count
        self.times: dict[tuple[int, bytes], int] = {}  # how many audits have looked at what it proposed in a round
        for who in people:
            self._act(who, self.model.join(who, self.start), "join_task", lambda: (b"domain".ljust(32),), self.start)

    # ------------------------------------------------ both boards

    def _act(self, who: bytes, done: bool, function: str, args: Callable[[], tuple[Any, ...]], value: int = 0) -> None:
        """`args`: made for the contract alone; digests are most of the model's time otherwise."""
        assert done, f"the model refuses {function}"
        if self.game:
            self.game.world.must(who, "TaskBoard", function, self.game.task, *args(), value=value)

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

    def poisons(self, who: bytes) -> bool:
        """Whether its next proposal does; asked once for each."""
        return who in self.malicious

    def play_round(self) -> None:
        number = self.model.number
        while self.model.phase != COMMIT:
            self._tick()
            if self.model.phase == ENDED:
                return
        row = self.model.round
        is_bad = [self.poisons(who) for who in row.proposers]
        sight = self.measured.draw(self.chance, [self.number[who] for who in row.proposers], is_bad)
        self.sights[number] = sight
        before = {who: member.bond for who, member in self.model.members.items()}
        self._count_suspended()
        while self.model.number == number and self.model.phase != ENDED:
            self._turn(sight, is_bad)
            self._tick()
        self._note(number, before)
        self._collect(number)
        self._check()

    def _turn(self, sight: Sight, is_bad: list[bool]) -> None:
        model, row, number = self.model, self.model.round, self.model.number
        if model.phase == COMMIT:
            for who in row.proposers:
                manifest = manifest_of(who, number)
                self._act(who, model.commit(who, manifest), "commit", partial(self._commitment, who, number))
        elif model.phase == REVEAL:
            for who in row.proposers:
                manifest = manifest_of(who, number)
                args = (number, manifest, salt_of(who, number))
                self._act(who, model.reveal(who, manifest), "reveal", partial(tuple, args))
        elif model.phase == AVAILABILITY:
            held = (1 << len(row.proposers)) - 1
            for who in row.voters:
                self._act(who, model.attest(who, held, 0), "attest_available", lambda: (number, held, 0))
        elif model.phase in (SCORE_COMMIT, SCORE_REVEAL):
            vote = self._vote_on_aggregate if self.rule == RULE_PAPER else self._vote_on_proposals
            for who in row.voters:
                vote(who, sight, is_bad)
        elif model.phase == TALLY:
            rows = list(row.score_revealed.values())
            found = compute_tally([s for s, _ in rows], [f for _, f in rows], row.held, 20_000, 12)
            claimed = (number, tuple(found.medians), found.center, found.mad)
            self._act(CREATOR, model.tally(), "tally", partial(tuple, claimed))
            self._confirm(number, sight, is_bad)
        elif model.phase == ADOPT:
            for who in row.voters:
                choice = ADAPTER if who in self.malicious else NEW_ADAPTER
                self._act(who, model.adopt(who, choice), "attest_adoption", partial(tuple, (number, choice)))
        elif model.phase == AUDIT:
            self._audit()

    def _commitment(self, who: bytes, number: int) -> tuple[Any, ...]:
        ids = (CHAIN_ID, BOARD, 1, number)
        return number, compute_proposal_commitment(*ids, who, manifest_of(who, number), salt_of(who, number))

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
        choice = keccak256(b"candidate", number.to_bytes(4, "big")) if wants else model.adapter
        if model.phase == SCORE_COMMIT:
            done, function = model.commit_vote(who, choice), "commit_scores"
            args = partial(self._vote_commitment, who, number, choice)
        else:
            done, function = model.reveal_vote(who, choice), "reveal_vote"
            args = partial(tuple, (number, choice, salt_of(who, number)))
        self._act(who, done, function, args)

    def _vote_commitment(self, who: bytes, number: int, choice: bytes) -> tuple[Any, ...]:
        return number, compute_vote_commitment(CHAIN_ID, BOARD, 1, number, who, choice, salt_of(who, number))

    def _vote_on_proposals(self, who: bytes, sight: Sight, is_bad: list[bool]) -> None:
        """Honest: what was measured. A colluder praises allies and accuses everybody else, of slashable norms too."""
        model, number = self.model, self.model.number
        if who in self.malicious:
            scores = [-LIE - i if bad else LIE + i for i, bad in enumerate(is_bad)]
            filters = [0 if bad else FILTER_NORM_REJECT | FILTER_NORM_SLASH for bad in is_bad]
        else:
            scores, filters = list(sight.scores[self.number[who] % self.measured.domains]), sight.filters
            for place in self._find_refused(who, sight):
                scores[place] = SCORE_LIMIT
        sheet = (padded(scores), padded(filters))
        if model.phase == SCORE_COMMIT:
            done, function = model.commit_scores(who, sheet), "commit_scores"
            args = partial(self._score_commitment, who, number, sheet)
        else:
            done, function = model.reveal_scores(who, sheet), "reveal_scores"
            args = partial(tuple, (number, *sheet, salt_of(who, number)))
        self._act(who, done, function, args)

    def _score_commitment(self, who: bytes, number: int, sheet: Scores) -> tuple[Any, ...]:
        return number, compute_score_commitment(CHAIN_ID, BOARD, 1, number, who, *sheet, salt_of(who, number))

    def _find_refused(self, who: bytes, sight: Sight) -> list[int]:
        """What an audit would find guilty, an honest voter of a task with audits refuses."""
        looks = sight.looks if self.model.terms["audit_rounds"] else []
        return [place for place, look in enumerate(looks) if look.is_refused(self.number[who])]

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
            self._act(who, done, "confirm", partial(tuple, (number, guilty, innocent)))

    # ------------------------------------------------ an audit

    def _audit(self) -> None:
        """Honest: whom it finds guilty. Colluders blame the honest, first those whom the honest blame most."""
        model, audit = self.model, self.model.audits + 1
        assert len(self.closed) == model.counted_audits
        looked = self._looked_at()
        lies, named, total = self._lies(looked), dict[bytes, int](), model.audit.stake
        for who in [name for name in model.members if model.voice(name) and name not in model.audit.said]:
            accused = lies if who in self.malicious else {
                proposer for proposer, times, is_out, looks in looked
                if proposer != who and looks.is_guilty(times, self.number[who], is_out=is_out)
            }  # fmt: skip
            names = tuple(sorted(accused))[:SEATS_MAX]
            for name in names:
                named[name] = named.get(name, 0) + model.voice(who)
            self._act(who, model.blame(who, audit, names), "attest_guilty", partial(tuple, (audit, list(names))))
        self.closed.append(ClosedAudit(model.number, total, {Account(name): named[name] for name in sorted(named)}))

    def _looked_at(self) -> list[tuple[bytes, int, bool, Looks]]:
        """Who is looked at, how often its proposal was before, whether it is out already, and what there is to see."""
        model, found = self.model, []
        first = find_first_audited([audit.round for audit in self.closed])  # everybody speaks, so every audit counts
        for number in range(first, model.number + 1):
            row = model.rounds[number]
            for place, who in enumerate(row.proposers):
                if row.held >> place & 1 and who in model.members:
                    times = self.times.get((number, who), 0)
                    self.times[number, who] = times + 1
                    is_out = is_out_already(self.closed, Account(who), number)
                    found.append((who, times, is_out, self.sights[number].looks[place]))
        return found

    def _lies(self, looked: list[tuple[bytes, int, bool, Looks]]) -> set[bytes]:
        blamers: dict[bytes, int] = {}
        for who, *_, looks in looked:
            blamers[who] = max(blamers.get(who, 0), looks.blamers)
        can_be_named = [who for who, row in self.model.members.items() if row.last_held]
        honest = sorted(set(can_be_named) - self.malicious, key=lambda who: (-blamers.get(who, -1), who))
        return set(honest[:SEATS_MAX])

    # ------------------------------------------------ afterwards

    def _count_suspended(self) -> None:
        for who in self.model.members:
            if self.model.records[who].suspended and who in self.malicious:
                self.seen.malicious_suspended += 1
            elif self.model.records[who].suspended:
                self.seen.honest_suspended += 1

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
            by_audit = lost == bond  # nothing else takes all
            if lost and who in self.malicious:
                seen.malicious_slashed += lost
                seen.malicious_slashed_by_audits += by_audit
            elif lost:
                seen.honest_slashed += lost
                seen.honest_slashes += 1
                seen.honest_slashed_by_audits += by_audit
        if any(who in self.malicious for who in (*row.proposers, *row.voters)):
            seen.last_malicious_seat = number

    def _collect(self, number: int) -> None:
        """Everybody claims at once, and who fell below the minimum bond or was expelled is evicted by who passes."""
        for who in self.number:
            owed = self.model.rewards.get((number, who), 0)
            if owed:
                self._act(who, self.model.claim(who, number), "claim", lambda: (number,))
                self.wallet[who] += owed
        for who, member in list(self.model.members.items()):
            is_out = member.bond < self.model.terms["min_bond"] or self.model.records[who].expelled
            if is_out and self.model.is_free(who):
                self._act(CREATOR, self.model.evict(who), "evict", partial(tuple, (who,)))
        self.seen.wealth.append((number, self.mean_wealth(False), self.mean_wealth(True)))

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
        return sum(
            who in members and members[who].bond >= least and not self.model.records[who].expelled
            for who in self.malicious
        )

    def expelled(self, is_malicious: bool) -> int:
        return sum(self.model.records[who].expelled for who in self.number if (who in self.malicious) is is_malicious)
