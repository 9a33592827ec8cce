"""The log names who misbehaves, and no crowd can fill the disk with it."""

import logging

import pytest

from flock_peers.network.complaints import Complaints, Lines, Tolerance


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


def test_the_sources_that_are_remembered_are_bounded(complaints: Complaints) -> None:
    for number in range(5_000):
        complaints.note(f"source {number}", "junk")
    assert len(complaints._sources) <= 1_024


def test_a_strangers_words_are_one_short_line(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    complaints.note("192.0.2.1", ValueError("x\n2026-01-01 ERROR forged\r\x1b[2J" + "y" * 10_000))
    assert len(caplog.messages[0]) < 500 and all(c.isprintable() for c in caplog.messages[0])
    complaints.note("192.0.2.2", TimeoutError())
    assert caplog.messages[1] == "192.0.2.2: TimeoutError"
