"""RPCs as bytes: read however they are cut, past one that has no room, and looked through before they are parsed."""

import pytest
import trio
import trio.testing
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.pubsub.pb import rpc_pb2
from libp2p.stream_muxer.exceptions import MuxedStreamEOF
from libp2p.utils import encode_varint_prefixed
from network_support import PATIENCE, in_trio

from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote
from flock_peers.network.frame_room import FrameRoom
from flock_peers.network.gossip_wire import MAX_CONTROL_BYTES, MAX_PARTS, OutQueue, RpcReader, encode_rpc, parse_rpc
from flock_peers.network.limits import Limits


class _Bytes:
    def __init__(self, data: bytes, cuts: list[int]) -> None:
        self.data, self.cuts, self.step = data, cuts, 0

    async def read(self, most: int) -> bytes:
        if not self.data:
            raise MuxedStreamEOF
        count = min(most, self.cuts[self.step % len(self.cuts)])
        self.step += 1
        taken, self.data = self.data[:count], self.data[count:]
        return taken


async def _read_all(stream: _Bytes, most: int, room: int = 1 << 20) -> list[bytes]:
    limits = Limits(small_frame_bytes=1_000, half_read_bytes_per_peer=room)
    frames = FrameRoom(limits, lambda _account: True, lambda *_words: None)
    found = []
    with frames.claim(Account(bytes(20))) as claim:
        reader = RpcReader(stream, most, claim, PATIENCE)
        while (data := await reader.read()) is not None:
            assert frames.total == (len(data) if len(data) > 1_000 else 0)
            found.append(data if not claim.refused else b"%d" % claim.refused)
    assert frames.total == 0
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 127, 128, 5000, 100_000]), max_size=6),
    st.lists(st.integers(1, 300) | st.just(70_000), min_size=1, max_size=5),
)
def test_rpcs_are_read_however_their_bytes_are_cut(sizes: list[int], cuts: list[int]) -> None:
    rpcs = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    data = b"".join(encode_varint_prefixed(row) for row in rpcs)
    cuts = [*cuts, 1 + len(data) // 200]  # byte after byte, half a megabyte takes a minute
    assert trio.run(_read_all, _Bytes(data, cuts), 1 << 20) == rpcs
    assert trio.run(_read_all, _Bytes(data[:-1], cuts), 1 << 20) == rpcs[:-1]


@pytest.mark.parametrize("cuts", [[9], [70_000], [3, 64 << 10]])
def test_an_rpc_without_room_is_read_past_and_the_next_is_read(cuts: list[int]) -> None:
    rpcs = [b"a" * 1_000, b"b" * 5_001, b"c" * 5_000, b"d" * 90_000, b"", b"e" * 1_001]
    data = b"".join(encode_varint_prefixed(row) for row in rpcs)
    found = trio.run(_read_all, _Bytes(data, cuts), 1 << 20, 5_000)
    assert found == [rpcs[0], b"5001", rpcs[2], b"90000", b"", rpcs[5]]


class _Silent(_Bytes):
    """Says what it has, and then nothing, without an end."""

    async def read(self, most: int) -> bytes:
        if not self.data:
            await trio.sleep_forever()
        return await super().read(most)


@pytest.mark.parametrize("size", [100, 100_000])
def test_an_rpc_that_never_ends_gives_its_room_back_and_one_that_never_begins_may_wait(size: int) -> None:
    async def main() -> None:
        begun, frames = trio.current_time(), FrameRoom(Limits(), lambda _account: False, lambda *_words: None)
        rpcs = encode_varint_prefixed(b"whole") + encode_varint_prefixed(bytes(size))[:-1]
        with pytest.raises(InvalidRemote, match="not complete after 30 s"), frames.claim(Account(bytes(20))) as claim:
            reader = RpcReader(_Silent(rpcs, [7]), 1 << 20, claim, 30.0)
            assert await reader.read() == b"whole"
            with trio.fail_after(3_600):
                await reader.read()
        assert trio.current_time() - begun == pytest.approx(30.0) and frames.total == 0
        with frames.claim(Account(bytes(20))) as claim, trio.move_on_after(3_600) as scope:
            await RpcReader(_Silent(b"", [7]), 1 << 20, claim, 30.0).read()
        assert scope.cancelled_caught  # nothing was begun

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_half_read_rpc_of_a_greedy_stranger_gives_way_and_its_next_one_is_read() -> None:
    class Pausing(_Bytes):
        async def read(self, most: int) -> bytes:
            await trio.sleep(1)
            return await super().read(most)

    async def main() -> None:
        limits = Limits(half_read_bytes_of_strangers=400_000)
        frames = FrameRoom(limits, lambda _account: False, lambda *_words: None)
        data = encode_varint_prefixed(bytes(300_000)) + encode_varint_prefixed(b"next")
        with frames.claim(Account(bytes(20))) as claim, frames.claim(Account(bytes([1] * 20))) as other:
            reader = RpcReader(Pausing(data, [100_000]), 1 << 20, claim, 30.0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_expect, reader, [b"", b"next"])
                await trio.sleep(2.5)
                assert claim.can_give_way and other.take(200_000) and frames.total == 200_000

    async def _expect(reader: RpcReader, rpcs: list[bytes]) -> None:
        assert [await reader.read() for _ in rpcs] == rpcs

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("data", [b"\xff" * 9, b"\x81\x80\x80\x01"])
def test_a_length_that_is_too_large_is_an_error_before_anything_is_read(data: bytes) -> None:
    with pytest.raises(InvalidRemote):
        trio.run(_read_all, _Bytes(data, [3]), 1 << 20)


@in_trio()
async def test_what_waits_for_a_slow_peer_is_bounded_in_number_and_bytes() -> None:
    queue = OutQueue(most_messages=10, most_bytes=1000)
    assert [queue.push(bytes(10)) for _ in range(12)] == [True] * 10 + [False] * 2
    assert await queue.pop() == (bytes(100), 10)
    assert queue.push(bytes(999)) and not queue.push(bytes(2))
    assert queue.push(b"!", priority=True)
    assert await queue.pop() == (b"!" + bytes(999), 2)
    queue.close()
    assert not queue.push(b"late") and await queue.pop() is None
    assert OutQueue().push(rpc_pb2.RPC()) and encode_rpc(rpc_pb2.RPC()) == b"\0"


@pytest.mark.parametrize(
    "data",
    [
        b"\x12\x00" * (MAX_PARTS + 1),
        b"\x92\x00\x00" * (MAX_PARTS + 1),  # the same tag, written longer
        b"\x0a\x00" * (MAX_PARTS + 1),
        b"\x78\x01" * (MAX_PARTS + 1),  # a field that we do not know
        b"\x78\x01" + rpc_pb2.RPC(control=rpc_pb2.ControlMessage(iwant=[
            rpc_pb2.ControlIWant(messageIDs=[b""] * (MAX_CONTROL_BYTES // 2))])).SerializeToString(),
        b"\x1a\xff\xff", b"\x0b\x0c", b"\xff" * 9, b"\x0a\xff\xff\xff\xff\xff\xff\x01",
    ],
)  # fmt: skip
def test_an_rpc_that_would_grow_when_it_is_parsed_is_refused_before(data: bytes) -> None:
    with pytest.raises(InvalidRemote):
        parse_rpc(data)


_FIELDS = [b"\x12\x00", b"\x0a\x02\x08\x01", b"\x1a\x00", b"\x79" + bytes(8), b"\x7d" + bytes(4), b"\x78\x80\x01"]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.lists(st.sampled_from([*_FIELDS, b"\xfa\x07\x01x"]), max_size=9).map(b"".join))
def test_looking_through_an_rpc_changes_nothing_of_what_it_says(data: bytes) -> None:
    expected = rpc_pb2.RPC()
    try:
        expected.ParseFromString(data)
    except DecodeError:
        with pytest.raises(InvalidRemote):
            parse_rpc(data)
        return
    try:
        assert parse_rpc(data) == expected
    except InvalidRemote as error:  # stricter in two things that no encoder writes
        assert "wire type" in str(error) or "five bytes" in str(error)
