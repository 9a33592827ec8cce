"""What waits to be sent on one connection, and who is next. Does no I/O, and knows no cipher.

Control frames go first, then small writes (a vote, a ping), then bulk, whose streams take turns. What `take` returns
leaves at once, and everything else waits for it: its size is chosen by who knows how fast the socket is. Nothing is
framed before it leaves, so a write that is cancelled takes back what did not leave, and no frame is ever cut.
"""

from collections import deque
from typing import Protocol

from flock_peers.network.session import MAX_PLAINTEXT
from flock_peers.network.yamux_frame import DATA, pack_header

SMALL_BYTES = 16 << 10  # a write that does not wait behind bulk
_SMALL_BATCH = 64 << 10  # small writes that leave together
FRAME_BYTES = 4 * MAX_PLAINTEXT  # a turn of bulk: four full Noise messages
_LEAST_BULK = MAX_PLAINTEXT  # of each batch, so that small writes cannot starve bulk either

Piece = bytes | bytearray | memoryview


class Sender(Protocol):
    """A stream with bytes to send. Those that wait for credit are offered again when it comes."""

    stream_id: int
    is_offered: bool

    @property
    def sendable(self) -> int:
        """Bytes that wait and have credit."""

    def take(self, most: int) -> memoryview:
        """Never empty where `sendable` is not 0. Valid until the caller awaits."""


class Outgoing:
    def __init__(self) -> None:
        self._control = bytearray()
        self._small: deque[Sender] = deque()
        self._bulk: deque[Sender] = deque()

    @property
    def control_bytes(self) -> int:
        return len(self._control)

    def add_control(self, frame: bytes) -> None:
        """A frame that takes no credit. Never waits: who adds them for a peer bounds `control_bytes`."""
        self._control += frame

    def offer(self, sender: Sender) -> None:
        if not sender.is_offered and sender.sendable:
            sender.is_offered = True
            (self._small if sender.sendable <= SMALL_BYTES else self._bulk).append(sender)

    def take(self, most: int) -> list[Piece]:
        """Whole frames of about `most` bytes; empty when nothing waits. To be copied before the next await."""
        head, self._control = self._control, bytearray()
        most_small = len(head) + _SMALL_BATCH
        while self._small and len(head) < most_small:
            frame = self._next(self._small, SMALL_BYTES)
            if frame is not None:
                head += frame[0] + frame[1]
        pieces: list[Piece] = []
        left = max(most - len(head), _LEAST_BULK)
        while self._bulk and left >= _LEAST_BULK:
            frame = self._next(self._bulk, min(left - left % MAX_PLAINTEXT, FRAME_BYTES))
            if frame is not None:
                head += frame[0]
                pieces += (head, frame[1])
                head = bytearray()
                left -= len(frame[1])
        if head:
            pieces.append(head)
        return pieces

    def _next(self, queue: deque[Sender], most: int) -> tuple[bytes, memoryview] | None:
        sender = queue.popleft()
        sender.is_offered = False
        if not sender.sendable:  # withdrawn, or reset
            return None
        body = sender.take(most)
        self.offer(sender)
        return pack_header(DATA, 0, sender.stream_id, len(body)), body

    def is_empty(self) -> bool:
        return not (self._control or self._small or self._bulk)
