"""Serves blobs of the store to admitted peers: capped streams, idle timeout, one chunk in memory per stream."""

import logging
from collections import Counter

import trio

from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote, Unavailable
from flock_peers.network.blob_wire import CHUNKS, LENGTH, MAX_RANGE, NOT_HERE, OBJECT, REQUEST, BlobLimits, Traffic
from flock_peers.network.link import Stream
from flock_peers.store.blob_store import BlobStore

log = logging.getLogger(__name__)


class BlobServer:
    def __init__(self, store: BlobStore, limits: BlobLimits, traffic: Traffic) -> None:
        self._store, self._limits, self._traffic = store, limits, traffic
        self._streams: Counter[Account] = Counter()
        self._slots = trio.Semaphore(limits.server_slots)

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
        async with self._slots:  # who waits for a request holds none; who waits for a slot waits, in order
            await self._answer(stream, *request)
        return True

    async def _answer(self, stream: Stream, kind: int, digest: bytes, first: int, count: int) -> None:
        if kind == OBJECT and first == count == 0:
            await self._send(stream, await trio.to_thread.run_sync(self._store.get_object, digest))
        elif kind == CHUNKS and 0 < count <= MAX_RANGE:
            await self._send_chunks(stream, digest, first, count)
        else:
            raise InvalidRemote(f"blob request: kind {kind}, {count} chunks")

    async def _send_chunks(self, stream: Stream, digest: bytes, first: int, count: int) -> None:
        for index in range(first, first + count):
            data = await trio.to_thread.run_sync(self._store.read_chunk, digest, index)
            await self._send(stream, data)
            if data is None:
                return

    async def _send(self, stream: Stream, data: bytes | None) -> None:
        if data is None:
            await stream.write(LENGTH.pack(NOT_HERE))
            return
        try:
            with trio.fail_after(self._limits.chunk_seconds):
                await stream.write(LENGTH.pack(len(data)))
                await stream.write(data)
        except trio.TooSlowError as error:
            raise Unavailable(f"blob server: a chunk was not taken in {self._limits.chunk_seconds} s") from error
        self._traffic.sent[stream.account] += len(data)
