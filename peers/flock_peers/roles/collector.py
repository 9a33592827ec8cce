"""What tasks that have ended still owe this account: rewards that it never claimed, and its bonds. Knows no contents.

A participant claims while it runs; this is for what a peer finds when it was away at the end.
"""

import logging
from dataclasses import dataclass

from flock_chain.crypto import Account
from flock_peers.roles.board import Views
from flock_peers.roles.sender import Sender

log = logging.getLogger(__name__)

LOOKS_AT_ONCE = 32  # views in one step: a task may have had 100,000 rounds


@dataclass
class _Ended:
    rounds: int  # of the task
    claimed_until: int = 1  # all rounds below are claimed, or give nothing


class Collector:
    """`step` every now and then. Bonds are taken back only when `wants_bonds`: the next task needs them."""

    def __init__(self, account: Account, views: Views, sender: Sender) -> None:
        self._account, self._views, self._sender = account, views, sender
        self._tasks: dict[int, _Ended] = {}
        self.wants_bonds = False

    def add(self, task: int, rounds: int) -> None:
        """A task that has ended after so many rounds."""
        self._tasks.setdefault(task, _Ended(rounds))

    async def step(self) -> None:
        looks = LOOKS_AT_ONCE
        for task in sorted(self._tasks):
            looks = await self._collect(task, looks)
            if looks <= 0:
                return

    async def _collect(self, task: int, looks: int) -> int:
        """Forgets a task in which nothing of this account is left; how many views may follow in this step."""
        bond: int = (await self._views.view("TaskBoard", "participant", task, self._account))["bond"]
        leaver = await self._views.view("TaskBoard", "unbonding", task, self._account)
        looks -= 2
        if bond == 0 and leaver["amount"] == 0:
            del self._tasks[task]
            return looks
        looks = await self._claim(task, self._tasks[task], looks)
        if self._tasks[task].claimed_until > self._tasks[task].rounds and self.wants_bonds:
            await self._take_back(task, bond, leaver["release_at"])
        return looks

    async def _claim(self, task: int, ended: _Ended, looks: int) -> int:
        while ended.claimed_until <= ended.rounds and looks > 0:
            label = f"claim {task}/{ended.claimed_until}"
            if self._sender.is_pending(label):  # asked first: the view may be older
                break
            looks -= 1
            if await self._views.view("TaskBoard", "claimable", task, ended.claimed_until, self._account) > 0:
                log.info("task %d: claiming round %d, settled while this peer was away", task, ended.claimed_until)
                await self._sender.call(label, "TaskBoard", "claim", task, ended.claimed_until)
                break
            ended.claimed_until += 1
        return looks

    async def _take_back(self, task: int, bond: int, release_at: int) -> None:
        """Leave, and withdraw when the lock is over."""
        if bond > 0:
            await self._sender.call(f"leave {task}", "TaskBoard", "leave_task", task)
        elif release_at <= await self._views.view("Beacon", "chain_time"):
            await self._sender.call(f"withdraw {task}", "TaskBoard", "withdraw_bond", task)
