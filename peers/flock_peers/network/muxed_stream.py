"""One yamux stream: bytes in order in both directions, with credit. Knows frames only as calls of its muxer.

A stream's window is what the other side may have under way: 256 KiB by the specification, `grow` for bulk. Credit is
given back once half of it was consumed. Only the muxer's read loop calls the methods that begin with `on_`.
"""

import math
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol

import trio
from libp2p.abc import IMuxedStream
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamEOF, MuxedStreamError, MuxedStreamReset

from flock_peers.network.limits import TokenBucket
from flock_peers.network.outgoing import Outgoing
from flock_peers.network.yamux_frame import FIN, RST, WINDOW, WINDOW_BYTES, pack_header

BULK_WINDOW_BYTES = 4 << 20  # 80 MB/s over 50 ms
_MAX_WINDOW = 1 << 32
_JOINED_BYTES = 4096  # pieces below a quarter of it are joined, or frames of one byte would cost 50 each
STALL_SECONDS = 30.0  # without credit, then the stream is given up
_NOTHING = memoryview(b"")


class StreamMuxer(Protocol):
    outgoing: Outgoing

    @property
    def is_closed(self) -> bool: ...

    def send_frame(self, kind: int, flags: int, stream_id: int, length: int) -> None: ...

    def wake_writer(self) -> None: ...

    def take_allowance(self) -> TokenBucket:
        """Of frames, for a circuit; it comes back when the stream is forgotten."""

    def forget_if_finished(self, stream: "MuxedStream") -> None: ...

    def get_remote_address(self) -> tuple[str, int] | None: ...

    link: Any

    def count_unread(self, change: int, apart: "MuxedStream | None") -> None:
        """Of bytes that are here for a reader; may reset every stream, or the one that is counted apart."""

    def count_unwanted(self, count: int) -> None:
        """Of bytes that the other side sent on its own stream after all was said; may end the connection. Below zero:
        so many more are no fault of its."""


class MuxedStream(IMuxedStream):
    def __init__(self, stream_id: int, muxer: StreamMuxer, is_initiator: bool) -> None:
        self.stream_id, self.muxed_conn, self.is_initiator = stream_id, muxer, is_initiator
        self._muxer = muxer
        self._chunks: deque[bytes | bytearray] = deque()
        self._head_read = 0  # of the first chunk: a reader of single bytes copies nothing else
        self._window = self.receive_credit = WINDOW_BYTES
        self._consumed = 0  # not yet given back as credit
        self._readable = trio.Event()
        self.send_credit = WINDOW_BYTES
        self._unsent = _NOTHING  # of the write that is under way
        self._sent = trio.Event()
        self._stall = trio.CancelScope()
        self.is_offered = False
        self._fin_waits = False  # closed during a write: the end comes after its bytes
        self.is_reset = self.is_send_closed = self.is_receive_closed = False
        self._is_abandoned = False
        self._is_counted = True  # what is held of it, in the muxer's room
        self.is_apart = False  # as what somebody behind the other side holds, not as the connection's
        self.allowance: TokenBucket | None = None  # of frames, where they are somebody's behind the other side

    @property
    def is_finished(self) -> bool:
        return self.is_reset or (self.is_send_closed and (self.is_receive_closed or self._is_abandoned))

    @property
    def buffered_bytes(self) -> int:
        return sum(map(len, self._chunks)) - self._head_read

    def wake(self) -> None:
        self._readable.set()
        self._sent.set()

    def grow(self, window: int = BULK_WINDOW_BYTES) -> None:
        """Let the other side send more before it waits."""
        self._count(-self.buffered_bytes)
        self._is_counted = False  # asked for, and bounded by whoever asks
        if window > self._window and not self.is_receive_closed and not self.is_reset:
            self._give_credit(window - self._window)
            self._window = window

    def count_apart(self) -> None:
        """A circuit carries what others say: who lends it is not to be cut off for that, nor for what is still under
        way when it ends."""
        waiting = self.buffered_bytes
        self._count(-waiting)
        self.is_apart = True
        self._count(waiting)

    def carry_circuit(self) -> None:
        """Its frames are of whoever is behind the other side, too: who lends it is not to be read slowly for them."""
        self.count_apart()
        if not self.is_finished:
            self.allowance = self._muxer.take_allowance()

    @property
    def link(self) -> Any:
        return self._muxer.link

    def give_way(self, _reason: str) -> None:
        """The stream alone, and what nobody read of it."""
        self._reset()

    def _give_credit(self, count: int) -> None:
        self.receive_credit += count
        try:
            self._muxer.send_frame(WINDOW, 0, self.stream_id, count)
        except ConnectionClosedError:
            pass  # what came before is still to be read

    # --- what the read loop calls

    def on_data(self, data: bytes) -> None:
        if self._is_abandoned:
            self._count_unwanted(len(data))
            return
        self._put(data)
        self._readable.set()
        self._count(len(data))  # last: it may take all that is here

    def _put(self, data: bytes) -> None:
        if len(data) >= _JOINED_BYTES // 4:
            self._chunks.append(data)
            return
        last = self._chunks[-1] if self._chunks else None
        if isinstance(last, bytearray) and len(last) < _JOINED_BYTES:
            last += data
        else:
            self._chunks.append(bytearray(data))

    def _count(self, change: int) -> None:
        if self._is_counted and change:
            self._muxer.count_unread(change, self if self.is_apart else None)

    def _drop_unread(self) -> None:
        self._count(-self.buffered_bytes)
        self._chunks.clear()
        self._head_read = 0

    def on_credit(self, count: int) -> None:
        self.send_credit += count
        if self.send_credit > _MAX_WINDOW:
            raise MuxedStreamError("window above 4 GiB")
        self._stall.deadline = math.inf
        if self._unsent:
            self._muxer.outgoing.offer(self)
            self._muxer.wake_writer()

    def on_end(self) -> None:
        self.is_receive_closed = True
        self._readable.set()

    def on_reset(self) -> None:
        self.is_reset = True
        self._drop_unread()
        self.wake()

    # --- what the writer calls

    @property
    def sendable(self) -> int:
        return 0 if self.is_reset else min(len(self._unsent), self.send_credit)

    def take(self, most: int) -> memoryview:
        count = min(most, self.sendable)
        body, self._unsent = self._unsent[:count], self._unsent[count:]
        self.send_credit -= count
        if not self._unsent:
            self._sent.set()
            if self._fin_waits:
                self._muxer.outgoing.add_control(pack_header(WINDOW, FIN, self.stream_id, 0))
                self._mark_send_closed()
        elif not self.send_credit:
            self._stall.deadline = trio.current_time() + STALL_SECONDS
        return body

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
        data = self._read_chunk(len(self._chunks[0]) if n is None or n < 0 else n)
        self._consumed += len(data)
        self._count(-len(data))
        if self._consumed >= self._window // 2 and not self.is_receive_closed and not self._muxer.is_closed:
            count, self._consumed = self._consumed, 0
            self._give_credit(count)
        return data

    def _read_chunk(self, most: int) -> bytes:
        chunk, start = self._chunks[0], self._head_read
        if len(chunk) - start > most:
            self._head_read += most
            return bytes(chunk[start : start + most])
        self._chunks.popleft()
        self._head_read = 0
        return bytes(chunk[start:] if start else chunk)

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Returns when all of it was handed to the socket. A write that is cancelled may leave a part on the way."""
        self._check_writable()
        while self._unsent:  # of another task
            await self._sent.wait()
            self._check_writable()
        if not data:
            await trio.lowlevel.checkpoint()
            return
        self._unsent, self._sent = memoryview(data), trio.Event()
        try:
            self._muxer.outgoing.offer(self)
            self._muxer.wake_writer()
            if len(data) <= self.send_credit:
                await self._sent.wait()
            else:
                await self._wait_credit()
            if self._unsent:
                self._check_writable()
                raise MuxedStreamError(f"the other side gave no credit for {STALL_SECONDS} s")
        finally:
            self._withdraw()

    async def _wait_credit(self) -> None:
        deadline = math.inf if self.send_credit else trio.current_time() + STALL_SECONDS
        with trio.CancelScope(deadline=deadline) as self._stall:
            await self._sent.wait()

    def _withdraw(self) -> None:
        if not self._unsent:
            return
        self._unsent = _NOTHING
        self._sent.set()
        if self._fin_waits:  # an end now would pass a part off as the whole
            self._reset()

    def _check_writable(self) -> None:
        if self.is_reset:
            raise MuxedStreamReset("stream reset")
        if self.is_send_closed or self._fin_waits or self._muxer.is_closed:
            raise MuxedStreamClosed("stream closed")

    async def close(self) -> None:
        """No more from us, after the write that is under way; the other side may still speak."""
        if self._unsent and not self.is_reset and not self._muxer.is_closed:
            self._fin_waits = True
        else:
            self._send_end()
        await trio.lowlevel.checkpoint()

    def _send_end(self) -> None:
        if not self.is_send_closed and not self.is_reset and not self._muxer.is_closed:
            self._muxer.send_frame(WINDOW, FIN, self.stream_id, 0)
        self._mark_send_closed()

    def _mark_send_closed(self) -> None:
        self.is_send_closed = True
        self._muxer.forget_if_finished(self)

    def abandon(self) -> None:
        """After `close`: nobody reads any more. Else a peer that never ends its side keeps the stream, and a window of
        bytes, for as long as it is connected, and with each stream once more."""
        unread, self._is_abandoned = self.buffered_bytes, True
        self._drop_unread()
        self._muxer.forget_if_finished(self)
        self._count_unwanted(unread)

    def _count_unwanted(self, count: int) -> None:
        if count and not self.is_initiator and not self._muxer.is_closed:
            self._muxer.count_unwanted(count)

    async def reset(self) -> None:
        self._reset()
        await trio.lowlevel.checkpoint()

    def _reset(self) -> None:
        if not self.is_finished and not self._muxer.is_closed:
            if self.is_apart and not self.is_initiator and not self.is_receive_closed:
                self._muxer.count_unwanted(-self.receive_credit)
            with suppress(ConnectionClosedError):
                self._muxer.send_frame(WINDOW, RST, self.stream_id, 0)
        self.on_reset()
        self._muxer.forget_if_finished(self)

    def set_deadline(self, ttl: int) -> None:
        raise NotImplementedError("use a cancel scope")

    def get_remote_address(self) -> tuple[str, int] | None:
        return self._muxer.get_remote_address()

    async def __aenter__(self) -> "MuxedStream":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
