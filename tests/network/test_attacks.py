"""Strangers with bad manners: what they send before, during and after the handshake."""

from dataclasses import replace

import pytest
import trio
from network_support import GENESIS_HASH, LOOPBACK, QUICK, Inbox, in_trio, is_healthy, key, open_attacker, wait_until

from flock_chain.errors import Unavailable
from flock_peers.network.host import Host, open_host
from flock_peers.network.limits import Limits

MULTISTREAM = b"\x13/multistream/1.0.0\n"
INVALID_UTF8 = b"\x04\xff\xfe\xfd\n"


def _port(host: Host) -> int:
    return int(host.address.split("/")[4])


async def _is_closed_by_peer(stream: trio.SocketStream, seconds: float) -> bool:
    with trio.move_on_after(seconds):
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
async def test_garbage_on_connect_ends_only_that_connection(garbage: bytes) -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, replace(QUICK, handshake_seconds=0.5)) as a:
        for _ in range(3):
            stream = await trio.open_tcp_stream("127.0.0.1", _port(a))
            try:
                await stream.send_all(garbage)
            except trio.BrokenResourceError:
                pass
            assert await _is_closed_by_peer(stream, 5)
            await stream.aclose()
        assert await is_healthy(a)
        assert a.counters.restarts == 0


@in_trio()
async def test_silent_connections_lose_their_slots() -> None:
    limits = replace(QUICK, max_handshakes=4, handshake_seconds=0.5)
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, limits) as a:
        silent = [await trio.open_tcp_stream("127.0.0.1", _port(a)) for _ in range(4)]
        async with open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK) as b:
            with pytest.raises(Unavailable):
                await b.connect(a.address)
            for stream in silent:
                assert await _is_closed_by_peer(stream, 3)
            await b.connect(a.address)


@in_trio()
async def test_slots_are_given_back_when_connections_end() -> None:
    """Stock, the slot of an inbound connection is held until the process ends."""
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, replace(QUICK, max_inbound=2)) as a:
        for number in range(10, 16):
            async with open_host(key(number), LOOPBACK, GENESIS_HASH, QUICK) as guest:
                await guest.connect(a.address)
            await wait_until(lambda: not a.connected())


@in_trio()
async def test_one_address_cannot_take_all_slots() -> None:
    limits = replace(QUICK, max_inbound_per_ip=2)
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, limits) as a,
        open_attacker(50, a),
        open_attacker(51, a),
        open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK) as b,
    ):
        with pytest.raises(Unavailable):
            await b.connect(a.address)


@in_trio()
async def test_who_never_says_hello_is_disconnected_and_served_nothing() -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, replace(QUICK, hello_seconds=0.5)) as a:
        inbox = Inbox()
        a.on_message("/test/1", inbox)
        async with open_attacker(50, a, hello=False) as link:
            stream = await link.open("/test/1")
            await stream.write_frame(b"let me in")
            with trio.fail_after(5):
                await link.closed.wait()
        assert not inbox.received and not a.connected()
        assert await is_healthy(a)


@pytest.mark.parametrize(
    "hello", [b"", b"\xc1", b"\x80", b"\x83\xa7genesis\xc4\x01g\xa6listen\x90\xa7version\x01", bytes(4097)]
)
@in_trio()
async def test_a_malformed_hello_is_not_admitted(hello: bytes) -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, replace(QUICK, hello_seconds=0.2)) as a:
        async with open_attacker(50, a, hello=False) as link:
            stream = await link.open("/flock/hello/1")
            await stream.write_frame(hello)
            with trio.fail_after(5):
                await link.closed.wait()
        assert not a.connected()


@pytest.mark.parametrize(
    "name", [INVALID_UTF8, b"\x01\n", b"\x80\x80\x80\x80\x04" + b"a" * 10_000, b"\x00", b"\xff" * 20]
)
@in_trio()
async def test_a_bad_protocol_name_ends_only_that_stream(name: bytes) -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a:
        inbox = Inbox()
        a.on_message("/test/1", inbox)
        async with open_attacker(50, a) as link:
            for _ in range(3):
                muxed = await link.swarm_conn.muxed_conn.open_stream()
                await muxed.write(MULTISTREAM + name)
            stream = await link.open("/test/1")
            await stream.write_frame(b"fine")
            await wait_until(lambda: inbox.payloads == [b"fine"])
        assert await is_healthy(a)
        assert a.counters.restarts == 0


@in_trio()
async def test_a_peer_has_a_bounded_number_of_streams() -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, replace(QUICK, streams_per_peer=4)) as a:
        a.on_message("/test/1", Inbox())
        async with open_attacker(50, a) as link:
            opened = [await link.open("/test/1") for _ in range(4)]
            with pytest.raises(Unavailable):
                await link.open("/test/1")
            await opened[0].close()
            await wait_until(lambda: link.streams_in == 0)
            with trio.fail_after(5):
                while True:
                    try:
                        await link.open("/test/1")
                        break
                    except Unavailable:
                        await trio.sleep(0.02)
        assert await is_healthy(a)


@in_trio()
async def test_garbage_instead_of_yamux_ends_only_that_connection() -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a:
        async with open_attacker(50, a) as link:
            await link.swarm_conn.muxed_conn.secured_conn.write(b"\xff" * 5000)
            link.abort()
        await wait_until(lambda: not a.connected())
        async with open_attacker(51, a) as link:
            below = link._below
            await below.write(b"\x00\x10" + b"not ciphertext!!")  # noise cannot open it
            with trio.fail_after(5):
                await link.closed.wait()
        assert await is_healthy(a)
        assert a.counters.restarts == 0


@in_trio()
async def test_a_resource_watch_of_libp2p_never_refuses_us() -> None:
    """Stock refuses connections when the machine's memory is 90 % used, and dials by itself."""
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, Limits()) as a:
        assert a._stack is not None
        swarm = a._stack.swarm
        assert swarm._resource_manager is None
        assert list(swarm.upgrader.security_multistream.transports) == ["/noise"]
        assert list(swarm.upgrader.muxer_multistream.transports) == ["/yamux/1.0.0"]
