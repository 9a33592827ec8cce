"""The compiled board against its twin in plain Python, under honest, lazy, vanishing and misbehaving participants.

After every step: the same money to the unit, the same round and phase, and phases only move forward. At the end, from
whatever state was reached: the clock runs on with pokes alone, everybody leaves, and nothing but the burned remains.
"""

import os
import random
from functools import partial
from typing import Any

from board_model import BoardModel
from board_support import ADAPTER, CREATOR, NEW_ADAPTER, Game, manifest_of, padded, salt_of
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
    VALIDATORS,
    account,
    build_genesis,
)
from fast_world_support import FastWorld, Known
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flock_chain.paper_rule import ABSTAIN
from flock_chain.proposal import compute_proposal_commitment, compute_score_commitment, compute_vote_commitment
from flock_chain.tally import compute_tally
from flock_contracts.addresses import BOARD

PEOPLE = 8
EXAMPLES = int(os.environ.get("FLOCK_EXAMPLES", "12"))
BASE = build_genesis(PEOPLE + 1)
KNOWN = Known(BASE[0])
SETTERS = {who: stake for who, stake, _ in VALIDATORS}
who = st.integers(1, PEOPLE)
amounts = st.sampled_from([0, 1, 99, 100, 101, 250, 1_000, 33_333, 10**18])
score = st.one_of(st.integers(-400, 400), st.sampled_from([0, 19_999, 20_000, 20_001, 60_000, -(10**9), 10**9]))
filter_bits = st.sampled_from([0, 0, 0, 0, 1, 3, 4, 8, 15])
sheets = st.tuples(st.lists(score, min_size=4, max_size=4), st.lists(filter_bits, min_size=4, max_size=4))


class Board(RuleBasedStateMachine):
    @initialize(
        pot=st.sampled_from([0, 1, 7, 900_001, 10**20]),
        rounds=st.integers(1, 2),
        extra=st.integers(0, 4),
        proposers=st.integers(1, 4),
        voters=st.integers(3, 5),
        share=st.sampled_from([0, 3_333, 6_000, 10_000]),
        people=st.integers(3, PEOPLE),
        least=st.sampled_from([0, 2, 4, 5]),
        rule=st.sampled_from([(0, 0), (0, 0), (1, 1_000), (1, 10_000)]),
        rest=st.sampled_from([0, 0, 3_333, 10_000]),
        audits=st.sampled_from([(0, 0), (1, 10_000), (1, 2_500), (2, 10_000)]),
        gone=st.sets(who, max_size=3),
        luck=st.integers(0, 2**32),
    )
    def open(
        self,
        pot: int,
        rounds: int,
        extra: int,
        proposers: int,
        voters: int,
        share: int,
        people: int,
        least: int,
        rule: tuple[int, int],
        rest: int,
        audits: tuple[int, int],
        gone: set[int],
        luck: int,
    ) -> None:
        self.gone, self.luck = gone, random.Random(luck)
        terms = {"rounds": rounds, "extra_rounds": extra, "proposers": proposers, "voters": voters}
        terms |= {"proposer_share": share, "min_participants": least, "rest_share": rest}
        terms |= {"voting_rule": rule[0], "rule_slash": rule[1]}
        terms |= {"audit_rounds": min(audits[0], rounds), "audit_slash": audits[1]}
        self.world = FastWorld(*BASE, KNOWN)
        self.world.next_block(pokes=False)  # there are no transactions in block 0
        self.start = [self.world.balance(account(index)) for index in range(PEOPLE + 1)]
        self.game = Game(0, world=self.world, pot=pot, **terms)
        self.model = BoardModel(self.game.terms, pot, self.world.height, self.world.timestamp, ADAPTER, SETTERS)
        self.mixes: dict[int, bytes] = {}
        self.seen = (1, 0)
        for index in range(1, people + 1):
            self.join(index, 1_000 + index)
        self.blocks(1, 4, True)

    def both(self, sender: bytes, expected: bool, function: str, *args: Any, value: int = 0) -> None:
        outcome = self.world.act(sender, "TaskBoard", function, self.game.task, *args, value=value)
        assert outcome.ok == expected, (function, expected, outcome.reason)
        assert outcome.ok or outcome.reason.startswith("board: ")

    # ------------------------------------------------ time

    @rule(seconds=st.sampled_from([0, 1, 5, 11, 25, 90, 1_000]), count=st.integers(1, 4), poked=st.booleans())
    def blocks(self, seconds: int, count: int, poked: bool) -> None:
        for _ in range(count):
            self.world.next_block(seconds, pokes=False)
            self.model.height += 1
            self.model.now += min(seconds, 90)
            self.mixes[self.world.height] = self.world.view("Beacon", "mix", self.world.height)
            due = self.world.board("due_tasks")
            assert due == ([self.game.task] if self.model.is_due() else [])
            if poked and due:
                self.poke(0)

    @rule(index=who)
    def poke(self, index: int) -> None:
        self.both(account(index), self.model.poke(self.mixes), "poke")

    # ------------------------------------------------ money

    @rule(index=who, amount=amounts)
    def join(self, index: int, amount: int) -> None:
        expected = self.model.join(account(index), amount)
        self.both(account(index), expected, "join_task", b"domain".ljust(32), value=amount)

    @rule(index=who)
    def leave(self, index: int) -> None:
        self.both(account(index), self.model.leave(account(index)), "leave_task")

    @rule(
        index=who, back=st.integers(0, 3), kind=st.sampled_from(["evict", "withdraw", "claim", "stop", "pot", "rejoin"])
    )
    def money(self, index: int, back: int, kind: str) -> None:
        me, round = account(index), max(1, self.model.number - back)
        if kind == "evict":
            self.both(CREATOR, self.model.evict(me), "evict", me)
        elif kind == "withdraw":
            self.both(me, self.model.withdraw(me), "withdraw_bond")
        elif kind == "claim":
            assert self.world.board("claimable", self.game.task, round, me) == self.model.rewards.get((round, me), 0)
            self.both(me, self.model.claim(me, round), "claim", round)
        elif kind == "rejoin":
            self.both(me, self.model.rejoin(me), "rejoin")
        elif kind == "stop":
            self.both(CREATOR, self.model.stop(), "stop_task")
        else:
            self.both(CREATOR, self.model.withdraw_pot(), "withdraw_pot")

    # ------------------------------------------------ one participant, at any time

    @rule(index=who, other=who, bits=st.tuples(st.integers(0, 31), st.integers(0, 31)), sheet=sheets, data=st.data())
    def mischief(
        self, index: int, other: int, bits: tuple[int, int], sheet: tuple[list[int], list[int]], data: st.DataObject
    ) -> None:
        """Any message of anybody: out of turn, twice, for a wrong round, with another's proposal."""
        me = account(index)
        kinds = ["commit", "commit ahead", "reveal", "attest", "commit scores", "scores", "adopt"]
        kind = data.draw(st.sampled_from([*kinds, "commit vote", "vote", "miss", "blame"]))
        if kind == "miss":
            self.miss(me)
        elif kind == "blame":
            accused = data.draw(st.lists(who.map(account), max_size=3))
            self.blame(me, tuple(sorted(accused) if bits[0] % 4 else accused), bits[1] % 8 == 0)
        elif kind == "commit vote":
            self.commit_vote(me, NEW_ADAPTER)
        elif kind == "vote":
            self.reveal_vote(me, data.draw(st.sampled_from([NEW_ADAPTER, self.model.adapter, ABSTAIN])))
        elif kind.startswith("commit "):
            self.commit(me, account(other), 1) if kind == "commit ahead" else self.commit_scores(me, self.inside(sheet))
        elif kind == "commit":
            self.commit(me, account(other))
        elif kind == "reveal":
            self.reveal(me, account(other))
        elif kind == "attest":
            self.both(me, self.model.attest(me, *bits), "attest_available", self.model.number, *bits)
        elif kind == "scores":
            self.reveal_scores(me, (padded(sheet[0]), padded(sheet[1])))
        else:
            self.adopt(me, NEW_ADAPTER)

    @precondition(lambda self: self.model.phase == TALLY)
    @rule(index=st.integers(0, 17), shift=st.sampled_from([-1, 1]))
    def claims_a_wrong_median(self, index: int, shift: int) -> None:
        medians, center, mad = self.tallied()
        values = [*medians, center, mad]
        values[index] += shift
        self.both(CREATOR, False, "tally", self.model.number, tuple(values[:16]), values[16], values[17])

    # ------------------------------------------------ everybody whose turn it is, but those who vanish

    @rule(
        vanished=st.sets(who, max_size=4),
        sheet=st.lists(sheets, min_size=PEOPLE, max_size=PEOPLE),
        liars=st.sets(who, max_size=3),
        held=st.sampled_from([31, 31, 31, 30, 5, 0]),
        copying=st.sampled_from([False, False, True]),
        lost=st.sampled_from([False, False, False, True]),
    )
    def turn(
        self, vanished: set[int], sheet: list[tuple[list[int], list[int]]], liars: set[int], held: int, copying: bool,
        lost: bool = False,
    ) -> None:  # fmt: skip
        phase, row = self.model.phase, self.model.round
        for index in range(1, PEOPLE + 1):
            if index in vanished or index in self.gone:
                continue
            me = account(index)
            if phase == COMMIT and lost:
                self.miss(me)
            elif phase == AUDIT:
                self.blame(me, self.guilty(me, index in liars))
            elif phase == COMMIT and me in row.proposers:
                self.commit(me, row.proposers[0] if copying else me)
            elif phase == REVEAL and me in row.committed:
                self.reveal(me, row.proposers[0] if copying else me)
            elif phase == AVAILABILITY and me in row.voters:
                known = sum(1 << i for i, proposer in enumerate(row.proposers) if proposer in row.revealed)
                mine = (0, known & held) if index in liars else (known & held, known & ~held)
                self.both(me, self.model.attest(me, *mine), "attest_available", self.model.number, *mine)
            elif phase == SCORE_COMMIT and me in row.voters and self.model.by_paper:
                abstains = index % 4 == 3 and self.model.number % 2 == 1
                self.commit_vote(me, ABSTAIN if abstains else self.choose(index in liars))
            elif phase == SCORE_COMMIT and me in row.voters:
                self.commit_scores(me, self.inside(sheet[index - 1]))
            elif phase == SCORE_REVEAL and me in row.choices:
                self.reveal_vote(me, row.choices[me])
            elif phase == SCORE_REVEAL and me in row.score_committed:
                self.reveal_scores(me, row.score_committed[me])
            elif phase == ADOPT and me in row.score_revealed:
                self.adopt(me, ADAPTER if index in liars else NEW_ADAPTER)
        if phase == TALLY:
            medians, center, mad = self.tallied()
            self.both(CREATOR, True, "tally", self.model.number, medians, center, mad)
            self.model.tally()
        self.blocks(1, 1, True)

    @rule(
        turns=st.integers(1, 14),
        sheet=st.lists(sheets, min_size=PEOPLE, max_size=PEOPLE),
        liars=st.sets(who, max_size=1),
    )
    def turns(self, turns: int, sheet: list[tuple[list[int], list[int]]], liars: set[int]) -> None:
        for _ in range(turns):
            self.turn(set(), sheet, liars, 31, False)

    def inside(self, sheet: tuple[list[int], list[int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        keep = [self.model.round.held >> index & 1 for index in range(4)]
        scores, filters = ([value * kept for value, kept in zip(values, keep)] for values in sheet)
        return padded(scores), padded(filters)

    def tallied(self) -> tuple[tuple[int, ...], int, int]:
        rows = list(self.model.round.score_revealed.values())
        found = compute_tally([s for s, _ in rows], [f for _, f in rows], self.model.round.held, 0, 0)
        return tuple(found.medians), found.center, found.mad

    def commit(self, me: bytes, author: bytes, ahead: int = 0) -> None:
        round = self.model.number + ahead
        manifest = manifest_of(author, self.model.number)
        digest = compute_proposal_commitment(CHAIN_ID, BOARD, self.game.task, round, me, manifest, salt_of(me, round))
        self.both(me, ahead == 0 and self.model.commit(me, manifest), "commit", round, digest)

    def reveal(self, me: bytes, author: bytes) -> None:
        round, manifest = self.model.number, manifest_of(author, self.model.number)
        self.both(me, self.model.reveal(me, manifest), "reveal", round, manifest, salt_of(me, round))

    def commit_scores(self, me: bytes, scores: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
        round = self.model.number
        digest = compute_score_commitment(CHAIN_ID, BOARD, self.game.task, round, me, *scores, salt_of(me, round))
        self.both(me, self.model.commit_scores(me, scores), "commit_scores", round, digest)

    def reveal_scores(self, me: bytes, scores: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
        round = self.model.number
        self.both(me, self.model.reveal_scores(me, scores), "reveal_scores", round, *scores, salt_of(me, round))

    def choose(self, is_liar: bool) -> bytes:
        """Each other round's aggregate is bad: rejected by the honest, and its slashes wait for the next good one."""
        is_good = self.model.number % 2 == 0
        return bytes([self.model.number]) * 32 if is_good != is_liar else self.model.adapter

    def guilty(self, me: bytes, is_liar: bool) -> tuple[bytes, ...]:
        """The one with the largest address whose proposal was accepted; a liar blames nobody."""
        known = [name for name, member in self.model.members.items() if member.last_accepted is not None]
        return () if is_liar or not known or max(known) == me else (max(known),)

    def miss(self, me: bytes) -> None:
        self.both(me, self.model.miss(me), "attest_missing", self.model.number)

    def blame(self, me: bytes, accused: tuple[bytes, ...], ahead: bool = False) -> None:
        audit = self.model.audits + 1 + ahead
        self.both(me, self.model.blame(me, audit, accused), "attest_guilty", audit, list(accused))

    def commit_vote(self, me: bytes, choice: bytes) -> None:
        round = self.model.number
        digest = compute_vote_commitment(CHAIN_ID, BOARD, self.game.task, round, me, choice, salt_of(me, round))
        self.both(me, self.model.commit_vote(me, choice), "commit_scores", round, digest)

    def reveal_vote(self, me: bytes, choice: bytes) -> None:
        round = self.model.number
        self.both(me, self.model.reveal_vote(me, choice), "reveal_vote", round, choice, salt_of(me, round))

    def adopt(self, me: bytes, adapter: bytes) -> None:
        self.both(me, self.model.adopt(me, adapter), "attest_adoption", self.model.number, adapter)

    # ------------------------------------------------ what always holds

    @invariant()
    def the_money_is_the_same_to_the_unit(self) -> None:
        assert self.world.balance(BOARD) == self.world.stored("TaskBoard", "liabilities") == self.model.liabilities

    @invariant()
    def rounds_and_phases_are_the_same_and_only_move_forward(self) -> None:
        now = self.world.stored("TaskBoard", "progress", self.game.task)
        assert now == (self.model.number, self.model.phase)
        waits_no_more = now[0] == self.seen[0] and self.seen[1] == ENDED
        assert now >= self.seen and not (waits_no_more and now != self.seen)
        self.seen = now

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        self.check_everything()
        for _ in range(6 * 9 * 5):
            if self.model.phase == ENDED:
                break
            assert self.world.board("wakeup") <= self.model.now + 300
            self.blocks(90, 1, True)
        assert self.model.phase == ENDED, "nobody has to act for a task to end"
        for me in list(self.model.members):
            self.both(me, self.model.leave(me), "leave_task")
        self.blocks(90, 1 + PARAMETERS["unbonding_delay"] // 90, False)
        self.take_everything_out()
        self.check_everything()
        assert self.world.balance(BOARD) == self.world.board("burned") == self.model.burned
        ends = [self.world.balance(account(index)) for index in range(PEOPLE + 1)]
        assert sum(ends) + self.model.burned == sum(self.start)

    def take_everything_out(self) -> None:
        """In any order, each thing once, and nobody's share depends on who came before."""
        owed = [(self.take_bond, me, amount) for me, (amount, _) in self.model.unbonding.items()]
        owed += [(partial(self.take_pay, round), me, amount) for (round, me), amount in self.model.rewards.items()]
        owed += [(self.take_pot, CREATOR, self.model.pot)] if self.model.pot else []
        self.luck.shuffle(owed)
        for take, me, amount in owed:
            before = self.world.balance(me)
            take(me)
            assert self.world.balance(me) == before + amount
            take(me)  # a second time: refused, by the model and by the board

    def take_bond(self, me: bytes) -> None:
        self.both(me, self.model.withdraw(me), "withdraw_bond")

    def take_pay(self, round: int, me: bytes) -> None:
        self.both(me, self.model.claim(me, round), "claim", round)

    def take_pot(self, me: bytes) -> None:
        self.both(me, self.model.withdraw_pot(), "withdraw_pot")

    def check_payouts(self, result: dict[str, Any]) -> None:
        """A round pays its share to the unit: what is left of it is what does not divide, or what nobody earned."""
        earners = {"proposers": result["accepted_count"], "voters": result["earning"].bit_count()}
        paid = {"proposers": result["per_proposer"], "voters": result["per_voter"]}
        part = {"proposers": result["share"] * self.game.terms["proposer_share"] // 10_000}
        part["voters"] = result["share"] - part["proposers"]
        for role, count in earners.items():
            assert paid[role] * count <= part[role]
            assert not count or not result["share"] or part[role] - paid[role] * count < count

    def check_everything(self) -> None:
        """The model's whole state against the views."""
        model, task = self.model, self.game.task
        rows = self.world.board("participants", task)
        seen = [(row["account"], row["bond"], row["missed"], row["unseated"]) for row in rows]
        assert seen == [(who, m.bond, m.missed, m.unseated) for who, m in model.members.items()]
        assert self.world.board("total_bonds") == sum(row["bond"] for row in rows)
        assert self.world.board("total_unbonding") == sum(amount for amount, _ in model.unbonding.values())
        assert self.world.board("total_pots") == model.pot
        assert self.world.board("total_rewards") == sum(model.rewards.values())
        found = [(row["account"], row["bond"], row["suspended"], row["blamed_audit"]) for row in rows]
        assert found == [(a, m.bond, m.suspended, m.blamed or 0) for a, m in model.members.items()]
        assert self.world.board("audit_view", task)["number"] == model.audits + 1
        assert self.world.board("task_view", task)["pot"] == model.pot
        assert self.world.board("task_view", task)["carried"] == model.carried
        assert self.world.board("task_view", task)["adapter"] == model.adapter
        assert self.world.board("burned") == model.burned
        for number, row in model.rounds.items():
            result = self.world.board("round_result", task, number)
            assert (result["proposers"], result["voters"]) == (row.proposers, row.voters)
            assert result["verdicts"] == [row.verdicts.get(proposer, 0) for proposer in row.proposers]
            self.check_payouts(result)
            assert result["held_set"] == row.held and result["tallied"] == row.tallied


TestBoard = Board.TestCase
TestBoard.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)
