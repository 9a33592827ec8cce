"""A task that can pay nothing captures no idle peer: who opened it or names it is in it, and the others are told how. A
board in memory."""

import logging

import pytest
import trio
from task_loop_support import ME, Board, Game, Row, play

from flock_chain.errors import Unavailable
from flock_peers.roles.task_loop import COIN, RETRY_SECONDS


def test_no_bond_is_paid_unasked_where_nothing_can_be_paid_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    board = Board({1: Row(pot=0)})
    game = Game(board)

    async def test() -> None:
        await trio.sleep(60)
        assert not game.parts and game.asked == 0
        assert caplog.text.count("task 1 pays nothing: join it with `join --task 1`") == 1
        assert game.loop.explain() == {1: "pays nothing: join it with `join --task 1`"}
        board.rows[2] = Row(pot=1)
        await trio.sleep(2)
        assert game.tasks == [2] and game.loop.explain() == {}

    play(game, test)


def test_what_has_ended_is_said_no_more() -> None:
    game = Game(Board({1: Row(pot=0)}))

    async def test() -> None:
        await trio.sleep(2)
        assert list(game.loop.explain()) == [1]
        game.board.rows[1].is_ended = True
        await trio.sleep(2)
        assert not game.parts and game.loop.explain() == {}

    play(game, test)


def test_the_task_that_a_peers_owner_names_comes_first_also_where_it_pays_nothing() -> None:
    game = Game(Board({1: Row(pot=9), 2: Row(pot=0), 3: Row(pot=0)}), task=2)

    async def test() -> None:
        await trio.sleep(2)
        assert game.tasks == [2]
        game.board.rows[2].is_ended = game.parts[0].is_ended = game.parts[0].is_settled = True
        await trio.sleep(3)
        assert game.tasks == [2, 1], "the next one is chosen as ever"

    play(game, test)


def test_while_the_task_that_was_named_cannot_be_joined_another_one_is() -> None:
    game = Game(Board({1: Row(pot=9), 2: Row(bond=600 * COIN)}), task=2)

    async def test() -> None:
        await trio.sleep(2)
        assert game.tasks == [1]

    play(game, test)


def test_the_task_that_was_named_comes_first_again_when_it_has_failed_once() -> None:
    game = Game(Board({1: Row(pot=9), 2: Row()}), task=2)

    async def fail() -> None:
        raise Unavailable("at no connected peer")

    async def test() -> None:
        game.work[2] = fail
        await trio.sleep(2)
        assert game.tasks == [2, 1]
        game.work.clear()
        await trio.sleep(RETRY_SECONDS)
        game.board.rows[1].is_ended = game.parts[1].is_ended = game.parts[1].is_settled = True
        game.board.rows[3] = Row(pot=9)
        await trio.sleep(3)
        assert game.tasks == [2, 1, 2]

    play(game, test)


def test_what_pays_by_now_and_cannot_be_joined_is_not_said_to_pay_nothing() -> None:
    game = Game(Board({1: Row(pot=0)}))

    async def test() -> None:
        await trio.sleep(2)
        assert list(game.loop.explain()) == [1]
        game.board.rows[1] = Row(carried=1, bond=600 * COIN)
        await trio.sleep(2)
        assert not game.parts and game.loop.explain() == {}

    play(game, test)


@pytest.mark.parametrize("row", [Row(pot=0, creator=ME), Row(pot=0, carried=1)], ids=["its creator", "carried pay"])
def test_who_opened_it_takes_part_and_so_does_everybody_where_slashes_are_to_be_paid_out(row: Row) -> None:
    game = Game(Board({1: row}))

    async def test() -> None:
        await trio.sleep(2)
        assert game.tasks == [1]

    play(game, test)


def test_a_bond_that_is_there_already_is_looked_after() -> None:
    game = Game(Board({1: Row(pot=9), 2: Row(pot=0)}, bonds={2: COIN}))

    async def test() -> None:
        await trio.sleep(2)
        assert game.tasks == [2]

    play(game, test)
