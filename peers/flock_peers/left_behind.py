"""What this account still has in tasks that have ended: bonds, coins that unbond, pay that it never claimed, and the
rest of the pots that it paid in. For people; fetches nothing: `roles.collector` claims for a peer that takes part, and
takes bonds back for the next task.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import trio

from flock_chain.crypto import Account
from flock_chain.errors import FlockError
from flock_peers.roles.board import Phase, as_account

log = logging.getLogger(__name__)

TASKS_AT_ONCE = 100  # ended long ago, that a look adds: of a long chain all are known after some looks
MAX_ROUNDS = 100  # newest ones of a task: each is one call of the board
MAX_LEFT = 32  # tasks in one status
LOOK_SECONDS = 10.0  # between two looks at what is left; where nothing is, a task is looked at once
PAUSE_SECONDS = 0.2  # after a task: others want to ask the board as well


class Views(Protocol):
    async def view(self, contract: str, function: str, *arguments: Any) -> Any: ...


@dataclass(frozen=True)
class Left:
    """Amounts in wei."""

    task: int
    bond: int
    unbonding: int
    free_in: int  # seconds of chain time until the first of it may be withdrawn
    claimable: int
    pot: int  # what is left of it, for its creator

    def as_row(self) -> dict[str, Any]:
        return asdict(self) | {name: str(getattr(self, name)) for name in ("bond", "unbonding", "claimable", "pot")}


class LeftBehind:
    def __init__(self, account: Account, views: Views) -> None:
        self._account, self._views = account, views
        self._left: dict[int, Left] = {}
        self._rounds: dict[int, Sequence[int]] = {}  # in which something may be claimable, by ended task
        self._open: set[int] = set()  # of those looked at; of the others all have ended and hold nothing, for good
        self._newest = self._oldest = 0  # of those looked at

    def rows(self) -> list[dict[str, Any]]:
        """Of the last look, the newest task first."""
        return [self._left[task].as_row() for task in sorted(self._left, reverse=True)[:MAX_LEFT]]

    async def run(self) -> None:
        while True:
            try:
                await self.step()
            except FlockError as error:
                log.debug("what is left in ended tasks cannot be read now: %s", error)
            await trio.sleep(LOOK_SECONDS)

    async def step(self) -> None:
        self._add(await self._views.view("TaskBoard", "task_count"))
        for task in sorted(self._open, reverse=True):
            await self._look(task)

    def _add(self, count: int) -> None:
        """What was opened since the last look, and as many older ones as there is time for."""
        if not self._newest:
            self._newest, self._oldest = count, count + 1
        older = range(max(1, self._oldest - TASKS_AT_ONCE), self._oldest)
        self._open.update(range(self._newest + 1, count + 1), older)
        self._newest, self._oldest = count, older.start

    async def _look(self, task: int) -> None:
        last, phase = await self._views.view("TaskBoard", "progress", task)
        if phase != Phase.ENDED:
            return
        self._rounds.setdefault(task, range(max(1, last - MAX_ROUNDS + 1), last + 1))
        left = await self._read(task)
        if left.bond or left.unbonding or left.claimable or left.pot:
            self._left[task] = left
        else:
            self._open.remove(task)
            for known in (self._left, self._rounds):
                known.pop(task, None)
        await trio.sleep(PAUSE_SECONDS)

    async def _read(self, task: int) -> Left:
        row = await self._views.view("TaskBoard", "task_view", task)
        pot = row["pot"] if as_account(row["creator"]) == self._account else 0
        mine = await self._views.view("TaskBoard", "participant", task, self._account)
        leaver = await self._views.view("TaskBoard", "unbonding", task, self._account)
        free_in = leaver["release_at"] - await self._views.view("Beacon", "chain_time") if leaver["amount"] else 0
        due = {
            number: await self._views.view("TaskBoard", "claimable", task, number, self._account)
            for number in self._rounds[task]
        }
        self._rounds[task] = [number for number, amount in due.items() if amount]  # an ended task gives no more
        return Left(task, mine["bond"], leaver["amount"], max(0, free_in), sum(due.values()), pot)
