"""Hosts find each other, refuse strangers with a reason, and come back after failures."""

import logging
import socket
import struct
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from network_support import (
    GENESIS_HASH,
    LOOPBACK,
    PATIENCE,
    QUICK,
    Inbox,
    accounts,
    in_trio,
    key,
    open_attacker,
    open_hosts,
    wait_until,
)

from flock_chain.codec import encode
from flock_chain.crypto import keccak256
from flock_chain.errors import InvalidRemote, Misuse, Unavailable
from flock_peers.network import hello
from flock_peers.network.genesis_fetch import fetch_genesis
from flock_peers.network.host import Host, open_host
from flock_peers.network.limits import Limits
from flock_peers.network.link import Link
from flock_peers.network.stack import Stack

CLOSE_SECONDS = 8.0  # less than any deadline that closing could wait for


@in_trio()
async def test_two_hosts_know_each_other_by_account() -> None:
    async with open_hosts(2) as (a, b):
        assert a.connected() == [key(2).account]
        assert b.connected() == [key(1).account]


@in_trio()
async def test_six_hosts_with_one_bootstrap_become_a_full_mesh() -> None:
    async with open_hosts(6) as hosts:
        for host in hosts:
            assert set(host.connected()) == accounts(hosts) - {host.account}


@in_trio()
async def test_who_listens_everywhere_meets_at_once_those_of_its_machine_that_listen_on_loopback() -> None:
    """Not only when these ask for addresses again, half a minute later: until then one dead peer would cut it off."""
    slow = replace(QUICK, exchange_seconds=1_000.0)
    async with open_hosts(3, slow) as hosts:
        everywhere = open_host(key(4), ("0.0.0.0", 0), GENESIS_HASH, slow, bootstrap=[hosts[0].address])
        async with everywhere as newcomer:
            with trio.fail_after(PATIENCE):
                await newcomer.wait_for_peers(3)


@in_trio()
async def test_another_genesis_is_refused_and_both_sides_say_why(caplog: pytest.LogCaptureFixture) -> None:
    other = b"o" * 32
    with caplog.at_level(logging.WARNING):
        async with (
            open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a,
            open_host(key(2), LOOPBACK, other, QUICK) as b,
        ):
            with pytest.raises(InvalidRemote, match="another network"):
                await b.connect(a.address)
            assert not a.connected() and not b.connected()
    assert f"0x{other.hex()}" in caplog.text and "another network" in caplog.text


@in_trio()
async def test_another_key_at_the_address_is_refused() -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a, open_host(key(2), LOOPBACK, GENESIS_HASH) as b:
        wrong = a.address.rsplit("/", 1)[0] + "/" + b.address.rsplit("/", 1)[1]
        async with open_host(key(3), LOOPBACK, GENESIS_HASH, QUICK) as c:
            with pytest.raises(InvalidRemote, match="another peer answers"):
                await c.connect(wrong)


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
async def test_a_port_that_is_taken_is_named_with_advice() -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a:
        port = int(a.address.split("/")[4])
        with pytest.raises(Unavailable, match=f"port {port} .* is taken.*choose another port"):
            async with open_host(key(2), ("127.0.0.1", port), GENESIS_HASH, QUICK):
                pass


@in_trio()
async def test_a_host_that_restarts_on_its_port_is_connected_again_by_the_others() -> None:
    async with (
        open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK) as b,
        open_host(key(3), LOOPBACK, GENESIS_HASH, QUICK) as c,
    ):
        async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a:
            await b.connect(a.address)
            await c.connect(a.address)
            port = int(a.address.split("/")[4])
        await wait_until(lambda: key(1).account not in b.connected() + c.connected())
        async with open_host(key(1), ("127.0.0.1", port), GENESIS_HASH, QUICK) as a:
            inbox = Inbox()
            a.on_message("/test/1", inbox)
            await a.wait_for_peers(2)
            for host in (b, c):
                await wait_until(lambda host=host: host.is_connected(a.account))
                host.send(a.account, "/test/1", b"again")
            await wait_until(lambda: len(inbox.received) == 2)


@in_trio()
async def test_known_addresses_are_kept_on_disk(tmp_path: Path) -> None:
    book = tmp_path / "peers.json"
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a:
        async with open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK, known_peers=book) as b:
            await b.connect(a.address)
        async with open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK, known_peers=book) as b:
            await b.wait_for_peers(1)


@in_trio()
async def test_a_network_that_was_stopped_as_a_whole_finds_itself_again_without_a_bootstrap_peer(
    tmp_path: Path,
) -> None:
    """With any free port for each: it was another one at each start, and nobody's book was of use."""
    books = {number: tmp_path / f"{number}.json" for number in (1, 2, 3)}
    async with AsyncExitStack() as stack:
        hosts = []
        for number, book in books.items():
            bootstrap = [hosts[0].address] if hosts else []
            host = open_host(key(number), LOOPBACK, GENESIS_HASH, QUICK, bootstrap=bootstrap, known_peers=book)
            hosts.append(await stack.enter_async_context(host))
        for host in hosts:
            await host.wait_for_peers(2)
    async with AsyncExitStack() as stack:
        again = [
            await stack.enter_async_context(open_host(key(number), LOOPBACK, GENESIS_HASH, QUICK, known_peers=book))
            for number, book in books.items()
        ]
        assert [host.address for host in again] == [host.address for host in hosts]
        for host in again:
            await host.wait_for_peers(2)


@in_trio()
async def test_a_port_of_the_last_run_that_is_taken_is_given_up(tmp_path: Path) -> None:
    book = tmp_path / "peers.json"
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK, known_peers=book) as a:
        port = int(a.address.split("/")[4])
    async with (
        open_host(key(2), ("127.0.0.1", port), GENESIS_HASH, QUICK),
        open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK, known_peers=book) as a,
    ):
        assert int(a.address.split("/")[4]) != port


@in_trio()
async def test_a_damaged_address_book_is_no_reason_not_to_start(tmp_path: Path) -> None:
    book = tmp_path / "peers.json"
    book.write_bytes(b"\xff not json")
    async with open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK, known_peers=book) as b:
        assert b.connected() == []


@in_trio()
async def test_two_hosts_that_dial_each_other_at_once_lose_no_message() -> None:
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a,
        open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK) as b,
    ):
        at_a, at_b = Inbox(), Inbox()
        a.on_message("/test/1", at_a)
        b.on_message("/test/1", at_b)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.connect, b.address)
            nursery.start_soon(b.connect, a.address)
        for number in range(200):
            a.send(b.account, "/test/1", b"%d" % number)
            b.send(a.account, "/test/1", b"%d" % number)
        await wait_until(lambda: len(at_a.received) >= 200 and len(at_b.received) >= 200)
        assert at_a.payloads == at_b.payloads == [b"%d" % number for number in range(200)]


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


@in_trio()
async def test_closing_waits_for_nobody() -> None:
    async with open_hosts(4) as hosts:
        hosts[0].on_message("/test/1", Inbox())
        hosts[1].send(hosts[0].account, "/test/1", b"x")
        started = time.monotonic()
    assert time.monotonic() - started < CLOSE_SECONDS


@in_trio()
async def test_cancelling_closes_and_waits_for_nobody() -> None:
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            async with open_hosts(3):
                started.set()
                await trio.sleep_forever()

        started = trio.Event()
        nursery.start_soon(run)
        await started.wait()
        begun = time.monotonic()
        nursery.cancel_scope.cancel()
    assert time.monotonic() - begun < CLOSE_SECONDS


@in_trio()
async def test_an_error_of_the_body_comes_out_alone() -> None:
    with pytest.raises(KeyError):
        async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK):
            raise KeyError("mine")


@in_trio()
async def test_an_error_beside_a_stack_is_not_swallowed_by_its_end() -> None:
    """It was: what ended a stack was never logged, and what failed in a genesis fetch was never told."""

    async def on_link(link: Link) -> None:
        await link.closed.wait()

    stack = Stack(key(1), QUICK, announce=[], protocols={}, open_protocols=frozenset(), on_link=on_link)
    with pytest.raises(KeyError, match="mine"):
        async with stack.run(None):
            raise KeyError("mine")


async def _break(host: Host) -> None:
    stack = host._stack
    assert stack is not None

    async def fail() -> None:
        raise RuntimeError("a bug in libp2p")

    stack._nursery.start_soon(fail)
    await wait_until(lambda: host._stack is not stack and host._stack is not None)


@in_trio()
async def test_a_stack_that_dies_is_started_again_with_all_handlers() -> None:
    async with open_hosts(2) as (a, b):
        inbox, heard = Inbox(), Inbox()
        a.on_message("/test/1", inbox)
        a.subscribe("topic", lambda _account, _payload: True, heard)
        b.subscribe("topic", lambda _account, _payload: True, Inbox())
        await _break(a)
        assert a.counters.restarts == 1
        await a.wait_for_peers(1)
        await b.wait_for_peers(1)
        b.send(a.account, "/test/1", b"hello again")
        await wait_until(lambda: inbox.payloads == [b"hello again"])
        await wait_until(lambda: a.account in b.topic_peers("topic"))
        b.publish("topic", b"news")
        await wait_until(lambda: heard.payloads == [b"news"])


@in_trio()
async def test_a_banned_peer_is_disconnected_and_refused() -> None:
    async with open_hosts(2) as (a, b):
        a.ban(b.account, "test", seconds=4.0)
        await wait_until(lambda: not a.is_connected(b.account) and not b.is_connected(a.account))
        with pytest.raises(Unavailable):
            await b.connect(a.address)
        assert not a.is_connected(b.account)
        await wait_until(lambda: a.is_connected(b.account))  # b tries again and again


@in_trio()
async def test_a_host_does_not_connect_to_itself() -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a:
        with pytest.raises(Misuse, match="itself"):
            await a.connect(a.address)


@in_trio()
async def test_handlers_are_told_of_connections_once_per_peer() -> None:
    came: list[bytes] = []
    went: list[bytes] = []

    async def on_came(account: bytes) -> None:
        came.append(account)

    async def on_went(account: bytes) -> None:
        went.append(account)
        raise RuntimeError("a handler's bug must not matter")

    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a:
        a.on_connected(on_came)
        a.on_disconnected(on_went)
        async with open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK) as b:
            await b.connect(a.address)
            await wait_until(lambda: came)
        await wait_until(lambda: went)
        assert came == went == [key(2).account]


@in_trio()
async def test_peers_with_different_upgrade_schedules_stay_connected_and_both_say_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        async with (
            open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK, upgrades_hash=b"a" * 32) as a,
            open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK, upgrades_hash=b"b" * 32) as b,
            open_host(key(3), LOOPBACK, GENESIS_HASH, QUICK, upgrades_hash=b"b" * 32) as c,
        ):
            await b.connect(a.address)
            await c.connect(b.address)
            await a.wait_for_peers(1)
    for theirs, number in ((b"a" * 32, 1), (b"b" * 32, 2)):
        told = f"0x{key(number).account.hex()} at"
        assert any(told in line and f"another upgrade schedule (0x{theirs.hex()}" in line for line in caplog.messages)
    between = [line for line in caplog.messages if key(3).account.hex() in line and "upgrade" in line]
    assert not [line for line in between if f"this peer's is 0x{(b'b' * 32).hex()}" in line]


@in_trio()
async def test_a_peer_of_another_protocol_version_is_told_both_numbers(caplog: pytest.LogCaptureFixture) -> None:
    other = encode({"genesis": GENESIS_HASH, "version": hello.VERSION + 1, "what": "else"})
    with caplog.at_level(logging.WARNING):
        async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a, open_attacker(9, a, hello=False) as link:
            stream = await link.open(hello.HELLO)
            await stream.write_frame(other)
            answer = await stream.read_frame(hello.MAX_HELLO_BYTES, PATIENCE)
            assert answer is not None and hello.decode_hello(answer).version == hello.VERSION
            await link.closed.wait()
    assert f"speaks version {hello.VERSION + 1} of the protocol, this peer speaks {hello.VERSION}" in caplog.text
