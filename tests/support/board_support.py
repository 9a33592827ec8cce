"""One task on a bare board, and participants who do as they are told. For tests of the contracts alone."""

from collections.abc import Iterable, Sequence
from typing import Any

from contracts_support import (
    ADOPT,
    AUDIT,
    AVAILABILITY,
    CHAIN_ID,
    COMMIT,
    ENDED,
    PARAMETERS,
    REVEAL,
    SCORE_COMMIT,
    SCORE_REVEAL,
    TALLY,
    TERMS,
    Outcome,
    World,
    account,
    new_world,
)

from flock_chain.crypto import keccak256
from flock_chain.proposal import compute_proposal_commitment, compute_score_commitment, compute_vote_commitment
from flock_chain.tally import SEATS_MAX, Tally, compute_tally
from flock_contracts.addresses import BOARD

CREATOR = account(0)
POT = 900_001
BOND = 1_000
FEE = PARAMETERS["task_fee"]  # of the first tasks
DOCUMENT, ADAPTER = b"d" * 32, b"a" * 32
NEW_ADAPTER = b"n" * 32
NO_FILTERS = (0,) * SEATS_MAX


def salt_of(who: bytes, round: int) -> bytes:
    return keccak256(b"salt", who, round.to_bytes(4, "big"))


def manifest_of(who: bytes, round: int) -> bytes:
    return keccak256(b"manifest", who, round.to_bytes(4, "big"))


def padded(values: Sequence[int]) -> tuple[int, ...]:
    return (*values, *(0,) * (SEATS_MAX - len(values)))


class Game:
    """Task 1 with `participants` accounts from account(1) on, bonded with BOND each."""

    def __init__(self, participants: int = 6, *, pot: int = POT, world: World | None = None, **terms: int) -> None:
        self.world = world or new_world()
        self.terms = {**TERMS, **terms}
        self.opened = self.world.must(CREATOR, "TaskBoard", "open_task", DOCUMENT, ADAPTER, self.terms, value=pot + FEE)
        self.task = int.from_bytes(self.opened.output, "big")
        for index in range(1, participants + 1):
            self.join(account(index))

    def join(self, who: bytes, bond: int = BOND) -> Outcome:
        return self.world.must(who, "TaskBoard", "join_task", self.task, b"domain".ljust(32), value=bond)

    @property
    def view(self) -> dict[str, Any]:
        found: dict[str, Any] = self.world.board("round_view", self.task)
        return found

    @property
    def phase(self) -> int:
        return int(self.world.board("progress", self.task)[1])

    @property
    def round(self) -> int:
        return int(self.world.board("progress", self.task)[0])

    @property
    def proposers(self) -> list[bytes]:
        return list(self.view["proposers"])

    @property
    def voters(self) -> list[bytes]:
        return list(self.view["voters"])

    def result(self, round: int) -> dict[str, Any]:
        found: dict[str, Any] = self.world.board("round_result", self.task, round)
        return found

    def bond_of(self, who: bytes) -> int:
        return int(self.world.board("participant", self.task, who)["bond"])

    def held_of(self, who: bytes) -> int:
        return int(self.world.board("participant", self.task, who)["held"])

    def confirm(self, who: bytes, round: int, guilty: int, innocent: int = 0) -> Outcome:
        return self.must(who, "confirm", round, guilty, innocent)

    def convict(self, round: int, index: int) -> None:
        """Everybody says so, until it is decided."""
        for row in self.world.board("participants", self.task):
            if self.world.board("case_view", self.task, round)["open"] >> index & 1:
                self.confirm(row["account"], round, 1 << index)

    def until(self, phase: int, *, seconds: int = 1, limit: int = 60) -> None:
        """Blocks until the task is in that phase."""
        for _ in range(limit):
            if self.phase == phase:
                return
            self.world.next_block(seconds)
        raise AssertionError(f"phase {phase} was not reached, but {self.phase}")

    def send(self, who: bytes, function: str, *args: Any) -> Outcome:
        return self.world.act(who, "TaskBoard", function, self.task, *args)

    def must(self, who: bytes, function: str, *args: Any) -> Outcome:
        return self.world.must(who, "TaskBoard", function, self.task, *args)

    def commit(self, who: bytes, manifest: bytes | None = None) -> Outcome:
        round = self.round
        manifest = manifest or manifest_of(who, round)
        digest = compute_proposal_commitment(CHAIN_ID, BOARD, self.task, round, who, manifest, salt_of(who, round))
        return self.must(who, "commit", round, digest)

    def reveal(self, who: bytes, manifest: bytes | None = None) -> Outcome:
        round = self.round
        return self.must(who, "reveal", round, manifest or manifest_of(who, round), salt_of(who, round))

    def attest(self, who: bytes, held: int, invalid: int = 0) -> Outcome:
        return self.must(who, "attest_available", self.round, held, invalid)

    def commit_scores(self, who: bytes, scores: Sequence[int], filters: Sequence[int] = NO_FILTERS) -> Outcome:
        round = self.round
        salt = salt_of(who, round)
        args = (CHAIN_ID, BOARD, self.task, round, who, padded(scores), padded(filters), salt)
        return self.must(who, "commit_scores", round, compute_score_commitment(*args))

    def reveal_scores(self, who: bytes, scores: Sequence[int], filters: Sequence[int] = NO_FILTERS) -> Outcome:
        round = self.round
        return self.must(who, "reveal_scores", round, padded(scores), padded(filters), salt_of(who, round))

    def commit_vote(self, who: bytes, choice: bytes) -> Outcome:
        round = self.round
        digest = compute_vote_commitment(CHAIN_ID, BOARD, self.task, round, who, choice, salt_of(who, round))
        return self.must(who, "commit_scores", round, digest)

    def reveal_vote(self, who: bytes, choice: bytes) -> Outcome:
        return self.must(who, "reveal_vote", self.round, choice, salt_of(who, self.round))

    def expected_tally(self, round: int) -> Tally:
        """By the reference in Python, from what the contract shows."""
        result = self.result(round)
        rows = [
            self.world.board("score_of", self.task, round, index)
            for index in range(len(result["voters"]))
            if result["scores_revealed"] >> index & 1
        ]
        terms = (self.terms["loss_limit"], self.terms["mad_multiple"])
        return compute_tally([row[0] for row in rows], [row[1] for row in rows], result["held_set"], *terms)

    def tally(self, who: bytes = CREATOR) -> Outcome:
        tally = self.expected_tally(self.round)
        return self.must(who, "tally", self.round, padded(tally.medians[:SEATS_MAX]), tally.center, tally.mad)

    # ------------------------------------------------ everybody at once

    def play_to_availability(self, committing: Iterable[bytes] | None = None) -> None:
        self.until(COMMIT)
        for who in self.proposers if committing is None else committing:
            self.commit(who)
        self.until(REVEAL)
        for who in self.proposers if committing is None else committing:
            self.reveal(who)
        self.until(AVAILABILITY)

    def play_to_scores(self, *, away: int = 0) -> None:
        """`away`: so many voters do not attest."""
        self.play_to_availability()
        for who in self.voters[away:]:
            self.attest(who, self.view["revealed"])
        self.until(SCORE_COMMIT, seconds=10 if away else 1)

    def play_to_tally(self, rows: Sequence[Sequence[int]], filters: Sequence[Sequence[int]] | None = None) -> None:
        """`rows`: the scores of each voter."""
        self.play_to_scores()
        bits = filters or [NO_FILTERS] * len(rows)
        for who, scores, row in zip(self.voters, rows, bits):
            self.commit_scores(who, scores, row)
        self.until(SCORE_REVEAL)
        for who, scores, row in zip(self.voters, rows, bits):
            self.reveal_scores(who, scores, row)
        self.until(TALLY)

    def play_votes(self, choices: Sequence[bytes | None], *, away: int = 0) -> int:
        """A round by the paper's rule, each voter with its choice (None: it commits to nothing); its number."""
        round = self.round
        self.play_to_scores(away=away)
        voting = [(who, choice) for who, choice in zip(self.voters, choices) if choice is not None]
        for who, choice in voting:
            self.commit_vote(who, choice)
        self.until(SCORE_REVEAL, seconds=10)
        for who, choice in voting:
            self.reveal_vote(who, choice)
        self.world.next_block()
        assert self.round == round + 1 or self.phase in (AUDIT, ENDED)
        return round

    def play_round(self, scores: Sequence[int] = (-300, -200, -100), adapter: bytes = NEW_ADAPTER) -> int:
        """A whole honest round; returns its number."""
        round = self.round
        self.until(COMMIT)
        count = len(self.proposers)
        self.play_to_tally([[score + k for score in scores[:count]] for k in range(self.terms["voters"])])
        self.tally()
        if self.phase == ADOPT:
            for who in self.voters:
                self.must(who, "attest_adoption", round, adapter)
            self.world.next_block()
        assert self.round == round + 1 or self.phase == ENDED
        return round

    def check_solvent(self) -> None:
        assert self.world.balance(BOARD) == self.world.board("liabilities")
