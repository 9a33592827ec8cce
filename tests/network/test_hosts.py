"""Hosts find each other, refuse strangers with a reason, and close without waiting for anybody."""

import logging
import time
from dataclasses import replace

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
from flock_chain.errors import InvalidRemote, Misuse, Unavailable
from flock_peers.network import hello
from flock_peers.network.host import open_host
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
async def test_a_port_that_is_taken_is_named_with_advice() -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a:
        port = int(a.address.split("/")[4])
        with pytest.raises(Unavailable, match=f"port {port} .* is taken.*choose another port"):
            async with open_host(key(2), ("127.0.0.1", port), GENESIS_HASH, QUICK):
                pass


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
