"""One running download: ranges of chunks shared out among providers, each chunk verified before it is written.

A chunk is read from the network while the one before it is hashed and written in a thread. Safe to cancel: what was
verified stays in the part file, and no thread outlives `run`.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from flock_chain.crypto import Account
from flock_chain.errors import FlockError, InvalidContent, InvalidRemote, Unavailable
from flock_peers.network.blob_progress import Progress
from flock_peers.network.blob_schedule import Range, Schedule
from flock_peers.network.blob_wire import CHUNKS, REQUEST, BlobLimits, read_length, read_pieces
from flock_peers.network.link import Stream
from flock_peers.plural import plural
from flock_peers.store.disk import DiskTrouble
from flock_peers.store.part_file import PartFile

log = logging.getLogger(__name__)

_REHASH_CHUNKS = 64  # of a part file in one go: a cancelled fetch waits for no more than that


class NotHere(Unavailable):
    """The provider says so itself: no use asking again."""


@dataclass(frozen=True)
class Ways:
    """What a download is given by the service."""

    open_stream: Callable[[Account, int], Awaitable[Stream]]  # the number: bytes of the file
    on_received: Callable[[Account, int], None]
    on_liar: Callable[[Account, str], None]
    on_failed: Callable[[Account, str], None]  # late, or broken off: others are asked as well
    turn: Callable[[Account], trio.CapacityLimiter]  # streams with one peer: it refuses more
    slots: trio.CapacityLimiter  # streams of all downloads together, for each holds some chunks in memory


class Download:
    """Memory: three chunks per stream (one read, one waiting, one written), and what the muxer's window holds."""

    def __init__(self, part: PartFile, limits: BlobLimits, ways: Ways) -> None:
        self._part, self._limits, self._ways = part, limits, ways
        self.progress = Progress(part.chunks.digest, part.chunks.size, trio.current_time)
        self._schedule = Schedule((), limits.range_chunks, limits.ranges_in_flight)
        self._candidates: deque[Account] = deque()
        self._changed = trio.Event()
        self._scope = trio.CancelScope()
        self._reasons: dict[Account, str] = {}
        self._gave: set[Account] = set()  # a chunk that was right
        self._trouble: DiskTrouble | None = None
        self._unflushed = 0

    async def run(self, providers: list[Account]) -> Path:
        """Raises Unavailable when no provider is left and chunks are missing; what came is kept for the next try."""
        missing = await self._find_missing()
        x = self._limits
        self._schedule = Schedule(
            missing, x.range_chunks, x.ranges_in_flight, x.overtake_seconds, trio.current_time
        )  # fmt: skip
        self._candidates.extend(providers)
        if missing:
            await self._fetch()
        if self._trouble is not None:
            raise self._trouble
        if self._schedule.left:
            raise Unavailable(self._explain())
        return await trio.to_thread.run_sync(self._part.finish)

    async def _find_missing(self) -> list[int]:
        """By re-hashing what is there: no journal to trust."""
        missing: list[int] = []
        count = len(self._part.chunks.digests)
        for first in range(0, count, _REHASH_CHUNKS):
            rows = range(first, min(count, first + _REHASH_CHUNKS))
            missing += await trio.to_thread.run_sync(self._part.missing, rows)
        lost = sum(self._part.chunks.bounds(index)[1] for index in missing)
        self.progress.on_found(self._part.chunks.size - lost)
        return missing

    def _explain(self) -> str:
        reasons = "; ".join(f"0x{account.hex()}: {reason}" for account, reason in self._reasons.items())
        return (
            f"file {self._part.chunks.digest.hex()}: {self._schedule.left} of "
            f"{plural(len(self._part.chunks.digests), 'chunk')} missing, no provider left "
            f"({reasons or 'none is known'})"
        )

    async def _fetch(self) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._report)
                nursery.start_soon(self._flush_often)
                async with trio.open_nursery() as workers:
                    for _ in range(self._limits.providers_at_once):
                        workers.start_soon(self._work_through)
                nursery.cancel_scope.cancel()

    async def _report(self) -> None:
        while True:
            await trio.sleep(self._limits.report_seconds)
            log.info("%s", self.progress.read())

    async def _flush_often(self) -> None:
        """So that the end has little to wait for, and no other file on this disk waits behind a gigabyte."""
        while True:
            await self._changed.wait()
            if self._unflushed >= self._limits.flush_bytes:
                self._unflushed = 0
                await trio.to_thread.run_sync(self._part.flush)

    # --- one provider after the other

    async def _work_through(self) -> None:
        """Who drops out is replaced by the next that may have it."""
        while self._candidates:
            await self._work(self._candidates.popleft())

    async def _work(self, account: Account) -> None:
        tries = 0
        while self._schedule.left and tries < self._limits.tries_per_provider:
            if not self._schedule.has_work(account):
                with trio.move_on_after(self._limits.overtake_seconds):
                    await self._changed.wait()  # others have the rest, or give it back, or are late with it
                continue
            before = self._schedule.left
            try:
                async with self._ways.turn(account), self._ways.slots:
                    await self._pump(account)
            except InvalidRemote as error:
                self._reasons[account] = str(error)
                self._ways.on_liar(account, f"file {self._part.chunks.digest.hex()}: {error}")
                return
            except NotHere as error:
                self._reasons[account] = str(error)
                return
            except DiskTrouble as error:
                self._trouble = error
                self._scope.cancel()
            except FlockError as error:
                self._reasons[account] = str(error)
                self._ways.on_failed(account, f"file {self._part.chunks.digest.hex()}: {error}")
                tries = tries + 1 if self._schedule.left == before else 1
                await trio.sleep(self._limits.retry_seconds * tries)

    async def _pump(self, account: Account) -> None:
        """Until there is nothing to do for this provider; what it owes then is given back."""
        first = self._schedule.ask(account)  # before a stream is opened: of many that wait for work one finds it
        if first is None:
            return
        failures: list[FlockError] = []
        try:
            stream = await self._ways.open_stream(account, self._part.chunks.size)
        except BaseException:
            self._schedule.give_up(account)
            self._notify()
            raise
        stream.expect_bulk()
        try:
            async with trio.open_nursery() as nursery:
                give, take = trio.open_memory_channel[tuple[int, list[bytes]]](0)

                async def verify() -> None:
                    try:
                        async for index, pieces in take:
                            await self._verify(account, index, pieces)
                    except FlockError as error:
                        failures.append(error)
                        nursery.cancel_scope.cancel()

                async def read() -> None:
                    try:
                        async with give:
                            await self._read_all(account, stream, give, first)
                    except FlockError as error:
                        failures.append(error)
                        await give.aclose()  # what was read before is verified: it may be the reason

                nursery.start_soon(verify)
                nursery.start_soon(read)
        finally:
            owes = self._schedule.in_flight(account)
            if owes and not failures and not self._schedule.left and account not in self._gave:
                self._ways.on_failed(account, f"file {self._part.chunks.digest.hex()}: gave nothing until others had")
            self._schedule.give_up(account)
            self._notify()
            await (stream.reset() if owes else stream.close())
        if failures:
            raise next((error for error in failures if isinstance(error, InvalidRemote)), failures[0])

    async def _read_all(
        self, account: Account, stream: Stream, give: trio.MemorySendChannel[tuple[int, list[bytes]]], first: Range
    ) -> None:
        """`first`: the range that was noted as asked of it already."""
        asked: deque[int] = deque()
        found: Range | None = first
        while True:
            while found is not None:
                await stream.write(REQUEST.pack(CHUNKS, self._part.chunks.digest, *found))
                asked.extend(range(found[0], sum(found)))
                found = self._schedule.ask(account)
            if asked:
                pieces = await self._receive(stream, asked[0])
                self._ways.on_received(account, sum(map(len, pieces)))
                await give.send((asked.popleft(), pieces))
            elif self._schedule.in_flight(account):
                await self._changed.wait()  # the last chunks are being written; then there may be more to do
            else:
                return
            found = self._schedule.ask(account)

    async def _receive(self, stream: Stream, index: int) -> list[bytes]:
        _, expected = self._part.chunks.bounds(index)
        try:
            with trio.fail_after(self._limits.chunk_seconds):
                length = await read_length(stream, expected)
                if length is None:
                    raise NotHere("does not have it")
                if length != expected:
                    raise InvalidContent(f"chunk {index} has {length} of {expected} bytes")
                return await read_pieces(stream, length)
        except trio.TooSlowError as error:
            raise Unavailable(f"chunk {index} took more than {self._limits.chunk_seconds} s") from error

    async def _verify(self, account: Account, index: int, pieces: list[bytes]) -> None:
        size = sum(map(len, pieces))
        if self._schedule.is_needed(index):  # else somebody else was faster
            await trio.to_thread.run_sync(self._part.write, index, *pieces)
        self._gave.add(account)
        if self._schedule.on_verified(account, index):
            self.progress.on_verified(account, size)
            self._unflushed += size
        if not self._schedule.left:
            self._scope.cancel()
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
