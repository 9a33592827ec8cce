"""What was heard by multicast DNS and waits to be looked at: a share for each source, in turn. Knows no packets.

A source is the address that a packet gives for its sender's. Anybody on the wire can write another one, but not more of
them than there are machines in the network: of one with 254, each has a share whatever the others say.
"""

from collections import OrderedDict, deque
from threading import Lock

MAX_SOURCES = 256  # all machines of a /24
MAX_OF_A_SOURCE = 16  # a machine with more peers is heard of the others at its next answer; 4 MiB in all


class Heard:
    """Filled by one thread, emptied by another."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: OrderedDict[str, deque[bytes]] = OrderedDict()  # whose turn is next comes first
        self._dropped: dict[str, int] = {}

    def put(self, source: str, text: bytes) -> None:
        with self._lock:
            texts = self._waiting.get(source)
            if texts is None and len(self._waiting) < MAX_SOURCES:
                texts = self._waiting[source] = deque()
            if texts is not None and text in texts:
                return
            if texts is not None and len(texts) < MAX_OF_A_SOURCE:
                texts.append(text)
            elif source in self._dropped or len(self._dropped) < MAX_SOURCES:
                self._dropped[source] = self._dropped.get(source, 0) + 1

    def take(self) -> tuple[str, bytes] | None:
        """Of the source that was served the longest ago; its oldest."""
        with self._lock:
            if not self._waiting:
                return None
            source, texts = self._waiting.popitem(last=False)
            text = texts.popleft()
            if texts:
                self._waiting[source] = texts
            return source, text

    def take_dropped(self) -> dict[str, int]:
        """How much of whom had no room since the last time."""
        with self._lock:
            dropped, self._dropped = self._dropped, {}
        return dropped
