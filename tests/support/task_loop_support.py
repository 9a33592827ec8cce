"""The task loop beside a board in memory: rows that a test writes, a sender that writes down, parts of any life."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio
import trio.testing

from flock_chain.errors import FlockError
from flock_peers.roles.board import Phase
from flock_peers.roles.participant import Participant
from flock_peers.roles.task_loop import COIN, Choice, TaskLoop, Ways

ME = b"\x11" * 20


@dataclass
class Row:
    bond: int = 5 * COIN
    pot: int = 1
    carried: int = 0
    creator: bytes = b"\x22" * 20
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
    asked: Counter[str] = field(default_factory=Counter)  # views by function

    async def view(self, _contract: str, function: str, *args: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.views += 1
        self.asked[function] += 1
        if self.error is not None:
            raise self.error
        match function:
            case "task_count":
                return max(self.rows, default=0)
            case "task_view":
                row = self.rows[args[0]]
                return {
                    "terms": {"min_bond": row.bond}, "pot": row.pot, "carried": row.carried,
                    "participants": row.participants, "round": row.rounds, "creator": row.creator,
                    "ended": row.is_ended, "phase": 10 if row.is_ended else 0,
                }  # fmt: skip
            case "progress":
                row = self.rows[args[0]]
                return row.rounds, Phase.ENDED if row.is_ended else 0
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

    def leave(self) -> None:
        self.is_leaving = True

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
