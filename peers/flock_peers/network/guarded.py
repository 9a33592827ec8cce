"""Tasks that a remote can make raise, and that take nothing else down with them. Knows nothing of what they do."""

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from traceback import format_exc
from typing import Any

from flock_peers.network.complaints import Lines, fit_line

log = logging.getLogger(__name__)

_FAILURES_AT_ONCE = 60.0
# What nobody foresaw has a traceback; whoever found a message that raises can send it 400 times a second.
_TRACES_PER_SECOND, _TRACES_AT_ONCE = 0.1, 20.0
_TRACE_CHARACTERS = 8_000
_failures = Lines(time.monotonic, at_once=_FAILURES_AT_ONCE, logger=log)
_traces = Lines(time.monotonic, rate=_TRACES_PER_SECOND, at_once=_TRACES_AT_ONCE, logger=log)


class Guard:
    """A service manager whose tasks cannot take the service down: stock, one raising task ends all the others."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def run_task(self, task: Callable[..., Awaitable[Any]], *args: Any, name: str | None = None) -> None:
        self._manager.run_task(partial(contained, task), *args, name=name or getattr(task, "__name__", "task"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)


async def contained(task: Callable[..., Awaitable[Any]], *args: Any) -> None:
    """Run a task whose failure is worth a line in the log, at a bounded rate, and nothing more."""
    try:
        await task(*args)
    except Exception as error:  # noqa: BLE001 - the edge of a task that a remote can make raise
        _failures.tell(fit_line(f"network: task {getattr(task, '__name__', task)} failed: {error!r}"))


def tell_failure(what: str) -> None:
    """While an exception is handled that nobody foresaw: a line with its traceback, at a bounded rate."""
    _traces.tell(f"{what}\n{format_exc()[-_TRACE_CHARACTERS:]}", logging.ERROR)


class GuardedService:
    """Mixin for libp2p services. Their daemon tasks still end them: then the supervisor starts a new stack."""

    _manager: Any

    @property
    def manager(self) -> Any:
        return Guard(self._manager)
