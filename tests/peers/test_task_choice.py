"""Which task a peer joins, in what order, and what neither a task nor a flood can do to it. A board in memory."""

import logging

import pytest
import trio
from task_loop_support import Board, Game, Row, play

from flock_chain.errors import InvalidContent, Unavailable
from flock_peers.roles.task_loop import (
    COIN,
    IDLE_SECONDS,
    LEVEL_SECONDS,
    RETRY_SECONDS,
    UNUSABLE_SECONDS,
    find_flock_error,
)
from flock_peers.training.base_check import UnusableBase


async def fail_with(error: Exception) -> None:
    raise ExceptionGroup("nursery", [ExceptionGroup("inner", [error])])


@pytest.mark.parametrize("error", [InvalidContent("wrong model hash"), Unavailable("at no peer"), KeyError("a bug")])
def test_a_task_that_fails_ends_only_the_part_in_it_and_the_next_one_is_joined(error: Exception) -> None:
    game = Game(Board({1: Row(), 2: Row()}))
    game.work[1] = lambda: fail_with(error)

    async def test() -> None:
        await trio.sleep(5)
        assert game.tasks == [1, 2] and game.parts[1].is_running
        assert game.loop.participant is game.parts[1]  # type: ignore[comparison-overlap]

    play(game, test)


def test_a_task_whose_document_nobody_had_is_tried_again_later() -> None:
    game = Game(Board({1: Row()}))
    game.work[1] = lambda: fail_with(Unavailable("at no connected peer"))

    async def test() -> None:
        await trio.sleep(RETRY_SECONDS / 2)
        assert game.tasks == [1]
        await trio.sleep(RETRY_SECONDS)
        assert game.tasks == [1, 1]

    play(game, test)


def test_a_bond_that_came_into_a_task_that_nobody_can_train_is_taken_back() -> None:
    """One that was being sent when the trainer failed is final when nobody looks at the task any more."""
    game = Game(Board({1: Row(), 2: Row()}))
    game.work[1] = lambda: fail_with(UnusableBase("base model x: takes no LoRA"))
    game.work[2] = lambda: trio.sleep(2 * UNUSABLE_SECONDS)

    async def test() -> None:
        await trio.sleep(5)
        assert game.tasks == [1, 2]
        game.board.bonds[1] = 5 * COIN
        await trio.sleep(2 * UNUSABLE_SECONDS + 60)
        assert game.tasks[:3] == [1, 2, 1]
        game.board.bonds.pop(1)  # as the part there left
        await trio.sleep(4 * UNUSABLE_SECONDS)
        assert game.tasks.count(1) == 2

    play(game, test)


def test_a_task_whose_base_model_nobody_can_open_is_not_tried_again_and_the_reason_stays() -> None:
    game = Game(Board({1: Row()}))
    game.work[1] = lambda: fail_with(UnusableBase("base model x: takes no LoRA"))

    async def test() -> None:
        await trio.sleep(3 * UNUSABLE_SECONDS)
        assert game.tasks == [1]
        assert game.loop.explain() == {1: "is not for this peer: base model x: takes no LoRA"}

    play(game, test)


def test_a_task_that_its_owner_gave_up_is_left_and_not_joined_again() -> None:
    game = Game(Board({1: Row(pot=9), 2: Row(pot=8)}))
    out = trio.Event()
    game.work[1] = out.wait

    async def test() -> None:
        await trio.sleep(2)
        game.loop.give_up(1)
        assert game.tasks == [1] and game.parts[0].is_leaving and game.parts[0].is_running
        out.set()
        await trio.sleep(2 * UNUSABLE_SECONDS)
        assert game.tasks == [1, 2]

    play(game, test)


def test_a_few_tasks_that_nobody_serves_do_not_keep_a_peer_from_the_next_one() -> None:
    game = Game(Board({1: Row(pot=9), 2: Row(pot=8), 3: Row(pot=7), 4: Row(pot=1)}))

    async def look_for_the_document() -> None:
        await trio.sleep(RETRY_SECONDS * 2 / 3)
        raise Unavailable("at no connected peer")

    game.work = dict.fromkeys((1, 2, 3), look_for_the_document)

    async def test() -> None:
        await trio.sleep(4 * RETRY_SECONDS)
        assert game.tasks == [1, 2, 3, 4]

    play(game, test)


def test_the_richest_task_comes_first_and_one_bonded_to_before_all() -> None:
    board = Board({1: Row(), 2: Row(pot=9), 3: Row(pot=4)})
    game = Game(board)

    async def test() -> None:
        await trio.sleep(2)
        assert game.tasks == [2]

    play(game, test)
    board.bonds = {3: COIN}
    again = Game(board)

    async def resumed() -> None:
        await trio.sleep(2)
        assert again.tasks == [3] and again.parts[0].choice.is_bonded

    play(again, resumed)


def test_an_old_state_is_not_acted_on_while_the_chain_is_still_arriving() -> None:
    board = Board({1: Row()})
    level = [False]

    async def is_level() -> bool:
        return level[0]

    game = Game(board, is_level=is_level)

    async def test() -> None:
        await trio.sleep(LEVEL_SECONDS / 2)
        board.rows[1].is_ended, board.rows[2] = True, Row()
        assert not game.parts
        level[0] = True
        await trio.sleep(3)
        assert game.tasks == [2]

    play(game, test)


def test_a_network_without_another_peer_is_waited_for_only_so_long() -> None:
    async def never() -> bool:
        return False

    game = Game(Board({1: Row()}), is_level=never)

    async def test() -> None:
        await trio.sleep(LEVEL_SECONDS + 5)
        assert game.tasks == [1]

    play(game, test)


def test_a_flood_of_views_is_waited_out() -> None:
    board = Board({1: Row()}, error=Unavailable("ledger: 256 views wait already; try again"))
    game = Game(board)

    async def test() -> None:
        await trio.sleep(60)
        assert not game.parts
        board.error = None
        await trio.sleep(3)
        assert game.tasks == [1]

    play(game, test)


def test_after_a_trainer_that_never_opened_no_bond_is_paid_before_the_next_one_is_open() -> None:
    board = Board({1: Row(), 2: Row()})
    game = Game(board)

    async def leave() -> None:
        game.parts[0].is_leaving = True

    game.work[1] = leave

    async def test() -> None:
        await trio.sleep(5)
        assert [(part.task, part.bonds_early) for part in game.parts] == [(1, True), (2, False)]

    play(game, test)


def test_while_no_block_comes_an_idle_peer_reads_the_tasks_only_now_and_then() -> None:
    board = Board({task: Row(bond=600 * COIN) for task in range(1, 65)})
    game = Game(board)

    async def stand_still(height: int) -> int:
        if height >= 0:
            await trio.sleep_forever()
        return 1

    board.wait_new_head = stand_still  # type: ignore[method-assign]

    async def test() -> None:
        await trio.sleep(10 * IDLE_SECONDS)
        assert board.views <= 11 * (2 * len(board.rows) + 3)

    play(game, test)


def test_an_idle_peer_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    game = Game(Board())

    async def test() -> None:
        await trio.sleep(60)
        assert caplog.text.count("no open task") == 1

    play(game, test)


def test_only_errors_of_ours_are_taken_for_known() -> None:
    mixed = ExceptionGroup("a", [Unavailable("x"), KeyError("y")])
    assert find_flock_error(mixed) is None
    assert isinstance(find_flock_error(ExceptionGroup("b", [ExceptionGroup("c", [Unavailable("x")])])), Unavailable)
