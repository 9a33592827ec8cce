"""A download from providers that are slow, wrong, short, silent or gone, at random, on a clock that the test owns."""

from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trio
from clock_support import on_stepped_clock
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flock_chain.content import ChunkList
from flock_chain.crypto import Account
from flock_chain.errors import InvalidContent, Unavailable
from flock_peers.network.blob_fetch import Download, Ways
from flock_peers.network.blob_schedule import MAX_COPIES
from flock_peers.network.blob_wire import LENGTH, NOT_HERE, REQUEST, BlobLimits
from flock_peers.store.disk import DiskTrouble

CHUNK = 16  # bytes, of these files
LIMITS = BlobLimits(range_chunks=4, chunk_seconds=10.0, report_seconds=5.0, flush_bytes=8 * CHUNK)
IN_FLIGHT = LIMITS.range_chunks * LIMITS.ranges_in_flight
HONEST = Account(b"h" * 20)


class FakePart:
    """A part file in memory."""

    def __init__(self, count: int, here: frozenset[int] = frozenset()) -> None:
        self.content = [sha256(bytes([n % 256, n // 256])).digest()[:CHUNK] for n in range(count)]
        if count:
            self.content[-1] = self.content[-1][:5]
        size = sum(map(len, self.content))
        self.chunks = ChunkList(size, CHUNK, tuple(sha256(data).digest() for data in self.content))
        self.written: dict[int, bytes] = {index: self.content[index] for index in here if index < count}
        self.flushed = 0
        self.is_full = False

    def missing(self, among: range) -> list[int]:
        return [index for index in among if index not in self.written]

    def write(self, index: int, *pieces: bytes) -> None:
        if self.is_full:
            raise DiskTrouble("the disk is full")
        data = b"".join(pieces)
        if sha256(data).digest() != self.chunks.digests[index]:
            raise InvalidContent(f"chunk {index} does not match its digest")
        assert self.written.get(index, data) == data  # two may bring it in the same moment
        self.written[index] = data

    def flush(self) -> None:
        self.flushed += 1

    def finish(self) -> Path:
        assert [self.written[index] for index in range(len(self.content))] == self.content
        return Path("whole")


class FakeStream:
    """One provider's end, by a script: seconds and what it does for each chunk that it is asked for."""

    def __init__(self, provider: "FakeProvider", part: FakePart) -> None:
        self._provider, self._part = provider, part
        self._asked: list[int] = []
        self._ready = bytearray()
        self.is_over = False

    def expect_bulk(self) -> None: ...

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        _, digest, first, count = REQUEST.unpack(data)
        assert digest == self._part.chunks.digest
        self._asked += range(first, first + count)
        assert len(self._asked) <= IN_FLIGHT

    async def read_exactly(self, count: int) -> bytes:
        while len(self._ready) < count:
            await self._answer()
        data = bytes(self._ready[:count])
        del self._ready[:count]
        return data

    async def read_some(self, most: int) -> bytes:
        """In pieces of some bytes."""
        if not self._ready:
            await self._answer()
        return await self.read_exactly(min(most, 7, len(self._ready)))

    async def _answer(self) -> None:
        if not self._asked:
            await trio.sleep_forever()
        index = self._asked.pop(0)
        data, act = self._part.content[index], self._provider.act()
        self._provider.served[index] += 1
        await trio.sleep(self._provider.seconds)
        match act:
            case "right":
                self._ready += LENGTH.pack(len(data)) + data
            case "wrong":
                self._ready += LENGTH.pack(len(data)) + bytes([data[0] ^ 1]) + data[1:]
            case "short":
                self._ready += LENGTH.pack(len(data) - 1) + data[:-1]
            case "endless":
                self._ready += LENGTH.pack(1 << 30) + data
            case "without":
                self._ready += LENGTH.pack(NOT_HERE)
            case "silent":
                await trio.sleep_forever()
            case "vanish":
                raise Unavailable("stream broke")

    async def reset(self) -> None:
        self.is_over = True
        await trio.lowlevel.checkpoint()

    close = reset


class FakeProvider:
    def __init__(self, seconds: float, acts: list[str]) -> None:
        self.seconds, self._acts = seconds, list(acts)
        self.opens_refused = 0  # the first so many
        self.served: Counter[int] = Counter()
        self.streams: list[FakeStream] = []

    def act(self) -> str:
        """After its script it is honest."""
        return self._acts.pop(0) if self._acts else "right"


class Desk:
    def __init__(self, part: FakePart, providers: dict[Account, FakeProvider]) -> None:
        self.part, self.providers = part, providers
        self.liars: dict[Account, str] = {}
        self.failed: dict[Account, str] = {}
        self.received: Counter[Account] = Counter()
        slots = trio.CapacityLimiter(LIMITS.fetch_streams)
        turns = {account: trio.CapacityLimiter(LIMITS.turns_per_provider) for account in providers}
        ways = Ways(
            self._open, self._count, self.liars.__setitem__, self.failed.__setitem__, turns.__getitem__, slots
        )  # fmt: skip
        self.download = Download(part, LIMITS, ways)  # type: ignore[arg-type]

    async def _open(self, account: Account, size: int) -> Any:
        await trio.lowlevel.checkpoint()
        assert size == self.part.chunks.size
        if account not in self.providers:
            raise Unavailable("not connected")
        if self.providers[account].opens_refused:
            self.providers[account].opens_refused -= 1
            raise Unavailable("no stream")
        stream = FakeStream(self.providers[account], self.part)
        self.providers[account].streams.append(stream)
        return stream

    def _count(self, account: Account, size: int) -> None:
        self.received[account] += size

    async def run(self) -> Path:
        try:
            return await self.download.run(list(self.providers))
        finally:
            assert all(stream.is_over for row in self.providers.values() for stream in row.streams)


def stepped(test: Callable[..., Any]) -> Callable[..., None]:
    """Runs the coroutine function on the stepped clock, for Hypothesis, which takes no coroutines."""
    return on_stepped_clock(test)


ACTS = st.lists(
    st.sampled_from(["right", "right", "right", "wrong", "short", "endless", "without", "silent", "vanish"]), max_size=6
)
BAD = st.tuples(st.sampled_from([0.0, 0.01, 1.0, 9.0]), ACTS)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 40), here=st.frozensets(st.integers(0, 39)), bad=st.lists(BAD, max_size=4), first=st.booleans()
)
@example(
    count=3,
    here=frozenset(),
    first=True,
    bad=[(0.0, ["silent"]), (9.0, []), (1.0, ["short"]), (0.01, ["right", "wrong"])],
)
def test_one_honest_provider_is_enough_whatever_the_others_do(
    count: int, here: frozenset[int], bad: list[tuple[float, list[str]]], first: bool
) -> None:
    async def run() -> None:
        part = FakePart(count, here)
        others = {Account(bytes([n]) * 20): FakeProvider(*row) for n, row in enumerate(bad, 1)}
        honest = {HONEST: FakeProvider(0.1, [])}
        desk = Desk(part, honest | others if first else others | honest)
        missing = count - len(part.written)
        began = trio.current_time()
        assert await desk.run() == Path("whole")
        seconds = trio.current_time() - began
        late = 2 * LIMITS.overtake_seconds * MAX_COPIES  # who waits for work looks once in that time
        assert seconds <= 0.1 * missing * MAX_COPIES + late + 1  # nobody holds it up for long: the slow are overtaken
        assert HONEST not in desk.liars
        for account, provider in others.items():
            lies = {"wrong", "short", "endless"}
            was_asked = sum(provider.served.values())
            told = bad[list(others).index(account)][1][:was_asked]
            if account in desk.liars:
                assert lies & set(told)
        asked = sum(sum(row.served.values()) for row in desk.providers.values())
        lost = sum(min(IN_FLIGHT, sum(row.served.values())) for row in others.values()) * LIMITS.tries_per_provider
        assert asked <= missing + lost + IN_FLIGHT * len(desk.providers) * (MAX_COPIES - 1)
        assert desk.download.progress.read().done == part.chunks.size

    stepped(run)()


@pytest.mark.parametrize("sin", ["wrong", "short", "endless"])
@on_stepped_clock
async def test_a_lie_bans_its_provider_at_once_with_the_reason(sin: str) -> None:
    liar = Account(b"l" * 20)
    desk = Desk(FakePart(20), {liar: FakeProvider(0.0, ["right", sin]), HONEST: FakeProvider(0.1, [])})
    await desk.run()
    assert list(desk.liars) == [liar] and desk.part.chunks.digest.hex() in desk.liars[liar]
    assert sum(desk.providers[liar].served.values()) <= 4 and len(desk.providers[liar].streams) == 1


@on_stepped_clock
async def test_a_lie_counts_although_its_provider_is_gone_before_it_is_found_out() -> None:
    liar = Account(b"l" * 20)
    desk = Desk(FakePart(20), {liar: FakeProvider(0.0, ["wrong", "vanish"])})
    with pytest.raises(Unavailable, match="chunk 0 does not match its digest"):
        await desk.run()
    assert list(desk.liars) == [liar] and len(desk.providers[liar].streams) == 1


@on_stepped_clock
async def test_who_is_silent_gives_its_ranges_back_and_is_no_liar() -> None:
    silent = Account(b"s" * 20)
    desk = Desk(FakePart(4), {silent: FakeProvider(0.0, ["silent"] * 9)})
    began = trio.current_time()
    with pytest.raises(Unavailable, match=r"4 of 4 chunks missing, no provider left.*took more than 10"):
        await desk.run()
    assert 30 <= trio.current_time() - began <= 32 and not desk.liars
    assert "chunk 0 took more than 10" in desk.failed[silent]


@on_stepped_clock
async def test_what_was_to_be_asked_on_a_stream_that_does_not_open_is_asked_on_the_next() -> None:
    desk = Desk(FakePart(3), {HONEST: FakeProvider(0.0, [])})
    desk.providers[HONEST].opens_refused = 2
    with trio.fail_after(60):
        assert await desk.run() == Path("whole")
    assert desk.providers[HONEST].served.total() == 3 and len(desk.providers[HONEST].streams) == 1


@on_stepped_clock
async def test_who_does_not_have_it_is_replaced_by_the_next_until_somebody_does() -> None:
    nobody = {Account(bytes([n]) * 20): FakeProvider(0.0, ["without"] * 9) for n in range(1, 40)}
    desk = Desk(FakePart(9), nobody | {HONEST: FakeProvider(0.0, [])})
    await desk.run()
    assert all(len(row.streams) <= 1 for row in nobody.values()) and not desk.failed


@on_stepped_clock
async def test_a_small_file_comes_once_though_eight_could_send_it_and_from_the_next_where_one_is_late() -> None:
    several = {Account(bytes([n]) * 20): FakeProvider(0.1, []) for n in range(1, 9)}
    await Desk(FakePart(3), several).run()
    assert sorted(sum(row.served.values()) for row in several.values()) == [0] * 7 + [3]
    late = Account(bytes([9]) * 20)
    desk = Desk(FakePart(1), {late: FakeProvider(9.0, []), HONEST: FakeProvider(0.1, [])})
    began = trio.current_time()
    await desk.run()
    assert trio.current_time() - began < LIMITS.overtake_seconds + 0.5  # whichever of the two was asked first


@on_stepped_clock
async def test_three_share_a_file_and_a_tenth_of_the_speed_does_not_hold_it_up() -> None:
    fast = {Account(bytes([n]) * 20): FakeProvider(0.1, []) for n in (1, 2)}
    slow = {Account(bytes([3]) * 20): FakeProvider(9.0, [])}
    desk = Desk(FakePart(200), slow | fast)
    began = trio.current_time()
    await desk.run()
    assert trio.current_time() - began < 12  # 10 s of two, and the slow one's last ranges
    served = sum(sum(row.served.values()) for row in desk.providers.values())
    assert served <= 200 + IN_FLIGHT


@on_stepped_clock
async def test_a_cancelled_download_keeps_what_came_and_goes_on_from_there() -> None:
    part = FakePart(30)
    with trio.move_on_after(1.05):
        await Desk(part, {HONEST: FakeProvider(0.1, [])}).run()
    before = len(part.written)
    assert 8 <= before <= 11
    again = Desk(part, {HONEST: FakeProvider(0.1, [])})
    await again.run()
    assert sum(again.providers[HONEST].served.values()) == 30 - before


@on_stepped_clock
async def test_a_full_disk_ends_it_and_is_nobody_elses_fault() -> None:
    part = FakePart(30)
    part.is_full = True
    desk = Desk(part, {HONEST: FakeProvider(0.1, [])})
    with pytest.raises(DiskTrouble):
        await desk.run()
    assert not desk.liars


@on_stepped_clock
async def test_progress_tells_bytes_rate_and_the_time_left_and_the_log_says_so_at_times(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    part = FakePart(101, frozenset(range(50)))
    desk = Desk(part, {HONEST: FakeProvider(0.5, [])})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.run)
        await trio.sleep(12.2)
        now = desk.download.progress.read()
        nursery.cancel_scope.cancel()
    assert now.done == (50 + 24) * CHUNK and now.size == part.chunks.size
    assert now.bytes_per_second == pytest.approx(2 * CHUNK, rel=0.1)
    assert now.eta_seconds == pytest.approx((now.size - now.done) / (2 * CHUNK), rel=0.1)
    assert now.providers == {HONEST: 24 * CHUNK} == dict(desk.received)
    lines = [row.getMessage() for row in caplog.records if "MB/s" in row.getMessage()]
    assert len(lines) == 2 and "from 1 peer" in lines[0] and part.chunks.digest.hex()[:12] in lines[0]
    assert part.flushed == 3
