"""How many bytes of large frames may be half read, or wait for their handlers: of one peer, of strangers, of all.

A peer is bounded by its streams, but a crowd has thousands of them. A frame has room for all that it announces or for
nothing: nobody's half frame waits for another's. What is small needs none, so a crowd keeps out nobody's vote.
"""

from collections.abc import Callable
from types import TracebackType

from flock_chain.crypto import Account
from flock_peers.network.limits import Limits


class FrameRoom:
    """Of one host. `is_favoured`: who is no stranger. `on_refused` hears of each frame without room, and why."""

    def __init__(
        self, limits: Limits, is_favoured: Callable[[Account], bool], on_refused: Callable[[Account, str], None]
    ) -> None:
        self._limits, self._is_favoured, self._on_refused = limits, is_favoured, on_refused
        self._held: dict[Account, int] = {}
        self._of_strangers = 0
        self.total = 0

    def claim(self, account: Account) -> "Claim":
        return Claim(self, account)

    def take(self, account: Account, size: int, *, is_stranger: bool) -> bool:
        """Then `give_back` is due, with the same words."""
        what, most = self._find_want(account, size, is_stranger)
        if what:
            self._on_refused(account, f"a frame of {size} bytes is not read: {what} {most >> 10} KiB half read at once")
            return False
        self._change(account, size, is_stranger)
        return True

    def _find_want(self, account: Account, size: int, is_stranger: bool) -> tuple[str, int]:
        x = self._limits
        if self._held.get(account, 0) + size > x.half_read_bytes_per_peer:
            return "one peer has at most", x.half_read_bytes_per_peer
        if is_stranger and self._of_strangers + size > x.half_read_bytes_of_strangers:
            return "all strangers have at most", x.half_read_bytes_of_strangers
        if self.total + size > x.half_read_bytes:
            return "all peers have at most", x.half_read_bytes
        return "", 0

    def give_back(self, account: Account, size: int, *, is_stranger: bool) -> None:
        self._change(account, -size, is_stranger)

    def _change(self, account: Account, size: int, is_stranger: bool) -> None:
        self._held[account] = self._held.get(account, 0) + size
        if not self._held[account]:
            del self._held[account]
        self._of_strangers += size if is_stranger else 0
        self.total += size

    def is_stranger(self, account: Account) -> bool:
        return not self._is_favoured(account)

    def is_small(self, size: int) -> bool:
        return size <= self._limits.small_frame_bytes


class Claim:
    """What one frame takes, from its announcement until nobody needs its bytes: the end of the `with`."""

    def __init__(self, room: FrameRoom, account: Account) -> None:
        self._room, self._account = room, account
        self._size, self._is_stranger = 0, False
        self.refused = 0  # bytes of a frame that had no room, and was read past

    def take(self, size: int) -> bool:
        if self._room.is_small(size):
            return True
        self._is_stranger = self._room.is_stranger(self._account)  # as it is now, also when it is given back
        if not self._room.take(self._account, size, is_stranger=self._is_stranger):
            self.refused = size
            return False
        self._size += size
        return True

    def release(self) -> None:
        """Nobody needs the bytes any more; the next frame may be claimed."""
        if self._size:
            self._room.give_back(self._account, self._size, is_stranger=self._is_stranger)
        self._size = self.refused = 0

    def __enter__(self) -> "Claim":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.release()
