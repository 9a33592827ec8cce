"""Delegators at one table with the board's participants: pools, pay, slashes and exits against the twin, to the unit.

After every call both contracts hold what the twin says. At the end, from whatever was reached, everything comes out.
"""

import os
import random

from board_actors_support import HONEST, ROGUES, Cast
from board_support import CREATOR
from board_table_support import GAP, PEOPLE, Table
from contracts_support import ENDED, PARAMETERS
from event_replay_support import DelegationIndex
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from flock_contracts.addresses import BOARD, DELEGATION

EXAMPLES = int(os.environ.get("FLOCK_DELEGATION_EXAMPLES", "10"))
OWNERS = [CREATOR, *PEOPLE]
who, owners = st.sampled_from(PEOPLE), st.sampled_from(OWNERS)


class DelegatedTable(Table):
    def check(self) -> None:
        model, number, pools = self.model, self.world.number, self.model.pools
        assert number("TaskBoard", "total_rewards") == sum(model.rewards.values()) + pools.owed
        assert self.world.balance(BOARD) == model.liabilities
        assert number("Delegation", "total_delegated") == pools.delegated
        assert self.world.balance(DELEGATION) == self.world.stored("Delegation", "liabilities") == pools.liabilities
        assert self.stored("progress", self.task) == (model.number, model.phase)

    def order(self, sender: bytes, expected: bool, function: str, *args: object, value: int = 0) -> None:
        outcome = self.world.act(sender, "Delegation", function, self.task, *args, value=value)
        assert outcome.ok == expected, (function, expected, outcome.reason)
        self.entries += outcome.entries
        assert outcome.ok or outcome.reason.startswith("delegation: ")
        self.check()

    def offer(self, me: bytes, commission: int, limit: int) -> None:
        self.order(me, self.model.pools.set_terms(me, commission, limit), "set_terms", commission, limit)

    def delegate(self, me: bytes, whom: bytes, amount: int) -> None:
        self.order(me, self.model.pools.delegate(me, whom, amount), "delegate", whom, value=amount)

    def undelegate(self, me: bytes, whom: bytes, amount: int | None = None) -> None:
        """None: all."""
        pool = self.model.pools.open[whom]
        wanted = pool.worth(pool.kept(me)) if amount is None else amount
        self.order(me, self.model.pools.undelegate(me, whom, wanted), "undelegate", whom, wanted)

    def replay(self) -> None:
        """Who knows the events knows each place, but what it has earned."""
        contract, index = self.world.contracts["Delegation"], DelegationIndex()
        found = [(topics, data) for address, topics, data in self.entries if address == DELEGATION]
        logs = [contract.decode_log([topic.to_bytes(32, "big") for topic in topics], data) for topics, data in found]
        index.feed([log for log in logs if log is not None])
        index.compare(self.world, self.task, [(whom, me) for whom in PEOPLE for me in OWNERS])

    def take(self, me: bytes, whom: bytes) -> None:
        pools, before = self.model.pools, self.world.balance(me)
        amount, earned = pools.coming(me, whom)[1], pools.claimable(me, whom)
        goes = pools.withdraw(me, whom)
        self.order(me, goes, "withdraw_delegation", whom)
        self.order(me, pools.claim(me, whom), "claim_delegation", whom)
        assert self.world.balance(me) - before == (amount if goes else 0) + earned

    def check_place(self, me: bytes, whom: bytes) -> None:
        pools, row = self.model.pools, self.world.view("Delegation", "delegation_of", self.task, whom, me)
        pool = pools.open[whom]
        assert row["stake"] == pool.worth(pool.kept(me)) and row["leaving"] == pool.worth(pool.leaving.get(me, 0))
        assert (row["unbonding"], row["free"]) == pools.coming(me, whom)
        assert row["earned"] == pools.claimable(me, whom)


class Delegators(RuleBasedStateMachine):
    @initialize(
        luck=st.integers(0, 2**32), rounds=st.integers(1, 5), rest=st.sampled_from([0, 10_000]),
        rule=st.sampled_from([(0, 0), (0, 0), (1, 1_000)]), audits=st.sampled_from([0, 0, 1]),
        rogues=st.integers(0, 4),
    )  # fmt: skip
    def start(self, luck: int, rounds: int, rest: int, rule: tuple[int, int], audits: int, rogues: int) -> None:
        self.luck = random.Random(luck)
        terms = {"rounds": rounds, "extra_rounds": 0, "rest_share": rest, "audit_rounds": audits}
        terms |= {"voting_rule": rule[0], "rule_slash": rule[1]}
        self.table = DelegatedTable(terms, 900_001, luck)
        self.coins = self.total()
        characters = self.luck.choices(ROGUES, k=rogues) + [HONEST] * (len(PEOPLE) - rogues)
        self.cast = Cast(self.table, characters)
        for index, me in enumerate(PEOPLE):
            self.table.join(me, 1_000 + index)
            self.table.offer(me, self.luck.choice([0, 1_000, 10_000]), 10**6)
            for owner in self.luck.sample(OWNERS, 2):
                self.table.delegate(owner, me, self.luck.choice([1, 777, 1_500]))

    def total(self) -> int:
        return sum(self.table.world.balance(holder) for holder in (*OWNERS, BOARD, DELEGATION))

    @rule(turns=st.integers(1, 12), noise=st.integers(0, 15))
    def play(self, turns: int, noise: int) -> None:
        for _ in range(turns):
            if self.table.model.phase != ENDED:
                self.cast.turn(noise=noise)

    @rule(me=who, kind=st.sampled_from(["leave", "rejoin", "evict", "withdraw", "join", "gap"]))
    def participant(self, me: bytes, kind: str) -> None:
        if kind == "gap":
            self.table.block(GAP)
        elif kind == "join":
            self.table.join(me, 1_000)
        else:
            getattr(self.table, kind)(me)

    @rule(me=who, commission=st.sampled_from([0, 5_000, 10_000, 10_001]), limit=st.sampled_from([0, 3_000, 10**6]))
    def offers(self, me: bytes, commission: int, limit: int) -> None:
        self.table.offer(me, commission, limit)

    @rule(me=owners, whom=st.sets(who, min_size=1), amount=st.sampled_from([0, 1, 101, 777, 4_001]))
    def delegates(self, me: bytes, whom: set[bytes], amount: int) -> None:
        for one in sorted(whom):
            self.table.delegate(me, one, amount)

    @rule(me=owners, whom=st.sets(who, min_size=1), amount=st.sampled_from([None, None, 0, 1, 250, 10**18]))
    def undelegates(self, me: bytes, whom: set[bytes], amount: int | None) -> None:
        for one in sorted(whom):
            self.table.undelegate(me, one, amount)

    @rule(me=owners, whom=who)
    def takes(self, me: bytes, whom: bytes) -> None:
        self.table.check_place(me, whom)
        self.table.take(me, whom)

    def teardown(self) -> None:
        if hasattr(self, "coins"):
            self.everything_comes_out()

    def everything_comes_out(self) -> None:
        table, pools = self.table, self.table.model.pools
        table.replay()
        for _ in range(400):
            if table.model.phase == ENDED:
                break
            table.block(GAP)
        assert table.model.phase == ENDED, "nobody has to act for a task to end"
        members = list(table.model.members)
        for me in members[::2]:  # some participants go first, some after who has bonded with them
            table.leave(me)
        for whom, pool in list(pools.open.items()):
            for owner in list(pool.units):
                table.undelegate(owner, whom)
        for me in members[1::2]:
            table.leave(me)
        for _ in range(1 + PARAMETERS["unbonding_delay"] // GAP):
            table.block(GAP)
        table.replay()
        pairs = [(me, whom) for me in OWNERS for whom in PEOPLE]
        self.luck.shuffle(pairs)
        for me, whom in pairs * 3:  # who had less than a wei may have one when others went; a third time: nothing
            table.take(me, whom)
        # Where a slash left less than a wei to each of several, nobody can take it: below one wei for each place.
        places = sum(len(pool.units) for rows in pools.closed_pools.values() for pool in rows)
        dust = table.world.balance(DELEGATION) - pools.burned
        table.replay()
        assert pools.delegated == 0 and 0 <= dust <= max(0, places - 1)
        assert 0 <= pools.owed <= 2 * len(pools.given) + 2 * len({*pools.earned, *pools.seats})  # fractions of a wei
        assert self.total() == self.coins


TestDelegators = Delegators.TestCase
TestDelegators.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=20,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)
