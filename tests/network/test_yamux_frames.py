"""One muxer, fed frame by frame: what they mean, what they cost, and which end the connection."""

from typing import Any

import pytest
import trio
import trio.testing
from libp2p.stream_muxer.exceptions import MuxedStreamError
from muxer_support import FrameReader, Pipe
from network_support import in_trio

from flock_peers.network.yamux import MAX_BYTES_TO_NOBODY
from flock_peers.network.yamux_frame import ACK, DATA, FIN, PING, RST, SYN, WINDOW, WINDOW_BYTES, pack_header


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
