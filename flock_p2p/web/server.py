"""The server: a listener on loopback, places for connections, and which route answers. Knows no route's meaning."""

import errno
import logging
from collections.abc import Mapping
from typing import Any

import trio

from flock_chain.errors import Unavailable
from flock_p2p.web.connection import Connection
from flock_p2p.web.guard import Bucket, Guard, allow_origin, is_lured
from flock_p2p.web.messages import Converse, Request, Response, Route, refuse
from flock_p2p.web.unread import Unread

log = logging.getLogger(__name__)

HOST = "127.0.0.1"  # never another: nothing here asks who is there
MAX_CONNECTIONS = 64  # a browser opens six to a host, a library one or two; each may hold a megabyte
REQUESTS_PER_SECOND = 100.0  # of all connections together; a page that follows a peer sends two
BURST_REQUESTS = 500
BYTES_PER_SECOND = 8 << 20  # that are read, of all connections together: a wallet sends kilobytes
BURST_BYTES = 16 << 20
UNREAD_BYTES = 64 << 20  # of answers that are being sent, of all connections together: four of the largest
FULL_SECONDS = 60.0  # between two lines of the log about places: who is refused must not fill it


class Routes:
    """Which route is at which path, behind the checks that hold for all of them. Answers connections."""

    def __init__(self, routes: Mapping[str, Route], guard: Guard, counts: dict[int, int]) -> None:
        """`counts`: of answers by status, kept up to date here."""
        self._routes, self._guard, self._counts = routes, guard, counts
        self._bucket = Bucket(REQUESTS_PER_SECOND, BURST_REQUESTS)

    def max_body(self, request: Request) -> int:
        route = self._routes.get(request.path)
        return 0 if route is None or request.method not in route.answers else route.max_body

    def check(self, request: Request) -> Response | None:
        refused = self._find_fault(request)
        if refused is not None:
            self._count(refused)
        return refused

    async def handle(self, request: Request) -> Response:
        response = await self._answer(request)
        self._count(response)
        return response

    def accept(self, request: Request) -> Response | Converse:
        converse = self._routes[request.path].converse
        return converse if converse is not None and request.method == "GET" else refuse(400, "no WebSocket is here")

    def _count(self, response: Response) -> None:
        self._counts[response.status] = self._counts.get(response.status, 0) + 1

    def _find_fault(self, request: Request) -> Response | None:
        if not self._guard.is_host(request.headers.get("host", "")):
            return refuse(421, "this server answers to 127.0.0.1 and localhost at its own port alone")
        route = self._routes.get(request.path)
        is_for_wallets = route is not None and route.for_wallets
        is_welcome = self._guard.is_origin(request.origin, for_wallets=is_for_wallets)
        if not is_welcome or (request.origin is None and is_lured(request.headers)):
            return refuse(403, "pages of this origin may not ask this peer; see docs/ethereum_tools.md")
        if not self._bucket.take():
            return refuse(429, f"more than {REQUESTS_PER_SECOND:.0f} requests a second")
        return refuse(404, "nothing is here") if route is None else None

    async def _answer(self, request: Request) -> Response:
        route = self._routes[request.path]
        names = {*route.answers, "OPTIONS"}
        allowed = allow_origin(request.origin, names)
        if request.method == "OPTIONS":
            return Response(204, headers=allowed)
        answer = route.answers.get("GET" if request.method == "HEAD" else request.method)
        if answer is None:
            return Response(405, b"not with this method\n", headers={**allowed, "allow": ", ".join(sorted(names))})
        try:
            response = await answer(request)
        except Exception:  # a task's edge: one page's failure is its own
            log.exception("http: %s %s failed", request.method, request.path)
            response = refuse(500, "an error of this peer; see its log")
        return Response(response.status, response.body, response.kind, {**allowed, **response.headers})


async def open_listener(port: int) -> trio.SocketListener:
    """`port`: 0 for any. Raises Unavailable where it is taken."""
    try:
        (listener,) = await trio.open_tcp_listeners(port, host=HOST)
    except OSError as error:
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had ({error})"
        raise Unavailable(f"http: port {port} {why}; choose another with --http PORT, or 0 for any") from error
    return listener


def port_of(listener: trio.SocketListener) -> int:
    return int(listener.socket.getsockname()[1])


async def serve(listener: trio.abc.Listener[Any], routes: Routes, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    """Until cancelled. Who finds no place is closed at once."""
    places, complaints = trio.CapacityLimiter(MAX_CONNECTIONS), Bucket(1 / FULL_SECONDS, 1)
    intake, unread = Bucket(BYTES_PER_SECOND, BURST_BYTES), Unread(UNREAD_BYTES)

    async def handle(stream: trio.abc.Stream) -> None:
        try:
            places.acquire_nowait()
        except trio.WouldBlock:
            if complaints.take():
                log.warning("http: %d connections are open; whoever comes now is refused", MAX_CONNECTIONS)
            await trio.aclose_forcefully(stream)
            return
        try:
            await Connection(stream, routes, intake, unread).serve()
        except Exception:  # a task's edge: a connection's failure ends no peer
            log.exception("http: a connection failed")
        finally:
            places.release()
            await trio.aclose_forcefully(stream)

    task_status.started()
    await trio.serve_listeners(handle, [listener])
