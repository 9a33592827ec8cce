"""Two muxers over a pipe moved by hand, against a plain model: what is read is what was written, whatever happens."""

from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamReset
from muxer_model import Model
from network_support import in_trio

from flock_peers.network.outgoing import FRAME_BYTES, SMALL_BYTES
from flock_peers.network.session import MAX_PLAINTEXT
from flock_peers.network.yamux_frame import WINDOW_BYTES

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
