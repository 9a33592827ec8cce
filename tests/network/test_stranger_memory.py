"""What strangers make a peer hold outside of their half frames: windows that nobody reads, streams that never end,
answers and gossip that nobody takes. Each has one bound over all connections, and the greediest goes first.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.peer.id import ID
from network_support import (
    GENESIS_HASH,
    LOOPBACK,
    PATIENCE,
    QUICK,
    in_trio,
    is_healthy,
    key,
    open_attacker,
    wait_until,
)

from flock_chain.content import CHUNK_BYTES, MAX_OBJECT_BYTES
from flock_chain.crypto import Account
from flock_chain.errors import Unavailable
from flock_peers.network.answer_room import AnswerRoom
from flock_peers.network.bitswap import _ANSWERS
from flock_peers.network.blob_wire import BlobLimits
from flock_peers.network.gossip_memory import CACHE_BYTES
from flock_peers.network.gossip_pubsub import _STREAMS_OF_A_PEER, _SUBSCRIPTION_BYTES
from flock_peers.network.gossip_router import Router
from flock_peers.network.gossip_wire import _READ, ALL_QUEUES_BYTES, FAIR_QUEUE_BYTES, OutQueue
from flock_peers.network.hello import HELLO, VERSION, Hello
from flock_peers.network.host import Host, open_host
from flock_peers.network.identity import parse_address
from flock_peers.network.limits import MIB, Limits
from flock_peers.network.link import Link, Stream, encode_frame
from flock_peers.network.session import _INBOX_BYTES_MAX, _OUTBOX_BYTES_KEPT
from flock_peers.network.stack import Stack
from flock_peers.network.yamux import MAX_INBOUND_STREAMS, Muxer
from flock_peers.network.yamux_frame import DATA, WINDOW_BYTES, pack_header

PROTOCOL = "/test/1"
PEOPLE = [key(number).account for number in range(1, 10)]


def muxers_of(host: Host) -> list[Muxer]:
    assert host._stack is not None
    return [link.swarm_conn.muxed_conn for links in host._stack.links.values() for link in links]


def unread(host: Host) -> int:
    """Counted the slow way."""
    return sum(stream.buffered_bytes for muxer in muxers_of(host) for stream in muxer.streams.values())


async def sleep_on_it(_account: Account, _payload: bytes) -> None:
    await trio.sleep_forever()


async def echo(_account: Account, payload: bytes) -> bytes:
    return payload


async def push(link: Link, stream: Stream, size: int) -> None:
    """Bytes of a stream below everything that would wait for somebody to read them."""
    muxer = link.swarm_conn.muxed_conn
    with suppress(ConnectionClosedError):
        while size:
            count = min(size, 60_000)
            await muxer.session.below.wait_room()
            muxer.outgoing.add_control(pack_header(DATA, 0, stream._muxed.stream_id, count) + bytes(count))
            muxer.wake_writer()
            size -= count


# --- windows of streams that nobody reads


@in_trio()
async def test_who_fills_windows_that_nobody_reads_is_cut_off_and_named_and_who_fills_one_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = replace(QUICK, unread_bytes_of_strangers=3 * WINDOW_BYTES)
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, limits) as victim:
        victim.on_message(PROTOCOL, sleep_on_it)
        async with open_attacker(50, victim) as modest, open_attacker(51, victim) as greedy:
            with caplog.at_level(logging.INFO, "flock_peers.network.complaints"):
                for link in (modest, *4 * [greedy]):
                    with suppress(Unavailable):
                        stream = await link.open(PROTOCOL)
                        await stream.write(encode_frame(b"the handler sleeps on this"))
                        await push(link, stream, WINDOW_BYTES - 2_000)
                with trio.fail_after(PATIENCE):
                    await greedy.closed.wait()
                await wait_until(lambda: key(51).account.hex() in caplog.text and "nobody reads" in caplog.text)
            assert victim._stack is not None
            await wait_until(lambda: unread(victim) == victim._stack.windows.total <= WINDOW_BYTES)
            assert victim.connected() == [key(50).account] and not modest.closed.is_set()
        await wait_until(lambda: not victim.connected())
        assert victim._stack.windows.total == 0 and not victim._stack.windows._held
        assert await is_healthy(victim)


@in_trio()
async def test_what_is_counted_is_what_is_held_while_streams_are_read_reset_closed_and_widened() -> None:
    gate = trio.Event()

    async def serve(stream: Stream) -> None:
        await gate.wait()
        first = await stream.read_exactly(1_000)
        if first[:1] == b"w":
            stream.expect_bulk()
        if first[:1] != b"r":
            await stream.read_exactly(100_000)
            await trio.sleep_forever()

    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as victim, open_attacker(50, victim) as link:
        victim.on_stream(PROTOCOL, serve)
        assert victim._stack is not None
        windows = victim._stack.windows
        for kind in (b"w", b"r", b"s"):
            stream = await link.open(PROTOCOL)
            await stream.write(kind * 200_000)
        await wait_until(lambda: windows.total == 600_000 == unread(victim))
        gate.set()  # one is widened, one is left by its handler, one is read in part
        await wait_until(lambda: windows.total == 200_000 - 1_000 - 100_000)
        await wait_until(lambda: unread(victim) == 2 * windows.total)
        await stream.reset()
        await wait_until(lambda: windows.total == 0)


# --- streams whose other end never ends


@pytest.mark.parametrize("protocol", [PROTOCOL, "/ipfs/id/1.0.0"])
@in_trio()
async def test_a_question_that_was_answered_keeps_no_stream_and_no_bytes_where_its_asker_never_ends_it(
    protocol: str,
) -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as victim, open_attacker(50, victim) as link:
        victim.on_request(PROTOCOL, echo)
        (muxer,) = muxers_of(victim)
        for number in range(MAX_INBOUND_STREAMS + 4):
            stream = await link.open(protocol)
            if protocol == PROTOCOL:
                await stream.write_frame(b"%d" % number)
                assert await stream.read_frame(100, PATIENCE) == b"\0%d" % number
            while not await stream.is_at_end():  # theirs; ours stays open
                await stream.read_some(1_000)
            await push(link, stream, 50_000)
        await link.open(PROTOCOL)  # all of that has arrived
        assert len([row for row in muxer.streams.values() if row.is_send_closed]) == 0 and unread(victim) == 0
        assert muxer._inbound <= 2 and not link.closed.is_set()


@asynccontextmanager
async def open_endless(number: int, victim: Host) -> AsyncIterator[Link]:
    """A peer that answers, sends more, and never ends a stream."""

    async def answer(stream: Stream) -> None:
        await stream.read_frame(MIB, PATIENCE)
        await stream.write(encode_frame(b"\0yes") + bytes(100_000))
        await trio.sleep_forever()

    async def on_link(link: Link) -> None:
        await link.closed.wait()

    stack = Stack(
        key(number), replace(QUICK, streams_per_peer=1_000), announce=[], protocols={PROTOCOL: answer},
        open_protocols=frozenset({PROTOCOL}), on_link=on_link,
    )  # fmt: skip
    async with stack.run(None):
        link = await stack.dial(parse_address(victim.address))
        stream = await link.open(HELLO)
        await stream.write_frame(Hello(VERSION, victim.genesis_hash, bytes(32), ()).encode())
        assert await stream.read_frame(4096, PATIENCE) is not None
        link.admitted.set()
        yield link


@in_trio()
async def test_our_questions_to_a_peer_that_never_ends_a_stream_leave_nothing_behind() -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as victim, open_endless(50, victim):
        await victim.wait_for_peers(1)
        (muxer,) = muxers_of(victim)
        before = len(muxer.streams)
        for _ in range(30):
            assert await victim.request(key(50).account, PROTOCOL, b"?", PATIENCE) == b"yes"
        await wait_until(lambda: len(muxer.streams) <= before + 2 and unread(victim) <= WINDOW_BYTES)


# --- answers that nobody takes


def in_virtual_time(main: Any) -> None:
    async def run() -> None:
        with trio.fail_after(3_600):
            await main()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


def test_of_answers_that_nobody_takes_the_oldest_of_who_holds_most_is_given_up_and_each_after_its_time() -> None:
    limits, given_up, ended = Limits(answer_bytes=10 * MIB), list[Account](), list[tuple[str, float]]()

    async def main() -> None:
        room = AnswerRoom(limits, lambda account, _why: given_up.append(account))
        begun = trio.current_time()

        async def hold(name: str, account: Account, size: int) -> None:
            try:
                with room.hold(account, size):
                    await trio.sleep_forever()
            except Unavailable:
                ended.append((name, trio.current_time() - begun))

        async with trio.open_nursery() as nursery:
            for number, (who, size) in enumerate([(0, 1), (1, 4), (1, 2), (2, 3)]):
                nursery.start_soon(hold, f"{number}", PEOPLE[who], size * MIB)
                await trio.sleep(1)
            nursery.start_soon(hold, "small", PEOPLE[1], limits.small_frame_bytes)
            await trio.sleep(1)
            assert room.total == 10 * MIB and not ended
            nursery.start_soon(hold, "late", PEOPLE[3], limits.small_frame_bytes + 1)
            await trio.sleep(1)
            assert [name for name, _ in ended] == ["1"] and given_up == [PEOPLE[1]]
            assert room.total == 6 * MIB + limits.small_frame_bytes + 1
        assert room.total == 0 and not room._waiting and not room._held
        left = [("0", 30), ("2", 32), ("3", 33), ("small", 34), ("late", 35)]
        assert ended[1:] == [(name, pytest.approx(at)) for name, at in left]
        assert given_up == [PEOPLE[number] for number in (1, 0, 1, 2, 3)]  # a small one is not worth a line

    in_virtual_time(main)


@in_trio()
async def test_who_takes_no_answers_makes_room_for_who_does_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    size = MIB - 1

    async def give(_account: Account, _payload: bytes) -> bytes:
        return bytes(size)

    limits = replace(QUICK, answer_bytes=4 * MIB)
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, limits) as victim, open_attacker(50, victim) as link:
        victim.on_request(PROTOCOL, give)
        with caplog.at_level(logging.INFO, "flock_peers.network.complaints"):
            for _ in range(12):
                stream = await link.open(PROTOCOL)
                await stream.write_frame(b"?")
            await wait_until(lambda: key(50).account.hex() in caplog.text)
        assert victim._answers.total == 4 * size and "did not take a large answer" in caplog.text
        async with open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK) as honest:
            await honest.connect(victim.address)
            for _ in range(5):
                assert len(await honest.request(victim.account, PROTOCOL, b"?", PATIENCE)) == size
        assert not link.closed.is_set()
    assert victim._answers.total == 0


# --- gossip that nobody takes


def test_a_crowd_of_slow_readers_has_one_room_together_and_everybody_a_little() -> None:
    router = Router()
    queues = {ID(bytes([number])): OutQueue() for number in range(12)}
    router.pubsub = SimpleNamespace(peer_queues=queues)
    message = bytes(64 << 10)
    for peer in list(queues)[:10]:
        while router.send_encoded(peer, message):
            pass
    total = sum(queue.waiting_bytes for queue in queues.values())
    assert ALL_QUEUES_BYTES < total <= ALL_QUEUES_BYTES + 10 * (FAIR_QUEUE_BYTES + len(message))
    honest, other = list(queues)[10:]
    while router.send_encoded(honest, message):
        pass
    assert FAIR_QUEUE_BYTES < queues[honest].waiting_bytes <= FAIR_QUEUE_BYTES + len(message)
    queues.pop(next(iter(queues)))
    assert router.send_encoded(honest, message) and router.send_encoded(other, message)
    assert not router.send_encoded(ID(b"nobody"), message)


# --- all of it


def test_the_page_says_what_all_bounds_come_to() -> None:
    x, files = Limits(), BlobLimits()
    links = x.max_inbound + x.max_outbound
    bounds = {
        "cipher": links * (_INBOX_BYTES_MAX + _OUTBOX_BYTES_KEPT),
        "acks": links * x.unread_bytes,
        "frames above": x.half_read_bytes_of_strangers,
        "frames below": links * x.streams_per_peer * x.small_frame_bytes,
        "beginnings": links * _STREAMS_OF_A_PEER * _READ,
        "windows": x.unread_bytes_of_strangers,
        "large answers": x.answer_bytes,
        "chunks of files": files.server_slots * CHUNK_BYTES,
        "objects by bitswap": _ANSWERS * 3 * MAX_OBJECT_BYTES,
        "gossip that is not": ALL_QUEUES_BYTES + links * (FAIR_QUEUE_BYTES + x.gossip_message_bytes),
        "gossip that is known": (30 << 20) + CACHE_BYTES + _SUBSCRIPTION_BYTES,
    }
    page = (Path(__file__).resolve().parents[2] / "docs" / "network.md").read_text()
    rows = [
        line for line in page.partition("## Memory that strangers")[2].partition("##")[0].splitlines() if "|" in line
    ]
    for (name, bound), row in zip(bounds.items(), rows[2:], strict=False):
        assert row.startswith(f"| {name}") or name in row, row
        assert f"{bound >> 20} MiB" in row, (name, bound / MIB)
    assert len(rows) == 2 + len(bounds) + 1
    assert f"**{sum(bounds.values()) >> 20} MiB**" in rows[-1], sum(bounds.values()) / MIB
