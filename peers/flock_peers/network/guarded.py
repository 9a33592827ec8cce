"""Tasks that a remote can make raise, and that take nothing else down with them. Knows nothing of what they do."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

log = logging.getLogger(__name__)


class Guard:
    """A service manager whose tasks cannot take the service down: stock, one raising task ends all the others."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def run_task(self, task: Callable[..., Awaitable[Any]], *args: Any, name: str | None = None) -> None:
        self._manager.run_task(partial(contained, task), *args, name=name or getattr(task, "__name__", "task"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)


async def contained(task: Callable[..., Awaitable[Any]], *args: Any) -> None:
    """Run a task whose failure is worth a line in the log and nothing more."""
    try:
        await task(*args)
    except Exception as error:  # noqa: BLE001 - the edge of a task that a remote can make raise
        log.info("network: task %s failed: %r", getattr(task, "__name__", task), error)


class GuardedService:
    """Mixin for libp2p services. Their daemon tasks still end them: then the supervisor starts a new stack."""

    _manager: Any

    @property
    def manager(self) -> Any:
        return Guard(self._manager)
