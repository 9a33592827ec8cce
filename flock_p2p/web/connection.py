"""One HTTP/1.1 connection over h11: a request at a time, bounded in size and in time, and the step to a WebSocket.

Not a framework's server: those on trio bound neither connections nor how long an answer may stay unread, and cannot be
cancelled while it does.
"""

import logging
from dataclasses import replace
from typing import Any, Protocol

import h11
import trio

from flock_p2p.web.guard import EVENT_BYTES, HEADER_BYTES, Bucket
from flock_p2p.web.messages import BrokenSocket, Converse, Request, Response, refuse
from flock_p2p.web.unread import Unread
from flock_p2p.web.websocket import WebSocket

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 16 << 10  # request line and headers; browsers send 2 KB
LINE_BYTES = len(": \r\n")  # of a header, beside its name and value
RECEIVE_BYTES = MAX_HEAD_BYTES  # h11 reads all that it has of a head, or of what follows a body, without a pause
REQUEST_SECONDS = 15.0  # for a head from its first byte on, and for a body: this machine itself is on the other side
IDLE_SECONDS = 60.0  # between two requests of one connection; clients that keep it open longer dial again
SEND_SECONDS = 15.0  # for an answer to be read
LINGER_SECONDS = 2.0  # for what follows a request that was refused: else the system throws away the answer, too
LINGER_BYTES = 4 << 20
NO_CONTENT = 204
REASONS = {
    200: b"OK", 204: b"No Content", 400: b"Bad Request", 403: b"Forbidden", 404: b"Not Found",
    405: b"Method Not Allowed", 413: b"Content Too Large", 421: b"Misdirected Request", 429: b"Too Many Requests",
    431: b"Request Header Fields Too Large", 500: b"Internal Server Error", 503: b"Service Unavailable",
}  # fmt: skip
# What is no page runs and loads nothing, and no other page may show or read what is here; a route may say otherwise.
COMMON_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}


class Site(Protocol):
    """Who answers. None of these raises."""

    def check(self, request: Request) -> Response | None:
        """Why it is not answered; before its body is read."""

    def max_body(self, request: Request) -> int: ...

    async def handle(self, request: Request) -> Response: ...

    def accept(self, request: Request) -> Response | Converse:
        """Of a request to become a WebSocket: who talks, or why nobody does."""


class Connection:
    def __init__(self, stream: trio.abc.Stream, site: Site, intake: Bucket, unread: Unread) -> None:
        """`intake`: of bytes, shared by all connections, as `unread` is; who sends faster is read more slowly."""
        self._stream, self._site, self._intake, self._unread = stream, site, intake, unread
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)

    async def serve(self) -> None:
        """Until the other side closes, is silent or breaks a rule."""
        try:
            while await self._serve_one():
                self._h11.start_next_cycle()
        except h11.RemoteProtocolError as error:
            await self._give_up(refuse(error.error_status_hint, "not HTTP/1.1 as this server reads it"))
        except trio.TooSlowError:
            log.debug("http: too slow")
        except (trio.BrokenResourceError, trio.ClosedResourceError, BrokenSocket) as error:
            log.debug("http: %r", error)

    async def _serve_one(self) -> bool:
        """False where it was the last one."""
        head = await self._await_head()
        if not isinstance(head, h11.Request):
            return False
        request = _read_head(head)
        # h11's own limit is of heads that are not whole yet; a whole one may come in one piece.
        lines = sum(len(name) + len(value) + LINE_BYTES for name, value in head.headers)
        is_large = lines + len(head.target) > MAX_HEAD_BYTES
        response = refuse(431, "the head is too large") if is_large else self._site.check(request)
        if response is None and request.headers.get("upgrade", "").lower() == "websocket":
            response = await self._become_socket(head, self._site.accept(request))
            if response is None:
                return False
        body = None if response else await self._read_body(self._site.max_body(request))
        if body is None:
            await self._give_up(response or refuse(413, "the body is too large"))
            return False
        await self._send(await self._site.handle(replace(request, body=body)), is_head=request.method == "HEAD")
        return self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    async def _await_head(self) -> Any:
        """None where it does not come in time: not at all, or byte by byte."""
        with trio.move_on_after(IDLE_SECONDS) as scope:
            while (event := self._h11.next_event()) is h11.NEED_DATA:
                await self._receive()
                scope.deadline = min(scope.deadline, trio.current_time() + REQUEST_SECONDS)
            await self._pace(event)
            return event
        return None

    async def _next_event(self) -> Any:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                await self._stream.send_all(self._h11.send(go_on) or b"")
            await self._receive()
        return event

    async def _receive(self) -> None:
        data = await self._stream.receive_some(RECEIVE_BYTES)
        self._h11.receive_data(data)
        await self._intake.pace(len(data))

    async def _pace(self, event: Any) -> None:
        """For the time that it took to read, which its bytes do not say: a body may come in pieces of one byte, and a
        head, or what follows a body, may be thousands of lines."""
        await self._intake.pace(EVENT_BYTES + HEADER_BYTES * len(getattr(event, "headers", ())))

    async def _read_body(self, limit: int) -> bytes | None:
        """None where it is longer."""
        body = bytearray()
        with trio.fail_after(REQUEST_SECONDS):
            while True:
                event = await self._next_event()
                await self._pace(event)
                if isinstance(event, h11.EndOfMessage):
                    return bytes(body)
                if not isinstance(event, h11.Data):
                    raise trio.ClosedResourceError("http: closed within a request")
                body += event.data
                if len(body) > limit:
                    return None

    async def _send(self, response: Response, *, is_head: bool = False, is_last: bool = False) -> None:
        with self._unread.hold(len(response.body)) as has_room:
            sent = response if has_room else refuse(503, "too much that was answered waits to be read; ask again")
            await self._write(sent, is_head=is_head, is_last=is_last)

    async def _write(self, response: Response, *, is_head: bool, is_last: bool) -> None:
        named = {**COMMON_HEADERS, **response.headers}
        headers = [(name.encode(), value.encode()) for name, value in named.items()]
        if response.status != NO_CONTENT:  # which has neither, by RFC 9110
            headers += [(b"content-type", response.kind.encode()), (b"content-length", b"%d" % len(response.body))]
        if is_last:
            headers.append((b"connection", b"close"))
        start = h11.Response(status_code=response.status, headers=headers, reason=REASONS.get(response.status, b""))
        parts = [self._h11.send(start) or b""]
        if not is_head and response.body:
            parts.append(self._h11.send(h11.Data(data=response.body)) or b"")
        parts.append(self._h11.send(h11.EndOfMessage()) or b"")
        with trio.fail_after(SEND_SECONDS):
            await self._stream.send_all(b"".join(parts))

    async def _give_up(self, response: Response) -> None:
        """The last answer: what else was sent is not read."""
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        try:
            await self._send(response, is_last=True)
            await self._linger()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, h11.LocalProtocolError) as error:
            log.debug("http: %r", error)

    async def _linger(self) -> None:
        """Bytes that nobody reads would make the system reset the connection, with the answer in it."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
        left = LINGER_BYTES
        with trio.move_on_after(LINGER_SECONDS):
            while left > 0 and (data := await self._stream.receive_some(RECEIVE_BYTES)):
                left -= len(data)
                await self._intake.pace(len(data))

    async def _become_socket(self, head: h11.Request, converse: Response | Converse) -> Response | None:
        """Why not; None where it was one, and is over."""
        if isinstance(converse, Response):
            return converse
        try:
            received = self._h11.trailing_data[0]
            socket = WebSocket(self._stream, list(head.headers), head.target, received, self._intake, self._unread)
        except BrokenSocket as error:
            return refuse(400, str(error))
        await socket.open()
        await converse(socket)
        await socket.close("")
        return None


def _read_head(head: h11.Request) -> Request:
    """Of headers that come twice the last one counts; h11 lets Host come once."""
    path, _, query = head.target.decode("ascii").partition("?")
    headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
    return Request(head.method.decode("ascii"), path, query, headers)
