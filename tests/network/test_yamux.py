"""Our muxer: enforced windows, whole frames, and the same bytes on the wire as the stock one."""

import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
import trio
from libp2p import create_yamux_muxer_option, new_host
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as StockNoise
from multiaddr import Multiaddr
from network_support import (
    GENESIS_HASH,
    LOOPBACK,
    PATIENCE,
    QUICK,
    Inbox,
    in_trio,
    is_healthy,
    key,
    open_attacker,
    open_hosts,
    wait_until,
)

from flock_peers.network.hello import HELLO, VERSION, Hello, decode_hello
from flock_peers.network.host import Host, open_host
from flock_peers.network.identity import key_pair_of, peer_id_of
from flock_peers.network.link import Link, encode_frame
from flock_peers.network.yamux import MAX_INBOUND_STREAMS
from flock_peers.network.yamux_frame import WINDOW_BYTES

PROTOCOL = "/test/1"


@asynccontextmanager
async def _open_stock_host(number: int, victim: Host) -> AsyncIterator[Any]:
    pair = key_pair_of(key(number))
    noise = StockNoise(pair, noise_privkey=create_x25519_key_pair().private_key)
    host = new_host(key_pair=pair, sec_opt={NOISE: noise}, muxer_opt=create_yamux_muxer_option())
    async with host.run(listen_addrs=[]):
        await host.connect(info_from_p2p_addr(Multiaddr(victim.address)))
        yield host


def _links(host: Host) -> list[Link]:
    assert host._stack is not None
    return [link for links in host._stack.links.values() for link in links]


async def _read(stream: Any, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await stream.read(count - len(data))
    return data


@in_trio()
async def test_a_stock_libp2p_peer_understands_us_and_we_it() -> None:
    async def double(_account: bytes, payload: bytes) -> bytes:
        return payload * 2

    async with open_hosts(1) as (a,):
        inbox = Inbox()
        a.on_message(PROTOCOL, inbox)
        a.on_request("/ask/1", double)
        async with _open_stock_host(50, a) as stock:
            hello = await stock.new_stream(peer_id_of(key(1)), [HELLO])
            await hello.write(encode_frame(Hello(VERSION, GENESIS_HASH, bytes(32), ()).encode()))
            (length,) = struct.unpack(">I", await _read(hello, 4))
            assert decode_hello(await _read(hello, length)).genesis_hash == GENESIS_HASH
            stream = await stock.new_stream(peer_id_of(key(1)), [PROTOCOL])
            big = random.Random(1).randbytes(900_000)  # more than the window
            await stream.write(encode_frame(big))
            await wait_until(lambda: inbox.payloads == [big])
            ask = await stock.new_stream(peer_id_of(key(1)), ["/ask/1"])
            await ask.write(encode_frame(big[:400_000]))
            answer = await _read(ask, 4 + 1 + 800_000)
            assert answer[5:] == big[:400_000] * 2


async def _frame(link: Link, kind: int, flags: int, stream_id: int, length: int, body: bytes = b"") -> None:
    muxer = link.swarm_conn.muxed_conn
    await muxer.session.below.wait_room()
    muxer.send_frame(kind, flags, stream_id, length, body)


@in_trio()
async def test_who_ignores_the_window_is_cut_off() -> None:
    async def never(_account: bytes, _payload: bytes) -> None:
        await trio.sleep_forever()

    async with open_hosts(1) as (a,):
        a.on_message(PROTOCOL, never)
        async with open_attacker(50, a) as link:
            stream = await link.open(PROTOCOL)
            await stream.write(encode_frame(b"the handler sleeps on this"))
            pushed, body = 0, bytes(60_000)
            with trio.fail_after(PATIENCE):
                while not link.closed.is_set():
                    try:
                        await _frame(link, 0, 0, stream._muxed.stream_id, len(body), body)
                    except ConnectionClosedError:
                        break
                    pushed += len(body)
                    await trio.lowlevel.checkpoint()
        await wait_until(lambda: not a.connected())
        assert await is_healthy(a)


@in_trio()
async def test_an_honest_writer_waits_for_the_window_and_goes_on() -> None:
    gate = trio.Event()
    inbox = Inbox()

    async def slow(account: Any, payload: bytes) -> None:
        await gate.wait()
        await inbox(account, payload)

    async with open_hosts(2) as (a, b):
        a.on_message(PROTOCOL, slow)
        payloads = [bytes([number]) * 100_000 for number in range(20)]
        for payload in payloads:
            b.send(a.account, PROTOCOL, payload)
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert not inbox.received
        (link,) = _links(a)
        held = sum(stream.buffered_bytes for stream in link.swarm_conn.muxed_conn.streams.values())
        assert 0 < held <= WINDOW_BYTES
        gate.set()
        await wait_until(lambda: inbox.payloads == payloads)


@pytest.mark.parametrize(
    "header",
    [(9, 0, 1, 0), (2, 0, 0, 0), (0, 1, 0, 0), (1, 1, 1, 0), (1, 1, 2, 0), (0, 0, 7777, 1 << 30), (3, 0, 0, 0)],
    ids=["type", "odd ping", "stream 0", "twice", "wrong side", "huge frame", "go away"],
)
@in_trio()
async def test_a_frame_against_the_rules_ends_at_most_that_connection(header: tuple[int, int, int, int]) -> None:
    async with open_hosts(1) as (a,):
        async with open_attacker(50, a) as link:
            await _frame(link, *header)
            with suppress(ConnectionClosedError):  # it may be cut off before it has sent the second
                await _frame(link, *header)
            await trio.testing.wait_all_tasks_blocked(0.05)
        await wait_until(lambda: not a.connected())
        assert a.counters.restarts == 0
        assert await is_healthy(a)


@in_trio()
async def test_a_crowd_of_streams_is_reset_beyond_the_limit() -> None:
    async with open_hosts(1) as (a,):
        async with open_attacker(50, a) as link:
            muxer = link.swarm_conn.muxed_conn
            streams = [await muxer.open_stream() for _ in range(4 * MAX_INBOUND_STREAMS)]
            await wait_until(lambda: sum(stream.is_reset for stream in streams) >= 3 * MAX_INBOUND_STREAMS)
        assert await is_healthy(a)


@in_trio()
async def test_streams_that_ended_are_forgotten_on_both_sides() -> None:
    async def echo(_account: bytes, payload: bytes) -> bytes:
        return payload

    async with open_hosts(2) as (a, b):
        a.on_request("/echo/1", echo)
        muxers = [link.swarm_conn.muxed_conn for link in _links(a) + _links(b)]
        await trio.testing.wait_all_tasks_blocked(0.2)
        before = [len(muxer.streams) for muxer in muxers]
        for number in range(100):
            assert await b.request(a.account, "/echo/1", b"%d" % number) == b"%d" % number
        await wait_until(lambda: all(len(m.streams) <= n for m, n in zip(muxers, before, strict=True)))
        assert all(muxer._inbound <= MAX_INBOUND_STREAMS for muxer in muxers)


@in_trio()
async def test_a_write_that_is_cancelled_does_not_hurt_the_other_streams() -> None:
    async with open_hosts(2) as (a, b):
        inbox = Inbox()
        a.on_message(PROTOCOL, inbox)
        chance = random.Random(7)
        for _ in range(60):
            stream = await b.open_stream(a.account, PROTOCOL)
            with trio.move_on_after(chance.uniform(0, 0.01)):
                await stream.write_frame(chance.randbytes(700_000))
            await stream.reset()
            await wait_until(lambda: not any(link.streams_in > 8 for link in _links(a)))
        b.send(a.account, PROTOCOL, b"the end")
        await wait_until(lambda: b"the end" in inbox.payloads)
        assert a.counters.peers_misbehaved == 0


@in_trio()
async def test_a_peer_that_reads_nothing_is_dropped() -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, replace(QUICK, write_seconds=0.5)) as a:
        async with open_attacker(50, a) as link:
            link._below._limits = replace(QUICK, write_seconds=60)
            sleeping = trio.Event()

            async def sleep(_buffer: memoryview) -> int:
                await sleeping.wait()
                return 0

            link._below.receive_into = sleep  # type: ignore[method-assign]
            link._below._stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)  # the system's own store
            with trio.fail_after(PATIENCE):
                while a.connected() and not link.closed.is_set():
                    try:
                        await _frame(link, 2, 1, 0, 1, bytes.fromhex("000200010000000000000001") * 2_000)
                    except ConnectionClosedError:
                        break
                while a.connected():  # dropped; our end need not notice, for it neither reads nor writes
                    await trio.sleep(0.01)
        await wait_until(lambda: not a.connected())
