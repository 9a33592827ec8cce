"""Noise after the handshake, and the socket below it: any split of the bytes, whole messages, batches that fit."""

from types import SimpleNamespace
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.io.exceptions import ConnectionClosedError

from flock_peers.network.connection import BufferedConnection
from flock_peers.network.limits import Limits
from flock_peers.network.session import MAX_PLAINTEXT, NoiseSession

_SIZES = st.sampled_from([1, 2, 11, 300, 16_384, MAX_PLAINTEXT - 1, MAX_PLAINTEXT, MAX_PLAINTEXT + 1, 262_076])


class ScriptedBelow:
    """Gives out bytes in the sizes of a script, again and again."""

    def __init__(self, script: list[int]) -> None:
        self.script, self.step = script, 0
        self.wire = bytearray()

    async def receive_into(self, buffer: memoryview) -> int:
        count = min(self.script[self.step % len(self.script)], len(self.wire), len(buffer))
        self.step += 1
        buffer[:count] = self.wire[:count]
        del self.wire[:count]
        return count

    def set_source(self, source: object) -> None:
        self.source = source


def _session(below: Any) -> NoiseSession:
    state = SimpleNamespace(cipher=SimpleNamespace(cipher=ChaCha20Poly1305(bytes(32))), n=0)
    protocol = SimpleNamespace(cipher_state_encrypt=state, cipher_state_decrypt=state)
    conn = SimpleNamespace(
        noise_state=SimpleNamespace(noise_protocol=protocol),
        read_writer=SimpleNamespace(read_write_closer=SimpleNamespace(stream=below)),
    )
    return NoiseSession(SimpleNamespace(conn=conn, is_initiator=True))  # type: ignore[arg-type]


class Pieces:
    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def take(self, _most: int) -> list[bytes]:
        taken, self.pieces = self.pieces, []
        return taken

    def is_empty(self) -> bool:
        return not self.pieces


async def _read_all(session: NoiseSession) -> bytes:
    data = b""
    while messages := await session.read_messages():
        assert all(0 < len(message) <= MAX_PLAINTEXT for message in messages)
        data += b"".join(messages)
    return data


@settings(max_examples=40, deadline=None)
@given(
    st.lists(_SIZES, min_size=1, max_size=5), st.lists(st.sampled_from([1, 2, 3, 1000, 65_535, 400_000]), min_size=1)
)
def test_what_is_sealed_is_opened_however_it_is_cut(sizes: list[int], script: list[int]) -> None:
    if max(script) < 1000:
        script = [*script, 65_535]
    pieces = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    below = ScriptedBelow(script)
    sender, receiver = _session(ScriptedBelow([1])), _session(below)
    for batch in (pieces, [b"again"]):
        sender.set_source(Pieces(batch))
        below.wire += sender.take(1)
    assert trio.run(_read_all, receiver) == b"".join(pieces) + b"again"


@pytest.mark.parametrize("position", [2, 700, -1])
def test_a_changed_byte_ends_the_session(position: int) -> None:
    below = ScriptedBelow([999])
    sender = _session(ScriptedBelow([1]))
    sender.set_source(Pieces([bytes(2000)]))
    below.wire += sender.take(1)
    below.wire[position] ^= 1
    with pytest.raises(ConnectionClosedError, match="not a message"):
        trio.run(_read_all, _session(below))


def test_a_message_that_is_repeated_ends_the_session() -> None:
    below = ScriptedBelow([1 << 20])
    sender = _session(ScriptedBelow([1]))
    sender.set_source(Pieces([b"once"]))
    below.wire += bytes(sender.take(1)) * 2
    with pytest.raises(ConnectionClosedError, match="not a message"):
        trio.run(_read_all, _session(below))


def test_a_read_of_the_negotiation_leaves_the_rest_to_the_muxer() -> None:
    below = ScriptedBelow([7])
    sender, receiver = _session(ScriptedBelow([1])), _session(below)
    sender.set_source(Pieces([b"/yamux/1.0.0\nframes"]))
    below.wire += sender.take(1)

    async def read() -> bytes:
        head = b""
        while not head.endswith(b"\n"):
            head += await receiver.read(1)
        return head + await _read_all(receiver)

    assert trio.run(read) == b"/yamux/1.0.0\nframes"


class FakeSocket:
    """Takes everything at once, and is ready for more when a line of that many bytes a second has sent it."""

    def __init__(self, rate: float) -> None:
        self.rate, self.batches = rate, []
        self.socket = self
        self._busy_until = 0.0

    def getpeername(self) -> Any:
        raise OSError

    getsockname = getpeername

    def setsockopt(self, *_arguments: object) -> None:
        raise OSError

    async def send(self, data: memoryview) -> int:
        await trio.lowlevel.checkpoint()
        self.batches.append(len(data))
        self._busy_until = max(self._busy_until, trio.current_time()) + len(data) / self.rate
        return len(data)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.sleep(self._busy_until - trio.current_time())

    def close(self) -> None:
        pass


_ZEROS = bytes(256 << 10)


class Endless:
    """Bulk, and now and then a vote; notes how long each vote had to wait."""

    def __init__(self) -> None:
        self.vote_at: float | None = None
        self.waited: list[float] = []

    def take(self, most: int) -> memoryview:
        if self.vote_at is not None:
            self.waited.append(trio.current_time() - self.vote_at)
            self.vote_at = None
        return memoryview(_ZEROS)[:most]

    def is_empty(self) -> bool:
        return False


async def _send_for(seconds: float, rate: float) -> tuple[FakeSocket, Endless]:
    line, source = FakeSocket(rate), Endless()
    below = BufferedConnection(line, Limits())  # type: ignore[arg-type]
    below.set_source(source)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(below.run_writer)
        for _ in range(int(seconds / 0.1)):
            await trio.sleep(0.1)
            source.vote_at = trio.current_time()
        nursery.cancel_scope.cancel()
    return line, source


@pytest.mark.parametrize(
    ("rate", "batch", "wait"), [(1e9, 256 << 10, 0.001), (20e6, 256 << 10, 0.015), (2e6, 64 << 10, 0.07)]
)
def test_a_batch_is_only_as_large_as_the_line_is_fast(rate: float, batch: int, wait: float) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    line, source = trio.run(_send_for, 0.5 if rate > 1e8 else 2.0, rate, clock=clock)
    assert min(line.batches[-5:]) <= batch
    assert max(line.batches) == 256 << 10 and (rate < 1e8 or min(line.batches) == 256 << 10)
    late = source.waited[1:]
    assert late and max(late) <= wait


def test_a_peer_that_takes_nothing_is_cut_off_and_one_that_is_slow_is_not() -> None:
    async def run(rate: float) -> tuple[bool, float]:
        line = FakeSocket(rate)
        below = BufferedConnection(line, Limits(write_seconds=30))  # type: ignore[arg-type]
        below.set_source(Endless())
        with trio.move_on_after(600):
            await below.run_writer()
            return True, trio.current_time()
        return False, trio.current_time()

    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(run, 1.0, clock=clock)[0]
    clock = trio.testing.MockClock(autojump_threshold=0)
    assert not trio.run(run, 4000.0, clock=clock)[0]
