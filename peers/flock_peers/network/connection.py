"""The byte layer below Noise: buffered reads, one writer task, whole messages or nothing. Knows no peers.

Noise counts messages, so half a message ruins a connection. Only the writer task writes: it asks its source for the
next batch when the socket has room, and sends all of it; a cancelled caller cannot cut it. What is not taken yet can
still be overtaken by something more urgent, so batches are only as large as the socket is fast.
"""

import socket
from typing import Protocol

import trio
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError

from flock_peers.network.limits import Limits

_GULP = 64 << 10  # before there is a session
_SLICE = 64 << 10  # that much must go out in `write_seconds`: 2 KB/s
_BATCH_BYTES_MIN, _BATCH_BYTES_MAX = 64 << 10, 256 << 10
_BATCH_SECONDS = 0.01  # what a batch should take the socket: that long a vote may have to wait for bulk
_CLOSE_SECONDS = 1.0  # to bring out what was written before close
_KEEPALIVE_PROBES = 3


class Source(Protocol):
    """What the writer sends. `take` returns whole messages, about `most` bytes, valid until it is called again."""

    def take(self, most: int) -> memoryview: ...

    def is_empty(self) -> bool: ...


class BufferedConnection(ReadWriteCloser):
    def __init__(self, stream: trio.SocketStream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._unread = bytearray()
        self._unsent = bytearray()  # what was put directly: handshake and negotiation
        self._source: Source | None = None
        self._batch_bytes = _BATCH_BYTES_MAX
        self._wake, self._room = trio.Event(), trio.Event()
        self._closing = trio.CancelScope()
        self._is_closing = False
        self._budget: int | None = limits.handshake_bytes
        self.opened_at = trio.current_time()
        self.bytes_in = self.bytes_out = 0
        self.closed = trio.Event()
        self.breach = ""  # of what is expected of whoever reads, which ended the connection
        self.remote = _socket_name(stream, remote=True)
        self.local = _socket_name(stream, remote=False)
        _notice_silence(stream, limits.silent_seconds)

    @property
    def unread_bytes(self) -> int:
        return self._limits.unread_bytes

    def set_authenticated(self) -> None:
        self._budget = None

    def set_source(self, source: Source) -> None:
        self._source = source

    def wake(self) -> None:
        """The source has something. Raises ConnectionClosedError."""
        self._check_open()
        self._wake.set()

    async def run_writer(self) -> None:
        """Sends what there is until the connection closes. One task per connection."""
        try:
            with self._closing:
                while not self.closed.is_set():
                    data = self._take()
                    if data:
                        await self._send(data)
                        self._room.set()
                    elif self._is_closing:
                        break
                    else:
                        self._wake = trio.Event()
                        await self._wake.wait()
        except trio.TooSlowError:
            self.breach = f"took nothing for {self._limits.write_seconds:g} s"
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass
        finally:
            self.abort()

    def _take(self) -> bytearray | memoryview:
        if self._unsent or self._source is None:
            data, self._unsent = self._unsent, bytearray()
            return data
        return self._source.take(self._batch_bytes)

    async def _send(self, data: bytearray | memoryview) -> None:
        """All of it. After a large batch also waits until the socket wants more, so as to choose late what is next."""
        begun = trio.current_time()
        sent, marked = 0, 0
        with memoryview(data) as view, trio.fail_after(self._limits.write_seconds) as scope:
            while sent < len(view):
                sent += await self._stream.socket.send(view[sent:])
                if sent - marked >= _SLICE:
                    marked, scope.deadline = sent, trio.current_time() + self._limits.write_seconds
            self.bytes_out += sent
            if sent >= _BATCH_BYTES_MIN:
                scope.deadline = trio.current_time() + self._limits.write_seconds * sent / _SLICE
                await self._stream.wait_send_all_might_not_block()
                self._adapt(trio.current_time() - begun)

    def _adapt(self, seconds: float) -> None:
        if seconds > _BATCH_SECONDS:
            self._batch_bytes = max(_BATCH_BYTES_MIN, self._batch_bytes // 2)
        elif seconds < _BATCH_SECONDS / 4:
            self._batch_bytes = min(_BATCH_BYTES_MAX, self._batch_bytes * 2)

    async def wait_room(self) -> None:
        """Until the writer has taken everything."""
        while self._unsent or (self._source is not None and not self._source.is_empty()):
            self._check_open()
            self._room = trio.Event()
            await self._room.wait()

    async def write(self, data: bytes) -> None:
        self.put(data)

    def put(self, data: bytes | memoryview) -> None:
        """Hand bytes to the writer, without waiting: a handshake's. Raises ConnectionClosedError."""
        self._unsent += data
        self.wake()

    async def read(self, n: int | None = None) -> bytes:
        """Exactly n bytes, or fewer at the end of the connection."""
        if n is None:
            return await self.read_some()
        self._spend(n)
        while len(self._unread) < n:
            data = await self._receive()
            if not data:
                break
            self._unread += data
        taken = bytes(self._unread[:n])
        del self._unread[:n]
        return taken

    async def read_some(self) -> bytes:
        """Whatever is here, or the next that comes; empty at the end. One reader at a time."""
        if self._unread:
            taken, self._unread = bytes(self._unread), bytearray()
        else:
            taken = await self._receive()
        self._spend(len(taken))
        return taken

    async def receive_into(self, buffer: memoryview) -> int:
        """As `read_some`, without a copy; 0 at the end."""
        if self._unread:
            count = min(len(self._unread), len(buffer))
            buffer[:count] = self._unread[:count]
            del self._unread[:count]
        else:
            try:
                count = await self._stream.socket.recv_into(buffer)
                self.bytes_in += count
            except (OSError, trio.ClosedResourceError) as error:
                raise ConnectionClosedError("connection lost", transport="tcp") from error
        self._spend(count)
        return count

    async def _receive(self) -> bytes:
        try:
            data = bytes(await self._stream.receive_some(_GULP))
            self.bytes_in += len(data)
            return data
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionClosedError("connection lost", transport="tcp") from error

    def _spend(self, n: int) -> None:
        if self._budget is None:
            return
        self._budget -= n
        if self._budget < 0:
            self.abort()
            raise ConnectionClosedError("too many bytes before the handshake ended", transport="tcp")

    def _check_open(self) -> None:
        if self._is_closing or self.closed.is_set():
            raise ConnectionClosedError("connection closed", transport="tcp")

    async def close(self) -> None:
        """Returns at once; the writer brings out what is left, for a second at most."""
        if not self._is_closing:
            self._is_closing = True
            self._closing.deadline = trio.current_time() + _CLOSE_SECONDS
            self._wake.set()
            self._room.set()

    def abort_soon(self) -> None:
        """Close the socket, unless a close that brings out what was written is under way."""
        if not self._is_closing:
            self.abort()

    def abort(self) -> None:
        """Close the socket now. Safe from anywhere, any number of times."""
        self._is_closing = True
        self.closed.set()
        self._wake.set()
        self._room.set()
        self._stream.socket.close()

    def get_remote_address(self) -> tuple[str, int] | None:
        return self.remote


def _socket_name(stream: trio.SocketStream, *, remote: bool) -> tuple[str, int] | None:
    try:
        name = stream.socket.getpeername() if remote else stream.socket.getsockname()
    except OSError:
        return None
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None  # a socket pair has no addresses


def remote_host(stream: trio.SocketStream) -> str:
    """The address of the other end; "?" where it is gone already."""
    return (_socket_name(stream, remote=True) or ("?", 0))[0]


def _notice_silence(stream: trio.SocketStream, seconds: float) -> None:
    """An idle path is probed; where bytes are under way the kernel would resend for a quarter of an hour."""
    probe = max(1, round(seconds / 2 / _KEEPALIVE_PROBES))
    options = (
        ("TCP_KEEPIDLE", max(1, round(seconds / 2))), ("TCP_KEEPINTVL", probe), ("TCP_KEEPCNT", _KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", round(seconds * 1000)),
    )  # fmt: skip
    try:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options:
            if hasattr(socket, name):
                stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    except OSError:
        pass  # without these a dead connection shows at the next write
