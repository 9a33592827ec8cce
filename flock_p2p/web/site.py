"""What one peer's HTTP server consists of: its routes, from what `join` was told. A page is one more row here."""

import time
from collections.abc import Mapping
from typing import Any

import trio

from flock_p2p.config import JoinConfig
from flock_p2p.rpc.route import RpcRoute
from flock_p2p.rpc.sources import Sources
from flock_p2p.web.guard import Guard
from flock_p2p.web.messages import Route
from flock_p2p.web.metrics import MetricsRoute
from flock_p2p.web.recent import Recent
from flock_p2p.web.server import HOST, Routes, open_listener, port_of, serve
from flock_peers.ledger.queries import Queries, open_queries
from flock_peers.peer import Peer

DEFAULT_PORT = 4280  # beside the peer's own 4200
METRICS_PATH, RPC_PATH = "/metrics", "/rpc"


class Site:
    """Runs beside a peer."""

    def __init__(self, port: int, *, rpc: bool, origins: tuple[str, ...]) -> None:
        self.wanted, self._rpc, self._origins = port, rpc, origins
        self.port = 0  # known once it runs

    def describe(self) -> list[str]:
        """For people, once it runs."""
        base = f"{HOST}:{self.port}"
        lines = [f"metrics  http://{base}{METRICS_PATH}"]
        if self._rpc:
            lines.append(f"rpc      http://{base}{RPC_PATH} and ws://{base}{RPC_PATH}  (Ethereum's JSON-RPC)")
        return lines

    async def run(self, peer: Peer, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Raises Unavailable where the port is taken."""
        listener = await open_listener(self.wanted)
        self.port = port_of(listener)
        async with open_queries(peer.ledger, time.time) as queries:
            answered: dict[int, int] = {}
            guard = Guard(self.port, frozenset(self._origins))
            await serve(listener, Routes(self._make_routes(peer, queries, answered), guard, answered), task_status)

    def _make_routes(self, peer: Peer, queries: Queries, answered: Mapping[int, int]) -> Mapping[str, Route]:
        rpc = RpcRoute(make_sources(peer, queries))
        status = Recent(lambda: peer.control.status({}))
        routes = {METRICS_PATH: MetricsRoute(peer, status, answered, rpc.endpoint.counts).make()}
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
    port = DEFAULT_PORT if config.http < 0 else config.http
    return Site(port, rpc=config.rpc, origins=config.rpc_origin)
