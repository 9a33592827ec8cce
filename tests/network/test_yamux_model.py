"""Two muxers over a pipe moved by hand, against a plain model: what is read is what was written, whatever happens."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamEOF, MuxedStreamError, MuxedStreamReset
from muxer_support import FrameReader, Pipe, pattern
from network_support import in_trio

from flock_peers.network.muxed_stream import STALL_SECONDS, MuxedStream
from flock_peers.network.outgoing import FRAME_BYTES, SMALL_BYTES
from flock_peers.network.session import MAX_PLAINTEXT
from flock_peers.network.yamux import MAX_BYTES_TO_NOBODY
from flock_peers.network.yamux_frame import ACK, DATA, FIN, PING, RST, SYN, WINDOW, WINDOW_BYTES, pack_header


@dataclass
class End:
    """One end of a stream, as the model sees it."""

    stream: MuxedStream
    side: int
    begun: int = 0  # bytes that were given to write, cancelled ones included
    done: int = 0  # bytes whose write returned
    got: bytearray = field(default_factory=bytearray)
    writing: trio.CancelScope | None = None
    reading: trio.CancelScope | None = None
    was_cut: bool = False  # a write was cancelled: only a reset may follow
    is_closed: bool = False
    is_reset: bool = False
    saw: str = ""  # how reading ended


class Model:
    """Interprets a script of operations, and compares after each one."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.pipe, self.nursery = Pipe(), nursery
        self.ends: list[tuple[End, End]] = []
        for side in self.pipe.sides:
            nursery.start_soon(side.accept_all)

    async def open(self, side: int) -> None:
        opened = await self.pipe.sides[side].muxer.open_stream()
        await self.pipe.settle()
        accepted = self.pipe.sides[1 - side].streams[opened.stream_id]
        ends = (End(opened, side), End(accepted, 1 - side))
        self.ends.append(ends if side == 0 else ends[::-1])

    async def write(self, end: End, count: int) -> None:
        if end.writing is not None or end.is_closed or end.is_reset or end.was_cut:
            return
        data = pattern(end.stream.stream_id, end.side, end.begun, count)
        end.begun += count
        scope = end.writing = trio.CancelScope()

        async def run() -> None:
            with scope:
                try:
                    await end.stream.write(data)
                    end.done += count
                except (MuxedStreamReset, MuxedStreamClosed):
                    end.was_cut = True
            if scope.cancelled_caught:
                end.was_cut = True
            end.writing = None

        self.nursery.start_soon(run)

    async def read(self, end: End, count: int) -> None:
        if end.reading is not None or end.saw:
            return
        scope = end.reading = trio.CancelScope()

        async def run() -> None:
            with scope:
                try:
                    data = await end.stream.read(count)
                    assert 0 < len(data) <= count
                    end.got += data
                except MuxedStreamEOF:
                    end.saw = "end"
                except MuxedStreamReset:
                    end.saw = "reset"
            end.reading = None

        self.nursery.start_soon(run)

    async def step(self, operation: tuple[Any, ...]) -> None:
        name, side, number, amount = operation
        if name == "open":
            if len(self.ends) < 4:
                await self.open(side)
        elif name == "take":
            self.pipe.sides[side].take(amount)
        elif name == "deliver":
            self.pipe.deliver(side, amount)
        elif self.ends:
            end = self.ends[number % len(self.ends)][side]
            await self._act(end, name, amount)
        await trio.testing.wait_all_tasks_blocked()
        self.check()

    async def _act(self, end: End, name: str, amount: int) -> None:
        if name == "write":
            await self.write(end, amount)
        elif name == "read":
            await self.read(end, amount)
        elif name == "grow":
            end.stream.grow(amount)
        elif name == "cancel":
            for scope in (end.writing, end.reading):
                if scope is not None:
                    scope.cancel()
        elif name == "close" and not end.was_cut:  # after a part of a message there is no clean end
            await end.stream.close()
            end.is_closed = True
        elif name == "reset":
            await end.stream.reset()
            end.is_reset = True

    def check(self) -> None:
        for pair in self.ends:
            for end, other in (pair, pair[::-1]):
                stream_id = end.stream.stream_id
                assert end.got == pattern(stream_id, other.side, 0, len(end.got))
                assert len(end.got) <= other.begun
                assert end.stream.buffered_bytes <= end.stream._window
                if end.saw == "end":
                    assert other.is_closed and not other.was_cut and len(end.got) == other.done == other.begun

    async def finish(self) -> None:
        """Everybody reads to the end: what was written and not cut arrives, all of it."""
        ends = [end for pair in self.ends for end in pair]
        for _ in range(10_000):
            for end in ends:
                if end.writing is None and not end.is_closed and not end.is_reset:
                    await (end.stream.reset() if end.was_cut else end.stream.close())
                    end.is_closed = True
                await self.read(end, 1 << 20)
            await self.pipe.settle()
            self.check()
            if all(end.saw and end.writing is None for end in ends):
                break
        for pair in self.ends:
            for end, other in (pair, pair[::-1]):
                assert end.saw
                if not any((end.is_reset, other.is_reset, end.was_cut, other.was_cut)):
                    assert end.saw == "end" and len(end.got) == other.begun
        await self.pipe.settle()
        assert all(not side.muxer.streams and not side.muxer._inbound for side in self.pipe.sides)


_SIZES = st.sampled_from(
    [1, 11, 12, 13, 999, 1024, SMALL_BYTES, SMALL_BYTES + 1, MAX_PLAINTEXT, WINDOW_BYTES, FRAME_BYTES + 1, 600_000]
)
_NAMES = ["open", "cancel", "close", "reset", "grow", *2 * ["write", "take", "deliver"], *3 * ["read"]]
_STEP = st.tuples(
    st.sampled_from(_NAMES), st.integers(0, 1), st.integers(0, 3), _SIZES,
)  # fmt: skip


async def _run_script(script: list[tuple[Any, ...]]) -> None:
    async with trio.open_nursery() as nursery:
        model = Model(nursery)
        await model.open(0)
        for operation in script:
            await model.step(operation)
        await model.finish()
        nursery.cancel_scope.cancel()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_STEP, min_size=10, max_size=60))
def test_what_is_read_is_what_was_written(script: list[tuple[Any, ...]]) -> None:
    trio.run(_run_script, script, clock=trio.testing.MockClock())


def _conversation() -> bytes:
    """Frames of every kind, as one side might send them."""
    return b"".join(
        (
            pack_header(WINDOW, SYN, 1, 0), pack_header(DATA, 0, 1, 5) + b"hello", pack_header(PING, SYN, 0, 7),
            pack_header(DATA, SYN, 3, 3) + b"abc", pack_header(WINDOW, 0, 1, 1000),
            pack_header(DATA, FIN, 3, 2) + b"de",
            pack_header(DATA, 0, 99, 4) + b"????", pack_header(DATA, 0, 1, 0), pack_header(WINDOW, FIN, 1, 0),
        )
    )  # fmt: skip


def _understood(pieces: list[bytes]) -> tuple[Any, ...]:
    side = Pipe().sides[1]
    for piece in pieces:
        side.muxer._feed(piece)
    found = []
    for number in (1, 3):
        stream = side.muxer.streams[number]
        found.append((b"".join(stream._chunks), stream.is_receive_closed, stream.send_credit, stream.receive_credit))
    side.take()
    return (*found, bytes(side.wire))


@in_trio()
async def test_frames_mean_the_same_however_the_bytes_are_split() -> None:
    data = _conversation()
    whole = _understood([data])
    assert whole[0][:2] == (b"hello", True) and whole[1][:2] == (b"abcde", True)
    assert whole[0][2] == WINDOW_BYTES + 1000 and whole[0][3] == WINDOW_BYTES - 5
    replies = [(frame.kind, frame.flags, frame.stream_id) for frame in FrameReader().read(whole[2])]
    assert replies == [(WINDOW, ACK, 1), (PING, ACK, 0), (WINDOW, ACK, 3)]
    for first in range(len(data)):
        assert _understood([data[:first], data[first:]]) == whole
        for second in range(first, len(data), 7):
            assert _understood([data[:first], data[first:second], data[second:]]) == whole
    assert _understood([data[i : i + 1] for i in range(len(data))]) == whole


async def _cancel_after(moves: int) -> bool:
    """Cancels a large write after that many moves of the pipe; False when it was complete by then."""
    async with trio.open_nursery() as nursery:
        model = Model(nursery)
        await model.open(0)
        await model.open(0)
        (cut, _), (whole, _) = model.ends
        reader, other_reader = model.ends[0][1], model.ends[1][1]
        await model.write(cut, 700_000)
        for move in range(moves):
            await trio.testing.wait_all_tasks_blocked()
            if move % 3 == 0:
                model.pipe.sides[0].take(100_000)
            elif move % 3 == 1:
                model.pipe.deliver(0, 50_001)
            else:
                await model.read(reader, 1 << 20)
                model.pipe.sides[1].take()
                model.pipe.deliver(1)
        await trio.testing.wait_all_tasks_blocked()
        was_complete = cut.writing is None
        if cut.writing is not None:
            cut.writing.cancel()
            await trio.testing.wait_all_tasks_blocked()
            await cut.stream.reset()
        await model.write(whole, 5000)
        await model.pipe.settle()
        await model.read(other_reader, 5000)
        await trio.testing.wait_all_tasks_blocked()
        assert len(other_reader.got) == 5000
        model.check()
        if not was_complete:
            with pytest.raises(MuxedStreamReset):
                while True:
                    await reader.stream.read()
        nursery.cancel_scope.cancel()
    return not was_complete


@in_trio()
async def test_a_write_can_be_cancelled_at_any_point_and_the_connection_goes_on() -> None:
    moves = 0
    while await _cancel_after(moves):
        moves += 1
    assert moves > 20


def _run_mocked(test: Any) -> None:
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))


def test_who_gives_no_credit_for_half_a_minute_loses_the_stream_and_not_the_connection() -> None:
    async def run() -> None:
        async with trio.open_nursery() as nursery:
            model = Model(nursery)
            await model.open(0)
            stream = model.ends[0][0].stream
            nursery.start_soon(_pump, model.pipe)
            begun = trio.current_time()
            with pytest.raises(MuxedStreamError, match="no credit"):
                await stream.write(bytes(WINDOW_BYTES + 1))
            assert STALL_SECONDS <= trio.current_time() - begun < STALL_SECONDS + 2
            await model.open(0)
            nursery.cancel_scope.cancel()

    _run_mocked(run)


async def _pump(pipe: Pipe) -> None:
    while True:
        await trio.sleep(0.5)
        for side in pipe.sides:
            side.take()
        for number in (0, 1):
            pipe.deliver(number)


def test_who_is_slow_but_gives_credit_keeps_the_stream() -> None:
    async def run() -> None:
        async with trio.open_nursery() as nursery:
            model = Model(nursery)
            await model.open(0)
            writer, reader = model.ends[0]
            nursery.start_soon(_pump, model.pipe)

            async def read_slowly() -> None:
                while True:
                    await trio.sleep(STALL_SECONDS * 0.9)
                    goal = len(reader.got) + WINDOW_BYTES // 2  # what it takes to be given credit
                    while len(reader.got) < goal:
                        reader.got += await reader.stream.read(goal - len(reader.got))

            nursery.start_soon(read_slowly)
            await writer.stream.write(pattern(1, 0, 0, 10 * WINDOW_BYTES))
            assert trio.current_time() > 5 * STALL_SECONDS
            assert reader.got == pattern(1, 0, 0, len(reader.got))
            nursery.cancel_scope.cancel()

    _run_mocked(run)


@in_trio()
async def test_a_small_write_overtakes_bulk_and_bulk_takes_turns() -> None:
    async with trio.open_nursery() as nursery:
        model = Model(nursery)
        for _ in range(4):
            await model.open(0)
        for number in range(4):
            model.ends[number][1].stream.grow(8 << 20)
        await model.pipe.settle()
        bulk, vote = [model.ends[number][0] for number in range(3)], model.ends[3][0]
        for end in bulk:
            await model.write(end, 2_000_000)
        await trio.testing.wait_all_tasks_blocked()
        model.pipe.sides[0].take(1)
        await model.write(vote, 300)
        await trio.testing.wait_all_tasks_blocked()
        before = len(model.pipe.sides[0].wire)
        model.pipe.sides[0].take(1)
        (first, *_) = FrameReader().read(bytes(model.pipe.sides[0].wire[before:]))
        assert (first.stream_id, first.length) == (vote.stream.stream_id, 300)
        for _ in range(12):
            model.pipe.sides[0].take(1 << 18)
        shares = [model.pipe.sides[0].used[end.stream.stream_id] for end in bulk]
        assert max(shares) - min(shares) <= FRAME_BYTES
        nursery.cancel_scope.cancel()


@in_trio()
async def test_small_writes_cannot_starve_bulk() -> None:
    async with trio.open_nursery() as nursery:
        model = Model(nursery)
        for _ in range(4):
            await model.open(0)
        await model.write(model.ends[0][0], 200_000)
        for _ in range(5):
            for ends in model.ends[1:]:
                await model.write(ends[0], SMALL_BYTES)
            await trio.testing.wait_all_tasks_blocked()
            model.pipe.sides[0].take(1)
            await trio.testing.wait_all_tasks_blocked()
        assert model.ends[0][0].done == 200_000
        nursery.cancel_scope.cancel()


@in_trio()
async def test_a_stream_that_is_closed_during_a_write_ends_after_its_bytes() -> None:
    async with trio.open_nursery() as nursery:
        model = Model(nursery)
        await model.open(0)
        writer, reader = model.ends[0]
        await model.write(writer, 600_000)
        await trio.testing.wait_all_tasks_blocked()
        await writer.stream.close()
        writer.is_closed = True
        with pytest.raises(MuxedStreamClosed):
            await writer.stream.write(b"too late")
        while not reader.saw:
            await model.pipe.settle()
            await model.read(reader, 1 << 20)
            await trio.testing.wait_all_tasks_blocked()
        assert reader.saw == "end" and len(reader.got) == 600_000
        nursery.cancel_scope.cancel()


@in_trio()
async def test_a_write_that_is_cancelled_after_a_close_is_no_clean_end() -> None:
    async with trio.open_nursery() as nursery:
        model = Model(nursery)
        await model.open(0)
        writer, reader = model.ends[0]
        await model.write(writer, 600_000)
        await model.pipe.settle()
        await writer.stream.close()
        assert writer.writing is not None
        writer.writing.cancel()
        while not reader.saw:
            await model.pipe.settle()
            await model.read(reader, 1 << 20)
            await trio.testing.wait_all_tasks_blocked()
        assert reader.saw == "reset"
        nursery.cancel_scope.cancel()


@in_trio()
async def test_a_stream_that_nobody_reads_any_more_drops_what_comes_and_goes_after_the_last_byte_of_its_write() -> None:
    side = Pipe().sides[1]
    side.muxer._feed(pack_header(WINDOW, SYN, 1, 0) + pack_header(DATA, 0, 1, 3) + b"abc")
    stream = side.muxer.streams[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.write, bytes(WINDOW_BYTES + 1))
        await trio.testing.wait_all_tasks_blocked()
        await stream.close()
        stream.abandon()
        side.muxer._feed(pack_header(DATA, 0, 1, 3) + b"def")
        assert stream.buffered_bytes == 0 and 1 in side.muxer.streams
        while side.take():
            pass
        side.granted[1] += 1
        side.muxer._feed(pack_header(WINDOW, 0, 1, 1))
        side.take()
    assert side.muxer.streams == {} and side.muxer._inbound == 0


@in_trio()
async def test_frames_of_one_byte_do_not_fill_memory() -> None:
    side = Pipe().sides[1]
    side.muxer._feed(pack_header(WINDOW, SYN, 1, 0))
    frame = pack_header(DATA, 0, 1, 1) + b"x"
    for _ in range(20):
        side.muxer._feed(frame * 1000)
    stream = side.muxer.streams[1]
    assert stream.buffered_bytes == 20_000
    assert len(stream._chunks) <= 6
    got = b""
    while stream._chunks:
        got += await stream.read(999)
    assert got == b"x" * 20_000


@pytest.mark.parametrize(
    "frames",
    [
        pack_header(DATA, 0, 1, WINDOW_BYTES + 1),
        pack_header(DATA, FIN, 1, 1) + b"x" + pack_header(DATA, 0, 1, 1) + b"y",
        pack_header(WINDOW, 0, 1, (1 << 32) - 1) * 2,
        pack_header(WINDOW, SYN, 1, 0),
        pack_header(WINDOW, SYN, 2, 0),
        pack_header(DATA, 0, 77, 1 << 30),
        b"\1" + pack_header(PING, SYN, 0, 1)[1:],
    ],
    ids=["window", "after the end", "credit", "twice", "not theirs", "huge", "version"],
)
@in_trio()
async def test_a_breach_of_the_protocol_is_an_error_of_the_connection(frames: bytes) -> None:
    side = Pipe().sides[1]
    side.muxer._feed(pack_header(WINDOW, SYN, 1, 0))
    with pytest.raises(MuxedStreamError):
        side.muxer._feed(frames)


@in_trio()
async def test_credit_is_given_for_what_was_read_and_for_nothing_else() -> None:
    side = Pipe().sides[1]
    side.muxer._feed(pack_header(WINDOW, SYN, 1, 0) + pack_header(DATA, 0, 1, WINDOW_BYTES) + bytes(WINDOW_BYTES))
    stream = side.muxer.streams[1]
    side.take()
    assert stream.receive_credit == 0
    assert len(await stream.read(WINDOW_BYTES // 2 - 1)) == WINDOW_BYTES // 2 - 1
    assert side.take() == 0
    await stream.read(1)
    side.wire.clear()
    side.take()
    (frame,) = FrameReader().read(bytes(side.wire))
    assert (frame.kind, frame.flags, frame.length) == (WINDOW, 0, WINDOW_BYTES // 2)
    assert stream.receive_credit == WINDOW_BYTES // 2


@in_trio()
async def test_what_is_under_way_on_streams_that_this_side_gave_up_is_nobodys_fault() -> None:
    """A download that is cancelled: as many windows as there were streams."""
    side = Pipe().sides[1]
    stream = await side.muxer.open_stream()
    await stream.reset()
    size = MAX_BYTES_TO_NOBODY + 1
    side.muxer._feed(pack_header(DATA, 0, stream.stream_id, size) + bytes(size))
    assert not side.muxer.breach and not side.muxer.session.below.is_closed
    side.muxer._feed(pack_header(WINDOW, SYN, 1, 0))
    await side.muxer.streams[1].close()
    side.muxer.streams[1].abandon()
    side.muxer._feed(pack_header(DATA, 0, 1, size))
    assert "streams of its own" in side.muxer.breach and side.muxer.session.below.is_closed


@in_trio()
async def test_who_does_not_read_control_frames_is_cut_off() -> None:
    side = Pipe().sides[1]
    below = side.muxer.session.below
    with pytest.raises(Exception, match="does not read"):
        for number in range(1, 200_000, 2):  # each new one of another is refused
            side.muxer._feed(pack_header(WINDOW, SYN, number, 0))
    assert below.is_closed and "does not read" in side.muxer.breach
    assert side.muxer.outgoing.control_bytes <= below.unread_bytes + 12


def test_reset_and_end_have_the_flags_of_the_specification() -> None:
    assert (SYN, ACK, FIN, RST) == (1, 2, 4, 8)
