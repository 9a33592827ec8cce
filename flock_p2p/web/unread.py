"""Room for answers that nobody has read yet, of all connections together: each is held for as long as it may take."""

from collections.abc import Iterator
from contextlib import contextmanager

SMALL_BYTES = 64 << 10  # as much always has room: so many connections are few of these


class Unread:
    def __init__(self, most: int) -> None:
        """`most`: bytes. One answer alone may be more."""
        self._most, self._held = most, 0

    @contextmanager
    def hold(self, size: int) -> Iterator[bool]:
        """While it is sent; False where it has no room, and is not held."""
        if size <= SMALL_BYTES:
            yield True
        elif self._held and self._held + size > self._most:
            yield False
        else:
            self._held += size
            try:
                yield True
            finally:
                self._held -= size
