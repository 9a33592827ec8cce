"""What a peer does about tasks that have ended: serves them, claims, and moves its bond. A board in memory."""

import pytest
import trio
from task_loop_support import Board, Game, Row, play

from flock_peers.roles.collector import LOOKS_AT_ONCE
from flock_peers.roles.task_loop import COIN, COLLECT_SECONDS


def test_after_a_task_has_ended_it_is_served_until_the_next_one_is_joined() -> None:
    board = Board({1: Row()})
    game = Game(board)

    async def test() -> None:
        await trio.sleep(2)
        (first,) = game.parts
        board.rows[1].is_ended = first.is_ended = True
        await trio.sleep(5)
        board.rows[2] = Row()
        await trio.sleep(5)
        assert game.tasks == [1], "rewards and proposals are not settled yet"
        first.is_settled = True
        await trio.sleep(1.5)
        assert game.tasks == [1, 2] and not first.is_running and game.parts[1].is_running
        assert first.is_released and not game.parts[1].is_released

    play(game, test)


def test_an_ended_task_goes_on_being_served_while_there_is_no_other() -> None:
    board = Board({1: Row()})
    game = Game(board)

    async def test() -> None:
        await trio.sleep(2)
        board.bonds = {1: 5 * COIN}
        board.rows[1].is_ended = game.parts[0].is_ended = game.parts[0].is_settled = True
        await trio.sleep(300)
        assert game.tasks == [1] and game.parts[0].is_running and not game.parts[0].is_released
        assert game.loop.participant is game.parts[0]  # type: ignore[comparison-overlap]
        assert not game.sender.sent

    play(game, test)


def test_a_baseline_of_the_ended_task_is_not_cut_short_by_the_next_one() -> None:
    board = Board({1: Row()})
    busy = [True]
    game = Game(board, is_busy=lambda: busy[0])

    async def test() -> None:
        await trio.sleep(2)
        board.rows[1].is_ended = game.parts[0].is_ended = game.parts[0].is_settled = True
        board.rows[2] = Row()
        await trio.sleep(50)
        assert game.tasks == [1] and game.parts[0].is_running
        busy.clear()
        busy.append(False)
        await trio.sleep(3)
        assert game.tasks == [1, 2]

    play(game, test)


def test_the_bond_of_an_ended_task_is_taken_back_for_the_next_one() -> None:
    board = Board({1: Row(is_ended=True), 2: Row()}, bonds={1: 5 * COIN}, coins=COIN, dripped=True)
    game = Game(board)

    async def test() -> None:
        await trio.sleep(COLLECT_SECONDS + 2)
        assert ("leave_task", 1) in game.sender.sent and not game.parts
        board.bonds, board.unbonding = {}, {1: {"amount": 5 * COIN, "release_at": 600}}
        await trio.sleep(COLLECT_SECONDS)
        assert ("withdraw_bond", 1) not in game.sender.sent
        board.now = 600
        await trio.sleep(COLLECT_SECONDS)
        assert ("withdraw_bond", 1) in game.sender.sent
        board.unbonding, board.coins = {}, 6 * COIN
        await trio.sleep(2)
        assert game.tasks == [2]

    play(game, test)


@pytest.mark.parametrize("is_next_open", [True, False])
def test_rewards_of_a_task_that_ended_while_the_peer_was_away_are_claimed_before_its_bond_moves(
    is_next_open: bool,
) -> None:
    rounds = 2 * LOOKS_AT_ONCE
    rows = {1: Row(is_ended=True, rounds=rounds), 2: Row(is_ended=not is_next_open), 3: Row(is_ended=True)}
    board = Board(rows, bonds={1: 5 * COIN}, due={(1, 2): 7, (1, rounds): 8, (3, 1): 9})
    game = Game(board)

    def claims(task: int) -> list[tuple[object, ...]]:
        return [call for call in game.sender.calls if call[:2] == ("claim", task)]

    async def test() -> None:
        await trio.sleep(4 * COLLECT_SECONDS)
        assert claims(1)[-1] == ("claim", 1, 2) and ("leave_task", 1) not in game.sender.sent
        board.due[1, 2] = 0
        await trio.sleep(4 * COLLECT_SECONDS)
        assert claims(1)[-1] == ("claim", 1, rounds)
        board.due[1, rounds] = 0
        await trio.sleep(4 * COLLECT_SECONDS)
        assert (("leave_task", 1) in game.sender.sent) == is_next_open
        assert claims(3)[-1] == ("claim", 3, 1), "it left that one before its end"

    play(game, test)


def test_a_bond_that_is_on_its_way_back_is_withdrawn_although_no_task_is_left_to_join() -> None:
    board = Board({1: Row(is_ended=True), 2: Row()}, bonds={1: 5 * COIN})
    game = Game(board)

    async def test() -> None:
        await trio.sleep(COLLECT_SECONDS + 2)
        assert ("leave_task", 1) in game.sender.sent and game.tasks == [2]
        board.bonds, board.unbonding = {2: 5 * COIN}, {1: {"amount": 5 * COIN, "release_at": 600}}
        board.rows[2].is_ended = game.parts[0].is_ended = game.parts[0].is_settled = True
        board.now = 600
        await trio.sleep(2 * COLLECT_SECONDS)
        assert ("withdraw_bond", 1) in game.sender.sent
        assert ("leave_task", 2) not in game.sender.sent, "no other task is there yet"

    play(game, test)


def test_a_task_that_is_taken_part_in_keeps_its_bond_whatever_becomes_of_earlier_ones() -> None:
    board = Board({1: Row(is_ended=True), 2: Row(), 3: Row(pot=-1)}, bonds={1: 5 * COIN, 2: 5 * COIN})
    game = Game(board)

    async def test() -> None:
        await trio.sleep(10 * COLLECT_SECONDS)
        assert game.tasks == [2] and {task for _, task in game.sender.sent} == {1}

    play(game, test)


def test_an_ended_task_in_which_nothing_is_left_is_not_asked_again() -> None:
    board = Board({task: Row(is_ended=True) for task in range(1, 9)}, bonds={1: 5 * COIN})
    game = Game(board)

    async def test() -> None:
        await trio.sleep(2 * COLLECT_SECONDS)
        before = board.asked["unbonding"]
        await trio.sleep(10 * COLLECT_SECONDS)
        assert board.asked["unbonding"] - before <= 11, "but the one with the bond"

    play(game, test)
