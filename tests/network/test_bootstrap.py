"""What a host makes of a bootstrap that is off, silent, dying or nonsense; and the genesis that a joiner fetches."""

import socket
import struct
from dataclasses import replace

import pytest
import trio
from network_support import GENESIS_HASH, LOOPBACK, QUICK, in_trio, key

from flock_chain.crypto import keccak256
from flock_chain.errors import InvalidRemote, Unavailable
from flock_peers.network.genesis_fetch import fetch_genesis
from flock_peers.network.host import open_host
from flock_peers.network.limits import Limits


@in_trio()
async def test_a_bootstrap_that_is_not_there_is_unavailable_at_once() -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a:
        gone = a.address
    async with open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK) as b:
        with pytest.raises(Unavailable, match=r"nobody answers there .*refused"):
            await b.connect(gone)


@in_trio()
async def test_a_bootstrap_that_says_nothing_is_unavailable_in_time() -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a:
        address = a.address
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    silent = f"/ip4/127.0.0.1/tcp/{port}/p2p/{address.rsplit('/', 1)[1]}"
    limits = replace(QUICK, handshake_seconds=0.5, dial_seconds=1.0)
    async with listener, open_host(key(2), LOOPBACK, GENESIS_HASH, limits) as b:
        with pytest.raises(Unavailable):
            await b.connect(silent)


@in_trio()
@pytest.mark.parametrize("said", [b"", b"\x13/multistream/1.0.0\n", b"\x13/multistream/1.0.0\n\x07/noise\n"])
async def test_a_bootstrap_that_dies_in_the_handshake_is_unavailable_and_ends_nobody(said: bytes) -> None:
    """A campaign of kills found it: the error of the connection went through and ended the peer that was starting."""
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a:
        identity = a.address.rsplit("/", 1)[1]

    async def die(stream: trio.SocketStream) -> None:
        await stream.receive_some(1_024)
        await stream.send_all(said)
        await stream.receive_some(1_024)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()  # a reset, as the kernel sends for a process that was killed

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = f"/ip4/127.0.0.1/tcp/{listener.socket.getsockname()[1]}/p2p/{identity}"
    limits = replace(QUICK, handshake_seconds=2.0)
    async with open_host(key(2), LOOPBACK, GENESIS_HASH, limits) as b, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, die, [listener])
        with pytest.raises(Unavailable):
            await b.connect(address)
        nursery.cancel_scope.cancel()


@in_trio()
@pytest.mark.parametrize(
    "said",
    [
        b"\x13/multistream/1.0.0\n\x04\xff\xfe\xfd\n",
        b"\x13/multistream/1.0.0\n\x07/noise\n\x00\x04abcd",
        b"\x13/multistream/1.0.0\n\x07/noise\n\x00\x60" + bytes(96),
        b"\x80" * 30,
    ],
    ids=["utf8", "short", "low order", "length"],
)
async def test_a_bootstrap_that_speaks_nonsense_ends_nobody_and_is_not_dialed_without_a_pause(said: bytes) -> None:
    """A fuzzer found it: ValueError and the like came through. `connect` raised it, ending a peer that was starting,
    and the redial knew no failure and so no back-off: one such address kept a core busy."""
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a:
        identity = a.address.rsplit("/", 1)[1]
    dials = 0

    async def speak(stream: trio.SocketStream) -> None:
        nonlocal dials
        dials += 1
        await stream.send_all(said)
        await trio.sleep(0.05)
        await stream.aclose()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = f"/ip4/127.0.0.1/tcp/{listener.socket.getsockname()[1]}/p2p/{identity}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, speak, [listener])
        async with open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK, bootstrap=[address]) as b:
            with pytest.raises((InvalidRemote, Unavailable)):
                await b.connect(address)
            await trio.sleep(1.0)
        nursery.cancel_scope.cancel()
    assert dials < 10


def test_the_default_limits_report_a_dead_bootstrap_within_ten_seconds() -> None:
    assert Limits().dial_seconds <= 10


@in_trio()
async def test_a_joiner_fetches_the_genesis_before_it_says_hello() -> None:
    document = b'{"genesis": "document"}'
    digest = keccak256(document)
    async with open_host(key(1), LOOPBACK, digest, QUICK, genesis_document=document) as a:
        assert await fetch_genesis(key(2), [a.address]) == document
        assert await fetch_genesis(key(2), [a.address], expected_hash=digest) == document
        with pytest.raises(InvalidRemote, match="another network"):
            await fetch_genesis(key(2), [a.address], expected_hash=b"x" * 32)
        gone = a.address
        assert a.connected() == []
    with pytest.raises(Unavailable, match="no bootstrap peer"):
        await fetch_genesis(key(2), [gone], timeout=3)


@in_trio()
async def test_machines_that_say_nothing_do_not_hide_the_one_that_has_the_genesis() -> None:
    document = b'{"genesis": "document"}'
    async with open_host(key(1), LOOPBACK, keccak256(document), QUICK, genesis_document=document) as a:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never a word
            off = a.address.replace(f"/tcp/{a.address.split('/')[4]}/", f"/tcp/{silent.getsockname()[1]}/")
            assert await fetch_genesis(key(2), [off, off, a.address], timeout=4) == document
