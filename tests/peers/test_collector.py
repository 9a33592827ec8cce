"""What the collector fetches, and that it decides nothing: it touches no task but those it is handed."""

from collections.abc import Collection

import trio
from task_loop_support import ME, Board, FakeSender, Row

from flock_peers.measurements import Measurements
from flock_peers.roles.collector import LOOKS_AT_ONCE, ROUNDS_BACK, Collector, Errand
from flock_peers.roles.task_loop import COIN


def owing(**changes: int) -> Board:
    """Three tasks that have ended with a bond and a reward of this account in each."""
    rows = {task: Row(is_ended=True) for task in (1, 2, 3)}
    return Board(rows, bonds=dict.fromkeys(rows, COIN), due={(task, 1): 7 for task in rows}, **changes)


def step(collector: Collector, *errands: Errand) -> Collection[int]:
    return trio.run(collector.step, errands)


def test_nothing_is_read_or_sent_of_a_task_that_was_not_handed_over() -> None:
    board, sender = owing(), FakeSender()
    collector = Collector(ME, board, sender)  # type: ignore[arg-type]
    assert step(collector) == frozenset() and not board.views and not sender.sent
    step(collector, Errand(2, 1, with_bond=True))
    board.due.clear()
    step(collector, Errand(2, 1, with_bond=True))
    assert sender.sent == [("claim", 2), ("leave_task", 2)]
    step(collector, Errand(3, 1))
    assert {task for _, task in sender.sent} == {2}, "an errand of one step is none of the next"


def test_a_bond_that_is_not_wanted_stays_and_is_fetched_once_it_is() -> None:
    board, sender = owing(), FakeSender()
    board.due.clear()
    collector = Collector(ME, board, sender)  # type: ignore[arg-type]
    for _ in range(3):
        assert step(collector, Errand(1, 1)) == frozenset()
    assert not sender.sent
    step(collector, Errand(1, 1, with_bond=True), Errand(2, 1))
    assert sender.sent == [("leave_task", 1)]


def test_an_errand_is_done_when_bond_and_unbonding_are_gone() -> None:
    board = owing()
    board.bonds, board.unbonding = {2: COIN}, {3: {"amount": COIN, "release_at": 9}}
    board.due.clear()
    collector = Collector(ME, board, FakeSender())  # type: ignore[arg-type]
    assert step(collector, *(Errand(task, 1) for task in (1, 2, 3))) == {1}


def test_who_left_early_still_gets_what_is_due_to_it_after_the_end() -> None:
    board, sender = owing(), FakeSender()
    board.bonds.clear()
    board.due, measured = {(1, 2): 7}, Measurements()
    collector = Collector(ME, board, sender, measured)  # type: ignore[arg-type]
    errand = Errand(1, 3, with_bond=True)
    assert step(collector, errand) == frozenset()
    assert sender.calls == [("claim", 1, 2)] and (measured.pay_of(1) or {})["total"] == "7"
    board.due.clear()
    assert step(collector, errand) == {1} and sender.calls == [("claim", 1, 2)]


def test_a_long_task_of_others_is_looked_through_no_further_back_than_the_last_thousand_rounds() -> None:
    board = owing()
    board.bonds.clear()
    board.due.clear()
    collector, steps = Collector(ME, board, FakeSender()), 0  # type: ignore[arg-type]
    while not step(collector, Errand(1, 100_000)):
        steps += 1
    assert steps <= ROUNDS_BACK // (LOOKS_AT_ONCE - 2)


def test_a_task_of_many_rounds_is_looked_through_in_steps_and_its_bond_moves_after_the_last() -> None:
    board, sender = owing(), FakeSender()
    board.due = {(1, 2 * LOOKS_AT_ONCE): 7}
    collector = Collector(ME, board, sender)  # type: ignore[arg-type]
    errand = Errand(1, 2 * LOOKS_AT_ONCE, with_bond=True)
    for _ in range(4):
        before = board.views
        step(collector, errand)
        assert board.views - before <= LOOKS_AT_ONCE
    assert set(sender.calls) == {("claim", 1, 2 * LOOKS_AT_ONCE)}
    board.due.clear()
    step(collector, errand)
    assert sender.calls[-1] == ("leave_task", 1)
