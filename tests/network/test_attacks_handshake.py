"""Strangers with bad manners, before, in and after the handshake: connections, identities, hello, places."""

import logging
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

import pytest
import trio
from network_support import (
    GENESIS_HASH,
    LOOPBACK,
    PATIENCE,
    QUICK,
    Inbox,
    connect_in_time,
    in_trio,
    is_healthy,
    key,
    open_attacker,
    wait_until,
)

from flock_chain.errors import FlockError, Unavailable
from flock_peers.network.host import Host, open_host
from flock_peers.network.identity import peer_id_of
from flock_peers.network.limits import Limits

MULTISTREAM = b"\x13/multistream/1.0.0\n"
INVALID_UTF8 = b"\x04\xff\xfe\xfd\n"


def _port(host: Host) -> int:
    return int(host.address.split("/")[4])


async def _is_closed_by_peer(stream: trio.SocketStream) -> bool:
    with trio.move_on_after(PATIENCE):
        try:
            while await stream.receive_some(4096):
                pass
        except trio.BrokenResourceError:
            pass
        return True
    return False


@pytest.mark.parametrize(
    "garbage",
    [
        bytes(range(256)) * 80,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        MULTISTREAM + INVALID_UTF8,
        MULTISTREAM + b"\x80\x80\x80\x80\x80\x80\x01" + b"x" * 100_000,  # a protocol name of 4 TB
        MULTISTREAM + b"\x07/noise\n" + b"\xff\xff" + bytes(65535),
        MULTISTREAM + b"\x11/plaintext/2.0.0\n",
    ],
    ids=["bytes", "http", "utf8", "length", "noise", "plaintext"],
)
@in_trio()
async def test_garbage_on_connect_ends_only_that_connection_and_names_the_address(
    garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, replace(QUICK, handshake_seconds=0.5)) as a:
        for _ in range(3):
            stream = await trio.open_tcp_stream("127.0.0.1", _port(a), local_address="127.0.0.67")
            try:
                await stream.send_all(garbage)
            except trio.BrokenResourceError:
                pass
            assert await _is_closed_by_peer(stream)
            await stream.aclose()
        assert await is_healthy(a)
        assert a.counters.restarts == 0
    named = tuple(f"127.0.0.67: {what}" for what in ("handshake failed", "no handshake"))
    assert any(line.startswith(named) for line in caplog.messages)


@in_trio()
async def test_silent_connections_lose_their_slots_and_are_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    limits = replace(QUICK, max_handshakes=4, handshake_seconds=2.0)
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, limits) as a,
        open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK) as b,
    ):
        silent = [await trio.open_tcp_stream("127.0.0.1", _port(a)) for _ in range(4)]
        with pytest.raises(Unavailable):
            await b.connect(a.address)
        for stream in silent:
            assert await _is_closed_by_peer(stream)
        await connect_in_time(b, a)
    assert "127.0.0.1: no handshake within 2 s" in caplog.text


@in_trio()
async def test_silence_from_one_address_keeps_nobody_of_another_waiting(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    limits = replace(QUICK, max_handshakes=4, handshake_seconds=60.0)
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, limits) as a,
        open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK) as b,
    ):
        silent = [
            await trio.open_tcp_stream("127.0.0.1", _port(a), local_address="127.0.0.66")
            for _ in range(limits.max_handshakes)
        ]
        await wait_until(lambda: a._stack is not None and a._stack._slots._handshakes.total() == 4)
        assert await b.connect(a.address) == a.account
        assert await _is_closed_by_peer(silent[0])
        assert "127.0.0.66: gives way in its handshake" in caplog.text
        for stream in silent:
            await stream.aclose()
        await wait_until(lambda: a._stack is not None and not a._stack._slots._handshakes)
        assert a._stack is not None and a._stack._slots.connected == 1


@in_trio()
async def test_slots_are_given_back_when_connections_end() -> None:
    """Stock, the slot of an inbound connection is held until the process ends."""
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, replace(QUICK, max_inbound=2)) as a:
        for number in range(10, 16):
            async with open_host(key(number), LOOPBACK, GENESIS_HASH, QUICK) as guest:
                await guest.connect(a.address)
            await wait_until(lambda: not a.connected())


@in_trio()
async def test_one_address_cannot_take_all_slots_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    limits = replace(QUICK, max_inbound_per_ip=2)
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, limits) as a,
        open_attacker(50, a),
        open_attacker(51, a),
        open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK) as b,
    ):
        with pytest.raises(Unavailable):
            await b.connect(a.address)
    assert "127.0.0.1: refused: 2 connections already" in caplog.text


@in_trio()
async def test_who_never_says_hello_is_disconnected_served_nothing_and_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, replace(QUICK, hello_seconds=0.5)) as a:
        inbox = Inbox()
        a.on_message("/test/1", inbox)
        async with open_attacker(50, a, hello=False) as link:
            with suppress(FlockError):  # on a busy machine its time is over before
                stream = await link.open("/test/1")
                await stream.write_frame(b"let me in")
            with trio.fail_after(PATIENCE):
                await link.closed.wait()
        assert not inbox.received and not a.connected()
        assert await is_healthy(a)
    assert f"0x{key(50).account.hex()} at 127.0.0.1: never said hello" in caplog.text


@pytest.mark.parametrize(
    "hello", [b"", b"\xc1", b"\x80", b"\x83\xa7genesis\xc4\x01g\xa6listen\x90\xa7version\x01", bytes(4097)]
)
@in_trio()
async def test_a_malformed_hello_is_not_admitted_and_names_its_account(
    hello: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    patient = replace(QUICK, hello_seconds=10 * PATIENCE)  # so it is not the time that ends what is refused at once
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, patient) as a, open_attacker(50, a, hello=False) as link:
        stream = await link.open("/flock/hello/1")
        await stream.write_frame(hello)
        with trio.fail_after(PATIENCE), pytest.raises(Unavailable):
            await stream.read_frame(4096, 10 * PATIENCE)
        assert not a.connected()
        await wait_until(lambda: any(line.startswith(f"0x{key(50).account.hex()} at") for line in caplog.messages))


@in_trio()
async def test_a_resource_watch_of_libp2p_never_refuses_us() -> None:
    """Stock refuses connections when the machine's memory is 90 % used, and dials by itself."""
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, Limits()) as a:
        assert a._stack is not None
        swarm = a._stack.swarm
        assert swarm._resource_manager is None
        assert list(swarm.upgrader.security_multistream.transports) == ["/noise"]
        assert list(swarm.upgrader.muxer_multistream.transports) == ["/yamux/1.0.0"]


@in_trio()
async def test_a_crowd_of_strangers_gives_way_to_a_peer_that_we_need(caplog: pytest.LogCaptureFixture) -> None:
    """An eclipse: all places are taken by one address, and the bootstrap peer, which we cannot reach, dials us."""
    needed = f"/ip4/127.0.0.1/tcp/9/p2p/{peer_id_of(key(2))}"  # nobody answers there
    limits = replace(QUICK, max_inbound=3)
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(open_host(key(1), LOOPBACK, GENESIS_HASH, limits, bootstrap=[needed]))
        crowd = [await stack.enter_async_context(open_attacker(50 + n, a)) for n in range(3)]
        with caplog.at_level(logging.INFO):
            b = await stack.enter_async_context(open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK))
            await b.connect(a.address)
            await wait_until(lambda: sum(link.closed.is_set() for link in crowd) == 1)
            assert b.account in a.connected() and len(a.connected()) == 3
            c = await stack.enter_async_context(open_host(key(3), LOOPBACK, GENESIS_HASH, QUICK))
            with pytest.raises(Unavailable):
                await c.connect(a.address)
        assert "gives way to a peer we need" in caplog.text and key(3).account.hex() in caplog.text
        assert "127.0.0.1: has 3 of the 3 places for incoming connections, and all are taken" in caplog.text


@in_trio()
async def test_who_fails_the_handshake_is_named_by_address(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with open_host(key(1), LOOPBACK, GENESIS_HASH, replace(QUICK, accept_rate=0.01, accept_burst=2)) as a:
            for source in ("127.0.0.81", "127.0.0.82", "127.0.0.82", "127.0.0.82"):
                stream = await trio.open_tcp_stream("127.0.0.1", _port(a), local_address=source)
                await stream.send_all(MULTISTREAM + INVALID_UTF8)
                assert await _is_closed_by_peer(stream)
    told = [line for line in caplog.messages if "127.0.0.8" in line]
    kinds = [" ".join(line.split()[:2]) for line in told]  # each once a minute
    assert kinds == ["127.0.0.81: handshake", "127.0.0.82: handshake", "127.0.0.82: refused:"]
