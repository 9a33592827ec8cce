"""Two tasks on one board, with the same people in both: what happens in one changes nothing of the other.

Each has its twin; after every rule each twin's rows, pot and carried coins are the board's, and the sums are both's.
"""

import os
import random

from board_actors_support import COPYING, HONEST, LAZY, ROGUES, Cast
from board_end_support import finish
from board_table_support import COPIED, GAP, PEOPLE, Table
from contracts_support import ENDED, SCORE_COMMIT
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flock_contracts.addresses import BOARD

EXAMPLES = int(os.environ.get("FLOCK_TWO_TASKS_EXAMPLES", "12"))
who, which = st.sampled_from(PEOPLE), st.sampled_from([0, 1])
terms = st.fixed_dictionaries(
    {
        "rounds": st.integers(1, 3), "extra_rounds": st.just(0), "proposers": st.integers(1, 3),
        "voters": st.integers(3, 4), "rest_share": st.sampled_from([0, 10_000]), "audit_rounds": st.integers(0, 1),
        "voting_rule": st.sampled_from([0, 0, 1]), "rule_slash": st.just(1_000),
    }
)  # fmt: skip


class TwoTasks(RuleBasedStateMachine):
    @initialize(both=st.tuples(terms, terms), pots=st.tuples(*[st.sampled_from([0, 7, 900_001, 10**20])] * 2),
                luck=st.integers(0, 10**6), rogues=st.integers(0, 4))  # fmt: skip
    def open(self, both: tuple[dict[str, int], ...], pots: tuple[int, ...], luck: int, rogues: int) -> None:
        self.luck = random.Random(luck)
        first = Table(both[0], pots[0], luck)
        self.tables = [first, Table(both[1], pots[1], luck, beside=first)]
        self.casts = []
        for table in self.tables:
            characters = self.luck.choices(ROGUES, k=rogues) + [HONEST] * (len(PEOPLE) - rogues)
            self.luck.shuffle(characters)
            self.casts.append(Cast(table, characters))
            for me in self.luck.sample(PEOPLE, 7):
                table.join(me, 1_000 + self.luck.randrange(50))

    @rule(turns=st.integers(1, 12), noise=st.integers(0, 15), order=st.permutations([0, 1]))
    def turns(self, turns: int, noise: int, order: list[int]) -> None:
        for index in range(turns):
            for number in order:
                self.casts[number].turn(noise=noise + index)

    @rule(number=which, turns=st.integers(1, 12), noise=st.integers(0, 15))
    def one_goes_on(self, number: int, turns: int, noise: int) -> None:
        """The other's phases pass without anybody."""
        for index in range(turns):
            self.casts[number].turn(noise=noise + index)

    @rule(
        number=which,
        me=who,
        kind=st.sampled_from(["leave", "withdraw", "claim", "rejoin", "evict", "join", "stop", "pot"]),
    )
    def money(self, number: int, me: bytes, kind: str) -> None:
        table = self.tables[number]
        {
            "leave": lambda: table.leave(me), "withdraw": lambda: table.withdraw(me), "stop": table.stop,
            "rejoin": lambda: table.rejoin(me), "evict": lambda: table.evict(me), "join": lambda: table.join(me, 1_000),
            "claim": lambda: table.claim(me, max(1, self.tables[1 - number].model.number)), "pot": table.withdraw_pot,
        }[kind]()  # fmt: skip

    @rule(number=which, noise=st.integers(0, 15))
    def scores_of_the_other_task_are_committed_here(self, number: int, noise: int) -> None:
        """They open nothing."""
        here, there = self.tables[number], self.tables[1 - number]
        for index in range(12):
            if here.model.phase in (SCORE_COMMIT, ENDED):
                break
            self.casts[number].turn(noise=noise + index)
        row = here.model.round
        for me in row.voters if here.model.phase == SCORE_COMMIT and not here.model.by_paper else []:
            here._commit_digest(me, COPIED, there._score_digest(me, self.casts[number].sheet(me)))

    @rule(seconds=st.sampled_from([1, 25, GAP]), poked=st.booleans())
    def time_passes(self, seconds: int, poked: bool) -> None:
        self.tables[0].block(seconds, poked)

    @invariant()
    def each_task_is_what_its_own_twin_says(self) -> None:
        for table in getattr(self, "tables", []):
            table.check_rows()
            view = table.stored("task_view", table.task)
            assert (view["pot"], view["carried"], view["round"]) == (
                table.model.pot,
                table.model.carried,
                table.model.number,
            )

    def teardown(self) -> None:
        if not hasattr(self, "casts"):
            return
        for index in self.luck.sample([0, 1], 2):
            finish(self.casts[index], self.luck, turns=30 if self.luck.random() < 0.5 else 0)
        world, first = self.tables[0].world, self.tables[0]
        assert world.balance(BOARD) == world.board("burned") == sum(table.model.burned for table in self.tables)
        assert first.coins() == first.coins_at_first


TestTwoTasks = TwoTasks.TestCase
TestTwoTasks.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=6,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


def test_a_task_that_ends_takes_nothing_of_the_pot_of_another_with_the_same_people() -> None:
    """Until one has paid out everything, the other has a round to go; then it pays the same as alone."""
    first = Table({"rounds": 1, "extra_rounds": 0, "rest_share": 10_000}, 900_001, 3)
    second = Table({"rounds": 2, "extra_rounds": 0}, 500_003, 3, beside=first)
    casts = [Cast(first, [HONEST] * 6 + [LAZY, COPYING]), Cast(second, [HONEST] * 8)]
    for table in (first, second):
        for me in PEOPLE:
            table.join(me, 1_000)
    while first.model.phase != ENDED:
        casts[0].turn()
    pot = second.model.pot
    finish(casts[0], random.Random(3), turns=0)
    assert first.model.pot == 0 == sum(first.model.rewards.values())
    assert second.model.phase == ENDED or second.model.pot == pot == second.stored("task_view", second.task)["pot"]
    finish(casts[1], random.Random(3), turns=60)
    assert first.coins() == first.coins_at_first
