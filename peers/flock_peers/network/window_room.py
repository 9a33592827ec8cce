"""How many bytes wait in the receive windows of streams that nobody reads just now: of strangers, of all.

A window is granted before it is known who will fill it, so nothing can be refused. Where it is too much, the connection
that holds the most ends. All strangers may hold more than a full window on every connection there can be, so of
connections whoever has one full window has never the most: who fills more than one that nobody reads has. The circuits
of one connection count together, or some hundred of them would fill all of it with less than a window each; but one at
a time goes, until it is enough.
"""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from flock_chain.crypto import Account
from flock_peers.network.limits import Limits
from flock_peers.network.link import Link


class Holder(Protocol):
    """A connection's muxer; or a stream that carries a circuit, whose bytes are of somebody behind the connection."""

    @property
    def link(self) -> Link: ...

    @property
    def is_apart(self) -> bool: ...

    def give_way(self, reason: str) -> None:
        """Ends it, drops what is unread."""


class WindowRoom:
    """Of one host. Windows that this side widened itself are not counted: who asks for files bounds them."""

    def __init__(self, limits: Limits, is_stranger: Callable[[Account], bool]) -> None:
        self._limits, self._is_stranger = limits, is_stranger
        self._held: dict[Holder, int] = {}
        self.total = 0

    def change(self, holder: Holder, count: int) -> None:
        held = self._held.pop(holder, 0) + count
        if held:
            self._held[holder] = held
        self.total += count
        if count > 0 and self.total > self._limits.unread_bytes_of_strangers:
            self._make_room()

    def forget(self, holder: Holder) -> None:
        self.total -= self._held.pop(holder, 0)

    def _make_room(self) -> None:
        """Whoever goes may hold less than what came: a circuit of many. So until both bounds are kept."""
        x = self._limits
        while sum((strangers := self._find_strangers()).values()) > x.unread_bytes_of_strangers:
            self._end_first(strangers, f"of {x.unread_bytes_of_strangers >> 20} MiB of all strangers")
        while self.total > x.unread_bytes_of_all:
            self._end_first(self._held, f"of {x.unread_bytes_of_all >> 20} MiB of all peers")

    def _find_strangers(self) -> dict[Holder, int]:
        return {
            holder: held
            for holder, held in self._held.items()
            if holder.is_apart or self._is_stranger(holder.link.account)
        }

    def _end_first(self, crowd: dict[Holder, int], share: str) -> None:
        together = Counter[tuple[int, bool]]()
        for holder, held in crowd.items():
            together[_place(holder)] += held
        worst = max(crowd, key=lambda holder: (together[_place(holder)], crowd[holder]))
        worst.give_way(f"holds {crowd[worst] >> 10} KiB that nobody reads, the most {share}")
        self.forget(worst)  # whatever it does: the next look is at others


def _place(holder: Holder) -> tuple[int, bool]:
    """Circuits apart from the connection that carries them: who lends it is not to go for them."""
    return id(holder.link), holder.is_apart
