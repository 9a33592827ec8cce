"""The page's paths: its files, and what it asks for. GET, and one WebSocket that takes nothing: nobody can act."""

import json
import logging
import time
from collections.abc import Mapping
from urllib.parse import parse_qsl

import trio

from flock_chain.errors import FlockError, Misuse
from flock_chain.execution.caller import Reverted
from flock_p2p.page.assets import make_assets
from flock_p2p.page.feed import LOOK_SECONDS, Feed, Told, encode, join
from flock_p2p.page.state import PeerState
from flock_p2p.web.messages import BrokenSocket, Request, Response, Route, Socket, refuse

log = logging.getLogger(__name__)

STATE_PATH, ROUNDS_PATH, TASK_PATH, LIVE_PATH = "/api/state", "/api/rounds", "/api/task", "/api/live"
JSON = "application/json"
MAX_PAGES = 16  # that follow at the same time, of the 64 connections
MAX_QUERY = 200  # characters
MAX_FIELDS = 4  # of a query
LONGEST_SILENCE = 15.0  # seconds: then a page is told the time, and knows that the peer lives
MAX_FAILURES = 5  # looks in a row that the chain could not answer, before a page is let go to come back later


class PageRoutes:
    def __init__(self, state: PeerState) -> None:
        self._state, self._feed = state, Feed(state)
        self._places = trio.CapacityLimiter(MAX_PAGES)

    def make(self, port: int) -> Mapping[str, Route]:
        return make_assets(port) | {
            STATE_PATH: Route({"GET": self._get_state}),
            ROUNDS_PATH: Route({"GET": self._get_rounds}),
            TASK_PATH: Route({"GET": self._get_task}),
            LIVE_PATH: Route({}, converse=self._converse),
        }

    async def _get_state(self, _request: Request) -> Response:
        try:
            look = await self._feed.look()
        except FlockError as error:
            return refuse(503, str(error))
        rest = {"at": int(time.time()), "log": {"reset": True, "rows": list(look.log.rows)}}
        return Response(200, join(look.sections, rest), JSON)

    async def _get_rounds(self, request: Request) -> Response:
        try:
            asked = parse_numbers(request.query, {"task", "before"})
            if "task" not in asked:
                raise Misuse("rounds: which task? ?task=1, and &before=20 for older ones")
            page = await self._state.rounds.page(asked["task"], before=asked.get("before"))
        except FlockError as error:
            return _explain(error)
        return Response(200, _encode(page), JSON)

    async def _get_task(self, request: Request) -> Response:
        try:
            asked = parse_numbers(request.query, {"task"})
            if "task" not in asked:
                raise Misuse("task: which one? ?task=1")
            sections = await self._state.read_task(asked["task"])
        except FlockError as error:
            return _explain(error)
        parts = {name: encode(name, value) for name, value in sections.items()}
        return Response(200, join(parts, {"at": int(time.time())}), JSON)

    # Live

    async def _converse(self, socket: Socket) -> None:
        try:
            self._places.acquire_on_behalf_of_nowait(socket)
        except trio.WouldBlock:
            await socket.close(f"{MAX_PAGES} pages follow this peer already; close one")
            return
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, socket, nursery.cancel_scope)
                await self._follow(socket)
                nursery.cancel_scope.cancel()
        finally:
            self._places.release_on_behalf_of(socket)

    async def _listen(self, socket: Socket, scope: trio.CancelScope) -> None:
        """A page only listens: whatever it says ends it."""
        try:
            if await socket.receive() is not None:
                await socket.close("this socket takes no messages")
        except BrokenSocket as error:
            log.debug("page: %s", error)
        scope.cancel()

    async def _follow(self, socket: Socket) -> None:
        told, failures, told_at = Told(), 0, trio.current_time()
        try:
            while True:
                try:
                    message = told.tell(await self._feed.look(), int(time.time()))
                    failures = 0
                except FlockError as error:
                    message, failures = None, failures + 1
                    if failures == MAX_FAILURES:
                        await socket.close(str(error)[:100])
                        return
                if message is None and trio.current_time() - told_at >= LONGEST_SILENCE:
                    message = join({}, {"at": int(time.time()), "log": {"reset": False, "rows": []}})
                if message is not None:
                    await socket.send(message)
                    told_at = trio.current_time()
                await trio.sleep(LOOK_SECONDS)
        except BrokenSocket as error:
            log.debug("page: %s", error)


def parse_numbers(query: str, names: set[str]) -> dict[str, int]:
    """Raises Misuse for anything but whole numbers of these names."""
    if len(query) > MAX_QUERY:
        raise Misuse(f"the query is longer than {MAX_QUERY} characters")
    found: dict[str, int] = {}
    for name, value in _split(query):
        if name not in names or name in found or not (value.isascii() and value.isdigit() and len(value) <= 15):
            raise Misuse(f"the query takes {' and '.join(sorted(names))}, each once, as a whole number")
        found[name] = int(value)
    return found


def _split(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise Misuse(f"the query is not understood: {error}") from error


def _explain(error: FlockError) -> Response:
    status = 400 if isinstance(error, Misuse) else 404 if isinstance(error, Reverted) else 503
    return refuse(status, str(error))


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
