"""Background work of a role, each piece named and run at most once at a time. Knows nothing of what the work is."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from flock_chain.errors import FlockError

log = logging.getLogger(__name__)

RETRY_SECONDS = 3.0  # between a failure and the next attempt of the same job
MAX_FINISHED = 256  # results, and failures, of a few rounds; older ones are recomputed if asked for

JobKey = tuple[Any, ...]


class Jobs:
    """Starts jobs in a nursery and keeps their results until forgotten."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._running: dict[JobKey, trio.CancelScope] = {}
        self._results: dict[JobKey, Any] = {}
        self._failed_at: dict[JobKey, float] = {}
        self._news = trio.Event()

    async def wait_news(self) -> None:
        """Returns once a piece of work has ended since this last returned: its result is to be used at once."""
        await self._news.wait()
        self._news = trio.Event()

    def is_done(self, key: JobKey) -> bool:
        return key in self._results

    def is_running(self, key: JobKey) -> bool:
        return key in self._running

    def ensure(self, key: JobKey, work: Callable[[], Awaitable[Any]]) -> Any | None:
        """The result if there is one; else starts the work unless it runs or failed a moment ago."""
        if key in self._results:
            return self._results[key]
        failed_at = self._failed_at.get(key)
        if key not in self._running and (failed_at is None or trio.current_time() - failed_at >= RETRY_SECONDS):
            scope = trio.CancelScope()
            self._running[key] = scope
            self._nursery.start_soon(self._run, key, work, scope)
        return None

    def cancel_all_but(self, keep: Callable[[JobKey], bool]) -> None:
        """Stop jobs that no longer matter, such as training for a round that went on without us."""
        for key, scope in list(self._running.items()):
            if not keep(key):
                scope.cancel()

    async def _run(self, key: JobKey, work: Callable[[], Awaitable[Any]], scope: trio.CancelScope) -> None:
        try:
            with scope:
                self._results[key] = await work()
                self._failed_at.pop(key, None)
        except Exception as error:  # the edge of a task: a full disk or strange bytes must not end the peer
            self._failed_at[key] = trio.current_time()
            expected = isinstance(error, FlockError)
            log.warning(
                "%s failed: %s; trying again in %.0f s", _name(key), error if expected else repr(error), RETRY_SECONDS,
                exc_info=None if expected else error,
            )  # fmt: skip
        finally:
            self._running.pop(key, None)
            self._news.set()
        for remembered in (self._results, self._failed_at):
            while len(remembered) > MAX_FINISHED:
                remembered.pop(next(iter(remembered)))


def _name(key: JobKey) -> str:
    return " ".join(str(part) if not isinstance(part, bytes) else part.hex()[:12] for part in key)
