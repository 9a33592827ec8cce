"""The HTTP server without a socket, so that time can be virtual: a listener dialed by hand, and routes of a test."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

import trio
import trio.testing

from flock_p2p.web.guard import Guard
from flock_p2p.web.messages import Request, Response, Route, Socket
from flock_p2p.web.server import Routes, serve

PORT = 4280
UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


def on_virtual_clock(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        async def main() -> None:
            await test(*arguments, **named)

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    return run


def head(method: str, path: str, more: str = "", *, host: str = f"127.0.0.1:{PORT}") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode()


class HandListener(trio.abc.Listener[trio.abc.Stream]):
    """Gives out the far ends of pipes. `dial`: one whose writes end at once; `dial_slow`: one whose writes wait."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](1_000)

    def dial(self) -> trio.abc.HalfCloseableStream:
        ours, theirs = trio.testing.memory_stream_pair()
        self._send.send_nowait(theirs)
        return ours

    def dial_slow(self) -> trio.abc.HalfCloseableStream:
        ours, theirs = trio.testing.lockstep_stream_pair()
        self._send.send_nowait(theirs)
        return ours

    async def accept(self) -> trio.abc.Stream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        self._receive.close()


async def greet(request: Request) -> Response:
    return Response(200, b"hello " + request.body)


async def echo(socket: Socket) -> None:
    while (message := await socket.receive()) is not None:
        await socket.send(message)


ROUTES = {"/": Route({"GET": greet}), "/wallets": Route({"POST": greet}, converse=echo, for_wallets=True, max_body=99)}


@asynccontextmanager
async def serving_by_hand(
    routes: Mapping[str, Route] = ROUTES, *, port: int = PORT, origins: frozenset[str] = frozenset()
) -> AsyncIterator[HandListener]:
    listener = HandListener()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, listener, Routes(routes, Guard(port, origins), {}))
        yield listener
        nursery.cancel_scope.cancel()


async def read_all(stream: Any) -> bytes:
    """Until the other side closes."""
    data = bytearray()
    try:
        while part := await stream.receive_some():
            data += part
    except trio.BrokenResourceError:
        pass
    return bytes(data)


async def read_some(stream: Any, end: bytes) -> bytes:
    """Until these bytes have come, or the other side has closed."""
    data = bytearray()
    while end not in data and (part := await stream.receive_some()):
        data += part
    return bytes(data)


async def ask(listener: HandListener, request: bytes) -> bytes:
    """The whole of what is answered to one request, of which no more comes."""
    stream = listener.dial()
    await stream.send_all(request)
    await stream.send_eof()
    return await read_all(stream)
