"""What a status says of ended tasks: bonds, coins that unbond, unclaimed pay, the rest of a pot. On the real board, and
beside a fake.
"""

from typing import Any

import pytest
import trio
from app_support import ETHER, KEYS, Played, play
from clock_support import on_stepped_clock
from task_loop_support import COIN, ME, Board, Row

from flock_chain.crypto import Account
from flock_chain.errors import Unavailable
from flock_chain.execution.executor import Executor
from flock_peers.home import Home
from flock_peers.left_behind import LOOK_SECONDS, MAX_LEFT, MAX_ROUNDS, PAUSE_SECONDS, TASKS_AT_ONCE, LeftBehind
from flock_peers.store.chain_store import ChainStore


class Views:
    """Of a chain that has ended."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def view(self, contract: str, function: str, *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return self._executor.view(contract, function, *arguments)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return play(tmp_path_factory.mktemp("left") / "home")


def read(played: Played, account: bytes) -> list[dict[str, Any]]:
    with ChainStore(Home(played.home).folder("chain"), read_only=True) as store:
        found = LeftBehind(Account(account), Views(Executor(played.genesis, store)))
        trio.run(found.step)
        return found.rows()


def test_of_a_task_that_nobody_left_or_claimed_in_bond_and_pay_are_told(played: Played) -> None:
    """Joined by everybody with 2 coins, ended; a start afterwards knows nothing of it but what the board says."""
    found = [read(played, key.account) for key in KEYS]
    told = {"task": 1, "bond": str(2 * ETHER), "unbonding": "0", "free_in": 0, "pot": "0"}
    assert [[{**row, "claimable": ""} for row in rows] for rows in found] == [[told | {"claimable": ""}]] * len(KEYS)
    assert 8 * ETHER < sum(int(row["claimable"]) for (row,) in found) <= 10 * ETHER  # of the pot of ten coins
    assert read(played, b"\x99" * 20) == []


@on_stepped_clock
async def test_every_ended_task_is_told_until_nothing_is_left_there_and_then_looked_at_no_more() -> None:
    board = Board(rows={task: Row(is_ended=task != 4, rounds=2) for task in range(1, 6)}, now=100)
    board.bonds = {1: 5 * COIN, 4: 5 * COIN}  # the fourth still runs
    board.unbonding = {2: {"amount": 3 * COIN, "release_at": 160}}
    board.due = {(2, 1): COIN, (5, 1): COIN, (5, 2): COIN}
    found = LeftBehind(Account(ME), board)
    await found.step()
    none = {"bond": "0", "unbonding": "0", "free_in": 0, "claimable": "0", "pot": "0"}
    assert found.rows() == [
        {**none, "task": 5, "claimable": str(2 * COIN)},
        {**none, "task": 2, "unbonding": str(3 * COIN), "free_in": 60, "claimable": str(COIN)},
        {**none, "task": 1, "bond": str(5 * COIN)},
    ]
    board.due, board.now = {}, 200
    board.rows[4].is_ended = True
    await found.step()
    assert [(row["task"], row["free_in"]) for row in found.rows()] == [(4, 0), (2, 0), (1, 0)]
    board.bonds, board.unbonding = {}, {}
    await found.step()
    assert found.rows() == []
    board.asked.clear()
    await found.step()
    assert board.asked == {"task_count": 1}


@on_stepped_clock
async def test_the_rest_of_a_pot_is_told_to_who_opened_the_task_until_it_is_taken_back() -> None:
    board = Board(rows={task: Row(is_ended=task != 3, pot=2 * COIN, creator=ME) for task in (1, 2, 3)})
    board.rows[2].creator = b"\x33" * 20
    found = LeftBehind(Account(ME), board)
    await found.step()
    assert [(row["task"], row["pot"]) for row in found.rows()] == [(1, str(2 * COIN))]
    board.rows[1].pot = 0
    await found.step()
    assert found.rows() == []


@on_stepped_clock
async def test_few_tasks_at_once_and_few_rounds_of_each_are_looked_at_and_fewer_are_told() -> None:
    board = Board(rows={task: Row(is_ended=True, rounds=1_000) for task in range(1, TASKS_AT_ONCE + 9)})
    board.bonds = dict.fromkeys(board.rows, COIN)
    found = LeftBehind(Account(ME), board)
    await found.step()
    assert board.asked["progress"] == TASKS_AT_ONCE and board.asked["claimable"] == TASKS_AT_ONCE * MAX_ROUNDS
    for _ in range(2):  # a round in which nothing was is not asked about again
        await found.step()
        assert board.asked["claimable"] == (TASKS_AT_ONCE + 8) * MAX_ROUNDS
    assert [row["task"] for row in found.rows()] == list(range(TASKS_AT_ONCE + 8, TASKS_AT_ONCE + 8 - MAX_LEFT, -1))


@on_stepped_clock
async def test_what_is_left_behind_any_number_of_newer_tasks_is_told_after_some_looks_and_stays_told() -> None:
    count = 2 * TASKS_AT_ONCE + 5
    board = Board(rows={task: Row(is_ended=task != 2) for task in range(1, count + 1)})
    board.rows[1].creator, board.rows[1].pot = ME, COIN
    board.bonds = {2: COIN, count - 3: COIN}  # the second still runs
    found = LeftBehind(Account(ME), board)
    for known in ([count - 3], [count - 3], [count - 3, 1]):
        await found.step()
        assert [row["task"] for row in found.rows()] == known
    board.rows |= {task: Row(is_ended=True) for task in range(count + 1, count + TASKS_AT_ONCE + 9)}
    board.bonds[count + 7], board.rows[2].is_ended = COIN, True
    await found.step()
    assert [row["task"] for row in found.rows()] == [count + 7, count - 3, 2, 1]
    board.bonds, board.rows[1].pot = {}, 0
    await found.step()
    board.asked.clear()
    await found.step()
    assert found.rows() == [] and board.asked == {"task_count": 1}


@on_stepped_clock
async def test_of_the_tasks_that_were_opened_since_the_last_look_none_is_forgotten() -> None:
    board = Board()
    found = LeftBehind(Account(ME), board)
    for newest in (1, 4, 4, 5):
        board.rows = {task: Row(is_ended=True) for task in range(1, newest + 1)}
        board.bonds = dict.fromkeys(board.rows, COIN)
        await found.step()
        assert [row["task"] for row in found.rows()] == list(range(newest, 0, -1))


@on_stepped_clock
async def test_of_many_tasks_the_newest_is_told_first() -> None:
    """A look at a hundred takes twenty seconds."""
    board = Board(rows={task: Row(is_ended=True) for task in (1, 2, 3)}, bonds={1: COIN, 3: COIN})
    found = LeftBehind(Account(ME), board)
    with trio.move_on_after(PAUSE_SECONDS / 2):
        await found.step()
    assert [row["task"] for row in found.rows()] == [3]


@on_stepped_clock
async def test_a_board_that_cannot_be_asked_is_asked_again() -> None:
    board = Board(rows={1: Row(is_ended=True)}, bonds={1: COIN}, error=Unavailable("no block yet"))
    found = LeftBehind(Account(ME), board)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.run)
        await trio.sleep(LOOK_SECONDS / 2)
        assert found.rows() == []
        board.error = None
        await trio.sleep(LOOK_SECONDS)
        assert [row["bond"] for row in found.rows()] == [str(COIN)]
        nursery.cancel_scope.cancel()
