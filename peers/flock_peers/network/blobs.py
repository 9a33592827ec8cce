"""Blobs by content address: fetch from several peers, verify everything, serve what the store has."""

import logging
import random
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import trio

from flock_chain.content import MAX_FILE_BYTES, decode_chunk_list
from flock_chain.crypto import Account
from flock_chain.errors import InvalidContent, InvalidRemote, Unavailable
from flock_peers.network.blob_fetch import Download, Ways
from flock_peers.network.blob_hedge import first_object
from flock_peers.network.blob_progress import Snapshot
from flock_peers.network.blob_server import BlobServer
from flock_peers.network.blob_wire import BLOBS, BlobLimits, Traffic, ask_object
from flock_peers.network.host import Host
from flock_peers.network.link import Stream
from flock_peers.network.turns import tell_untaken
from flock_peers.store.blob_store import BlobStore

log = logging.getLogger(__name__)

_MAX_LIARS = 1024  # accounts cost nothing


class _Turns:
    """How many streams of ours one provider has at a time: a limiter for each, those in use and a few others."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limiters: dict[Account, trio.CapacityLimiter] = {}

    def of(self, account: Account) -> trio.CapacityLimiter:
        if account not in self._limiters and len(self._limiters) >= _MAX_LIARS:
            self._limiters = {key: row for key, row in self._limiters.items() if row.statistics().borrowed_tokens}
        return self._limiters.setdefault(account, trio.CapacityLimiter(self._most))


class BlobService:
    """Registers itself with the host. `providers` are asked first, then other peers."""

    def __init__(self, host: Host, store: BlobStore, limits: BlobLimits | None = None) -> None:
        self._host, self.store = host, store
        self._limits = limits or BlobLimits()
        self.traffic = Traffic()
        self._liars: dict[Account, float] = {}
        self._locks: dict[bytes, trio.Lock] = {}
        self._running: dict[bytes, Download] = {}
        self._slots = trio.CapacityLimiter(self._limits.fetch_streams)
        self._file_turns, self._object_turns = (_Turns(self._limits.turns_per_provider) for _ in range(2))
        server = BlobServer(
            store, self._limits, self.traffic, lambda account: account in host.book.favoured, tell_untaken(host.tally)
        )
        host.on_stream(BLOBS, server.serve)

    @property
    def bytes_sent(self) -> int:
        return self.traffic.bytes_sent

    @property
    def bytes_received(self) -> int:
        return self.traffic.bytes_received

    def progress(self) -> list[Snapshot]:
        """Of the downloads that are running."""
        return [download.progress.read() for download in self._running.values()]

    async def add_file(self, path: Path) -> bytes:
        """Put a file into the store, in a thread; returns its digest."""
        return await trio.to_thread.run_sync(self.store.put_file, path)

    async def fetch_object(self, digest: bytes, providers: Sequence[Account] | None = None) -> bytes:
        """At most 1 MiB. Raises Unavailable when nobody has it, Refused when the quota is full."""
        data = self.store.get_object(digest)
        if data is None:
            _, fetched = await self._ask_for_object(digest, self._candidates(providers))
            await trio.to_thread.run_sync(lambda: self.store.put_object(fetched, keep=False))
            return fetched
        return data

    async def fetch_file(
        self, digest: bytes, providers: Sequence[Account] | None = None, max_bytes: int = MAX_FILE_BYTES
    ) -> Path:
        """Where the verified file lies. A fetch that was cut goes on where it was.

        Raises Unavailable when nobody has it, InvalidRemote when the digest names no file or one above `max_bytes`,
        Refused when the quota is full.
        """
        lock = self._locks.setdefault(digest, trio.Lock())
        try:
            async with lock:
                path = self.store.file_path(digest)
                return path if path is not None else await self._download(digest, providers, max_bytes)
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._locks.pop(digest, None)

    async def _download(self, digest: bytes, providers: Sequence[Account] | None, max_bytes: int) -> Path:
        candidates = self._candidates(providers)
        listing = self.store.get_object(digest)
        if listing is None:
            giver, listing = await self._ask_for_object(digest, candidates)
            candidates.remove(giver)
            candidates.insert(0, giver)
        chunks = decode_chunk_list(listing, digest=digest, max_file_bytes=max_bytes)
        part = await trio.to_thread.run_sync(self.store.open_part, chunks)
        try:
            ways = Ways(
                self._open_for, self._count, self._ban, self._host.complain, self._file_turns.of, self._slots
            )  # fmt: skip
            download = self._running[digest] = Download(part, self._limits, ways)
            return await download.run(candidates)
        finally:
            self._running.pop(digest, None)
            part.close()

    async def _ask_for_object(self, digest: bytes, candidates: list[Account]) -> tuple[Account, bytes]:
        try:
            return await first_object(
                candidates, lambda account: self._ask_one(account, digest), self._limits.hedge_seconds
            )
        except Unavailable as error:
            raise Unavailable(f"object {digest.hex()}: {error}") from error

    async def _ask_one(self, account: Account, digest: bytes) -> bytes | None:
        async with self._object_turns.of(account):
            begun, least = trio.current_time(), 0.0
            stream = await self._open_stream(account)
            try:
                with trio.fail_after(self._limits.object_seconds):
                    data = await ask_object(stream, digest)
                least = float("inf")
            except trio.TooSlowError as error:
                raise Unavailable(f"no answer within {self._limits.object_seconds} s") from error
            except trio.Cancelled:  # the next one that was asked was faster; or nobody wants it any more
                least = self._limits.hedge_seconds
                raise
            finally:
                if (seconds := trio.current_time() - begun) >= least:
                    what = f"object {digest.hex()}: no whole answer in {seconds:.1f} s"
                    self._host.complain(account, what, "objects")
                await stream.close()
        if data is None:
            return None
        self._count(account, len(data))
        if sha256(data).digest() != digest:
            self._ban(account, f"object {digest.hex()}: other bytes")
            raise InvalidContent("bytes that do not match the content id")
        return data

    async def find_holders(self, digest: bytes, seconds: float) -> list[Account]:
        """Which connected peers serve this object now, as far as they answer in that time."""
        found: list[Account] = []

        async def ask(account: Account) -> None:
            with suppress(InvalidRemote, Unavailable):
                if await self._ask_one(account, digest) is not None:
                    found.append(account)

        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for account in self._candidates(None):
                    nursery.start_soon(ask, account)
        return sorted(found)

    def _candidates(self, providers: Sequence[Account] | None) -> list[Account]:
        """Connected, not known to lie: the named ones first, then the others of the mesh in random order."""
        connected = [account for account in self._host.connected() if not self._is_liar(account)]
        named = [account for account in dict.fromkeys(providers or ()) if account in connected]
        others = [account for account in connected if account not in named]
        random.shuffle(others)
        return named + others

    async def _open_stream(self, account: Account) -> Stream:
        return await self._host.open_stream(account, BLOBS)

    async def _open_for(self, account: Account, size: int) -> Stream:
        return await self._host.open_stream(account, BLOBS, bulk=size >= self._limits.bulk_bytes)

    def _count(self, account: Account, size: int) -> None:
        self.traffic.received[account] += size

    def _ban(self, account: Account, reason: str) -> None:
        """As a provider only: a bad disk must not cost a validator its connections."""
        log.warning("blobs of 0x%s are refused for a while: %s", account.hex(), reason)
        if len(self._liars) >= _MAX_LIARS:
            del self._liars[next(iter(self._liars))]
        self._liars[account] = trio.current_time() + self._limits.ban_seconds

    def _is_liar(self, account: Account) -> bool:
        if self._liars.get(account, 0.0) > trio.current_time():
            return True
        self._liars.pop(account, None)
        return False
