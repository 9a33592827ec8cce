"""The protocol /flock/sync/1: where a peer is, ranges of final blocks with certificates, single bodies by id.

Requests: ["head"], ["range", first height, most blocks, milliseconds to wait if there is none yet] and
["body", height, id]. Answers: [lowest height that it serves, head's height], [[block, certificate], ...] and the body
(empty: not here). Verifies nothing but the form; who executes the blocks verifies them.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

from flock_chain.codec import MAX_DECODED_BYTES, decode, encode
from flock_chain.consensus.types import MAX_HEIGHT
from flock_chain.consensus.wire import MAX_CERTIFICATE_BYTES
from flock_chain.crypto import Account
from flock_chain.errors import InvalidEncoding
from flock_peers.driver.bodies import Bodies
from flock_peers.driver.ports import LedgerPort, SyncPort

MAX_RANGE_BLOCKS = 64
MAX_ANSWER_BYTES = MAX_DECODED_BYTES - (64 << 10)  # the blocks of one answer; the rest is for frames
MAX_ROW_BYTES = (512 << 10) + MAX_CERTIFICATE_BYTES  # the largest block that a genesis can allow
MAX_REQUEST_BYTES = 256
MAX_HEAD_BYTES = 64  # two heights
MAX_BODY_BYTES = MAX_ROW_BYTES  # a block, and the length of its bytes
MAX_WAIT_MS = 4_000  # how long a listener's question is held open: as long a ring of listeners may hear nothing new
MAX_WAITING = 128  # held questions, all together: each is one small task
MAX_WAITING_PER_ACCOUNT = 2
REQUEST_SECONDS = 10.0
HEAD_SECONDS = 5.0  # a peer that is slower to say where it is would be slow with blocks too

Row = tuple[bytes, bytes]  # block, finalize certificate


@dataclass(frozen=True)
class Head:
    """What a peer says that it can serve: every height from `base` to `height`. Not proved."""

    base: int
    height: int


class SyncServer:
    def __init__(
        self, ledger: LedgerPort, bodies: Bodies, wait_for_height: Callable[[int], Awaitable[None]],
        on_greedy: Callable[[Account, str], None] = lambda _account, _what: None,
    ) -> None:  # fmt: skip
        """`on_greedy` hears of who would have more held open than an honest listener, and gets its answer at once."""
        self._ledger, self._bodies, self._wait_for_height = ledger, bodies, wait_for_height
        self._on_greedy = on_greedy
        self._waiting: Counter[Account] = Counter()

    async def answer(self, account: Account, payload: bytes) -> bytes:
        """Raises InvalidEncoding for a malformed request."""
        request = decode(payload, limit=MAX_REQUEST_BYTES)
        match request:
            case ["head"]:
                return encode([self._ledger.base(), self._ledger.height()])
            case ["range", int(first), int(count), int(wait_ms)] if 1 <= first < MAX_HEIGHT and count >= 1:
                return await self._answer_range(account, first, min(count, MAX_RANGE_BLOCKS), wait_ms)
            case ["body", int(height), bytes(block_id)] if 1 <= height < MAX_HEIGHT and len(block_id) == 32:
                return await self._answer_body(height, block_id)
        raise InvalidEncoding("sync request: neither a head, a range nor a body")

    async def _answer_range(self, account: Account, first: int, count: int, wait_ms: int) -> bytes:
        if first == self._ledger.height() + 1:
            await self._hold(account, first, min(max(wait_ms, 0), MAX_WAIT_MS) / 1_000)
        rows: list[Row] = []
        size = 0
        for height in range(first, min(first + count, self._ledger.height() + 1)):
            row = await self._ledger.block_and_certificate(height)
            if row is None or size + len(row[0]) + len(row[1]) > MAX_ANSWER_BYTES:
                break
            rows.append(row)
            size += len(row[0]) + len(row[1])
        return encode(rows)

    async def _hold(self, account: Account, height: int, seconds: float) -> None:
        if self._waiting[account] >= MAX_WAITING_PER_ACCOUNT:
            self._on_greedy(account, f"asks for the next block more than {MAX_WAITING_PER_ACCOUNT} times at once")
            return
        if self._waiting.total() >= MAX_WAITING:
            return
        self._waiting[account] += 1
        try:
            with trio.move_on_after(seconds):
                await self._wait_for_height(height)
        finally:
            self._waiting[account] -= 1
            if not self._waiting[account]:
                del self._waiting[account]

    async def _answer_body(self, height: int, block_id: bytes) -> bytes:
        body = self._bodies.get(height, block_id)
        if body is None and height <= self._ledger.height():
            row = await self._ledger.block_and_certificate(height)
            if row is not None and self._ledger.block_id(row[0]) == block_id:
                body = row[0]
        return encode(body or b"")


async def fetch_head(port: SyncPort, account: Account) -> Head:
    """What the peer claims; raises Unavailable or InvalidEncoding."""
    value = decode(await port.request(account, encode(["head"]), HEAD_SECONDS, MAX_HEAD_BYTES), limit=MAX_HEAD_BYTES)
    match value:
        case [int(base), int(height)] if 1 <= base < MAX_HEIGHT and 0 <= height < MAX_HEIGHT:
            return Head(base, height)
    raise InvalidEncoding("sync answer: not a lowest and a highest height")


async def fetch_range(
    port: SyncPort, account: Account, first: int, count: int = MAX_RANGE_BLOCKS, *, wait_ms: int = 0
) -> list[Row]:
    """At most `count` blocks and certificates from `first` on, unverified; raises Unavailable or InvalidEncoding."""
    request = encode(["range", first, count, wait_ms])
    rows: Any = decode(await port.request(account, request, REQUEST_SECONDS + wait_ms / 1_000, MAX_DECODED_BYTES))
    if not isinstance(rows, list) or len(rows) > count:
        raise InvalidEncoding(f"sync answer: not a list of at most {count} blocks")
    for row in rows:
        if not isinstance(row, list) or len(row) != 2 or not all(isinstance(item, bytes) for item in row):
            raise InvalidEncoding("sync answer: not rows of a block and a certificate")
    return [(row[0], row[1]) for row in rows]


async def fetch_body(port: SyncPort, account: Account, height: int, block_id: bytes) -> bytes | None:
    """A body, unverified; None where the peer has none; raises Unavailable or InvalidEncoding."""
    body = decode(await port.request(account, encode(["body", height, block_id]), REQUEST_SECONDS, MAX_BODY_BYTES))
    if not isinstance(body, bytes):
        raise InvalidEncoding("sync answer: the body is not bytes")
    return body or None
