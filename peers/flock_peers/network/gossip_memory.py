"""What gossip keeps of messages, within bounds: the ids that it has seen, the messages that others may ask for.

Knows no peers and no sockets.
"""

from collections.abc import Callable
from typing import Any

from libp2p.pubsub.mcache import MessageCache

SEEN_SECONDS = 120.0  # a message that comes back later is taken for a new one
SEEN_MOST = 1 << 17  # some 30 MiB: what all peers of a full house may send within a minute, the oldest goes first
CACHE_BYTES = 32 << 20  # of messages that can be asked for; what is beyond it was sent to the mesh, and is not kept
_MESSAGE_COST = 512  # of a message beside its data: author, signature, key, and the objects around them


def size_of(message: Any) -> int:
    return len(message.data) + _MESSAGE_COST


class SeenIds:
    """Stock renews an id whenever somebody names it, holds any number, and keeps a thread to forget them."""

    def __init__(self, clock: Callable[[], float], seconds: float = SEEN_SECONDS, most: int = SEEN_MOST) -> None:
        self._clock, self._seconds, self._most = clock, seconds, most
        self._until: dict[bytes, float] = {}  # in the order in which they end

    def __len__(self) -> int:
        return len(self._until)

    def has(self, message_id: bytes) -> bool:
        self._forget()
        return message_id in self._until

    def add(self, message_id: bytes) -> bool:
        """False where it is known."""
        if self.has(message_id):
            return False
        self._until[message_id] = self._clock() + self._seconds
        if len(self._until) > self._most:
            del self._until[next(iter(self._until))]
        return True

    def _forget(self) -> None:
        now = self._clock()
        while self._until and self._until[oldest := next(iter(self._until))] <= now:
            del self._until[oldest]


class Cache(MessageCache):
    """Messages of the last heartbeats. Stock bounds their age alone."""

    def __init__(self, window: int, history: int, most_bytes: int = CACHE_BYTES) -> None:
        super().__init__(window, history)
        self._most_bytes, self._bytes = most_bytes, 0

    def put(self, msg: Any) -> None:
        size = size_of(msg)
        if msg.from_id + msg.seqno in self.msgs or self._bytes + size > self._most_bytes:
            return
        self._bytes += size
        super().put(msg)

    def shift(self) -> None:
        self._bytes -= sum(size_of(self.msgs[entry.mid]) for entry in self.history[-1] if entry.mid in self.msgs)
        super().shift()
