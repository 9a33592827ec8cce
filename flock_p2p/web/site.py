"""What one peer's HTTP server consists of: its routes, from what `join` was told."""

import logging
import time
from collections.abc import Mapping
from typing import Any

import trio

from flock_chain.errors import Unavailable
from flock_p2p.config import DEFAULT_HTTP_PORT, JoinConfig
from flock_p2p.page.routes import PageRoutes
from flock_p2p.page.state import PeerState
from flock_p2p.rpc.route import RpcRoute
from flock_p2p.rpc.sources import Sources
from flock_p2p.web.guard import Guard
from flock_p2p.web.messages import Route
from flock_p2p.web.metrics import MetricsRoute
from flock_p2p.web.recent import Recent
from flock_p2p.web.server import HOST, Routes, open_listener, port_of, serve
from flock_peers.ledger.queries import Queries, open_queries
from flock_peers.peer import Peer

log = logging.getLogger(__name__)

METRICS_PATH, RPC_PATH = "/metrics", "/rpc"


class Site:
    """Runs beside a peer."""

    def __init__(self, port: int, *, rpc: bool, origins: tuple[str, ...], may_move: bool = False) -> None:
        """`may_move`: to any other port where this one is taken, for nobody but a reader of the address needs it."""
        self.wanted, self.may_move, self._rpc, self._origins = port, may_move, rpc, origins
        self.port = 0  # known once it runs

    def describe(self) -> list[str]:
        """For people, once it runs."""
        base = f"{HOST}:{self.port}"
        lines = [f"page     http://{base}", f"metrics  http://{base}{METRICS_PATH}"]
        if self._rpc:
            lines.append(f"rpc      http://{base}{RPC_PATH} and ws://{base}{RPC_PATH}  (Ethereum's JSON-RPC)")
        return lines

    async def run(self, peer: Peer, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Raises Unavailable where the port is taken."""
        listener = await self._open()
        self.port = port_of(listener)
        if self.wanted not in (0, self.port):
            log.info("http: port %d is taken, so the page is at another one", self.wanted)
        peer.page = f"http://{HOST}:{self.port}"
        async with open_queries(peer.ledger, time.time) as queries:
            answered: dict[int, int] = {}
            guard = Guard(self.port, frozenset(self._origins))
            await serve(listener, Routes(self._make_routes(peer, queries, answered), guard, answered), task_status)

    async def find_port(self) -> int:
        """Where `run` would listen now. Raises what it would raise."""
        async with await self._open() as listener:
            return port_of(listener)

    async def _open(self) -> trio.SocketListener:
        try:
            return await open_listener(self.wanted)
        except Unavailable:
            if not self.may_move:
                raise
        return await open_listener(0)

    def _make_routes(self, peer: Peer, queries: Queries, answered: Mapping[int, int]) -> Mapping[str, Route]:
        rpc = RpcRoute(make_sources(peer, queries))
        status = Recent(lambda: peer.control.status({}))
        routes = dict(PageRoutes(PeerState(peer, queries)).make(self.port))
        routes[METRICS_PATH] = MetricsRoute(peer, status, answered, rpc.endpoint.counts).make()
        if self._rpc:
            routes[RPC_PATH] = rpc.make()
        return routes


def make_sources(peer: Peer, queries: Queries) -> Sources:
    def sync_target() -> int | None:
        sync = peer.driver.status.sync
        return None if sync is None else sync.target

    return Sources(
        ledger=peer.ledger,
        queries=queries,
        submit=peer.control.submit,
        count_peers=lambda: len(peer.host.connected()),
        sync_target=sync_target,
    )


def make_site(config: JoinConfig) -> Site | None:
    """None where none is wanted."""
    if config.http < 0 and not config.rpc:
        return None
    port = DEFAULT_HTTP_PORT if config.http < 0 else config.http
    may_move = port == DEFAULT_HTTP_PORT and not config.rpc  # who asks the RPC must not find another peer there
    return Site(port, rpc=config.rpc, origins=config.rpc_origin, may_move=may_move)
