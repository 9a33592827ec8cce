"""The log names who misbehaves, and no crowd can fill the disk with it."""

import logging
from dataclasses import replace

import pytest
from network_support import GENESIS_HASH, LOOPBACK, QUICK, in_trio, key, open_attacker, wait_until

from flock_peers.network.complaints import Complaints, Lines, Tolerance
from flock_peers.network.hello import GENESIS, HELLO
from flock_peers.network.host import open_host
from flock_peers.network.link import Link
from flock_peers.network.relay import make_pair
from flock_peers.network.stack import Stack


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def complaints(now: list[float], caplog: pytest.LogCaptureFixture) -> Complaints:
    caplog.set_level(logging.INFO)
    return Complaints(lambda: now[0])


def test_a_source_is_told_at_once_and_then_once_a_minute_with_how_often(
    complaints: Complaints, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        complaints.note("192.0.2.1", "junk")
        now[0] += 0.5
    assert caplog.messages == ["192.0.2.1: junk"]
    now[0] = 61.0
    complaints.note("192.0.2.1", "junk again")
    assert caplog.messages[1:] == ["192.0.2.1: junk again (and 99 times since it was last told)"]


def test_a_flood_of_one_kind_is_no_screen_for_another(
    complaints: Complaints, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        complaints.note("192.0.2.1", "floods", kind="rate")
    complaints.note("192.0.2.1", "forges", kind="signature")
    for kind in ("cuts off", "resets"):
        complaints.tally("192.0.2.1", Tolerance(kind, 0), kind)
    assert caplog.messages == [f"192.0.2.1: {what}" for what in ("floods", "forges", "cuts off", "resets")]
    now[0] = 61.0
    complaints.note("192.0.2.1", "floods", kind="rate")
    assert caplog.messages[4:] == ["192.0.2.1: floods (and 99 times since it was last told)"]


def test_whoever_makes_all_kinds_of_trouble_gets_four_lines_a_minute_and_leaves_the_others_theirs(
    complaints: Complaints, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    for kind in range(100):
        complaints.note("192.0.2.1", f"trouble {kind}", kind=str(kind))
    complaints.note("192.0.2.2", "junk")
    assert caplog.messages == [
        *(f"192.0.2.1: trouble {kind}" for kind in range(4)), "192.0.2.2: junk (others, not told: 96)",
    ]  # fmt: skip
    now[0] = 61.0  # what was told long ago makes room
    complaints.note("192.0.2.1", "trouble 99", kind="99")
    assert caplog.messages[5:] == ["192.0.2.1: trouble 99"]
    assert len(complaints._sources["192.0.2.1"]) == 4


@in_trio()
async def test_two_kinds_of_trouble_with_a_running_host_are_both_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK, genesis_document=b"{}") as host,
        open_attacker(66, host) as attacker,
    ):
        await (await attacker.open(HELLO)).write_frame(b"junk")
        await (await attacker.open(GENESIS)).write(b"\xff" * 4)
        who = f"0x{key(66).account.hex()} at 127.0.0.1: stream failed"
        await wait_until(lambda: sum(line.startswith(who) for line in caplog.messages) == 2)


def test_what_is_tolerated_is_told_of_once_it_is_more_within_a_minute(
    complaints: Complaints, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    few = Tolerance("resets", 3)
    for _ in range(2):
        for _ in range(3):
            complaints.tally("192.0.2.1", few, "resets")
            complaints.tally("192.0.2.1", Tolerance("cuts", 3), "cuts")
        now[0] += 60.0
    assert not caplog.messages
    complaints.tally("192.0.2.1", few, "resets", 3)
    complaints.tally("192.0.2.2", few, "resets", 3)
    complaints.tally("192.0.2.1", few, "resets")
    assert caplog.messages == ["192.0.2.1: resets"]
    for number in range(5_000):
        complaints.tally(f"source {number}", few, "resets")
    assert len(complaints._tallies) <= 1_024


def test_a_crowd_of_sources_gets_a_line_a_second_and_is_counted(
    complaints: Complaints, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(10_000):
        complaints.note(f"source {number}", "junk")
    assert len(caplog.messages) == 60
    now[0] = 3.0
    for number in range(10):
        complaints.note(f"late {number}", "junk")
    assert len(caplog.messages) == 63 and "others, not told: 9940" in caplog.messages[60]


def test_a_crowd_that_comes_and_goes_pushes_no_complaint_out_of_the_log(
    now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lines = Lines(lambda: now[0])
    for number in range(10_000):
        lines.tell(f"connected to {number}")
    assert len(caplog.messages) == 400
    now[0] = 1.0
    lines.tell("connected to a friend")
    lines.tell("connected to another")
    assert caplog.messages[400:] == ["connected to a friend (others, not told: 9600)"]


def test_a_crowd_of_addresses_hides_no_account(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(1_000):
        complaints.note(f"192.0.2.{number}", "junk")
    complaints.note("0x1234 at 192.0.2.7", "junk")
    assert caplog.messages[-1].startswith("0x1234")


@pytest.mark.parametrize("what", ["refused", "handshake failed", "no handshake within 0.01 s"])
def test_a_crowd_behind_a_relay_hides_no_account(what: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whom a relay names has proved nothing: each name had taken a line of those who have."""
    caplog.set_level(logging.INFO)

    async def on_link(_link: Link) -> None:
        pass

    @in_trio()
    async def come() -> None:
        places = {"refused": {"max_inbound_per_ip": 0}, "handshake failed": {}}
        limits = replace(QUICK, **places.get(what, {"handshake_seconds": 0.01}))
        stack = Stack(key(1), limits, announce=[], protocols={}, open_protocols=frozenset(), on_link=on_link)
        async with stack.run(None):
            for number in range(100):
                ours, theirs = make_pair()
                if what == "handshake failed":
                    ours.socket.close()
                await stack.accept(theirs, "relayed by 0x12", f"0x{number:x}")
                assert theirs.socket.fileno() == -1, "who waits at the other end hears of it"
                ours.socket.close()
            stack.complaints.note("0x1234 at 192.0.2.7", "junk")

    come()
    assert caplog.messages[-1].startswith("0x1234") and f"circuit of 0x5: {what}" in caplog.text


def test_the_sources_that_are_remembered_are_bounded(complaints: Complaints) -> None:
    for number in range(5_000):
        complaints.note(f"source {number}", "junk")
    assert len(complaints._sources) <= 1_024


def test_a_strangers_words_are_one_short_line(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    complaints.note("192.0.2.1", ValueError("x\n2026-01-01 ERROR forged\r\x1b[2J" + "y" * 10_000))
    assert len(caplog.messages[0]) < 500 and all(c.isprintable() for c in caplog.messages[0])
    complaints.note("192.0.2.2", TimeoutError())
    assert caplog.messages[1] == "192.0.2.2: TimeoutError"
