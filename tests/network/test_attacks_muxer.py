"""Breaches inside an authenticated connection: they end it, and the log says whose they were."""

import logging
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from attacks_muxer_support import BREACHES, DATA, FIN, RST, SYN, WINDOW, frame, put
from muxer_support import FakeSession
from network_support import GENESIS_HASH, LOOPBACK, PATIENCE, QUICK, in_trio, is_healthy, key, open_attacker, wait_until

from flock_peers.network import yamux
from flock_peers.network.host import open_host
from flock_peers.network.yamux import Muxer


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


class Script(FakeSession):
    """What comes, each at its second."""

    def __init__(self, said: Iterable[tuple[float, bytes]]) -> None:
        super().__init__(False)
        self._said = iter(said)
        self.read_at: list[float] = []

    async def read_messages(self) -> list[bytes]:
        self.read_at.append(trio.current_time())
        at, data = next(self._said, (0.0, b""))
        await trio.sleep_until(max(at, trio.current_time()))
        self.below.bytes_in += len(data)
        return [data] if data else []


def hear(said: Iterable[tuple[float, bytes]]) -> tuple[float, list[str]]:
    """Seconds that reading all of it took, and what was complained of."""
    complaints: list[str] = []
    session: Any = Script(said)

    async def main() -> float:
        begun = trio.current_time()
        await Muxer(session, None, SimpleNamespace(account=b"", complain=complaints.append)).start()
        return session.read_at[-1] - begun

    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(main, clock=clock), complaints


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ([frame(WINDOW, 0, 7, 0) * 1_000] * 30, 6.5),  # credit of nothing, or to a stream that there is not
        ([frame(DATA, 0, 7, 0) * 1_000] * 30, 6.5),
        ([frame(2, 2, 0, 1) * 1_000] * 30, 6.5),  # answers to pings of nobody
        ([frame(DATA, 0, 8, 1, b"x") * 1_000] * 30, 6.5),
        ([b"".join(frame(WINDOW, SYN, 2 * n + 1, 0) + frame(WINDOW, RST, 2 * n + 1, 0) for n in range(2_000))], 4.7),
    ],
    ids=["credit", "data", "pongs", "bytes", "streams"],
)
def test_frames_that_carry_next_to_nothing_are_read_at_a_rate(said: list[bytes], seconds: float) -> None:
    """Ten thousand at once, three thousand a second, and ten for a stream that is opened."""
    took, complaints = hear((0.0, data) for data in said)
    assert seconds - 0.1 <= took <= seconds + 0.2
    assert complaints and set(complaints) == {"sends more than 3000 frames a second that carry next to nothing"}


@in_trio()
async def test_what_circuits_say_is_not_charged_to_who_lends_them_and_one_that_says_too_much_ends_alone() -> None:
    """Two strangers behind a relay, each within its own rate there, had it read so slowly that it was cut off."""
    complaints: list[str] = []
    link = SimpleNamespace(account=b"", complain=complaints.append)
    muxer = Muxer(FakeSession(False), None, link, clock=lambda: 0.0)
    streams = []
    for number in range(1, 33, 2):
        muxer._feed(frame(WINDOW, SYN, number, 0))
        streams.append(muxer.streams[number])
        muxer.streams[number].carry_circuit()
    own = muxer.make_allowance()
    assert muxer._charge(own) == 0.0
    for number in range(1, 33, 2):
        muxer._feed(frame(DATA, 0, number, 1, b"x") * 9_000)
        muxer._feed(frame(DATA, 0, number, 60_000, bytes(60_000)))
        await streams[number // 2].read()  # what is here of it; it goes on
    assert muxer._cost == 0 and muxer._charge(own) == 0.0 and not complaints
    muxer._feed(frame(DATA, 0, 5, 1, b"x") * 1_200)  # the last of them after it has ended
    assert [stream.is_reset for stream in streams] == [number == 5 for number in range(1, 33, 2)]
    assert complaints == ["a circuit that it lends ends, with more than 3000 frames a second"]
    assert not muxer.breach and not muxer.session.below.is_closed
    assert 0 < muxer._cost < 200 and muxer._charge(own) == 0.0


@in_trio()
async def test_circuits_that_follow_each_other_have_no_more_frames_than_one() -> None:
    """A relay opened one after the other, and said ten thousand times nothing in each: a core of the other side's."""
    now, ended = [0.0], 0
    link = SimpleNamespace(account=b"", complain=lambda _what: None)
    muxer = Muxer(FakeSession(False), None, link, clock=lambda: now[0])
    for number in range(1, 201, 2):
        now[0] += 0.1
        muxer._feed(frame(WINDOW, SYN, number, 0))
        stream = await muxer.accept_stream()
        stream.carry_circuit()
        muxer._feed(frame(WINDOW, 0, number, 0) * 9_000)
        ended += stream.is_reset
        muxer._feed(frame(WINDOW, RST, number, 0))
    assert ended == 99 and len(muxer._spare) == 1
    muxer._feed(frame(WINDOW, SYN, 201, 0) + frame(WINDOW, RST, 201, 0))
    over = await muxer.accept_stream()
    over.carry_circuit()
    assert over.allowance is None and len(muxer._spare) == 1, "it would not come back"


@in_trio()
async def test_a_circuit_goes_on_with_the_allowance_of_the_one_that_is_over_for_the_longest() -> None:
    """Which has had the most time to fill again: who floods through a relay leaves the next one there the least."""
    muxer, found = Muxer(FakeSession(False), None, SimpleNamespace(account=b"", complain=lambda _what: None)), []
    for numbers in ((1, 3, 5), (7, 9, 11)):
        muxer._feed(b"".join(frame(WINDOW, SYN, number, 0) for number in numbers))
        for _ in numbers:
            stream = await muxer.accept_stream()
            stream.carry_circuit()
            found.append(stream.allowance)
        muxer._feed(b"".join(frame(WINDOW, RST, number, 0) for number in numbers))
    assert found[:3] == found[3:] and len(set(map(id, found))) == 3


def ask(number: int) -> bytes:
    """A question's name and what it asks, and that nothing else comes."""
    said = frame(DATA, 0, number, 40) + bytes(40) + frame(DATA, 0, number, 200) + bytes(200)
    return frame(WINDOW, SYN, number, 0) + said + frame(WINDOW, FIN, number, 0) + frame(WINDOW, 0, number, 0)


def test_bulk_and_a_peer_at_all_its_other_limits_are_read_as_they_come() -> None:
    bulk = [(0.0, frame(DATA, 0, 8, 60_000) + bytes(60_000))] * 60
    credit = [(0.0, frame(WINDOW, 0, 8, 0) * 2 + frame(DATA, 0, 8, 4_096) + bytes(4_096))] * 5_000
    pong, message = frame(2, 2, 0, 1), frame(DATA, 0, 8, 200) + bytes(200)
    questions = [ask(2 * n + 1) for n in range(4_000)]
    answers = (frame(WINDOW, 2, 8, 0) + frame(DATA, 0, 8, 40) + bytes(40) + message + frame(WINDOW, FIN, 8, 0)) * 10
    busy = [(n / 10, b"".join(questions[10 * n : 10 * n + 10]) + answers + message * 60 + pong) for n in range(400)]
    for said, most in ((bulk, 0.0), (credit, 0.0), (busy, 40.0)):
        took, complaints = hear(said)
        assert took <= most and not complaints


@in_trio()
async def test_a_flood_of_frames_that_say_nothing_is_named_and_holds_up_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a, open_attacker(50, a) as link:
            for _ in range(8):
                await put(link, frame(WINDOW, 0, 9_999, 0) * 5_000)
            await wait_until(lambda: "carry next to nothing" in caplog.text)
            assert await is_healthy(a)
    account = key(50).account.hex()
    assert any(line.startswith(f"0x{account} at 127.0.0.1: sends more than 3000 frames") for line in caplog.messages)
