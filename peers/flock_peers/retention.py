"""What of the kept blobs the chain needs no more: everything of ended tasks but their last adapters and documents.

The part in a task releases what it kept when the next one begins; this finds what was left by a part that failed, or
that a restart cut off. Drops nothing: the store does, when it needs the room.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import trio

from flock_chain.errors import FlockError
from flock_peers.roles.board import Phase
from flock_peers.store.blob_store import BlobStore
from flock_peers.store.kept_marks import find_task, task_owner

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0  # nobody waits for the room of an ended task


class Views(Protocol):
    async def view(self, contract: str, function: str, *arguments: Any) -> Any: ...


class Retention:
    """`current`: the task that this peer has a part in, which releases its own."""

    def __init__(self, store: BlobStore, views: Views, current: Callable[[], int | None]) -> None:
        self._store, self._views, self._current = store, views, current

    async def run(self) -> None:
        while True:
            try:
                await self.step()
            except FlockError as error:
                log.info("kept contents: the chain cannot be asked now which are needed: %s", error)
            await trio.sleep(LOOK_SECONDS)

    async def step(self) -> None:
        """An ended task stays ended: the audits are over then, and nobody may ask for its proposals any more."""
        tasks = [task for task in map(find_task, self._store.owners()) if task is not None]
        count = await self._views.view("TaskBoard", "task_count") if tasks else 0
        for task in tasks:
            if task == self._current() or not 1 <= task <= count:
                continue
            row: Mapping[str, Any] = await self._views.view("TaskBoard", "task_view", task)
            if not row["ended"] and row["phase"] != Phase.ENDED:
                continue
            released = self._store.release_all(task_owner(task), {bytes(row["adapter"]), bytes(row["document"])})
            if released:
                log.info("task %d has ended: %d contents may be removed for the room of others", task, released)
