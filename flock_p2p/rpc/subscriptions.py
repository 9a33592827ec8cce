"""Followers of one WebSocket: new heads and logs, told from the chain itself at the follower's own pace.

No queue: who reads slowly is told later, and who falls too far behind is let go. Knows no socket.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from flock_p2p.rpc.errors import LIMIT_EXCEEDED, RpcError, invalid
from flock_p2p.rpc.logs import MAX_WANTED, Criteria, find_logs, parse_criteria
from flock_p2p.rpc.methods import Methods
from flock_p2p.rpc.objects import Row, header_row
from flock_p2p.rpc.sources import Sources
from flock_p2p.rpc.values import take
from flock_p2p.web.messages import Socket
from flock_peers.ledger.queries import ChainView
from flock_peers.plural import plural

MAX_SUBSCRIPTIONS = 32  # of one connection: a page follows heads and a few contracts
MAX_LAG = 1_000  # blocks: five minutes of a busy chain; a catch-up adopts as many in seconds


@dataclass(frozen=True)
class Subscription:
    name: str
    criteria: Criteria | None  # None: of heads

    def rows(self, view: ChainView, height: int) -> list[Row]:
        if self.criteria is None:
            return [header_row(view.header(height))]
        return find_logs(view, self.criteria, range(height, height + 1))


class TooSlow(Exception):
    """The follower is further behind than blocks are worth keeping for it."""


class Follower:
    """What one connection asked for. `tell` runs beside its calls until cancelled."""

    def __init__(self, sources: Sources, methods: Methods) -> None:
        self._sources, self._methods = sources, methods
        self._rows: dict[str, Subscription] = {}
        self._new: dict[str, Subscription] = {}  # their names are not with the other side yet

    def activate(self) -> None:
        """The answer that names them is sent: before it, nobody would know whose a notification is."""
        self._rows |= self._new
        self._new = {}

    async def call(self, name: str, parameters: Sequence[Any]) -> Any:
        if name == "eth_subscribe":
            return self._subscribe(parameters)
        if name == "eth_unsubscribe":
            return self._rows.pop(str(take(parameters, 1, 1)[0]), None) is not None
        return await self._methods.call(name, parameters)

    def _subscribe(self, parameters: Sequence[Any]) -> str:
        kind, wanted = take(parameters, 1, 2)
        if kind not in ("newHeads", "logs"):
            raise invalid(f"eth_subscribe: {str(kind)[:40]!r} is not followed here; newHeads and logs are")
        here = [*self._rows.values(), *self._new.values()]
        if len(here) >= MAX_SUBSCRIPTIONS:
            raise RpcError(LIMIT_EXCEEDED, f"{MAX_SUBSCRIPTIONS} subscriptions of this connection exist already")
        criteria = parse_criteria(wanted or {}) if kind == "logs" else None
        named = sum(each.count() for each in (criteria, *(row.criteria for row in here)) if each is not None)
        if named > MAX_WANTED:  # each of them is looked for in each block
            raise RpcError(LIMIT_EXCEEDED, f"more than {MAX_WANTED} addresses and topics of one connection")
        name = "0x" + token_hex(16)
        self._new[name] = Subscription(name, criteria)
        return name

    async def tell(self, socket: Socket) -> None:
        """Raises TooSlow, or BrokenSocket."""
        ledger = self._sources.ledger
        told = ledger.head.height
        while True:
            head = await ledger.wait_new_head(told)
            if not self._rows:
                told = head
                continue
            if head - told > MAX_LAG:
                raise TooSlow(f"{plural(head - told, 'block')} behind")
            told += 1
            for name, row in await self._find(told):
                if name in self._rows:
                    params = {"subscription": name, "result": row}
                    said = {"jsonrpc": "2.0", "method": "eth_subscription", "params": params}
                    await socket.send(json.dumps(said, separators=(",", ":")).encode())

    async def _find(self, height: int) -> list[tuple[str, Row]]:
        wanted = list(self._rows.values())
        return await self._sources.queries.run(
            lambda view: [(each.name, row) for each in wanted for row in each.rows(view, height)]
        )
