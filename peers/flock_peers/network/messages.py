"""Fire-and-forget messages: one outgoing stream per peer and protocol, a bounded queue, the oldest dropped.

A message is sent again after its stream broke, so it may arrive twice; it is lost when the queue overflows or the
peer goes. Knows nothing of what is inside.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable

import trio

from flock_chain.errors import FlockError, Unavailable
from flock_peers.network.frame_room import FrameRoom
from flock_peers.network.limits import Limits
from flock_peers.network.link import Link, Stream, encode_frame

log = logging.getLogger(__name__)

_BATCH_BYTES = 128 << 10  # small messages that wait together leave together
_RETRY_SECONDS, _RETRY_SECONDS_MAX = 0.05, 2.0


class Outbox:
    """Messages to one peer on one protocol. `run` is a task of the host and lives as long as the peer is connected."""

    def __init__(
        self, protocol: str, limits: Limits, newest_link: Callable[[], Link | None], on_dropped: Callable[[int], None]
    ) -> None:
        self._protocol, self._limits = protocol, limits
        self._newest_link, self._on_dropped = newest_link, on_dropped
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._wake = trio.Event()
        self._stream: Stream | None = None
        self.scope = trio.CancelScope()  # of `run`: one each, for a scope is entered once

    def put(self, payload: bytes) -> None:
        self._queue.append(encode_frame(payload))
        self._bytes += len(self._queue[-1])
        while len(self._queue) > self._limits.queue_messages or self._bytes > self._limits.queue_bytes:
            self._bytes -= len(self._queue.popleft())
            self._on_dropped(1)
        self._wake.set()

    def _take(self) -> list[bytes]:
        batch = [self._queue.popleft()]
        size = len(batch[0])
        while self._queue and size + len(self._queue[0]) <= _BATCH_BYTES:
            size += len(self._queue[0])
            batch.append(self._queue.popleft())
        self._bytes -= size
        return batch

    async def run(self) -> None:
        """Until `scope` is cancelled."""
        with self.scope:
            await self._deliver()

    async def _deliver(self) -> None:
        failures = 0
        try:
            while True:
                while not self._queue:
                    self._wake = trio.Event()
                    await self._wake.wait()
                batch = self._take()
                try:
                    await self._send(b"".join(batch))
                    failures = 0
                except FlockError as error:
                    log.debug("message on %s: %s", self._protocol, error)
                    await self._drop_stream()
                    self._queue.extendleft(reversed(batch))
                    self._bytes += sum(map(len, batch))
                    await trio.sleep(min(_RETRY_SECONDS_MAX, _RETRY_SECONDS * 2 ** min(failures, 8)))
                    failures += 1
        finally:
            await self._drop_stream()

    async def _send(self, data: bytes) -> None:
        if self._stream is None or self._stream.link.closed.is_set():
            link = self._newest_link()
            if link is None:
                raise Unavailable("not connected")
            self._stream = await link.open(self._protocol)
        await self._stream.write(data)

    async def _drop_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.reset()


async def receive(
    stream: Stream, limits: Limits, room: FrameRoom, charge: Callable[[int], float],
    handler: Callable[[bytes], Awaitable[None]],
) -> None:  # fmt: skip
    """Hand over the frames of an incoming stream one by one; above the peer's rate, read more slowly."""
    while await _receive_one(stream, limits, room, charge, handler):
        pass


async def _receive_one(
    stream: Stream, limits: Limits, room: FrameRoom, charge: Callable[[int], float],
    handler: Callable[[bytes], Awaitable[None]],
) -> bool:  # fmt: skip
    """False at the end. A function of its own: a stream that waits for its next frame must not keep the last one."""
    with room.claim(stream.account, stream.remote_host) as claim:
        payload = await stream.read_frame(limits.frame_bytes, limits.frame_seconds, claim)
        if payload is None:
            return False
        wait = charge(claim.refused or len(payload))
        until = trio.current_time() + wait
        if wait > 0:
            with claim.reading():  # who waits for its rate may lose its room as well
                await trio.sleep_until(until)
        if claim.refused:
            payload = b""
            await trio.sleep_until(until)
        else:
            await handler(payload)
    return True
