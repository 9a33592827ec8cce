"""Block bodies of the running height and the next, by id, bounded. Does not know whether a block is valid."""

from collections import OrderedDict

from flock_chain.crypto import Account

MAX_BODIES_PER_SOURCE = 4  # of those not voted for; more than a leader proposes before a height ends or is kept


class Bodies:
    """What this validator votes for is pinned until the height is final: it may be asked for again."""

    def __init__(self) -> None:
        self._pinned: dict[tuple[int, bytes], bytes] = {}
        self._loose: dict[Account, OrderedDict[tuple[int, bytes], bytes]] = {}

    def get(self, height: int, block_id: bytes) -> bytes | None:
        key = (height, block_id)
        pinned = self._pinned.get(key)
        if pinned is not None:
            return pinned
        return next((rows[key] for rows in self._loose.values() if key in rows), None)

    def put(self, source: Account, height: int, block_id: bytes, body: bytes) -> None:
        rows = self._loose.setdefault(source, OrderedDict())
        rows[(height, block_id)] = body
        while len(rows) > MAX_BODIES_PER_SOURCE:
            rows.popitem(last=False)

    def pin(self, height: int, block_id: bytes, body: bytes) -> None:
        self._pinned[(height, block_id)] = body

    def start_height(self, height: int) -> None:
        """Forget everything below."""
        self._pinned = {key: body for key, body in self._pinned.items() if key[0] >= height}
        for source, rows in list(self._loose.items()):
            kept = OrderedDict((key, body) for key, body in rows.items() if key[0] >= height)
            if kept:
                self._loose[source] = kept
            else:
                del self._loose[source]
