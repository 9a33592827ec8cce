"""What of the kept blobs the chain needs no more: everything of ended tasks but their last adapters and documents.

The part in a task releases what it kept when the next one begins; this finds what was left by a part that failed, or
that a restart cut off. Drops nothing: the store does, when it needs the room.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import trio

from flock_chain.crypto import Account
from flock_chain.errors import FlockError
from flock_peers.plural import plural
from flock_peers.roles.board import Phase, as_account
from flock_peers.store.blob_store import BlobStore
from flock_peers.store.kept_marks import (
    find_document,
    find_task,
    is_any_new_task,
    new_task_owner,
    opened_task_owner,
    task_owner,
)

log = logging.getLogger(__name__)

AT_ONCE = 100  # tasks asked for in a row, when it is not known yet which of many is one that was being opened
PAUSE_SECONDS = 1.0  # before the next ones: others want to ask the board as well
# Of a task that is being opened, from when its contents were kept to the head's timestamp, so that a peer that was off
# has the blocks of that day first: what is not final in a day, and sent no more, was refused.
NEW_SECONDS = 86_400
LOOK_SECONDS = 60.0  # nobody waits for the room of an ended task


class Views(Protocol):
    async def view(self, contract: str, function: str, *arguments: Any) -> Any: ...


class Retention:
    """`account`: this peer's, which opens tasks. `current`: the task that it has a part in, which releases its own.
    `is_opening`: by how its document's content id begins, whether the transaction that opens a task is still sent, as
    on a chain that stands still."""

    def __init__(
        self, store: BlobStore, views: Views, account: Account, current: Callable[[], int | None],
        is_opening: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self._store, self._views, self._account = store, views, account
        self._current, self._is_opening = current, is_opening
        self._known = 0  # no task up to this one is still being opened
        self._old = frozenset[str]()  # at the last look, of owners that are tasks being opened

    async def run(self) -> None:
        while True:
            try:
                await self.step()
            except FlockError as error:
                log.info("kept contents: the chain cannot be asked now which are needed: %s", error)
            await trio.sleep(LOOK_SECONDS)

    async def step(self) -> None:
        """An ended task stays ended: the audits are over then, and nobody may ask for its proposals any more."""
        owners = self._store.owners()
        tasks = [(owner, task) for owner in owners if (task := find_task(owner)) is not None]
        new = [owner for owner in owners if is_any_new_task(owner)]
        sent = {owner for owner in new if self._is_opening(find_document(owner))}  # asked first: the count may be older
        head_time = await self._views.view("Beacon", "last_timestamp") if new else 0
        count: int = await self._views.view("TaskBoard", "task_count")
        await self._number(count)
        if new:
            self._give_up(sent, head_time)
        for owner, task in tasks:
            if owner == task_owner(self._current() or 0) or not 1 <= task <= count:
                continue
            row: Mapping[str, Any] = await self._views.view("TaskBoard", "task_view", task)
            if not row["ended"] and row["phase"] != Phase.ENDED:
                continue
            released = self._store.release_all(owner, {bytes(row["adapter"]), bytes(row["document"])})
            if released:
                log.info(
                    "task %d has ended: %s may be removed for the room of others", task, plural(released, "content")
                )

    async def _number(self, count: int) -> None:
        """What its creator serves was kept for a task that was only being opened; its number is final now.

        Every task since the last look is asked for, and after a start every one: while a peer is off, or between two
        looks, any number may be opened after its own, and what is not found here is given up after a day, although the
        task may run and nobody else have its base model.
        """
        if not any(map(is_any_new_task, self._store.owners())):
            self._known = count  # what is kept from now on is for a later one
        asked = 0
        while self._known < count:
            if asked and asked % AT_ONCE == 0:
                await trio.sleep(PAUSE_SECONDS)
            asked += 1
            row: Mapping[str, Any] = await self._views.view("TaskBoard", "task_view", self._known + 1)
            self._known += 1
            # Of this account: anybody may open a task on a document that is on its way, and let it end at once.
            if as_account(row["creator"]) == self._account:
                self._hand_over(new_task_owner(bytes(row["document"])), opened_task_owner(self._known))

    def _hand_over(self, new: str, opened: str) -> None:
        for digest in sorted(self._store.kept_by(new)):
            self._store.keep(digest, opened)
        self._store.release_all(new)

    def _give_up(self, sent: Collection[str], head_time: int) -> None:
        """Its transaction failed, or never came: the base model would stay, and be asked for every minute, for good.
        `sent`: owners whose transactions were not final yet when it was asked what tasks there are."""
        new = [owner for owner in self._store.owners() if is_any_new_task(owner)]
        old = frozenset(owner for owner in new if head_time - self._store.kept_since(owner) >= NEW_SECONDS)
        # At two looks: a chain that stood still goes on with a block that is days later, and the task may come after.
        was_old, self._old = self._old, old
        for owner in sorted(old & was_old):
            if owner not in sent and (released := self._store.release_all(owner)):
                log.info(
                    "a task that was to be opened never was: %s may be removed for the room of others",
                    plural(released, "content"),
                )
