"""Streams of one connection that wait: for credit, for half a minute, and for each other, by turns."""

from typing import Any

import pytest
import trio
import trio.testing
from libp2p.stream_muxer.exceptions import MuxedStreamError
from muxer_model import Model
from muxer_support import FrameReader, Pipe, pattern
from network_support import in_trio

from flock_peers.network.muxed_stream import STALL_SECONDS
from flock_peers.network.outgoing import FRAME_BYTES, SMALL_BYTES
from flock_peers.network.yamux_frame import WINDOW_BYTES


def _run_mocked(test: Any) -> None:
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))


async def _pump(pipe: Pipe) -> None:
    while True:
        await trio.sleep(0.5)
        for side in pipe.sides:
            side.take()
        for number in (0, 1):
            pipe.deliver(number)


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
