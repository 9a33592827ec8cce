"""One running download: ranges of chunks shared out among providers, each chunk verified before it is written."""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from flock_chain.crypto import Account
from flock_chain.errors import FlockError, InvalidContent, InvalidRemote, Unavailable
from flock_peers.network.blob_wire import CHUNKS, REQUEST, BlobLimits, read_length
from flock_peers.network.link import Stream
from flock_peers.store.blob_store import PartFile

log = logging.getLogger(__name__)


class NotHere(Unavailable):
    """The provider says so itself: no use asking again."""


Range = tuple[int, int]  # first chunk, number of chunks


class Download:
    """Memory: one chunk per provider, and what the muxer's windows hold."""

    def __init__(
        self, part: PartFile, limits: BlobLimits, *, open_stream: Callable[[Account], Awaitable[Stream]],
        on_received: Callable[[Account, int], None], on_liar: Callable[[Account, str], None],
    ) -> None:  # fmt: skip
        self._part, self._limits = part, limits
        self._open_stream, self._on_received, self._on_liar = open_stream, on_received, on_liar
        self._todo: deque[Range] = deque()
        self._left: set[int] = set()
        self._changed = trio.Event()
        self._reasons: dict[Account, str] = {}

    async def run(self, providers: list[Account]) -> Path:
        """Raises Unavailable when no provider is left and chunks are missing; what came is kept for the next try."""
        missing = await trio.to_thread.run_sync(self._part.missing)
        self._left = set(missing)
        self._todo.extend(_ranges(missing, self._limits.range_chunks))
        async with trio.open_nursery() as nursery:
            for account in providers:
                nursery.start_soon(self._work, account)
        if self._left:
            reasons = "; ".join(f"0x{account.hex()}: {reason}" for account, reason in self._reasons.items())
            raise Unavailable(
                f"file {self._part.chunks.digest.hex()}: {len(self._left)} of {len(self._part.chunks.digests)} chunks "
                f"missing, no provider left ({reasons or 'none is known'})"
            )
        return await trio.to_thread.run_sync(self._part.finish)

    async def _work(self, account: Account) -> None:
        tries = 0
        while self._left and tries < self._limits.tries_per_provider:
            before = len(self._left)
            try:
                await self._pump(account)
            except InvalidContent as error:
                self._reasons[account] = str(error)
                self._on_liar(account, str(error))
                return
            except NotHere as error:
                self._reasons[account] = str(error)
                return
            except FlockError as error:
                self._reasons[account] = str(error)
                tries = tries + 1 if len(self._left) == before else 1
                await trio.sleep(self._limits.retry_seconds * tries)

    async def _pump(self, account: Account) -> None:
        stream = await self._open_stream(account)
        stream.expect_bulk()
        asked: deque[Range] = deque()
        try:
            while self._left:
                while self._todo and len(asked) < self._limits.ranges_in_flight:
                    asked.append(self._todo.popleft())
                    await stream.write(REQUEST.pack(CHUNKS, self._part.chunks.digest, *asked[-1]))
                if not asked:
                    await self._changed.wait()  # others have the rest, or give it back
                    continue
                first, count = asked[0]
                await self._receive(stream, first)
                asked.popleft()
                if count > 1:
                    asked.appendleft((first + 1, count - 1))
        finally:
            self._todo.extendleft(reversed(asked))
            self._notify()
            await (stream.reset() if asked else stream.close())

    async def _receive(self, stream: Stream, index: int) -> None:
        _, expected = self._part.chunks.bounds(index)
        try:
            with trio.fail_after(self._limits.chunk_seconds):
                length = await read_length(stream, expected)
                if length is None:
                    raise NotHere("does not have it")
                if length != expected:
                    raise InvalidContent(f"chunk {index} has {length} of {expected} bytes")
                data = await stream.read_exactly(length)
        except trio.TooSlowError as error:
            raise Unavailable(f"chunk {index} took more than {self._limits.chunk_seconds} s") from error
        self._on_received(stream.account, length)
        await trio.to_thread.run_sync(self._part.write, index, data)
        self._left.discard(index)
        if not self._left:
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _ranges(missing: list[int], most: int) -> list[Range]:
    """Runs of neighbours, at most `most` long."""
    found: list[Range] = []
    for index in missing:
        if found and sum(found[-1]) == index and found[-1][1] < most:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((index, 1))
    return found


async def first_object(
    providers: list[Account], ask: Callable[[Account], Awaitable[bytes | None]], hedge_seconds: float
) -> tuple[Account, bytes]:
    """Ask the providers in order, the next one when the last failed or is silent; the first good answer wins."""
    reasons: dict[Account, str] = {}
    found: list[tuple[Account, bytes]] = []

    async def try_one(account: Account, failed: trio.Event) -> None:
        try:
            data = await ask(account)
            if data is not None:
                found.append((account, data))
                nursery.cancel_scope.cancel()
            reasons[account] = "does not have it"
        except (InvalidRemote, Unavailable) as error:
            reasons[account] = str(error)
        failed.set()

    async with trio.open_nursery() as nursery:
        for account in providers:
            failed = trio.Event()
            nursery.start_soon(try_one, account, failed)
            with trio.move_on_after(hedge_seconds):
                await failed.wait()
    if not found:
        told = "; ".join(f"0x{account.hex()}: {reason}" for account, reason in reasons.items())
        raise Unavailable(f"no provider has it ({told or 'nobody is connected'})")
    return found[0]
