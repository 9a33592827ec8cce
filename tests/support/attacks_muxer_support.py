"""Attacks inside an authenticated connection, below its streams, and on the names of protocols."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import trio
from attack_support import MIB, MULTISTREAM, Attack, Victim, attacker, table
from attacks_handshake_support import INVALID_UTF8
from libp2p.io.exceptions import IOException
from network_support import PATIENCE

from flock_chain.codec import encode
from flock_chain.errors import FlockError
from flock_peers.network.limits import Limits
from flock_peers.network.link import Link, encode_frame
from flock_peers.network.yamux import MAX_BYTES_TO_NOBODY, MAX_PINGS
from flock_peers.ports import SYNC_PROTOCOL

DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
CONSENSUS = "/flock/consensus/1"


def frame(kind: int, flags: int, stream: int, length: int, body: bytes = b"") -> bytes:
    return struct.pack(">BBHII", 0, kind, flags, stream, length) + body


@contextmanager
def cut_off() -> Iterator[None]:
    """What the victim does to the attacker in the middle of it."""
    try:
        yield
    except (IOException, FlockError, trio.BrokenResourceError):
        pass


async def put(link: Link, data: bytes) -> None:
    """Raw frames of the muxer, as fast as the socket takes them."""
    muxed = link.swarm_conn.muxed_conn
    with cut_off():
        while muxed.outgoing.control_bytes > 128 << 10 and not link.closed.is_set():
            await trio.sleep(0.005)
        muxed.outgoing.add_control(data)
        muxed.wake_writer()
        await trio.lowlevel.checkpoint()


async def until_cut_off(link: Link, seconds: float = PATIENCE) -> None:
    with trio.fail_after(seconds):
        await link.closed.wait()


BREACHES = {
    "noise": b"\xff" * 5_000,
    "version": b"\x01" + bytes(11),
    "type": frame(9, 0, 1, 0),
    "out of turn": frame(WINDOW, SYN, 2, 0),
    "stream zero": frame(DATA, SYN, 0, 4, b"data"),
    "twice": frame(WINDOW, SYN, 101, 0) * 2,
    "more than the window": frame(WINDOW, SYN, 101, 0) + frame(DATA, 0, 101, 300 << 10, bytes(1_000)),
    "4 GB": frame(WINDOW, SYN, 101, 0) + frame(DATA, 0, 101, 0xFFFFFFFF),
    "4 GB to nobody": frame(DATA, 0, 9_999, 0xFFFFFFFF),
    "bytes to nobody": frame(DATA, 0, 9_999, MAX_BYTES_TO_NOBODY + 1),
    "pings": frame(PING, SYN, 0, 1) * (MAX_PINGS + 1),
    "credit": frame(WINDOW, SYN, 101, 0) + frame(WINDOW, 0, 101, 0xFFFFFFFF) * 2,
    "go away": frame(GO_AWAY, 0, 0, 0),
}


async def breaches(victim: Victim, scale: int) -> None:
    for _ in range(scale):
        for said in BREACHES.values():
            async with attacker(victim) as link:
                await put(link, said)
                await until_cut_off(link)
        async with attacker(victim) as link:
            link._below.put(b"\x00\x10" + b"not ciphertext!!")
            await until_cut_off(link)


async def overrun(victim: Victim, scale: int) -> None:
    """Ignores flow control: pushes megabytes into a stream that nobody reads."""
    async with attacker(victim) as link:
        stream = await link.open(SYNC_PROTOCOL)
        number = stream._muxed.stream_id
        body = os.urandom(60_000)
        for _ in range(scale * 50 * MIB // len(body)):
            if link.closed.is_set():
                break
            await put(link, frame(DATA, 0, number, len(body), body))
        await until_cut_off(link)


async def pings(victim: Victim, scale: int) -> None:
    """Questions whose answers are never read."""
    async with attacker(victim) as link:
        link.swarm_conn.muxed_conn.session.read_messages = trio.sleep_forever
        for number in range(200 * scale):
            await put(link, frame(PING, SYN, 0, number) * 200)


async def streams(victim: Victim, scale: int) -> None:
    """Opened and left; then opened and reset at once, as fast as it goes."""
    async with attacker(victim) as link:
        for number in range(1_001, 1_001 + 2 * 500 * scale, 2):
            await put(link, frame(WINDOW, SYN, number, 0))
        await trio.sleep(0.5)
    async with attacker(victim) as link:
        for number in range(1_001, 1_001 + 2 * 1_000 * scale, 2):
            await put(link, frame(WINDOW, SYN, number, 0) + frame(WINDOW, RST, number, 0))
        await trio.sleep(0.5)


async def empty_frames(victim: Victim, scale: int) -> None:
    """Of four peers at once, as many as the victim reads: credit of nothing, and streams that are reset at once."""

    async def flood(more: int) -> None:
        async with attacker(victim, more) as link:
            with trio.move_on_after(scale):
                for number in range(1_001, 1 << 31, 2):
                    await put(link, frame(WINDOW, 0, 1, 0) * 50)
                    await put(link, frame(WINDOW, SYN, number, 0) + frame(WINDOW, RST, number, 0))
                    if link.closed.is_set():
                        break

    async with trio.open_nursery() as nursery:
        for more in range(4):
            nursery.start_soon(flood, more)


async def slow_reader(victim: Victim, scale: int) -> None:
    """Asks for much on all its streams and takes no answer."""
    async with attacker(victim) as link:
        for _ in range(14):
            stream = await link.open(SYNC_PROTOCOL)
            await stream.write(encode_frame(encode(["range", 1, 64, 0])))
        link.swarm_conn.muxed_conn.session.read_messages = trio.sleep_forever
        await trio.sleep(scale)


async def slow_writer(victim: Victim, scale: int) -> None:
    """Messages that come a byte at a time, on all streams at once."""
    async with attacker(victim) as link, trio.open_nursery() as nursery:

        async def drip() -> None:
            with cut_off():
                stream = await link.open(CONSENSUS)
                for byte in (1 << 20).to_bytes(4, "big") + bytes(20 * scale):
                    await stream.write(bytes([byte]))
                    await trio.sleep(0.05)

        for _ in range(14):
            nursery.start_soon(drip)


async def half_frames(victim: Victim, scale: int) -> None:
    """Of many peers, on 14 streams each, messages of 1 MiB without their last byte: 168 MiB in all."""

    async def begin(link: Link) -> None:
        with cut_off():
            stream = await link.open(CONSENSUS)
            await stream.write(encode_frame(bytes(MIB))[:-1])
            await trio.sleep(scale)

    async def flood(more: int) -> None:
        async with attacker(victim, more) as link, trio.open_nursery() as nursery:
            for _ in range(14):
                nursery.start_soon(begin, link)

    async with trio.open_nursery() as nursery:
        for more in range(min(12, 2 * scale)):  # an address has 16 handshakes at once
            nursery.start_soon(flood, more)


async def unended(victim: Victim, scale: int) -> None:
    """Questions that were answered, on streams that the asker never ends and goes on filling: 60 windows of a peer."""

    async def flood(more: int) -> None:
        async with attacker(victim, more) as link:
            for _ in range(60):
                with cut_off():
                    stream = await link.open(SYNC_PROTOCOL)
                    await stream.write_frame(encode(["head"]))
                    await stream.read_frame(1_024, PATIENCE)
                    for _ in range(4):
                        await put(link, frame(DATA, 0, stream._muxed.stream_id, 60_000, bytes(60_000)))
            await trio.sleep(scale)

    async with trio.open_nursery() as nursery:
        for more in range(min(12, 2 * scale)):
            nursery.start_soon(flood, more)


async def resets(victim: Victim, scale: int) -> None:
    """In the middle of a message, of an answer, and of the connection; as often as the victim takes connections."""
    for number in range(36 * scale):
        await trio.sleep(1 / Limits().accept_rate)
        async with attacker(victim) as link:
            stream = await link.open((CONSENSUS, SYNC_PROTOCOL)[number % 2])
            whole = encode_frame(encode(["range", 1, 64, 0]))
            await stream.write(whole if number % 2 else b"\x00\x01\x00\x00half")
            if number % 3 == 0:
                await stream.reset()
            elif number % 3 == 1:
                link.abort()
            else:
                await put(link, frame(DATA, RST, stream._muxed.stream_id, 1_000, b"x"))


NAMES = [
    INVALID_UTF8, b"\x01\n", b"\x00", b"\xff" * 20, b"\x80\x80\x80\x80\x04" + b"a" * 10_000, b"\x05/abc", b"\x7f" * 128,
    b"\x05ls\0\n\n", b"\x03ls\n" * 2_000, b"\x05/abc\n" * 5_000,
]  # fmt: skip


async def names(victim: Victim, scale: int) -> None:
    async with attacker(victim) as link:
        for _ in range(scale):
            for name in NAMES:
                muxed = await link.swarm_conn.muxed_conn.open_stream()
                with trio.move_on_after(2):
                    try:
                        await muxed.write(MULTISTREAM + name)
                    except Exception:  # noqa: BLE001 - reset by the victim
                        pass
                await muxed.reset()
        stream = await link.open(SYNC_PROTOCOL)
        await stream.write_frame(encode(["head"]))
        assert await stream.read_frame(1_024, PATIENCE), "a bad name costs the whole connection"


async def half_negotiated(victim: Victim, scale: int) -> None:
    """Streams that never say what they are for: no more than a few at once, and not for long."""
    async with attacker(victim) as link:
        for _ in range(60 * scale):
            muxed = await link.swarm_conn.muxed_conn.open_stream()
            with trio.move_on_after(2):
                try:
                    await muxed.write(MULTISTREAM + b"\x10/flock")
                except Exception:  # noqa: BLE001 - refused by the victim: more than 64 at once
                    pass
        await trio.sleep(1)


ATTACKS = table(
    Attack("breaches", breaches, "account"),
    Attack("overrun", overrun, "account"),
    Attack("pings", pings, "account"),
    Attack("streams", streams, "account"),
    Attack("empty_frames", empty_frames, "account", in_tests=False),  # test_attacks_muxer.py is cheaper
    # 20 s until the victim pings, and 20 s for the answer; test_attacks_muxer.py has shorter ones.
    Attack("slow_reader", slow_reader, "account", blame_from=45, full=45),
    Attack("slow_writer", slow_writer, "account", full=30),
    Attack("half_frames", half_frames, "account", memory=64 * MIB, in_tests=False),  # test_frame_room.py is cheaper
    Attack("unended", unended, "account", in_tests=False),  # test_stranger_memory.py is cheaper
    Attack("resets", resets, "account"),
    Attack("names", names, "account"),
    Attack("half_negotiated", half_negotiated, "account"),
)
