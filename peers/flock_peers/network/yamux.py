"""Our own /yamux/1.0.0, compatible on the wire. Receive windows are enforced; a frame is written whole or not at all.

Why not the stock one: a peer that ignores flow control fills its memory, a write that is cancelled ruins the
connection, credit is polled for every 10 ms, and each small read sends a window update. Knows no protocols.

A stream's window is what the other side may have under way: 256 KiB by the specification, `grow` for bulk. Credit is
given back once half of it was consumed. Control frames never wait; who does not read them is cut off below.
"""

import logging
import struct
from collections import deque
from types import TracebackType
from typing import Any

import trio
from libp2p.abc import ConnectionType, IMuxedConn, IMuxedStream
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamError,
    MuxedStreamReset,
)

from flock_peers.network.session import MAX_PLAINTEXT, NoiseSession

log = logging.getLogger(__name__)

_HEADER = struct.Struct(">BBHII")  # version 0, type, flags, stream, length
_DATA, _WINDOW, _PING, _GO_AWAY = range(4)
_SYN, _ACK, _FIN, _RST = 1, 2, 4, 8
WINDOW_BYTES = 256 << 10
BULK_WINDOW_BYTES = 4 << 20  # 80 MB/s over 50 ms
_MAX_WINDOW = 1 << 32
_MAX_FRAME = 16 << 20  # of a stream that is gone; others are bounded by their credit
_FRAME_BYTES = MAX_PLAINTEXT - _HEADER.size  # one frame, one Noise message
MAX_INBOUND_STREAMS = 64  # beside those that the host counts: the half closed, and those not accepted yet
_STALL_SECONDS = 30.0  # without credit, then the stream is given up
_PING_SECONDS, _PONG_SECONDS = 20.0, 20.0


class MuxedStream(IMuxedStream):
    def __init__(self, stream_id: int, muxer: "Muxer", is_initiator: bool) -> None:
        self.stream_id, self.muxed_conn, self.is_initiator = stream_id, muxer, is_initiator
        self._muxer = muxer
        self._chunks: deque[bytes] = deque()
        self._window = self.receive_credit = WINDOW_BYTES
        self._consumed = 0  # not yet given back as credit
        self.send_credit = WINDOW_BYTES
        self.is_reset = self.is_send_closed = self.is_receive_closed = False
        self._readable, self._writable = trio.Event(), trio.Event()

    @property
    def is_finished(self) -> bool:
        return self.is_reset or (self.is_send_closed and self.is_receive_closed)

    def wake(self) -> None:
        self._readable.set()
        self._writable.set()

    def grow(self, window: int = BULK_WINDOW_BYTES) -> None:
        """Let the other side send more before it waits."""
        if window > self._window and not self.is_receive_closed:
            self._give_credit(window - self._window)
            self._window = window

    def _give_credit(self, count: int) -> None:
        self.receive_credit += count
        self._muxer.send_frame(_WINDOW, 0, self.stream_id, count)

    # --- what the read loop calls

    def on_data(self, data: bytes) -> None:
        self._chunks.append(data)
        self._readable.set()

    def on_credit(self, count: int) -> None:
        self.send_credit += count
        if self.send_credit > _MAX_WINDOW:
            raise MuxedStreamError("window above 4 GiB")
        self._writable.set()

    def on_end(self) -> None:
        self.is_receive_closed = True
        self.wake()

    def on_reset(self) -> None:
        self.is_reset = True
        self._chunks.clear()
        self.wake()

    # --- what users call

    async def read(self, n: int | None = None) -> bytes:
        """Some bytes, at most n; raises MuxedStreamEOF at the end, MuxedStreamReset when there is no clean one."""
        while not self._chunks:
            if self.is_reset or (self._muxer.is_closed and not self.is_receive_closed):
                raise MuxedStreamReset("stream reset")
            if self.is_receive_closed:
                raise MuxedStreamEOF("end of stream")
            self._readable = trio.Event()
            await self._readable.wait()
        data = self._chunks.popleft()
        if n is not None and 0 <= n < len(data):
            self._chunks.appendleft(data[n:])
            data = data[:n]
        self._consumed += len(data)
        if self._consumed >= self._window // 2 and not self.is_receive_closed and not self._muxer.is_closed:
            self._give_credit(self._consumed)
            self._consumed = 0
        return data

    async def write(self, data: bytes) -> None:
        view, start = memoryview(data), 0
        while start < len(view):
            await self._muxer.session.below.wait_room()
            self._check_writable()
            if self.send_credit <= 0:
                self._writable = trio.Event()
                with trio.move_on_after(_STALL_SECONDS) as scope:
                    await self._writable.wait()
                if scope.cancelled_caught:
                    raise MuxedStreamError(f"the other side gave no credit for {_STALL_SECONDS} s")
                continue
            count = min(self.send_credit, _FRAME_BYTES, len(view) - start)
            self.send_credit -= count
            self._muxer.send_frame(_DATA, 0, self.stream_id, count, view[start : start + count])
            start += count
        await trio.lowlevel.checkpoint()

    def _check_writable(self) -> None:
        if self.is_reset:
            raise MuxedStreamReset("stream reset")
        if self.is_send_closed or self._muxer.is_closed:
            raise MuxedStreamClosed("stream closed")

    async def close(self) -> None:
        """No more from us; the other side may still speak."""
        if not self.is_send_closed and not self.is_reset and not self._muxer.is_closed:
            self._muxer.send_frame(_WINDOW, _FIN, self.stream_id, 0)
        self.is_send_closed = True
        self._muxer.forget_if_finished(self)
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        if not self.is_finished and not self._muxer.is_closed:
            self._muxer.send_frame(_WINDOW, _RST, self.stream_id, 0)
        self.on_reset()
        self._muxer.forget_if_finished(self)
        await trio.lowlevel.checkpoint()

    def set_deadline(self, ttl: int) -> None:
        raise NotImplementedError("use a cancel scope")

    def get_remote_address(self) -> tuple[str, int] | None:
        return self._muxer.session.below.remote

    async def __aenter__(self) -> "MuxedStream":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Muxer(IMuxedConn):
    """`link` is the host's; the muxer only carries it."""

    def __init__(self, session: NoiseSession, peer_id: ID, link: Any = None) -> None:
        self.session = self.secured_conn = session
        self.peer_id, self.link = peer_id, link
        self.event_started = trio.Event()
        self.streams: dict[int, MuxedStream] = {}
        self._next_id = 1 if session.is_initiator else 2
        self._inbound = 0
        self._is_closed = False
        self._to_accept: trio.MemorySendChannel[MuxedStream]
        self._to_accept, self._accepted = trio.open_memory_channel(MAX_INBOUND_STREAMS)
        self._pong = trio.Event()
        self._header = b""  # the beginning of one
        self._body_left = 0
        self._body_stream: MuxedStream | None = None
        self._body_flags = 0

    @property
    def is_initiator(self) -> bool:
        return bool(self.session.is_initiator)

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def is_established(self) -> bool:
        return self.event_started.is_set() and not self._is_closed

    def get_transport_addresses(self) -> list[Any]:
        return []  # the transport's own answer; nobody here asks

    def get_connection_type(self) -> ConnectionType:
        return ConnectionType.DIRECT

    def get_remote_address(self) -> tuple[str, int] | None:
        return self.session.below.remote

    # --- life

    async def start(self) -> None:
        """Runs until the connection ends; whatever the other side sends, no exception leaves it."""
        try:
            async with trio.open_nursery() as nursery:
                # Each task catches its own: a group of an error and a Cancelled would pass any `except Exception`.
                nursery.start_soon(self._ping_often)
                self.event_started.set()
                await self._read_all()
                nursery.cancel_scope.cancel()
        finally:
            self._end()

    async def _read_all(self) -> None:
        try:
            while data := await self.session.read_some():
                self._feed(data)
        except Exception as error:  # noqa: BLE001 - the edge of a task that a remote can make raise
            log.debug("connection to %s ended: %r", self.peer_id, error)

    async def close(self) -> None:
        if not self._is_closed:
            try:
                self.send_frame(_GO_AWAY, 0, 0, 0)
            except ConnectionClosedError:
                pass
            await self.session.below.close()
            self._end()

    def _end(self) -> None:
        self._is_closed = True
        self.event_started.set()
        self.session.below.abort_soon()
        self._to_accept.close()
        streams, self.streams = list(self.streams.values()), {}
        for stream in streams:
            stream.wake()

    async def _ping_often(self) -> None:
        number = 0
        try:
            while True:
                await trio.sleep(_PING_SECONDS)
                number = (number + 1) & 0xFFFFFFFF
                self._pong = trio.Event()
                self.send_frame(_PING, _SYN, 0, number)
                with trio.fail_after(_PONG_SECONDS):
                    await self._pong.wait()
        except (trio.TooSlowError, ConnectionClosedError):
            self.session.below.abort()  # which ends the read loop

    # --- streams

    async def open_stream(self) -> MuxedStream:
        if self._is_closed:
            raise MuxedConnUnavailable("connection closed")
        stream = self.streams[self._next_id] = MuxedStream(self._next_id, self, True)
        self._next_id += 2
        self.send_frame(_WINDOW, _SYN, stream.stream_id, 0)
        await trio.lowlevel.checkpoint()
        return stream

    async def accept_stream(self) -> MuxedStream:
        try:
            return await self._accepted.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError) as error:
            raise MuxedConnUnavailable("connection closed") from error

    def forget_if_finished(self, stream: MuxedStream) -> None:
        if stream.is_finished and self.streams.pop(stream.stream_id, None) is not None and not stream.is_initiator:
            self._inbound -= 1

    # --- frames

    def send_frame(self, kind: int, flags: int, stream_id: int, length: int, body: bytes | memoryview = b"") -> None:
        self.session.send(_HEADER.pack(0, kind, flags, stream_id, length) + body)

    def _feed(self, data: bytes) -> None:
        """Parse what came; raises MuxedStreamError for a breach of the protocol."""
        if self._header:
            data, self._header = self._header + data, b""
        position, end = 0, len(data)
        while position < end:
            if self._body_left:
                count = min(self._body_left, end - position)
                whole = count == end
                self._on_body(data if whole else data[position : position + count])
                position += count
            elif end - position < _HEADER.size:
                self._header = data[position:]
                return
            else:
                self._on_header(*_HEADER.unpack_from(data, position))
                position += _HEADER.size

    def _on_body(self, data: bytes) -> None:
        self._body_left -= len(data)
        stream = self._body_stream
        if stream is not None and not stream.is_finished:
            stream.on_data(data)
        if not self._body_left and stream is not None:
            self._on_flags(stream, self._body_flags)

    def _on_header(self, version: int, kind: int, flags: int, stream_id: int, length: int) -> None:
        if version != 0 or kind > _GO_AWAY:
            raise MuxedStreamError(f"frame of version {version}, type {kind}")
        if kind == _PING:
            self._on_ping(flags, length)
        elif kind == _GO_AWAY:
            raise MuxedStreamError("the other side goes away")
        else:
            self._on_stream_frame(kind, flags, stream_id, length)

    def _on_ping(self, flags: int, number: int) -> None:
        if flags & _SYN:
            self.send_frame(_PING, _ACK, 0, number)
        else:
            self._pong.set()

    def _on_stream_frame(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        if flags & _SYN:
            self._on_new_stream(stream_id)
        stream = self.streams.get(stream_id)
        if kind == _DATA:
            self._expect_body(stream, flags, length)
        elif stream is not None and length:
            stream.on_credit(length)
        if stream is not None and (kind == _WINDOW or not length):
            self._on_flags(stream, flags)

    def _expect_body(self, stream: MuxedStream | None, flags: int, length: int) -> None:
        if stream is not None:
            stream.receive_credit -= length
            if stream.receive_credit < 0:
                raise MuxedStreamError("more data than the window allows")
        elif length > _MAX_FRAME:
            raise MuxedStreamError(f"frame of {length} bytes")
        self._body_left, self._body_stream, self._body_flags = length, stream, flags

    def _on_flags(self, stream: MuxedStream, flags: int) -> None:
        if flags & _RST:
            stream.on_reset()
        elif flags & _FIN:
            stream.on_end()
        self.forget_if_finished(stream)

    def _on_new_stream(self, stream_id: int) -> None:
        is_theirs = stream_id % 2 == (0 if self.is_initiator else 1)
        if not is_theirs or not stream_id or stream_id in self.streams:
            raise MuxedStreamError(f"stream {stream_id} opened out of turn")
        stream = MuxedStream(stream_id, self, False)
        try:
            if self._inbound >= MAX_INBOUND_STREAMS:
                raise trio.WouldBlock
            self._to_accept.send_nowait(stream)
        except trio.WouldBlock:
            self.send_frame(_WINDOW, _RST, stream_id, 0)
            return
        self.streams[stream_id] = stream
        self._inbound += 1
        self.send_frame(_WINDOW, _ACK, stream_id, 0)
