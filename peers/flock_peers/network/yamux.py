"""Our own /yamux/1.0.0, compatible on the wire. Receive windows are enforced; a frame is written whole or not at all.

Why not the stock one: a peer that ignores flow control fills its memory, a write that is cancelled ruins the
connection, credit is polled for every 10 ms, and each small read sends a window update. Knows no protocols.

Control frames never wait; a peer that does not read them is cut off.
"""

import logging
from collections.abc import Callable
from typing import Any

import trio
from libp2p.abc import ConnectionType, IMuxedConn
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamError

from flock_peers.network.limits import TokenBucket
from flock_peers.network.muxed_stream import MuxedStream
from flock_peers.network.outgoing import Outgoing
from flock_peers.network.session import NoiseSession, NotOurSession
from flock_peers.network.window_room import WindowRoom
from flock_peers.network.yamux_frame import ACK, DATA, FIN, GO_AWAY, HEADER, PING, RST, SYN, WINDOW, pack_header

log = logging.getLogger(__name__)

_MAX_FRAME = 16 << 20  # of a stream that is gone; others are bounded by their credit
MAX_INBOUND_STREAMS = 64  # beside those that the host counts: the half closed, and those not accepted yet
_PING_SECONDS, _PONG_SECONDS = 20.0, 20.0
# Of the other side, in _COUNT_SECONDS. Implementations ping every 10 to 30 s, and once when a connection begins.
MAX_PINGS = 64
# On its own streams, after this side has done with them: of 16 at once a full window each, twice. An honest peer has no
# more under way, and does not go on.
MAX_BYTES_TO_NOBODY = 8 << 20
_COUNT_SECONDS = 60.0
# Frames cost more than their bytes: 12 that say nothing take 0.4 us of a core, a stream opened and reset takes 200 us.
# Each KiB in or out pays for one frame, so bulk and its credit are free; what is above the rate is read more slowly.
# 100 questions, 400 messages and 160 of gossip a second in both directions, all limits at once, come to 2,030
# (benchmarks/wire_costs.py): five for a question beside its stream's ten, four for an answer, one for the others.
FRAMES_PER_SECOND, FRAMES_AT_ONCE = 3_000.0, 10_000.0
_PAID_BYTES = 1 << 10
_STREAM_COST = 10  # frames


class Muxer(IMuxedConn):
    """`link` is the host's; the muxer only carries it."""

    def __init__(
        self, session: NoiseSession, peer_id: ID, link: Any = None, room: WindowRoom | None = None, *,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:  # fmt: skip
        self.session = self.secured_conn = session
        self.peer_id, self.link, self._room = peer_id, link, room
        self.breach = ""  # of the protocol, by the other side, which ended the connection
        self.event_started = trio.Event()
        self.outgoing = Outgoing()
        session.set_source(self.outgoing)
        self.streams: dict[int, MuxedStream] = {}
        self._next_id = 1 if session.is_initiator else 2
        self._inbound = 0
        self._is_closed = False
        self.is_apart = False
        self._to_accept: trio.MemorySendChannel[MuxedStream]
        self._to_accept, self._accepted = trio.open_memory_channel(MAX_INBOUND_STREAMS)
        self._pong = trio.Event()
        self._clock = clock
        self._counted_since, self._pings, self._bytes_to_nobody = -_COUNT_SECONDS, 0, 0
        self._spare: list[TokenBucket] = []  # allowances of circuits that are over
        self._cost, self._traffic = 0, 0  # of what was read since the last one was paid; KiB in and out by then
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
        frames = self.make_allowance()
        try:
            while messages := await self.session.read_messages():
                for message in messages:
                    self._feed(message)
                if (wait := self._charge(frames)) > 0:
                    await trio.sleep(wait)
        except Exception as error:  # noqa: BLE001 - the edge of a task that a remote can make raise
            log.debug("connection to %s ended: %r", self.peer_id, error)
            if isinstance(error, MuxedStreamError | NotOurSession):
                self.breach = str(error)

    def make_allowance(self) -> TokenBucket:
        return TokenBucket(FRAMES_PER_SECOND, FRAMES_AT_ONCE, self._clock)

    def take_allowance(self) -> TokenBucket:
        """For a circuit: of the one that is over for the longest. With new ones for each, whoever lends circuits could
        open one after the other, and say ten thousand times nothing in each."""
        return self._spare.pop(0) if self._spare else self.make_allowance()

    def _charge(self, frames: TokenBucket) -> float:
        """Seconds until more is read."""
        below = self.session.below
        traffic = (below.bytes_in + below.bytes_out) // _PAID_BYTES
        due, self._cost, self._traffic = self._cost - (traffic - self._traffic), 0, traffic
        wait = frames.debit(due) if due > 0 else 0.0
        if wait > 0 and self.link is not None:
            self.link.complain(f"sends more than {FRAMES_PER_SECOND:g} frames a second that carry next to nothing")
        return wait

    def _charge_circuit(self, stream: MuxedStream, frames: TokenBucket, count: int) -> None:
        """By itself, for its own bytes. It cannot be read more slowly than the rest of the connection, so it ends."""
        self._cost -= 1
        if frames.debit(1 - count / _PAID_BYTES) > 0:
            what = f"a circuit that it lends ends, with more than {FRAMES_PER_SECOND:g} frames a second"
            if self.link is not None:
                self.link.complain(what)
            stream.give_way(what)

    async def close(self) -> None:
        if not self._is_closed:
            try:
                self.send_frame(GO_AWAY, 0, 0, 0)
            except ConnectionClosedError:
                pass
            await self.session.below.close()
            self._end()

    def _end(self) -> None:
        self._is_closed = True
        self.event_started.set()
        self.session.below.abort_soon()
        self._forget_unread()
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
                self.send_frame(PING, SYN, 0, number)
                with trio.fail_after(_PONG_SECONDS):
                    await self._pong.wait()
        except trio.TooSlowError:
            self.breach = self.breach or f"no answer to a ping within {_PONG_SECONDS:g} s"
            self.session.below.abort()  # which ends the read loop
        except ConnectionClosedError:
            self.session.below.abort()

    # --- streams

    async def open_stream(self) -> MuxedStream:
        if self._is_closed:
            raise MuxedConnUnavailable("connection closed")
        stream = self.streams[self._next_id] = MuxedStream(self._next_id, self, True)
        self._next_id += 2
        self.send_frame(WINDOW, SYN, stream.stream_id, 0)
        await trio.lowlevel.checkpoint()
        return stream

    async def accept_stream(self) -> MuxedStream:
        try:
            return await self._accepted.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError) as error:
            raise MuxedConnUnavailable("connection closed") from error

    def forget_if_finished(self, stream: MuxedStream) -> None:
        if not stream.is_finished or self.streams.pop(stream.stream_id, None) is None:
            return
        if not stream.is_initiator:
            self._inbound -= 1
        if stream.allowance is not None:
            self._spare.append(stream.allowance)

    # --- what waits for readers

    def count_unread(self, change: int, apart: MuxedStream | None = None) -> None:
        if self._room is not None:
            self._room.change(apart or self, change)

    def give_way(self, reason: str) -> None:
        """End now, and take with it what nobody read."""
        self.breach = self.breach or reason
        self._forget_unread()
        for stream in self.streams.values():
            stream.on_reset()
        self.session.below.abort()

    def _forget_unread(self) -> None:
        """What is left is for readers that run now."""
        if self._room is not None:
            self._room.forget(self)
            for stream in self.streams.values():
                if stream.is_apart:
                    self._room.forget(stream)
            self._room = None

    # --- frames

    def send_frame(self, kind: int, flags: int, stream_id: int, length: int, body: bytes | memoryview = b"") -> None:
        """Without waiting, before all data that waits. Raises ConnectionClosedError."""
        if self.outgoing.control_bytes > self.session.below.unread_bytes:
            self.breach = self.breach or f"does not read: {self.outgoing.control_bytes} bytes of acks wait for it"
            self.session.below.abort()
            raise ConnectionClosedError("the peer does not read", transport="yamux")
        self.wake_writer()
        self.outgoing.add_control(pack_header(kind, flags, stream_id, length) + body)

    def wake_writer(self) -> None:
        self.session.below.wake()

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
            elif end - position < HEADER.size:
                self._header = data[position:]
                return
            else:
                self._on_header(*HEADER.unpack_from(data, position))
                position += HEADER.size

    def _on_body(self, data: bytes) -> None:
        self._body_left -= len(data)
        stream = self._body_stream
        if stream is not None and not stream.is_reset:
            stream.on_data(data)
        if not self._body_left and stream is not None:
            self._on_flags(stream, self._body_flags)

    def _on_header(self, version: int, kind: int, flags: int, stream_id: int, length: int) -> None:
        self._cost += 1
        if version != 0 or kind > GO_AWAY:
            raise MuxedStreamError(f"frame of version {version}, type {kind}")
        if kind == PING:
            self._on_ping(flags, length)
        elif kind == GO_AWAY:
            raise MuxedConnUnavailable("the other side goes away")
        else:
            self._on_stream_frame(kind, flags, stream_id, length)

    def _on_ping(self, flags: int, number: int) -> None:
        if flags & SYN:
            self._start_count()
            self._pings += 1
            if self._pings > MAX_PINGS:
                raise MuxedStreamError(f"more than {MAX_PINGS} pings within {_COUNT_SECONDS:g} s")
            self.send_frame(PING, ACK, 0, number)
        else:
            self._pong.set()

    def count_unwanted(self, count: int) -> None:
        """Of bytes on their own streams that nobody reads any more."""
        self._start_count()
        self._bytes_to_nobody += count
        if self._bytes_to_nobody > MAX_BYTES_TO_NOBODY:
            self.give_way(f"more than {MAX_BYTES_TO_NOBODY >> 20} MiB on streams of its own that are over")

    def _start_count(self) -> None:
        now = self._clock()
        if now - self._counted_since >= _COUNT_SECONDS:
            self._counted_since, self._pings, self._bytes_to_nobody = now, 0, 0

    def _on_stream_frame(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        if flags & SYN:
            self._on_new_stream(stream_id)
        stream = self.streams.get(stream_id)
        if stream is not None and stream.allowance is not None:
            self._charge_circuit(stream, stream.allowance, length if kind == DATA else 0)
            stream = self.streams.get(stream_id)
        if kind == DATA:
            self._expect_body(stream, flags, stream_id, length)
        elif stream is not None and length:
            stream.on_credit(length)
        if stream is not None and (kind == WINDOW or not length):
            self._on_flags(stream, flags)

    def _expect_body(self, stream: MuxedStream | None, flags: int, stream_id: int, length: int) -> None:
        if stream is not None:
            stream.receive_credit -= length
            if stream.receive_credit < 0:
                raise MuxedStreamError("more data than the window allows")
            if stream.is_receive_closed and length:
                raise MuxedStreamError("data after the end of the stream")
        elif length > _MAX_FRAME:
            raise MuxedStreamError(f"frame of {length} bytes")
        elif self._is_theirs(stream_id):
            self.count_unwanted(length)
        self._body_left, self._body_stream, self._body_flags = length, stream, flags

    def _on_flags(self, stream: MuxedStream, flags: int) -> None:
        if flags & RST:
            stream.on_reset()
        elif flags & FIN:
            stream.on_end()
        self.forget_if_finished(stream)

    def _is_theirs(self, stream_id: int) -> bool:
        return stream_id % 2 == (0 if self.is_initiator else 1)

    def _on_new_stream(self, stream_id: int) -> None:
        if not self._is_theirs(stream_id) or not stream_id or stream_id in self.streams:
            raise MuxedStreamError(f"stream {stream_id} opened out of turn")
        self._cost += _STREAM_COST
        stream = MuxedStream(stream_id, self, False)
        try:
            if self._inbound >= MAX_INBOUND_STREAMS:
                raise trio.WouldBlock
            self._to_accept.send_nowait(stream)
        except trio.WouldBlock:
            self.send_frame(WINDOW, RST, stream_id, 0)
            return
        self.streams[stream_id] = stream
        self._inbound += 1
        self.send_frame(WINDOW, ACK, stream_id, 0)
