"""What a peer bonds, and where the coins for it come from. A board in memory."""

import logging

import pytest
import trio
from task_loop_support import Board, Game, Row, play

from flock_peers.roles.task_loop import COIN


def test_no_more_than_the_faucet_gives_is_bonded_unasked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    board = Board({1: Row(bond=600 * COIN, pot=100)})
    game = Game(board)

    async def test() -> None:
        await trio.sleep(10)
        assert not game.parts and caplog.text.count("--bond 600") == 1
        board.rows[2] = Row()
        await trio.sleep(2)
        assert game.tasks == [2]

    play(game, test)
    asked = Game(Board({1: Row(bond=600 * COIN)}), bond=700 * COIN)

    async def told() -> None:
        await trio.sleep(2)
        assert asked.parts[0].choice.bond == 700 * COIN

    play(asked, told)


def test_a_bond_below_the_tasks_minimum_and_a_full_task_are_passed_over() -> None:
    game = Game(Board({1: Row(bond=6 * COIN), 2: Row(participants=64), 3: Row()}), bond=5 * COIN)

    async def test() -> None:
        await trio.sleep(3)
        assert game.tasks == [3]

    play(game, test)


def test_a_newcomer_asks_for_coins_until_bond_and_gas_are_there(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    board = Board({1: Row()}, coins=0)
    game = Game(board)

    async def test() -> None:
        await trio.sleep(5)
        assert game.asked and "needs 5.000000000013 coins, this account has 0" in caplog.text
        board.coins = 5 * COIN  # the bond alone: its transaction could not be paid
        await trio.sleep(5)
        assert not game.parts
        board.coins = 10 * COIN
        await trio.sleep(2)
        assert game.tasks == [1]

    play(game, test)


@pytest.mark.parametrize(("board", "bond"), [(Board({1: Row()}, coins=0), 50), (Board({1: Row()}, dripped=True), 2000)])
def test_where_the_faucet_cannot_help_it_is_not_asked_for_ever(
    board: Board, bond: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    game = Game(board, bond=bond * COIN)

    async def test() -> None:
        await trio.sleep(60)
        assert game.asked == 0 and caplog.text.count("send coins to 0x1111") == 1

    play(game, test)
