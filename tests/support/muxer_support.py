"""Two muxers over a pipe that the test moves by hand, and a plain reader of the frames on it."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import trio
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable

from flock_peers.network.muxed_stream import MuxedStream
from flock_peers.network.yamux import Muxer
from flock_peers.network.yamux_frame import DATA, HEADER, WINDOW, WINDOW_BYTES


class FakeBelow:
    """A socket's place: counts wakes, and can be closed."""

    def __init__(self) -> None:
        self.unread_bytes = 1 << 20
        self.is_closed = False
        self.remote = ("127.0.0.1", 1)
        self.bytes_in = self.bytes_out = 0

    def wake(self) -> None:
        if self.is_closed:
            raise ConnectionClosedError("closed", transport="test")

    def abort(self) -> None:
        self.is_closed = True

    abort_soon = abort

    async def close(self) -> None:
        self.abort()


class FakeSession:
    """No cipher: the test takes plaintext from the muxer's `outgoing` itself."""

    def __init__(self, is_initiator: bool) -> None:
        self.is_initiator = is_initiator
        self.below = FakeBelow()

    def set_source(self, source: Any) -> None:
        self.source = source


@dataclass
class Frame:
    kind: int
    flags: int
    stream_id: int
    length: int


class FrameReader:
    """The slow twin: splits a byte stream into frames, whatever its pieces."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def read(self, data: bytes) -> list[Frame]:
        self._bytes += data
        frames = []
        while len(self._bytes) >= HEADER.size:
            version, kind, flags, stream_id, length = HEADER.unpack_from(self._bytes)
            assert version == 0 and kind <= 3
            size = HEADER.size + (length if kind == DATA else 0)
            if len(self._bytes) < size:
                break
            del self._bytes[:size]
            frames.append(Frame(kind, flags, stream_id, length))
        return frames

    @property
    def is_between_frames(self) -> bool:
        return not self._bytes


class Side:
    """A muxer, the bytes that it sent and that did not arrive yet, and the streams that it accepted."""

    def __init__(self, is_initiator: bool) -> None:
        self.muxer = Muxer(FakeSession(is_initiator), None)
        self.wire = bytearray()
        self.streams: dict[int, MuxedStream] = {}
        self.sent, self.arrived = FrameReader(), FrameReader()
        self.granted: Counter[int] = Counter()  # credit that has arrived here, by the plain reader
        self.used: Counter[int] = Counter()

    def take(self, most: int = 1 << 18) -> int:
        """Bytes leave; whole frames, and never more than the other side granted."""
        data = b"".join(bytes(piece) for piece in self.muxer.outgoing.take(most))
        for frame in self.sent.read(data):
            if frame.kind == DATA:
                self.used[frame.stream_id] += frame.length
                assert self.used[frame.stream_id] <= WINDOW_BYTES + self.granted[frame.stream_id]
        assert self.sent.is_between_frames
        self.wire += data
        return len(data)

    async def accept_all(self) -> None:
        try:
            while True:
                stream = await self.muxer.accept_stream()
                self.streams[stream.stream_id] = stream
        except MuxedConnUnavailable:
            pass


class Pipe:
    def __init__(self) -> None:
        self.sides = (Side(True), Side(False))

    def deliver(self, sender: int, count: int | None = None) -> int:
        """That many bytes of `sender`, or all, arrive at the other side."""
        source, target = self.sides[sender], self.sides[1 - sender]
        data = bytes(source.wire[:count])
        del source.wire[: len(data)]
        for frame in target.arrived.read(data):
            if frame.kind == WINDOW:
                target.granted[frame.stream_id] += frame.length
        target.muxer._feed(data)
        return len(data)

    async def settle(self) -> None:
        """Move everything there is, until nothing moves."""
        while True:
            await trio.testing.wait_all_tasks_blocked()
            if not sum(side.take() for side in self.sides) + sum(self.deliver(number) for number in (0, 1)):
                return


def pattern(stream_id: int, side: int, start: int, count: int) -> bytes:
    """Bytes that tell their stream, direction and position."""
    base = bytes((7 * stream_id + 3 * side + 31 * i + i // 251) % 256 for i in range(509))
    shift = start % len(base)
    return (base * (count // len(base) + 2))[shift : shift + count]
