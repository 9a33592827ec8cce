"""One authenticated connection to one peer, and its streams. Every error of the layers below becomes one of ours."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio
from libp2p.host.exceptions import StreamFailure
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.protocol_muxer.exceptions import MultiselectCommunicatorError
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.utils import read_varint_prefixed_bytes_limited

from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote, Unavailable
from flock_peers.network.connection import BufferedConnection
from flock_peers.network.frame_room import Claim
from flock_peers.network.identity import account_of, alias_of
from flock_peers.network.limits import Limits

_LENGTH = struct.Struct(">I")
_READ = 4 << 10  # where it is not known how much is to come
MAX_PROTOCOL_NAME = 126
MAX_PROTOCOL_NAMES = 32  # of one negotiation: whoever has something to say has a handful
_RESET_SECONDS = 2.0


class ProtocolNames(MultiselectCommunicator):
    """A few protocol names of at most 126 bytes of UTF-8 each; the stock reader believes any length and any bytes, and
    any number: 64 KB of them, from somebody who is nobody yet, took a tenth of a second at a stretch."""

    def __init__(self, read_writer: ReadWriteCloser) -> None:
        super().__init__(read_writer)
        self._left = MAX_PROTOCOL_NAMES

    async def read(self) -> str:
        if not self._left:
            raise MultiselectCommunicatorError(f"more than {MAX_PROTOCOL_NAMES} protocol names")
        self._left -= 1
        try:
            data = await read_varint_prefixed_bytes_limited(self.read_writer, MAX_PROTOCOL_NAME)
            return data[:-1].decode() if data.endswith(b"\n") else ""
        except Exception as error:
            raise MultiselectCommunicatorError(f"no protocol name: {error}") from error


class CutShort(Unavailable):
    """By whoever sent it: a frame that has no end, or a stream that is reset where the next one might begin."""


class Stream:
    """Bytes in both directions. Reads raise Unavailable when it breaks or ends early: a reset may look like either."""

    def __init__(self, net_stream: Any, link: "Link") -> None:
        self._net, self._muxed, self.link = net_stream, net_stream.muxed_stream, link
        self._buffer = b""  # read, and not asked for yet

    @property
    def account(self) -> Account:
        return self.link.account

    @property
    def remote_host(self) -> str:
        return self.link.remote_host

    def expect_bulk(self) -> None:
        """Open the window for a fast download."""
        self._muxed.grow()

    async def _receive(self, most: int) -> bytes:
        """Empty at a clean end."""
        try:
            return bytes(await self._muxed.read(most))
        except Exception as error:
            if type(error).__name__ in ("MuxedStreamEOF", "StreamEOF") and not self.link.closed.is_set():
                return b""
            raise Unavailable(f"stream broke: {type(error).__name__}") from error

    async def _more(self) -> bool:
        data = await self._receive(_READ)
        self._buffer += data
        return bool(data)

    async def read_some(self, most: int) -> bytes:
        """At most that many bytes, whatever comes first; empty at a clean end."""
        if not self._buffer:
            return await self._receive(most)
        data, self._buffer = self._buffer[:most], self._buffer[most:]
        return data

    async def read_exactly(self, count: int) -> bytes:
        """Raises Unavailable when the stream ends before; what came stays for the next read, as when cancelled."""
        parts: list[bytes] = []
        have = 0
        try:
            while have < count:
                data = await self.read_some(count - have)
                if not data:
                    raise Unavailable(f"stream ended after {have} of {count} bytes")
                parts.append(data)
                have += len(data)
        except BaseException:
            self._buffer = b"".join(parts) + self._buffer
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def is_at_end(self) -> bool:
        """Waits for the next byte, or the end."""
        return not self._buffer and not await self._more()

    async def wait_gone(self) -> None:
        """Returns when the other side has closed or reset its end; for protocols where it has nothing more to say."""
        try:
            while await self._more():
                self._buffer = b""
        except Unavailable:
            pass

    async def read_past(self, count: int) -> None:
        """Raises Unavailable when the stream ends before."""
        while count:
            data = await self.read_some(min(count, _READ))
            if not data:
                raise Unavailable(f"stream ended {count} bytes before the end of what is read past")
            count -= len(data)

    async def read_frame(self, limit: int, seconds: float, claim: Claim | None = None) -> bytes | None:
        """The next frame, however long it takes to begin; None at a clean end. `seconds`: for the rest of it.

        One that has no room by its `claim`, or loses it, is read past, and empty: `claim.refused` says so.
        """
        try:
            if await self.is_at_end():
                return None
        except Unavailable as error:
            if self.link.closed.is_set():  # with all others of its connection, between two frames
                raise
            raise CutShort(str(error)) from error
        try:
            with trio.fail_after(seconds):
                (length,) = _LENGTH.unpack(await self.read_exactly(_LENGTH.size))
                if length > limit:
                    raise InvalidRemote(f"frame of {length} bytes, at most {limit} allowed")
                if claim is None:
                    return await self.read_exactly(length)
                return await self._read_claimed(length, claim)
        except trio.TooSlowError as error:
            raise InvalidRemote(f"frame not complete after {seconds} s") from error
        except Unavailable as error:
            raise CutShort(str(error)) from error

    async def _read_claimed(self, length: int, claim: Claim) -> bytes:
        parts: list[bytes] = []
        left = length
        claim.take(length)
        while left and not claim.refused:
            with claim.reading():
                data = await self.read_some(left)
                if not data:
                    raise Unavailable(f"stream ended after {length - left} of {length} bytes")
                parts.append(data)
                left -= len(data)
        if not claim.refused:
            return b"".join(parts)
        parts.clear()
        await self.read_past(left)
        return b""

    async def write(self, data: bytes) -> None:
        """Raises Unavailable when the stream breaks, or the other side takes nothing for half a minute."""
        try:
            await self._muxed.write(data)
        except Exception as error:
            raise Unavailable(f"stream broke: {type(error).__name__}") from error

    async def write_frame(self, payload: bytes) -> None:
        await self.write(encode_frame(payload))

    async def close(self) -> None:
        await self._finish(self._net.close)

    async def reset(self) -> None:
        await self._finish(self._net.reset)

    async def _finish(self, how: Callable[[], Any]) -> None:
        with trio.CancelScope(deadline=trio.current_time() + _RESET_SECONDS, shield=True):
            try:
                await how()
            except Exception:  # noqa: BLE001 - a stream that cannot be closed is closed
                pass
        self._muxed.abandon()


async def _negotiate(muxed: Any, protocol: str) -> None:
    """multistream-select in one round trip instead of two; every implementation takes both lines at once.

    Nothing more is read than the two lines: whoever answers a protocol of ours, or gossip, speaks second.
    """
    lines = [b"/multistream/1.0.0\n", protocol.encode() + b"\n"]
    expected = b"".join(bytes([len(line)]) + line for line in lines)  # lengths below 128: one byte each
    await muxed.write(expected)
    received = b""
    while len(received) < len(expected):
        data = await muxed.read(len(expected) - len(received))
        received += data
        if not data or not expected.startswith(received):
            raise InvalidRemote(f"the peer does not speak it (it answered {received[-40:]!r})")


def encode_length(count: int) -> bytes:
    return _LENGTH.pack(count)


def encode_frame(payload: bytes) -> bytes:
    return encode_length(len(payload)) + payload


class Link:
    """A connection whose other end has proved its key. `admitted` is set once the genesis hashes were compared."""

    def __init__(self, peer_id: ID, bytes_below: BufferedConnection, limits: Limits, *, outbound: bool) -> None:
        self.peer_id = peer_id
        self.is_guest = False  # never said hello, and may stay
        try:
            self.account, self.has_account = account_of(peer_id), True
        except InvalidRemote:
            if not limits.guests:
                raise
            self.account, self.has_account = alias_of(peer_id), False
        self.limits, self.outbound = limits, outbound
        self._below = bytes_below
        self.closed = bytes_below.closed
        self.admitted = trio.Event()
        self.swarm_conn: Any = None
        self.streams_in = 0
        self.is_bulk = False  # a second connection, for files alone
        self.complain: Callable[[str], None] = lambda _what: None  # of how the other side uses the connection itself

    @property
    def remote(self) -> str:
        host, port = self._below.remote or ("?", 0)
        return f"{host}:{port}"

    @property
    def local_host(self) -> str:
        return self._below.local[0] if self._below.local else "127.0.0.1"

    @property
    def remote_host(self) -> str:
        return self._below.remote[0] if self._below.remote else "?"

    @property
    def is_circuit(self) -> bool:
        """By way of a relay: a socket pair stands between."""
        return self._below.remote is None

    @property
    def opened_at(self) -> float:
        return self._below.opened_at

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes in and out, as they are on the wire."""
        return self._below.bytes_in, self._below.bytes_out

    @property
    def breach(self) -> str:
        """How the other side broke the rules of the connection itself, where that ended it."""
        return (self.swarm_conn.muxed_conn.breach if self.swarm_conn is not None else "") or self._below.breach

    @property
    def is_idle(self) -> bool:
        return self.swarm_conn is None or not self.swarm_conn.muxed_conn.streams

    @property
    def is_loopback(self) -> bool:
        """The other end is on this machine."""
        return self.remote_host in ("::1", "::ffff:127.0.0.1") or self.remote_host.startswith("127.")

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Around what a stream carries that has a bound of its own."""
        self.streams_in -= 1
        try:
            yield
        finally:
            self.streams_in += 1

    def abort(self) -> None:
        self._below.abort()

    async def close(self) -> None:
        """Lets written bytes out for a second."""
        await self._below.close()

    async def open_net_stream(self, protocol: str) -> Any:
        """A negotiated libp2p stream on this connection; raises SwarmException or StreamFailure as libp2p would."""
        if self.swarm_conn is None or self.closed.is_set():
            raise SwarmException("connection closed")
        try:
            net_stream = await self.swarm_conn.new_stream()
        except Exception as error:
            raise SwarmException(f"no stream: {error}") from error
        is_chosen = False
        try:
            with trio.fail_after(self.limits.negotiate_seconds):
                await _negotiate(net_stream.muxed_stream, protocol)
            is_chosen = True
        except Exception as error:
            raise StreamFailure(str(error) or type(error).__name__) from error
        finally:
            if not is_chosen:
                with trio.CancelScope(deadline=trio.current_time() + _RESET_SECONDS, shield=True):
                    await net_stream.reset()
        net_stream.set_protocol(protocol)
        return net_stream

    async def open(self, protocol: str) -> Stream:
        """Raises Unavailable when the connection is closed or the peer does not speak the protocol."""
        try:
            with trio.fail_after(self.limits.open_seconds):
                return Stream(await self.open_net_stream(protocol), self)
        except (SwarmException, StreamFailure, trio.TooSlowError) as error:
            raise Unavailable(f"no stream {protocol} to 0x{self.account.hex()}: {error}") from error
