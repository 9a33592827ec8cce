"""One WebSocket over wsproto: whole messages, bounded; pings, so that a silent other side is noticed. No compression:
a few bytes of it unfold to gigabytes."""

from collections.abc import Sequence
from typing import Any

import h11
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Message, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from flock_p2p.web.guard import EVENT_BYTES, Bucket
from flock_p2p.web.messages import BrokenSocket
from flock_p2p.web.unread import Unread

MAX_MESSAGE_BYTES = 1 << 20  # as an HTTP body
RECEIVE_BYTES = 64 << 10
PING_SECONDS = 30.0  # without a word from the other side
SILENT_SECONDS = 90.0  # then it is gone: three pings
SEND_SECONDS = 15.0  # for a message to be read
TOO_BIG, POLICY, PROTOCOL = 1009, 1008, 1002


class WebSocket:
    """Made of a request that asks for it; `open` says yes. One task receives, any may send."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        headers: Sequence[tuple[bytes, bytes]],
        target: bytes,
        received: bytes,
        intake: Bucket,
        unread: Unread,
    ) -> None:
        """`received`: bytes after the request. Raises BrokenSocket where the request is not a proper one."""
        self._stream, self._received, self._intake, self._unread = stream, received, intake, unread
        self._sending = trio.Lock()
        self._is_closed = False
        self._part = bytearray()
        self._protocol = WSConnection(ConnectionType.SERVER)
        try:
            self._protocol.initiate_upgrade_connection(list(headers), target)
            for _ in self._protocol.events():
                pass
        except (RemoteProtocolError, LocalProtocolError, h11.ProtocolError, UnicodeError) as error:
            # The last two of a request that names no host, and of a host that is no name.
            raise BrokenSocket(f"websocket: {error}") from error

    async def open(self) -> None:
        await self._send_event(AcceptConnection())
        if self._received:
            self._protocol.receive_data(self._received)

    async def receive(self) -> bytes | None:
        """The next whole message; None once the other side has closed it."""
        while True:
            for event in self._protocol.events():
                await self._intake.pace(EVENT_BYTES)
                if isinstance(event, Message) and (done := await self._add(event)) is not None:
                    return done
                if isinstance(event, Ping):
                    await self._send_event(event.response())
                if isinstance(event, CloseConnection):
                    await self._finish(event)
                    return None
            data = await self._read()
            await self._intake.pace(len(data))
            try:
                self._protocol.receive_data(data or None)
            except (RemoteProtocolError, LocalProtocolError) as error:
                raise BrokenSocket(f"websocket: {error}") from error

    async def _add(self, event: Message[Any]) -> bytes | None:
        if not isinstance(event, TextMessage | BytesMessage):
            return None
        self._part += event.data.encode() if isinstance(event.data, str) else bytes(event.data)
        if len(self._part) > MAX_MESSAGE_BYTES:
            await self._end(TOO_BIG, f"more than {MAX_MESSAGE_BYTES} bytes")
            raise BrokenSocket("websocket: a message is too large")
        if not event.message_finished:
            return None
        done = bytes(self._part)
        self._part.clear()
        return done

    async def _read(self) -> bytes:
        waited = 0.0
        while waited < SILENT_SECONDS:
            try:
                with trio.move_on_after(PING_SECONDS):
                    return bytes(await self._stream.receive_some(RECEIVE_BYTES))
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise BrokenSocket(f"websocket: {error!r}") from error
            waited += PING_SECONDS
            await self._send_event(Ping())
        raise BrokenSocket("websocket: silent")

    async def send(self, text: bytes) -> None:
        """Raises BrokenSocket where the other side does not read, or is gone, or has to wait for others that do not."""
        with self._unread.hold(len(text)) as has_room:
            if not has_room:
                raise BrokenSocket("websocket: too much that was answered waits to be read")
            await self._send_event(TextMessage(data=text.decode()))

    async def close(self, why: str) -> None:
        """Says so, where it is open still; never raises."""
        try:
            await self._end(POLICY if why else 1000, why)
        except BrokenSocket:
            pass

    async def _end(self, code: int, why: str) -> None:
        if not self._is_closed:
            self._is_closed = True
            await self._send_event(CloseConnection(code=code, reason=why or None))

    async def _finish(self, event: CloseConnection) -> None:
        if not self._is_closed:
            self._is_closed = True
            await self._send_event(event.response())

    async def _send_event(self, event: Event) -> None:
        async with self._sending:
            try:
                data = self._protocol.send(event)
                with trio.fail_after(SEND_SECONDS):
                    await self._stream.send_all(data)
            except (LocalProtocolError, trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise BrokenSocket(f"websocket: {error!r}") from error
