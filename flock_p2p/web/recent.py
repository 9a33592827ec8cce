"""One answer for everybody who asks within a second: a peer's status takes several calls of contracts."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

FRESH_SECONDS = 1.0  # no person sees the difference, and a scraper asks less often
T = TypeVar("T")


class Recent(Generic[T]):
    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask, self._lock = ask, trio.Lock()
        self._known: tuple[float, T] | None = None

    async def get(self) -> T:
        async with self._lock:
            now = trio.current_time()
            if self._known is None or now - self._known[0] >= FRESH_SECONDS:
                self._known = (now, await self._ask())
            return self._known[1]
