"""Two muxers over a pipe moved by hand, against a plain model of their streams: what is read is what was written."""

from dataclasses import dataclass, field
from typing import Any

import trio
import trio.testing
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamEOF, MuxedStreamReset
from muxer_support import Pipe, pattern

from flock_peers.network.muxed_stream import MuxedStream


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
