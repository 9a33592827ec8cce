"""Breaches inside an authenticated connection: they end it, and the log says whose they were."""

import logging

import pytest
import trio
from attacks_muxer_support import BREACHES, put
from network_support import GENESIS_HASH, LOOPBACK, PATIENCE, QUICK, in_trio, is_healthy, key, open_attacker, wait_until

from flock_peers.network import yamux
from flock_peers.network.host import open_host


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
            with trio.fail_after(PATIENCE):
                await link.closed.wait()
        assert await is_healthy(a)
        assert a.counters.restarts == 0


@pytest.mark.parametrize("breach", [name for name in BREACHES if name != "go away"])
@in_trio()
async def test_a_breach_of_the_muxers_rules_is_cut_off_and_named(breach: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a, open_attacker(50, a) as link:
            await put(link, BREACHES[breach])
            with trio.fail_after(PATIENCE):
                await link.closed.wait()
            await wait_until(lambda: not a.connected())
    account = key(50).account.hex()
    assert any(account in line and "cut off" in line for line in caplog.messages)


@in_trio()
async def test_who_takes_nothing_and_answers_no_ping_is_cut_off_and_named(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yamux, "_PING_SECONDS", 0.2)
    monkeypatch.setattr(yamux, "_PONG_SECONDS", 0.2)
    with caplog.at_level(logging.INFO):
        async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a, open_attacker(50, a) as link:
            link.swarm_conn.muxed_conn.session.read_messages = trio.sleep_forever
            await wait_until(lambda: not a.connected())
    assert any(key(50).account.hex() in line and "no answer to a ping" in line for line in caplog.messages)


@in_trio()
async def test_an_orderly_goodbye_is_no_breach(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a, open_attacker(50, a) as link:
            await put(link, BREACHES["go away"])
            await wait_until(lambda: not a.connected())
    assert "cut off" not in caplog.text
