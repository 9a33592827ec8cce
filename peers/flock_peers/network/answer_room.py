"""How many bytes of large answers wait until those who asked have taken them: where it is too much, the account that
holds the most loses the one that has waited longest. So nobody is kept waiting by others who read nothing, and whoever
holds less than the others loses nothing. Knows no streams.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from flock_chain.crypto import Account
from flock_chain.errors import Unavailable
from flock_peers.network.limits import Limits


class AnswerRoom:
    """Of one host. `on_given_up` hears of each answer that was not taken, and why."""

    def __init__(self, limits: Limits, on_given_up: Callable[[Account, str], None]) -> None:
        self._limits, self._on_given_up = limits, on_given_up
        self._waiting: dict[trio.CancelScope, tuple[Account, int]] = {}  # the oldest first
        self._held: Counter[Account] = Counter()

    @property
    def total(self) -> int:
        return self._held.total()

    @contextmanager
    def hold(self, account: Account, size: int) -> Iterator[None]:
        """While an answer is written. Raises Unavailable where it is given up, for others or after `frame_seconds`."""
        scope = trio.CancelScope(deadline=trio.current_time() + self._limits.frame_seconds)
        is_large = size > self._limits.small_frame_bytes
        if is_large:
            self._waiting[scope] = account, size
            self._held[account] += size
            self._make_room()
        try:
            with scope:
                yield
        finally:
            self._forget(scope)
        if scope.cancelled_caught:
            if is_large:
                self._on_given_up(account, "did not take a large answer in time, or while others waited")
            raise Unavailable(f"an answer of {size} bytes was not taken")

    def _make_room(self) -> None:
        while self.total > self._limits.answer_bytes:
            worst = max(self._held, key=lambda account: self._held[account])
            oldest = next(scope for scope, (account, _) in self._waiting.items() if account == worst)
            oldest.cancel()
            self._forget(oldest)

    def _forget(self, scope: trio.CancelScope) -> None:
        if scope in self._waiting:
            account, size = self._waiting.pop(scope)
            self._held[account] -= size
            if not self._held[account]:
                del self._held[account]
