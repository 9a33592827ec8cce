"""Serves blobs of the store to admitted peers: capped streams, idle timeout, one chunk in memory per stream, and a turn
for each chunk, so that nobody who reads slowly keeps the others waiting."""

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial

import trio

from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote, Unavailable
from flock_peers.network.blob_wire import CHUNKS, LENGTH, MAX_RANGE, NOT_HERE, OBJECT, REQUEST, BlobLimits, Traffic
from flock_peers.network.link import Stream
from flock_peers.network.turns import OnLost, Turns
from flock_peers.store.blob_store import BlobStore

log = logging.getLogger(__name__)


class BlobServer:
    """`is_favoured`: who waits for no stranger. `on_lost`: of `Turns`."""

    def __init__(
        self, store: BlobStore, limits: BlobLimits, traffic: Traffic, is_favoured: Callable[[Account], bool],
        on_lost: OnLost = lambda _account, _seconds: None,
    ) -> None:  # fmt: skip
        self._store, self._limits, self._traffic = store, limits, traffic
        self._streams: Counter[Account] = Counter()
        self._turns = Turns(
            limits.server_slots, limits.sure_seconds, limits.chunk_seconds, is_favoured, limits.server_streams_per_peer,
            on_lost,
        )  # fmt: skip

    async def serve(self, stream: Stream) -> None:
        account = stream.account
        if self._streams[account] >= self._limits.server_streams_per_peer:
            raise Unavailable(f"blob server: more than {self._limits.server_streams_per_peer} streams of one peer")
        self._streams[account] += 1
        try:
            while await self._serve_one(stream):  # one request after the other
                pass
        finally:
            self._streams[account] -= 1
            if not self._streams[account]:
                del self._streams[account]

    async def _serve_one(self, stream: Stream) -> bool:
        request = None
        with trio.move_on_after(self._limits.server_idle_seconds):
            if not await stream.is_at_end():
                request = REQUEST.unpack(await stream.read_exactly(REQUEST.size))
        if request is None:
            return False
        await self._answer(stream, *request)
        return True

    async def _answer(self, stream: Stream, kind: int, digest: bytes, first: int, count: int) -> None:
        if kind == OBJECT and first == count == 0:
            await self._send(stream, partial(self._store.get_object, digest))
        elif kind == CHUNKS and 0 < count <= MAX_RANGE:
            await self._send_chunks(stream, digest, first, count)
        else:
            raise InvalidRemote(f"blob request: kind {kind}, {count} chunks")

    async def _send_chunks(self, stream: Stream, digest: bytes, first: int, count: int) -> None:
        for index in range(first, first + count):
            if not await self._send(stream, partial(self._store.read_chunk, digest, index)):
                return

    async def _send(self, stream: Stream, read: Callable[[], bytes | None]) -> bool:
        """False where it is not here. Raises Unavailable where it is not taken in time, or while others wait."""
        async with self._turns.take(stream.account, stream.remote_host) as turn:
            data = await trio.to_thread.run_sync(read)
            with turn.at_others_pace():
                await stream.write(LENGTH.pack(NOT_HERE if data is None else len(data)))
                await stream.write(data or b"")
        self._traffic.sent[stream.account] += len(data or b"")
        return data is not None
