"""A task on the compiled board beside its twin: every message goes to both, and after each both must agree.

Knows how a message is made, not who sends which (board_actors_support). Counts what was reached, by the board's logs.
"""

from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

from board_model import BoardModel
from board_model_rows import Scores
from board_model_rules import Numbers
from board_support import ADAPTER, CREATOR, Game, manifest_of, padded, salt_of
from contracts_support import CHAIN_ID, ENDED, VALIDATORS, account, build_genesis
from eth.db.atomic import AtomicDB
from event_replay_support import Replay, market_replay
from fast_world_support import FastWorld, Known

from flock_chain.crypto import keccak256
from flock_chain.proposal import compute_proposal_commitment, compute_score_commitment, compute_vote_commitment
from flock_chain.tally import Verdict, compute_tally
from flock_contracts.addresses import BOARD, DELEGATION

PEOPLE = [account(index) for index in range(1, 9)]
SETTERS = {who: stake for who, stake, _ in VALIDATORS}
GAP = 90  # seconds that a gap between blocks counts at most
COPIED: Scores = ((1,), ())  # behind a commitment that its sender cannot open


@cache
def prepared() -> tuple[AtomicDB, bytes, Known]:
    base, root = build_genesis(len(PEOPLE) + 1)
    return base, root, Known(base)


class Table:
    def __init__(self, terms: dict[str, int], pot: int, luck: int, beside: "Table | None" = None) -> None:
        """`beside`: a task on the same board, with the same accounts; blocks of one are blocks of the other."""
        self.world = beside.world if beside else FastWorld(*prepared())
        self.replay: Replay = beside.replay if beside else market_replay(self.world)
        self.tables: list[Table] = beside.tables if beside else []
        self.tables.append(self)
        self.luck = luck
        if beside is None:
            self.begin_block(1)
        self.coins_at_first = self.coins()
        self.game = Game(0, world=self.world, pot=pot, **terms)
        self.task = self.game.task
        self.model = BoardModel(self.game.terms, pot, self.world.height, self.world.timestamp, ADAPTER, SETTERS)
        self.mixes: dict[int, bytes] = {}
        self.steps = 0  # transactions and blocks, each judged by both
        self.refused = 0
        self.passed_over = 0  # messages of an audit that name somebody who cannot be named
        self.seen = (1, 0)
        self.rewards_seen: dict[tuple[int, bytes], int] = {}

    # ------------------------------------------------ calls and blocks

    def both(self, sender: bytes, expected: bool, function: str, *args: Any, value: int = 0) -> bool:
        """`expected`: by the twin, which has done it already where it may be done."""
        return self._act(sender, expected, function, self.task, *args, value=value)

    def _act(self, sender: bytes, expected: bool, function: str, *args: Any, value: int = 0) -> bool:
        outcome = self.world.act(sender, "TaskBoard", function, *args, value=value)
        assert outcome.ok == expected, (function, expected, outcome.reason)
        assert outcome.ok or outcome.reason.startswith("board: "), outcome.reason
        self.refused += not outcome.ok
        self.steps += 1
        self.check()
        return outcome.ok

    def begin_block(self, seconds: int) -> None:
        mix = keccak256(b"mix", self.luck.to_bytes(8, "big"), (self.world.height + 1).to_bytes(8, "big"))
        self.world.begin_block(seconds, mix)
        self.mix = mix

    def block(self, seconds: int, poked: bool = True) -> None:
        self.begin_block(seconds)
        for table in self.tables:
            table.model.height += 1
            table.model.now += min(seconds, GAP)
            table.mixes[self.world.height] = self.mix
        due = self.world.board("due_tasks")  # each block begins with another one
        assert sorted(due) == [table.task for table in self.tables if table.model.is_due()]
        self.steps += 1
        by_task = {table.task: table for table in self.tables}
        for task in due if poked else []:
            by_task[task].poke(CREATOR)

    def poke(self, who: bytes) -> None:
        self.both(who, self.model.poke(self.mixes), "poke")

    def coins(self) -> int:
        return sum(self.world.balance(who) for who in (*PEOPLE, CREATOR, BOARD, DELEGATION))

    # ------------------------------------------------ what always holds

    def check(self) -> None:
        """After each call: each sum to the unit, nobody else's coins on their way out touched, no step back."""
        model, models = self.model, [table.model for table in self.tables]
        totals = {
            "total_bonds": sum(member.bond for model in models for member in model.members.values()),
            "total_unbonding": sum(model.unbonding(who)[0] for model in models for who in model.exits),
            "total_pots": sum(model.pot for model in models),
            "total_carried": sum(model.carried for model in models),
            "total_rewards": sum(sum(model.rewards.values()) + model.pools.owed for model in models),
            "burned": sum(model.burned for model in models),
        }
        for name, value in totals.items():
            assert self.world.number("TaskBoard", name) == value, name
        assert self.world.balance(BOARD) == sum(totals.values()) == sum(model.liabilities for model in models)
        assert self.world.number("Delegation", "total_delegated") == sum(model.pools.delegated for model in models)
        assert self.world.balance(DELEGATION) == sum(model.pools.liabilities for model in models)
        now = self.stored("progress", self.task)
        assert now == (model.number, model.phase)
        assert now >= self.seen and not (self.seen[1] == ENDED and now != self.seen)
        self.seen = now

    def check_rows(self) -> None:
        """Each participant's row, what it has on its way out, and what it can claim: nobody has changed another's."""
        model = self.model
        for who in PEOPLE:
            row, member = self.stored("participant", self.task, who), model.members.get(who)
            found = tuple(row[name] for name in ("bond", "held", "missed", "unseated", "blamed_audit"))
            wanted = (0, 0, 0, False, 0)
            if member:
                wanted = (member.bond, member.held, member.missed, member.unseated, member.blamed or 0)
            assert found == wanted, row
            record = model.records[who]
            assert (row["suspended"], row["strikes"]) == (record.suspended, record.strikes), row
            leaver = self.stored("unbonding", self.task, who)
            assert (leaver["amount"], leaver["release_at"]) == model.unbonding(who)
        if model.rewards != self.rewards_seen:
            self.rewards_seen = dict(model.rewards)
            for number in model.rounds:
                for who in PEOPLE:
                    pay = self.stored("claimable", self.task, number, who)
                    assert pay == model.rewards.get((number, who), 0), (number, who)

    def stored(self, function: str, *args: Any) -> Any:
        return self.world.stored("TaskBoard", function, *args)

    def check_everything(self) -> None:
        """The twin's whole state against the views, run afresh."""
        model, board = self.model, self.world.board
        self.check()
        self.check_rows()
        rows = board("participants", self.task)
        assert [row["account"] for row in rows] == list(model.members)
        assert [row["bond"] for row in rows] == [member.bond for member in model.members.values()]
        assert board("liabilities") == self.world.balance(BOARD)
        assert board("audit_view", self.task)["number"] == model.audits + 1
        view = board("task_view", self.task)
        assert (view["pot"], view["carried"], view["adapter"]) == (model.pot, model.carried, model.adapter)
        assert board("rules", board("rules_version")) == model.in_force
        for number, row in model.rounds.items():
            result = board("round_result", self.task, number)
            assert (result["proposers"], result["voters"]) == (row.proposers, row.voters)
            assert result["verdicts"] == [row.verdicts.get(proposer, 0) for proposer in row.proposers]
            assert result["held_set"] == row.held and result["tallied"] == row.tallied
            self.check_payouts(result)
        for number in model.cases:
            self.check_case(number)
        self.replay.compare()

    def check_case(self, number: int) -> None:
        """A round's accusations: who was named, who is decided on, and what was said."""
        case, proposers, shares = (
            self.model.cases[number],
            self.model.rounds[number].proposers,
            self.model.shares[number],
        )
        seen = self.world.board("case_view", self.task, number)
        for name, accounts in (("named", case.named), ("open", case.open), ("convicted", case.convicted)):
            assert seen[name] == sum(1 << i for i, who in enumerate(proposers) if who in accounts), name
        assert (seen["until"], seen["total"]) == (case.until, sum(shares.values()))
        for i, who in enumerate(proposers):
            for name, said in (("guilty", case.guilty), ("innocent", case.innocent)):
                assert seen[name][i] == sum(shares[teller] for teller in said.get(who, ()))

    def check_payouts(self, result: dict[str, Any]) -> None:
        """A round pays its share to the unit: what is left of it is what does not divide, or what nobody earned."""
        earners = {"proposers": result["accepted_count"], "voters": result["earning"].bit_count()}
        paid = {"proposers": result["per_proposer"], "voters": result["per_voter"]}
        part = {"proposers": result["share"] * self.game.terms["proposer_share"] // 10_000}
        part["voters"] = result["share"] - part["proposers"]
        for role, count in earners.items():
            assert paid[role] * count <= part[role]
            assert not count or not result["share"] or part[role] - paid[role] * count < count

    def reached(self) -> Counter[str]:
        """What happened, by the contract's own logs: events, verdicts, phases."""
        found: Counter[str] = Counter({"a name passed over": self.passed_over})
        for name, log in self.logs():
            found[name] += 1
            if name == "Verdict":
                found[Verdict(log["verdict"]).name] += 1
                found["slash by verdict"] += log["slashed"] > 0
            elif name == "Audited":
                found["suspended"] += log["suspended"]
                found["cleared"] += not log["suspended"]
                found["slash by audit"] += log["slashed"] > 0
            elif name == "Struck":
                found[f"strikes {log['strikes']}"] += 1
            elif name == "Settled":
                found["paid round"] += log["per_proposer"] + log["per_voter"] > 0
                found["unpaid round"] += log["share"] == 0
            elif name == "PhaseChanged":
                found[f"phase {log['phase']}"] += 1
        return found

    def logs(self) -> list[tuple[str, dict[str, Any]]]:
        """The board's, of this task and of none."""
        self.replay.feed()
        logs = self.replay.logs["TaskBoard"]
        return [(name, log) for name, log in logs if log.get("task", self.task) == self.task]

    # ------------------------------------------------ bonds and coins

    def join(self, who: bytes, amount: int) -> None:
        self.both(who, self.model.join(who, amount), "join_task", b"domain".ljust(32), value=amount)

    def leave(self, who: bytes) -> None:
        self.both(who, self.model.leave(who), "leave_task")

    def rejoin(self, who: bytes) -> None:
        self.both(who, self.model.rejoin(who), "rejoin")

    def evict(self, who: bytes) -> None:
        self.both(CREATOR, self.model.evict(who), "evict", who)

    def stop(self) -> None:
        self.both(CREATOR, self.model.stop(), "stop_task")

    def withdraw(self, who: bytes) -> None:
        self.paid(who, self.model.free(who), self.model.withdraw(who), "withdraw_bond")

    def claim(self, who: bytes, round: int) -> None:
        self.paid(who, self.model.rewards.get((round, who), 0), self.model.claim(who, round), "claim", round)

    def withdraw_pot(self, who: bytes = CREATOR) -> None:
        pot = self.model.pot
        self.paid(who, pot, who == CREATOR and self.model.withdraw_pot(), "withdraw_pot")

    def paid(self, who: bytes, amount: int, expected: bool, function: str, *args: Any) -> None:
        """The sender gets just that, or is refused."""
        before = self.world.balance(who)
        self.both(who, expected, function, *args)
        assert self.world.balance(who) - before == (amount if expected else 0)

    def approve(self, who: bytes, numbers: Numbers) -> None:
        self._act(who, self.model.approve(who, numbers), "approve_rules", numbers)

    def enact(self, who: bytes) -> None:
        self._act(who, self.model.enact(), "enact_rules")

    # ------------------------------------------------ messages of seats

    def commit(self, me: bytes, manifest: bytes, ahead: int = 0) -> None:
        round = self.model.number + ahead
        digest = compute_proposal_commitment(CHAIN_ID, BOARD, self.task, round, me, manifest, salt_of(me, round))
        self.both(me, ahead == 0 and self.model.commit(me, manifest), "commit", round, digest)

    def reveal(self, me: bytes, manifest: bytes) -> None:
        round = self.model.number
        self.both(me, self.model.reveal(me, manifest), "reveal", round, manifest, salt_of(me, round))

    def attest(self, me: bytes, held: int, invalid: int) -> None:
        self.both(me, self.model.attest(me, held, invalid), "attest_available", self.model.number, held, invalid)

    def commit_scores(self, me: bytes, scores: Scores) -> None:
        self._commit_digest(me, scores, self._score_digest(me, scores))

    def copy_scores(self, me: bytes, other: bytes, scores: Scores) -> None:
        """Commit to what another committed to: it cannot be opened."""
        self._commit_digest(me, COPIED, self._score_digest(other, scores))

    def _score_digest(self, who: bytes, scores: Scores) -> bytes:
        round = self.model.number
        return compute_score_commitment(CHAIN_ID, BOARD, self.task, round, who, *scores, salt_of(who, round))

    def _commit_digest(self, me: bytes, scores: Scores, digest: bytes) -> None:
        self.both(me, self.model.commit_scores(me, scores), "commit_scores", self.model.number, digest)

    def reveal_scores(self, me: bytes, scores: Scores) -> None:
        round = self.model.number
        self.both(me, self.model.reveal_scores(me, scores), "reveal_scores", round, *scores, salt_of(me, round))

    def commit_vote(self, me: bytes, choice: bytes) -> None:
        round = self.model.number
        digest = compute_vote_commitment(CHAIN_ID, BOARD, self.task, round, me, choice, salt_of(me, round))
        self.both(me, self.model.commit_vote(me, choice), "commit_scores", round, digest)

    def reveal_vote(self, me: bytes, choice: bytes) -> None:
        round = self.model.number
        self.both(me, self.model.reveal_vote(me, choice), "reveal_vote", round, choice, salt_of(me, round))

    def adopt(self, me: bytes, adapter: bytes) -> None:
        self.both(me, self.model.adopt(me, adapter), "attest_adoption", self.model.number, adapter)

    def miss(self, me: bytes) -> None:
        self.both(me, self.model.miss(me), "attest_missing", self.model.number)

    def blame(self, me: bytes, accused: Iterable[bytes], ahead: bool = False) -> None:
        audit, names = self.model.audits + 1 + ahead, tuple(accused)
        is_heard = self.model.blame(me, audit, names)
        self.both(me, is_heard, "attest_guilty", audit, list(names))
        self.passed_over += is_heard and len(self.model.audit.said[me][1]) < len(names)

    # ------------------------------------------------ accusations

    def confirm(self, me: bytes, number: int, guilty: int, innocent: int) -> None:
        self.both(me, self.model.confirm(me, number, guilty, innocent), "confirm", number, guilty, innocent)

    def lift(self, who: bytes, number: int) -> None:
        self.both(who, self.model.lift(number), "lift", number)

    # ------------------------------------------------ the tally

    def tallied(self) -> tuple[tuple[int, ...], int, int]:
        rows = list(self.model.round.score_revealed.values())
        found = compute_tally([s for s, _ in rows], [f for _, f in rows], self.model.round.held, 0, 0)
        return tuple(found.medians), found.center, found.mad

    def tally(self) -> None:
        medians, center, mad = self.tallied()
        number = self.model.number
        self.both(CREATOR, self.model.tally(), "tally", number, medians, center, mad)

    def tally_wrongly(self, index: int, shift: int) -> None:
        values = [*self.tallied()[0], *self.tallied()[1:]]
        values[index] += shift
        self.both(CREATOR, False, "tally", self.model.number, tuple(values[:16]), values[16], values[17])

    def known(self) -> int:
        """Bitmap of the revealed proposals."""
        row = self.model.round
        return sum(1 << index for index, proposer in enumerate(row.proposers) if proposer in row.revealed)

    def inside(self, scores: list[int], filters: list[int]) -> Scores:
        """A sheet, empty outside the input set."""
        keep = [self.model.round.held >> index & 1 for index in range(len(scores))]
        return (
            padded([value * kept for value, kept in zip(scores, keep)]),
            padded([value * kept for value, kept in zip(filters, keep)]),
        )

    def manifest(self, author: bytes, back: int = 0) -> bytes:
        return manifest_of(author, max(1, self.model.number - back))
