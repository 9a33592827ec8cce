"""The byte layer below Noise: buffered reads, one writer task, whole frames or nothing. Knows no peers.

Noise counts messages, so half a message ruins a connection. `write` therefore never waits: it takes the whole message
or fails, and a cancelled caller cannot cut it. Who wants to wait for the socket calls `wait_room` first.
"""

import socket

import trio
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError

from flock_peers.network.limits import Limits

_GULP = 256 << 10  # one system call for several Noise messages
_SLICE = 64 << 10  # that much must go out in `write_seconds`: 2 KB/s
_CLOSE_SECONDS = 1.0  # to bring out what was written before close
_KEEPALIVE = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))  # a pulled cable shows after 30 s


class BufferedConnection(ReadWriteCloser):
    def __init__(self, stream: trio.SocketStream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._unread = bytearray()
        self._unsent = bytearray()
        self._wake, self._room = trio.Event(), trio.Event()
        self._closing = trio.CancelScope()
        self._is_closing = False
        self._budget: int | None = limits.handshake_bytes
        self.closed = trio.Event()
        self.remote = _socket_name(stream, remote=True)
        self.local = _socket_name(stream, remote=False)
        _keep_alive(stream)

    def set_authenticated(self) -> None:
        self._budget = None

    async def run_writer(self) -> None:
        """Sends what was written until the connection closes. One task per connection."""
        try:
            with self._closing:
                while not self.closed.is_set():
                    if not self._unsent:
                        if self._is_closing:
                            break
                        self._wake = trio.Event()
                        await self._wake.wait()
                        continue
                    data, self._unsent = self._unsent, bytearray()
                    await self._send(memoryview(data))
                    self._room.set()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, OSError):
            pass
        finally:
            self.abort()

    async def _send(self, data: memoryview) -> None:
        for start in range(0, len(data), _SLICE):
            with trio.fail_after(self._limits.write_seconds):
                await self._stream.send_all(data[start : start + _SLICE])

    async def wait_room(self) -> None:
        while len(self._unsent) >= self._limits.unsent_bytes:
            self._check_open()
            self._room = trio.Event()
            await self._room.wait()

    async def write(self, data: bytes) -> None:
        self.put(data)

    def put(self, data: bytes) -> None:
        """Hand bytes to the writer. Raises ConnectionClosedError when it is closed, or when nobody reads acks."""
        self._check_open()
        if len(self._unsent) > 4 * self._limits.unsent_bytes:  # only frames that never wait (acks, pings) get here
            self.abort()
            raise ConnectionClosedError("the peer does not read", transport="tcp")
        self._unsent += data
        self._wake.set()

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

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(_GULP))
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
    return str(name[0]), int(name[1])


def _keep_alive(stream: trio.SocketStream) -> None:
    try:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    except OSError:
        pass  # without keep-alive a dead connection shows at the next write
