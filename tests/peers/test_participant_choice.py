"""Which task a peer joins, in what order, and what neither a task nor a flood can do to it. A board in memory."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing

from flock_chain.errors import FlockError, InvalidContent, Unavailable
from flock_peers.roles.collector import LOOKS_AT_ONCE
from flock_peers.roles.participant import Participant
from flock_peers.roles.task_loop import (
    COIN,
    COLLECT_SECONDS,
    IDLE_SECONDS,
    LEVEL_SECONDS,
    RETRY_SECONDS,
    Choice,
    TaskLoop,
    Ways,
    find_flock_error,
)

ME = b"\x11" * 20


@dataclass
class Row:
    bond: int = 5 * COIN
    pot: int = 0
    is_ended: bool = False
    participants: int = 0
    rounds: int = 1


@dataclass
class Board:
    """Answers the views of the loop."""

    rows: dict[int, Row] = field(default_factory=dict)
    bonds: dict[int, int] = field(default_factory=dict)
    unbonding: dict[int, dict[str, int]] = field(default_factory=dict)
    coins: int = 1_000 * COIN
    dripped: bool = False
    error: FlockError | None = None
    now: int = 0
    due: dict[tuple[int, int], int] = field(default_factory=dict)  # (task, round) -> wei
    views: int = 0

    async def view(self, _contract: str, function: str, *args: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.views += 1
        if self.error is not None:
            raise self.error
        match function:
            case "task_count":
                return max(self.rows, default=0)
            case "task_view":
                row = self.rows[args[0]]
                return {
                    "terms": {"min_bond": row.bond}, "pot": row.pot, "participants": row.participants,
                    "round": row.rounds,
                    "ended": row.is_ended, "phase": 10 if row.is_ended else 0,
                }  # fmt: skip
            case "participant":
                return {"bond": self.bonds.get(args[0], 0)}
            case "unbonding":
                return self.unbonding.get(args[0], {"amount": 0, "release_at": 0})
            case "claimable":
                return self.due.get((args[0], args[1]), 0)
            case "chain_time":
                return self.now
            case "dripped":
                return self.dripped
        raise AssertionError(function)

    async def balance(self, _account: bytes) -> int:
        return self.coins

    async def wait_new_head(self, height: int) -> int:
        """A block every second."""
        if height >= 0:
            await trio.sleep(1)
        return height + 1


class FakeSender:
    def __init__(self) -> None:
        self.sent: list[tuple[str, int]] = []
        self.calls: list[tuple[Any, ...]] = []

    async def call(self, _label: str, _contract: str, function: str, *args: Any, **_: Any) -> bool:
        self.sent.append((function, args[0]))
        self.calls.append((function, *args))
        return True

    def is_pending(self, _label: str) -> bool:
        return False


class FakePart:
    """A part whose life the test decides."""

    def __init__(self, choice: Choice, bonds_early: bool, work: Callable[[], Awaitable[None]]) -> None:
        self.task, self.choice, self.bonds_early = choice.task, choice, bonds_early
        self.is_settled = self.is_ended = self.is_leaving = False
        self.is_running = self.is_released = False
        self._work = work

    def release(self) -> None:
        self.is_released = True

    async def run(self) -> None:
        self.is_running = True
        try:
            await self._work()
        finally:
            self.is_running = False


class Game:
    def __init__(self, board: Board, **ways: Any) -> None:
        self.board, self.sender = board, FakeSender()
        self.parts: list[FakePart] = []
        self.asked = 0
        self.work: dict[int, Callable[[], Awaitable[None]]] = {}
        values: dict[str, Any] = {"bond": None, "faucet_amount": 10 * COIN, "is_level": self._level, **ways}
        self.loop = TaskLoop(
            Ways(
                account=ME,
                ledger=board,
                sender=self.sender,
                make=self._make,
                ask_for_coins=self._ask,
                fee=1,  # type: ignore[arg-type]
                **values,
            )
        )

    async def _level(self) -> bool:
        return True

    async def _ask(self) -> None:
        self.asked += 1

    def _make(self, choice: Choice, bonds_early: bool) -> Participant:
        self.parts.append(FakePart(choice, bonds_early, self.work.get(choice.task, trio.sleep_forever)))
        return self.parts[-1]  # type: ignore[return-value]

    @property
    def tasks(self) -> list[int]:
        return [part.task for part in self.parts]


def play(game: Game, test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(game.loop.run)
            await test()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


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
        await trio.sleep(1_000)
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

    async def test() -> None:
        await trio.sleep(4 * COLLECT_SECONDS)
        assert game.sender.calls[-1] == ("claim", 1, 2) and ("leave_task", 1) not in game.sender.sent
        board.due[1, 2] = 0
        await trio.sleep(4 * COLLECT_SECONDS)
        assert game.sender.calls[-1] == ("claim", 1, rounds)
        board.due[1, rounds] = 0
        await trio.sleep(4 * COLLECT_SECONDS)
        assert (("leave_task", 1) in game.sender.sent) == is_next_open
        assert ("claim", 3) not in game.sender.sent, "this account had no part in it"

    play(game, test)


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
        assert game.asked and "needs 5.000000000004 coins, this account has 0" in caplog.text
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
