"""Tasks that a remote can make raise: contained, and no flood of lines in the log."""

import logging

import pytest
import trio
from network_support import GENESIS_HASH, LOOPBACK, QUICK, in_trio, key, wait_until

from flock_chain.crypto import Account
from flock_peers.network import guarded
from flock_peers.network.complaints import Lines
from flock_peers.network.guarded import contained
from flock_peers.network.host import open_host


async def fail(number: int) -> None:
    raise ValueError(f"{number}\n\x1b[2J" + "x" * 10_000)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Of the rates alone."""
    now = [0.0]
    for name, rate, at_once in (("_failures", 1.0, 60.0), ("_traces", 0.1, 20.0)):
        lines = Lines(lambda: now[0], rate=rate, at_once=at_once, logger=guarded.log)
        monkeypatch.setattr(guarded, name, lines)
    return now


def test_tasks_that_fail_fill_no_log(now: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        for number in range(1_000):
            await contained(fail, number)
        now[0] = 1.0
        await contained(fail, 1_000)

    trio.run(main)
    assert len(caplog.messages) == 61 and "others, not told: 940" in caplog.messages[-1]
    assert caplog.messages[0].startswith("network: task fail failed: ValueError('0")
    assert all(len(line) < 500 and line.isprintable() for line in caplog.messages)


@pytest.mark.usefixtures("now")
@in_trio()
async def test_a_handler_that_raises_on_every_message_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    count = 0

    async def handle(_account: Account, payload: bytes) -> None:
        nonlocal count
        count += 1
        raise RuntimeError(f"on {payload!r}")

    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as victim,
        open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK) as peer,
    ):
        victim.on_message("/test/1", handle)
        await peer.connect(victim.address)
        for _ in range(100):
            peer.send(victim.account, "/test/1", bytes(50_000))
        await wait_until(lambda: count == 100)
    told = [line for line in caplog.messages if line.startswith("the handler of /test/1 failed on a message of 0x")]
    assert len(told) == 20 and all(len(line) < 9_000 for line in told)


def test_the_rates_that_a_peer_has_are_those(caplog: pytest.LogCaptureFixture) -> None:
    """Of the process, whatever ran in it before this test."""
    caplog.set_level(logging.INFO)

    async def main() -> None:
        for number in range(500):
            await contained(fail, number)

    trio.run(main)
    assert len(caplog.messages) <= 70
