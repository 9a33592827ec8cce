"""How many bytes of large frames may be half read, or wait for their handlers: of one peer, of strangers, of all.

A peer is bounded by its streams, but a crowd has thousands of them. A frame has room for all that it announces or for
nothing: nobody's half frame waits for another's. What is small needs none, so a crowd keeps out nobody's vote.

Strangers who have taken all that strangers have give way, the greediest first: of those above their fair share the
network with the most, in it the account with the most, of its frames the oldest. So whoever stays within its share,
which is as much as every connection there can be would get, always has room, and its frames stay.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

import trio

from flock_chain.crypto import Account
from flock_peers.network.limits import Limits
from flock_peers.network.slots import group_of

Holder = tuple[Account, str]  # an account, and the network that it sends from
Rank = tuple[bool, int, int]  # above its share; bytes of its network; its own


class FrameRoom:
    """Of one host. `is_favoured`: who is no stranger. `on_refused` hears of each frame without room, and why."""

    def __init__(
        self, limits: Limits, is_favoured: Callable[[Account], bool], on_refused: Callable[[Account, str], None]
    ) -> None:
        self._limits, self._is_favoured, self._on_refused = limits, is_favoured, on_refused
        self._share = limits.half_read_bytes_of_strangers // (limits.max_inbound + limits.max_outbound)
        self._held: Counter[Account] = Counter()
        self._strangers: dict[Holder, list[Claim]] = {}  # of each the oldest first
        self._of_holder: Counter[Holder] = Counter()
        self._of_group: Counter[str] = Counter()
        self.total = self.of_strangers = 0

    @property
    def stalled_seconds(self) -> float:
        return self._limits.stalled_seconds

    def find_deadline(self, account: Account) -> float:
        """For its next bytes. A validator's large frame waits as long as any frame may: it takes no stranger's room."""
        return trio.current_time() + self.stalled_seconds if self.is_stranger(account) else math.inf

    def claim(self, account: Account, host: str = "") -> "Claim":
        """`host`: where it comes from, as the connection says."""
        return Claim(self, (account, group_of(host)))

    def take(self, claim: "Claim", size: int) -> bool:
        """Then `give_back` is due."""
        account = claim.holder[0]
        is_stranger = self.is_stranger(account)  # as it is now, also when it is given back
        what, most = self._find_want(claim.holder, size, is_stranger)
        if what:
            self.complain(claim, size, f"is not read: {what} {most >> 10} KiB half read at once")
            return False
        self._held[account] += size
        self.total += size
        if is_stranger:
            self._strangers.setdefault(claim.holder, []).append(claim)
            self._count_stranger(claim.holder, size)
        return True

    def complain(self, claim: "Claim", size: int, why: str) -> None:
        self._on_refused(claim.holder[0], f"a frame of {size} bytes {why}")

    def _find_want(self, holder: Holder, size: int, is_stranger: bool) -> tuple[str, int]:
        x = self._limits
        if self._held[holder[0]] + size > x.half_read_bytes_per_peer:
            return "one peer has at most", x.half_read_bytes_per_peer
        if self.total + size > x.half_read_bytes:
            return "all peers have at most", x.half_read_bytes
        if is_stranger and not self._make_room(holder, size):
            return "all strangers have at most", x.half_read_bytes_of_strangers
        return "", 0

    def _make_room(self, holder: Holder, size: int) -> bool:
        """Among strangers. False where nobody whose frame can go is greedier than this one would be."""
        while self.of_strangers + size > self._limits.half_read_bytes_of_strangers:
            asked = {other: self._rank(other, holder, size) for other in (holder, *self._strangers)}
            greedier = [(rank, other) for other, rank in asked.items() if rank > asked[holder]]
            found = (row for _, other in sorted(greedier, reverse=True) for row in self._strangers[other])
            worst = next((row for row in found if row.can_give_way), None)
            if worst is None:
                return False
            worst.give_way("gives way to those who have less of what all strangers have")
        return True

    def _rank(self, holder: Holder, asker: Holder, size: int) -> Rank:
        """Where the asker had its room already."""
        own = self._of_holder[holder] + (size if holder == asker else 0)
        return own > self._share, self._of_group[holder[1]] + (size if holder[1] == asker[1] else 0), own

    def give_back(self, claim: "Claim", size: int) -> None:
        account = claim.holder[0]
        self._held[account] -= size
        if not self._held[account]:
            del self._held[account]
        self.total -= size
        claims = self._strangers.get(claim.holder, [])
        if claim in claims:
            claims.remove(claim)
            self._count_stranger(claim.holder, -size)
            if not claims:
                del self._strangers[claim.holder], self._of_holder[claim.holder]

    def _count_stranger(self, holder: Holder, size: int) -> None:
        self.of_strangers += size
        self._of_holder[holder] += size
        self._of_group[holder[1]] += size
        if not self._of_group[holder[1]]:
            del self._of_group[holder[1]]

    def is_stranger(self, account: Account) -> bool:
        return not self._is_favoured(account)

    def is_small(self, size: int) -> bool:
        return size <= self._limits.small_frame_bytes


class Claim:
    """What one frame takes, from its announcement until nobody needs its bytes: the end of the `with`."""

    def __init__(self, room: FrameRoom, holder: Holder) -> None:
        self._room, self.holder = room, holder
        self._size = 0
        self._reading: trio.CancelScope | None = None
        self.refused = 0  # bytes of a frame that had no room, or lost it, and is read past

    def take(self, size: int) -> bool:
        if self._room.is_small(size):
            return True
        if not self._room.take(self, size):
            self.refused = size
            return False
        self._size = size
        return True

    @property
    def can_give_way(self) -> bool:
        """Nobody works with its bytes yet."""
        return self._reading is not None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While bytes of it, or its sender's turn, are waited for. May be cut short: then `refused` says so."""
        if not self._size:
            yield
            return
        with trio.CancelScope(deadline=self._room.find_deadline(self.holder[0])) as self._reading:
            try:
                yield
            finally:
                reading, self._reading = self._reading, None
        if reading.cancelled_caught and self._size:
            self.give_way(f"is read past: nothing of it came for {self._room.stalled_seconds:g} s")

    def give_way(self, why: str) -> None:
        """The rest of it is read past, and what is here of it is nobody's."""
        self._room.complain(self, self._size, why)
        size, scope = self._size, self._reading
        self.release()
        self.refused = size
        if scope is not None:
            scope.cancel()

    def release(self) -> None:
        """Nobody needs the bytes any more; the next frame may be claimed."""
        if self._size:
            self._room.give_back(self, self._size)
        self._size = self.refused = 0

    def __enter__(self) -> "Claim":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.release()
