"""Two tasks on one board, with the same participants and delegators in both: one changes nothing of the other."""

import os
import random
from collections import Counter

import pytest
from board_actors_support import COLLUDING, COPYING, HONEST, LAZY, Cast
from board_end_support import check_nothing_left, finish
from board_table_support import PEOPLE, Table
from contracts_support import ENDED
from delegation_table_support import OWNERS, DelegatedTable
from machine_support import as_test
from market_machine_support import Market, run_part_of

STEPS = 8  # rules of an example


class TwoTasks(Market):
    TASKS = 2


TestTwoTasks = as_test(TwoTasks, examples=int(os.environ.get("FLOCK_TWO_TASKS_EXAMPLES", "10")), steps=STEPS)


def run_part(seed: int, examples: int) -> Counter[str]:
    """For benchmarks/contract_soak.py."""
    return run_part_of(TwoTasks, seed, examples, STEPS)


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
    check_nothing_left([first, second])


def test_a_task_that_ends_changes_no_place_of_the_same_delegators_in_another() -> None:
    first = DelegatedTable({"rounds": 1, "extra_rounds": 0}, 900_001, 3)
    second = DelegatedTable({"rounds": 5, "extra_rounds": 0}, 500_003, 3, beside=first)
    casts = [Cast(first, [HONEST] * 8), Cast(second, [HONEST] * 8)]
    for index, me in enumerate(PEOPLE):
        for table in (first, second):
            table.join(me, 1_000)
            table.offer(me, 0, 10**6)
            table.delegate(OWNERS[index], me, 2_000)
    pairs = list(zip(OWNERS, PEOPLE))
    for _ in range(12):
        casts[1].turn()
    earned = sum(second.model.pools.claimable(*pair) for pair in pairs)
    assert earned > 0
    while first.model.phase != ENDED:
        casts[0].turn()
    finish(casts[0], random.Random(3), turns=0)
    for pair in pairs:
        second.check_place(*pair)
    assert sum(second.model.pools.claimable(*pair) for pair in pairs) >= earned
    finish(casts[1], random.Random(3), turns=60)
    check_nothing_left([first, second])


@pytest.mark.parametrize(
    ("terms", "rogues", "wanted"),
    [
        ({"audit_rounds": 1}, (COLLUDING,) * 2, ("suspended", "slash by audit")),
        ({"voting_rule": 1, "rule_slash": 1_000}, (COLLUDING,) * 2, ("Carried", "paid round")),
    ],
    ids=["audits", "the paper's rule"],
)
def test_what_one_task_does_to_somebody_is_not_done_to_it_in_another(
    terms: dict[str, int], rogues: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    """Both play, block by block; in the older one nobody does anything for which it could be punished."""
    older = Table({"rounds": 9, "extra_rounds": 0, "voting_rule": terms.get("voting_rule", 0)}, 900_001, 7)
    newer = Table({"rounds": 5, "extra_rounds": 0} | terms, 500_003, 7, beside=older)
    casts = [Cast(older, [HONEST] * 8), Cast(newer, [*rogues, *[HONEST] * 8][:8])]
    for me in PEOPLE:
        for table in (older, newer):
            table.join(me, 1_000)
    for turn in range(32):
        for cast in casts:
            cast.turn(noise=turn)
        older.check_rows()
    found = newer.reached()
    assert not [name for name in wanted if not found[name]], found
    for table in (older, newer):
        table.check_everything()
