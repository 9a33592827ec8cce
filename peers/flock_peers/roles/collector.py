"""Fetches what tasks that have ended owe this account: rewards that it never claimed, and bonds. Knows no contents.

A participant claims while it runs; this is for what a peer finds when it was away at the end. Which tasks, and whether
a bond is wanted, is decided by whoever hands the errands over.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass

from flock_chain.crypto import Account
from flock_peers.coins import count_coins
from flock_peers.measurements import Measurements
from flock_peers.roles.board import Views
from flock_peers.roles.sender import Sender

log = logging.getLogger(__name__)

LOOKS_AT_ONCE = 32  # views in one step: a task may have had 100,000 rounds
ROUNDS_BACK = 1_000  # of a task in which nothing is bonded: whose part of the rest waits for who left early


@dataclass(frozen=True)
class Errand:
    """A task that has ended after so many rounds, and what to fetch from it: what is due, and the bond if wanted."""

    task: int
    rounds: int
    with_bond: bool = False


class Collector:
    """`step` every now and then, with all errands that are left. Remembers only how far it has looked."""

    def __init__(
        self, account: Account, views: Views, sender: Sender, measurements: Measurements | None = None
    ) -> None:
        self._account, self._views, self._sender = account, views, sender
        self._measurements = measurements or Measurements()
        self._claimed_until: dict[int, int] = {}  # task -> all rounds below are claimed, or give nothing

    async def step(self, errands: Collection[Errand]) -> frozenset[int]:
        """Goes on with these, and touches no other task; in which of them nothing of this account is left."""
        looks, done = LOOKS_AT_ONCE, set()
        for errand in sorted(errands, key=lambda errand: errand.task):
            if looks <= 0:
                break
            looks, is_done = await self._collect(errand, looks)
            if is_done:
                done.add(errand.task)
                self._claimed_until.pop(errand.task, None)
        return frozenset(done)

    async def _collect(self, errand: Errand, looks: int) -> tuple[int, bool]:
        """How many views may follow in this step, and whether nothing is left."""
        bond: int = (await self._views.view("TaskBoard", "participant", errand.task, self._account))["bond"]
        leaver = await self._views.view("TaskBoard", "unbonding", errand.task, self._account)
        is_out = bond == 0 and leaver["amount"] == 0
        looks = await self._claim(errand, looks - 2, max(1, errand.rounds - ROUNDS_BACK + 1) if is_out else 1)
        is_claimed = self._claimed_until[errand.task] > errand.rounds
        if errand.with_bond and is_claimed and not is_out:
            await self._take_back(errand.task, bond, leaver["release_at"])
        return looks, is_out and is_claimed

    async def _claim(self, errand: Errand, looks: int, first: int) -> int:
        task, number = errand.task, self._claimed_until.get(errand.task, first)
        while number <= errand.rounds and looks > 0:
            label = f"claim {task}/{number}"
            if self._sender.is_pending(label):  # asked first: the view may be older
                break
            looks -= 1
            due: int = await self._views.view("TaskBoard", "claimable", task, number, self._account)
            if due > 0:  # of a round that was settled while this peer was away, or a seat's part of what a pot left
                if await self._sender.call(label, "TaskBoard", "claim", task, number):
                    log.info("task %d: round %d: earned %s, and had not claimed it", task, number, count_coins(due))
                    self._measurements.note_pay(task, number, due)
                break
            number += 1
        self._claimed_until[task] = number
        return looks

    async def _take_back(self, task: int, bond: int, release_at: int) -> None:
        """Leave, and withdraw when the lock is over."""
        if bond > 0:
            await self._sender.call(f"leave {task}", "TaskBoard", "leave_task", task)
        elif release_at <= await self._views.view("Beacon", "chain_time"):
            await self._sender.call(f"withdraw {task}", "TaskBoard", "withdraw_bond", task)
