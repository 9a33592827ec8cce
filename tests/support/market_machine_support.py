"""Tasks on one board with the same participants and the same delegators: what one of them may do, and what must hold.

Each task has its twin; after every rule each twin's rows, pot and carried coins are the board's, and the sums are those
of all. At the end, from whatever was reached, everything comes out.
"""

import random
from collections import Counter
from typing import ClassVar

from board_actors_support import HONEST, ROGUES, Cast
from board_end_support import check_nothing_left, finish
from board_table_support import COPIED, GAP, PEOPLE
from contracts_support import ENDED, SCORE_COMMIT
from delegation_table_support import OWNERS, DelegatedTable
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from machine_support import run_seeded

who, owners, noises, which = st.sampled_from(PEOPLE), st.sampled_from(OWNERS), st.integers(0, 15), st.integers(0, 1)
offered = st.sampled_from([0, 3_000, 10**6]), st.sampled_from([0, 1_000, 5_000, 10_000, 10_001])
terms = st.fixed_dictionaries(
    {
        "rounds": st.integers(1, 4), "extra_rounds": st.just(0), "proposers": st.integers(1, 3),
        "voters": st.integers(3, 4), "rest_share": st.sampled_from([0, 10_000]),
        "audit_rounds": st.sampled_from([0, 0, 1]), "voting_rule": st.sampled_from([0, 0, 1]),
        "rule_slash": st.just(1_000),
    }
)  # fmt: skip


class Market(RuleBasedStateMachine):
    TASKS: ClassVar[int]

    @initialize(
        each=st.tuples(terms, terms), pots=st.tuples(*[st.sampled_from([0, 7, 900_001, 900_001, 10**20])] * 2),
        luck=st.integers(0, 10**6), rogues=st.integers(0, 4),
    )  # fmt: skip
    def open(self, each: tuple[dict[str, int], ...], pots: tuple[int, ...], luck: int, rogues: int) -> None:
        self.luck = random.Random(luck)
        self.tables: list[DelegatedTable] = []
        for row, pot in zip(each[: self.TASKS], pots):
            self.tables.append(DelegatedTable(row, pot, luck, beside=next(iter(self.tables), None)))
        self.casts = []
        for table in self.tables:
            characters = self.luck.choices(ROGUES, k=rogues) + [HONEST] * (len(PEOPLE) - rogues)
            self.luck.shuffle(characters)
            self.casts.append(Cast(table, characters))
            self.gather(table)

    def gather(self, table: DelegatedTable) -> None:
        for me in self.luck.sample(PEOPLE, 7 + (self.TASKS == 1)):
            table.join(me, 1_000 + self.luck.randrange(50))
            table.offer(me, self.luck.choice([0, 1_000, 10_000]), 10**6)
            for owner in self.luck.sample(OWNERS, 2):
                table.delegate(owner, me, self.luck.choice([1, 777, 1_500]))

    def table(self, number: int) -> DelegatedTable:
        return self.tables[number % self.TASKS]

    # ------------------------------------------------ rounds

    @rule(turns=st.integers(1, 12), noise=noises, order=st.permutations([0, 1]))
    def turns(self, turns: int, noise: int, order: list[int]) -> None:
        for index in range(turns):
            for number in order[: self.TASKS] if self.TASKS == 2 else [0]:
                self.casts[number].turn(noise=noise + index)

    @precondition(lambda self: self.TASKS > 1)
    @rule(number=which, turns=st.integers(1, 12), noise=noises)
    def one_goes_on(self, number: int, turns: int, noise: int) -> None:
        """The other's phases pass without anybody."""
        for index in range(turns):
            self.casts[number].turn(noise=noise + index)

    @precondition(lambda self: self.TASKS > 1)
    @rule(number=which, noise=noises)
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

    @rule(seconds=st.sampled_from([1, 25, GAP, GAP]), count=st.sampled_from([1, 1, 7]), poked=st.booleans())
    def time_passes(self, seconds: int, count: int, poked: bool) -> None:
        for _ in range(count):
            self.tables[0].block(seconds, poked)

    # ------------------------------------------------ participants

    @rule(
        number=which,
        me=who,
        kind=st.sampled_from(["leave", "leave", "withdraw", "claim", "rejoin", "evict", "join", "join", "stop", "pot"]),
    )
    def money(self, number: int, me: bytes, kind: str) -> None:
        table, other = self.table(number), self.table(1 - number)
        {
            "leave": lambda: table.leave(me), "withdraw": lambda: table.withdraw(me), "stop": table.stop,
            "rejoin": lambda: table.rejoin(me), "evict": lambda: table.evict(me), "join": lambda: table.join(me, 1_000),
            "claim": lambda: table.claim(me, max(1, other.model.number)), "pot": table.withdraw_pot,
        }[kind]()  # fmt: skip

    # ------------------------------------------------ delegators

    @rule(number=which, me=who, limit=offered[0], commission=offered[1])
    def offers(self, number: int, me: bytes, limit: int, commission: int) -> None:
        self.table(number).offer(me, commission, limit)

    @rule(number=which, me=owners, whom=st.sets(who, min_size=1), amount=st.sampled_from([0, 1, 101, 777, 4_001]))
    def delegates(self, number: int, me: bytes, whom: set[bytes], amount: int) -> None:
        for one in sorted(whom):
            self.table(number).delegate(me, one, amount)

    @rule(
        number=which, me=owners, whom=st.sets(who, min_size=1), amount=st.sampled_from([None, None, 0, 1, 250, 10**18])
    )
    def undelegates(self, number: int, me: bytes, whom: set[bytes], amount: int | None) -> None:
        for one in sorted(whom):
            self.table(number).undelegate(me, one, amount)

    @rule(number=which, me=owners, whom=who)
    def takes(self, number: int, me: bytes, whom: bytes) -> None:
        self.table(number).check_place(me, whom)
        self.table(number).take(me, whom)

    # ------------------------------------------------ what always holds

    @invariant()
    def each_task_is_what_its_own_twin_says(self) -> None:
        for table in getattr(self, "tables", []):
            table.check_rows()
            view, model = table.stored("task_view", table.task), table.model
            assert (view["pot"], view["carried"], view["round"]) == (model.pot, model.carried, model.number)

    def teardown(self) -> None:
        if not hasattr(self, "casts"):
            return
        self.tables[0].replay.compare()
        for number in self.luck.sample(range(self.TASKS), self.TASKS):
            finish(self.casts[number], self.luck, turns=30 if self.luck.random() < 0.5 else 0)
        for table in self.tables:
            for pair in [(me, whom) for me in OWNERS for whom in PEOPLE]:
                table.check_place(*pair)
        check_nothing_left(self.tables)


def run_part_of(machine: type[Market], seed: int, examples: int, steps: int) -> Counter[str]:
    """So many examples of this seed; what they reached, of all their tasks."""
    found: Counter[str] = Counter()

    class Counted(machine):  # type: ignore[misc, valid-type]
        def teardown(self) -> None:
            super().teardown()
            if hasattr(self, "casts"):
                found["examples"] += 1
            for table in getattr(self, "tables", []):
                found.update(table.reached())
                found.update({"calls and blocks": table.steps, "refused": table.refused})

    run_seeded(Counted, seed=seed, examples=examples, steps=steps)
    return found
