"""One thread with a deep stack for the EVM: 1,024 nested calls overflow the default stack of some platforms.

Runs one function at a time, consensus before views. Knows nothing of what it runs.
"""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from typing import Any, TypeVar

import trio

from flock_chain.errors import Unavailable

STACK_BYTES = 16 << 20  # the EVM's deepest recursion takes a few MiB of it
MAX_WAITING_VIEWS = 256  # a view takes about a millisecond; whoever asks more often must wait or come back

T = TypeVar("T")


class Priority(IntEnum):
    CONSENSUS = 0
    VIEW = 1
    STOP = 2  # after everything that was asked for before


@dataclass(order=True)
class _Job:
    priority: Priority
    order: int
    function: Callable[[], Any] = field(compare=False)
    finish: Callable[[], None] = field(compare=False)
    result: Any = field(compare=False, default=None)
    error: BaseException | None = field(compare=False, default=None)


class EvmThread:
    def __init__(self) -> None:
        self._jobs: queue.PriorityQueue[_Job] = queue.PriorityQueue()
        self._order = count()
        self._waiting_views = 0
        before = threading.stack_size(STACK_BYTES)
        try:
            self._thread = threading.Thread(target=self._work, name="evm", daemon=True)
            self._thread.start()
        finally:
            threading.stack_size(before)

    async def run(self, function: Callable[[], T], priority: Priority = Priority.CONSENSUS) -> T:
        """The function's result or error. Cancelled, it still waits: what has begun to be stored must end known.

        Raises Unavailable where too many views wait.
        """
        if priority is Priority.VIEW and self._waiting_views >= MAX_WAITING_VIEWS:
            raise Unavailable(f"ledger: {MAX_WAITING_VIEWS} views wait already; try again")
        await trio.lowlevel.checkpoint_if_cancelled()
        done, token = trio.Event(), trio.lowlevel.current_trio_token()
        job = _Job(priority, next(self._order), function, lambda: token.run_sync_soon(done.set))
        self._waiting_views += priority is Priority.VIEW
        try:
            self._jobs.put(job)
            with trio.CancelScope(shield=True):
                await done.wait()
        finally:
            self._waiting_views -= priority is Priority.VIEW
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def close(self) -> None:
        """Waits for what is running."""
        if self._thread.is_alive():
            self._jobs.put(_Job(Priority.STOP, next(self._order), lambda: None, lambda: None))
            self._thread.join()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job.priority is Priority.STOP:
                return
            try:
                job.result = job.function()
            except BaseException as error:  # noqa: BLE001 - carried to the task that asked
                job.error = error
            try:
                job.finish()
            except trio.RunFinishedError:
                pass  # nobody waits any more
