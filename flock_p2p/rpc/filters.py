"""Filters that are polled over HTTP: how far each was told, and how long it is kept."""

from dataclasses import dataclass
from secrets import token_hex

import trio

from flock_p2p.rpc.errors import LIMIT_EXCEEDED, RESOURCE_NOT_FOUND, RpcError
from flock_p2p.rpc.logs import MAX_RANGE, Criteria, find_logs, keep_range, parse_criteria
from flock_p2p.rpc.objects import Row
from flock_p2p.rpc.values import data
from flock_peers.ledger.queries import ChainView

MAX_FILTERS = 256  # a page or a script has a few
IDLE_SECONDS = 300.0  # without a poll: whoever made it is gone; Ethereum's nodes use the same


@dataclass
class Filter:
    wanted: Row | None  # the range that it was asked for with; None: of blocks
    criteria: Criteria | None
    told: int  # height
    polled_at: float

    def changes(self, view: ChainView) -> tuple[int, list[Row] | list[str]]:
        """How far it looked, and what is new since it was told; a filter far behind is told in several polls."""
        end = min(view.head, self.told + MAX_RANGE)
        if self.criteria is None:
            return end, [data(view.header(height).id) for height in range(self.told + 1, end + 1)]
        while True:
            heights = range(self.told + 1, end + 1)
            try:
                return end, find_logs(view, self.criteria, heights)
            except RpcError as error:  # who polls cannot ask for less
                if error.code != LIMIT_EXCEEDED:
                    raise
                end = self.told + len(heights) // 2


class Filters:
    def __init__(self) -> None:
        self._rows: dict[str, Filter] = {}

    def add(self, wanted: Row | None, height: int) -> str:
        criteria = None if wanted is None else parse_criteria(wanted)
        now = trio.current_time()
        self._rows = {name: row for name, row in self._rows.items() if now - row.polled_at < IDLE_SECONDS}
        if len(self._rows) >= MAX_FILTERS:
            raise RpcError(LIMIT_EXCEEDED, f"{MAX_FILTERS} filters exist already; uninstall some")
        name = "0x" + token_hex(16)  # not to be guessed: another page's filter is not one's own
        self._rows[name] = Filter(None if wanted is None else keep_range(wanted), criteria, height, now)
        return name

    def get(self, name: object) -> Filter:
        row = self._rows.get(name) if isinstance(name, str) else None
        if row is None or trio.current_time() - row.polled_at >= IDLE_SECONDS:
            raise RpcError(RESOURCE_NOT_FOUND, "filter not found")
        row.polled_at = trio.current_time()
        return row

    def remove(self, name: object) -> bool:
        return isinstance(name, str) and self._rows.pop(name, None) is not None
