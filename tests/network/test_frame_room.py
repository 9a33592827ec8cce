"""What is half read of all peers together: bounded, strangers first; small messages and validators' come through."""

import logging
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from network_support import GENESIS_HASH, LOOPBACK, PATIENCE, QUICK, Inbox, in_trio, key, open_attacker, wait_until

from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote, Unavailable
from flock_peers.network.frame_room import FrameRoom
from flock_peers.network.host import Host, open_host
from flock_peers.network.limits import MIB, Limits
from flock_peers.network.link import Stream, encode_frame
from flock_peers.network.messages import receive
from flock_peers.network.requests import read_request

PROTOCOL = "/test/1"
KIB = 1 << 10
SMALL, PEER, STRANGERS, ALL = 16 * KIB, 128 * KIB, 256 * KIB, 512 * KIB
TIGHT = Limits(
    small_frame_bytes=SMALL, half_read_bytes_per_peer=PEER, half_read_bytes_of_strangers=STRANGERS, half_read_bytes=ALL,
    frame_seconds=PATIENCE,
)  # fmt: skip
PEOPLE = [key(number).account for number in range(1, 40)]
VALIDATORS = PEOPLE[20:]


def make_room(refused: list[str] | None = None) -> FrameRoom:
    return FrameRoom(TIGHT, lambda account: account in VALIDATORS, lambda _account, why: (refused or []).append(why))


def fill(room: FrameRoom, accounts: list[Account], size: int = PEER) -> list[Any]:
    """The claims of those who got room."""
    claims = [room.claim(account) for account in accounts]
    return [claim for claim in claims if claim.take(size)]


def test_strangers_are_refused_first_then_everybody_and_each_peer_has_its_share() -> None:
    room = make_room()
    assert len(fill(room, PEOPLE[:20])) * PEER == STRANGERS == room.total
    claims = fill(room, VALIDATORS)
    assert len(claims) * PEER == ALL - STRANGERS and room.total == ALL
    assert not room.claim(VALIDATORS[0]).take(SMALL + 1) and room.claim(PEOPLE[19]).take(SMALL)
    for claim in claims:
        claim.release()
    assert not room.claim(PEOPLE[19]).take(SMALL + 1)  # what validators leave is no stranger's
    assert fill(room, [VALIDATORS[0]], PEER - 1) and not room.claim(VALIDATORS[0]).take(SMALL + 1)
    assert not room.claim(VALIDATORS[1]).take(PEER + 1)
    room = make_room()
    assert len(fill(room, VALIDATORS[:2])) == 2 and len(fill(room, PEOPLE[:20])) * PEER == STRANGERS  # beside theirs


def test_what_a_claim_took_it_gives_back_once_whoever_has_become_of_its_peer() -> None:
    validators = {PEOPLE[0]}
    room = FrameRoom(TIGHT, validators.__contains__, lambda *_words: None)
    with pytest.raises(InvalidRemote), room.claim(PEOPLE[0]) as first, room.claim(PEOPLE[1]) as second:
        assert first.take(PEER) and second.take(PEER)
        validators.clear()
        raise InvalidRemote("a broken frame")
    assert (room.total, room.of_strangers, room._held) == (0, 0, {})
    first.release()
    assert room.total == 0
    claim = room.claim(PEOPLE[2])
    assert not claim.take(PEER + 1) and claim.refused == PEER + 1
    claim.release()
    assert claim.refused == 0 and claim.take(PEER) and room.total == PEER


class Script(Stream):
    """Bytes that come in pieces."""

    def __init__(self, data: bytes, account: Account) -> None:
        self._data, self._buffer, self._account = data, b"", account
        self.reads: list[int] = []

    @property
    def account(self) -> Account:
        return self._account

    @property
    def remote_host(self) -> str:
        return "192.0.2.7"

    async def _receive(self, most: int) -> bytes:
        await trio.lowlevel.checkpoint()
        self.reads.append(most)
        taken, self._data = self._data[:most], self._data[most:]
        return taken


def test_a_frame_without_room_is_read_past_in_small_pieces_is_paid_for_and_the_next_one_is_heard() -> None:
    refused: list[str] = [""]
    room, heard, paid = make_room(refused), Inbox(), list[int]()

    def charge(size: int) -> float:
        paid.append(size)
        return 0.0

    async def main() -> None:
        fill(room, PEOPLE[:2])
        stream = Script(encode_frame(b"1") + encode_frame(bytes(PEER)) + encode_frame(b"2"), PEOPLE[5])
        await receive(stream, TIGHT, room, charge, lambda payload: heard(stream.account, payload))
        assert max(stream.reads) <= 4 * KIB
        with pytest.raises(Unavailable, match="before the end"):
            await receive(
                Script(encode_frame(bytes(PEER))[:-1], PEOPLE[5]), TIGHT, room, charge,
                lambda payload: heard(stream.account, payload),
            )  # fmt: skip

    trio.run(main)
    assert heard.payloads == [b"1", b"2"] and paid == [1, PEER, 1]
    why = f"a frame of {PEER} bytes is not read: all strangers have at most 256 KiB half read at once"
    assert refused[1:] == [why] * 2


def test_a_request_without_a_claim_is_small_and_one_without_room_is_declined() -> None:
    async def main() -> None:
        room = make_room()
        assert await read_request(Script(encode_frame(bytes(SMALL)), PEOPLE[0]), TIGHT) == bytes(SMALL)
        with pytest.raises(InvalidRemote, match="at most"):
            await read_request(Script(encode_frame(bytes(SMALL + 1)), PEOPLE[0]), TIGHT)
        with room.claim(PEOPLE[0]) as claim:
            assert await read_request(Script(encode_frame(bytes(PEER)), PEOPLE[0]), TIGHT, claim) == bytes(PEER)
            assert room.total == PEER
            with pytest.raises(Unavailable, match=f"no room for a request of {PEER} bytes"):
                await read_request(Script(encode_frame(bytes(PEER)), PEOPLE[0]), TIGHT, room.claim(PEOPLE[0]))

    trio.run(main)


# --- strangers who take all that strangers have


def in_virtual_time(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def read_a_frame(room: FrameRoom, account: Account, host: str, size: int, seconds: float) -> bool:
    """Whether it came through; a piece of it a second."""
    with room.claim(account, host) as claim:
        claim.take(size)
        until = trio.current_time() + seconds
        while not claim.refused and trio.current_time() < until:
            with claim.reading():
                await trio.sleep(1)
        return not claim.refused


async def hold_for_ever(room: FrameRoom, account: Account, host: str, size: int) -> None:
    """Half a frame, and the next as soon as that has lost its room."""
    while True:
        await read_a_frame(room, account, host, size, 30)
        await trio.sleep(1)


@pytest.mark.parametrize(("attackers", "networks", "size"), [(8, 1, MIB), (8, 8, MIB), (24, 24, 300 * KIB)])
def test_identities_that_take_all_room_and_renew_it_for_ever_keep_out_no_honest_newcomer(
    attackers: int, networks: int, size: int
) -> None:
    limits, named = Limits(), set[Account]()

    async def main() -> None:
        room = FrameRoom(limits, lambda _account: False, lambda account, _why: named.add(account))
        crowd = [key(100 + number).account for number in range(attackers)]
        async with trio.open_nursery() as nursery:
            for number, account in enumerate(crowd):
                for _ in range(3):
                    nursery.start_soon(hold_for_ever, room, account, f"8.8.{number % networks}.1", size)
            await trio.sleep(5)
            assert room.of_strangers > limits.half_read_bytes_of_strangers - size
            for number in range(10):  # a peer of the same network, and one of another
                honest = key(10 + number % 2).account
                assert await read_a_frame(room, honest, f"8.8.{number % 2 * 99}.2", 70_000, 4)
                assert room.of_strangers <= limits.half_read_bytes_of_strangers
            nursery.cancel_scope.cancel()
        assert named and named <= set(crowd) and not room.total and not room.of_strangers
        assert not room._strangers and not room._of_holder and not room._of_group

    in_virtual_time(main)


def test_one_network_full_of_identities_gives_way_to_a_large_frame_from_elsewhere_and_not_the_other_way_round() -> None:
    async def main() -> None:
        room = FrameRoom(Limits(), lambda _account: False, lambda *_words: None)
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(hold_for_ever, room, key(100 + number).account, "8.8.8.1", 400 * KIB)
            await trio.sleep(1)
            assert await read_a_frame(room, PEOPLE[0], "9.9.9.9", MIB, 20)
            async with trio.open_nursery() as others:  # one that is there stays, whatever the crowd asks for
                others.start_soon(read_a_frame, room, PEOPLE[1], "9.9.9.9", MIB, 40)
                await trio.sleep(1)
                assert not await read_a_frame(room, key(180).account, "8.8.8.1", MIB, 5)
                assert room._of_group["9.9.9.0/24"] == MIB
            nursery.cancel_scope.cancel()

    in_virtual_time(main)


def test_many_behind_one_address_keep_their_share_though_each_attacker_has_a_network_of_its_own() -> None:
    async def main() -> None:
        room = FrameRoom(Limits(), lambda _account: False, lambda *_words: None)
        async with trio.open_nursery() as nursery:
            for number in range(20):  # a laboratory, which has the most of all networks
                nursery.start_soon(read_a_frame, room, key(10 + number).account, "8.8.8.1", 100 * KIB, 60)
            for number in range(24):
                nursery.start_soon(hold_for_ever, room, key(100 + number).account, f"9.9.{number}.1", MIB)
            await trio.sleep(2)
            assert room.of_strangers > 15 * MIB
            assert await read_a_frame(room, key(50).account, "8.8.8.1", 100 * KIB, 5)
            assert room._of_group["8.8.8.0/24"] == 20 * 100 * KIB  # nobody of it was pushed out
            nursery.cancel_scope.cancel()

    in_virtual_time(main)


def test_of_one_network_who_holds_less_is_not_refused_for_the_network_s_sake() -> None:
    async def main() -> None:
        room = FrameRoom(Limits(), lambda _account: False, lambda *_words: None)
        async with trio.open_nursery() as nursery:
            for number in range(16):
                nursery.start_soon(hold_for_ever, room, key(100 + number // 2).account, "8.8.8.1", MIB)
            await trio.sleep(1)
            assert room.of_strangers == 16 * MIB
            assert await read_a_frame(room, PEOPLE[0], "8.8.8.2", 500 * KIB, 5)
            nursery.cancel_scope.cancel()

    in_virtual_time(main)


TAIL = encode_frame(b"next")


class Stalling(Script):
    async def _receive(self, most: int) -> bytes:
        """Nothing for a while before the last byte of the first frame."""
        left = len(self._data) - len(TAIL) - 1
        if not left:
            await trio.sleep(15)
        return await super()._receive(min(most, left) if left > 0 else most)


def test_a_frame_of_which_nothing_comes_for_ten_seconds_loses_its_room_and_its_stream_goes_on() -> None:
    refused: list[str] = [""]

    async def main() -> None:
        room, heard = make_room(refused), Inbox()
        stream = Stalling(encode_frame(bytes(PEER)) + TAIL, PEOPLE[5])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                receive, stream, TIGHT, room, lambda _size: 0.0, lambda payload: heard(stream.account, payload)
            )
            await trio.sleep(9)
            assert room.total == PEER
            await trio.sleep(2)
            assert room.total == 0 and not heard.payloads
        assert heard.payloads == [b"next"]

    in_virtual_time(main)
    assert refused[1:] == [f"a frame of {PEER} bytes is read past: nothing of it came for 10 s"]


def test_a_validator_s_frame_keeps_its_room_while_nothing_of_it_comes_for_as_long_as_any_frame_may_take() -> None:
    refused: list[str] = [""]

    async def main() -> None:
        room, heard = make_room(refused), Inbox()
        stream = Stalling(encode_frame(bytes(PEER)) + TAIL, VALIDATORS[0])
        await receive(stream, TIGHT, room, lambda _size: 0.0, lambda payload: heard(stream.account, payload))
        assert heard.payloads == [bytes(PEER), b"next"] and trio.current_time() >= 15 and not room.total

    in_virtual_time(main)
    assert refused[1:] == []


def test_who_waits_for_its_rate_with_a_large_frame_gives_way_to_who_has_less() -> None:
    """And what it sent is dropped at once, not when its turn comes."""

    async def main() -> None:
        room, heard = make_room(), Inbox()
        async with trio.open_nursery() as nursery:
            for account in (PEOPLE[5], PEOPLE[6]):
                stream = Script(encode_frame(bytes(PEER)) + encode_frame(b"next"), account)
                nursery.start_soon(receive, stream, TIGHT, room, lambda _size: 5.0, partial(heard, account))
            await trio.sleep(1)  # of virtual time
            assert room.total == 2 * PEER == STRANGERS and room.claim(PEOPLE[7]).take(PEER // 2)
            assert room.total == 3 * PEER // 2
        assert sorted(map(len, heard.payloads)) == [4, 4, PEER] and trio.current_time() >= 10

    in_virtual_time(main)


@in_trio()
async def test_a_stream_that_waits_for_its_next_message_keeps_nothing_of_the_last() -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, TIGHT) as victim, open_attacker(50, victim) as link:
        inbox = Inbox()
        victim.on_message(PROTOCOL, inbox)
        stream = await link.open(PROTOCOL)
        await stream.write_frame(bytes(PEER))
        await wait_until(lambda: inbox.received and not victim._room.total)
        references = sys.getrefcount(inbox.received[0][1])
        assert references == 2  # the inbox's, and the question's own


@in_trio()
async def test_a_request_has_its_room_until_it_was_answered() -> None:
    held: list[int] = []

    async def answer(_account: Account, payload: bytes) -> bytes:
        held.append(victim._room.total)
        return payload[:1]

    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, TIGHT) as victim,
        open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK) as asker,
    ):
        victim.on_request(PROTOCOL, answer)
        await asker.connect(victim.address)
        assert await asker.request(victim.account, PROTOCOL, bytes(PEER), PATIENCE) == b"\0"
        with pytest.raises(Unavailable):
            await asker.request(victim.account, PROTOCOL, bytes(PEER + 1), PATIENCE)
        await wait_until(lambda: not victim._room.total)
        assert held == [PEER]


async def begin_frames(host: Host, number: int, streams: int, size: int, nursery: trio.Nursery) -> None:
    """All but the last byte of a large message, on so many streams of one peer, which then waits."""
    async with open_attacker(number, host) as link:
        opened = [await link.open(PROTOCOL) for _ in range(streams)]
        for stream in opened:
            nursery.start_soon(_write, stream, encode_frame(bytes(size))[:-1])
        await trio.sleep_forever()


async def _write(stream: Stream, data: bytes) -> None:
    try:
        await stream.write(data)
    except Unavailable:
        pass


@in_trio()
async def test_many_slow_writers_share_one_room_are_named_and_keep_out_no_vote_and_no_proposal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    size, attackers, streams = 60 * KIB, range(50, 56), 6
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, TIGHT) as victim, trio.open_nursery() as nursery:
        inbox = Inbox()
        victim.on_message(PROTOCOL, inbox)
        victim.book.favour([key(2).account])
        with caplog.at_level(logging.INFO, "flock_peers.network.complaints"):
            for number in attackers:
                nursery.start_soon(begin_frames, victim, number, streams, size, nursery)
            await wait_until(lambda: victim._room.total == STRANGERS // size * size)
            refused = [key(number).account.hex() for number in attackers]
            await wait_until(lambda: all(account in caplog.text for account in refused))  # each has one too many
        async with open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK) as validator:
            await validator.connect(victim.address)
            for payload in (b"a vote", bytes(PEER), b"another"):
                validator.send(victim.account, PROTOCOL, payload)
            await wait_until(lambda: len(inbox.received) == 3)
            assert [(account, len(payload)) for account, payload in inbox.received] == [
                (validator.account, 6), (validator.account, PEER), (validator.account, 7),
            ]  # fmt: skip
            await wait_until(lambda: victim._room.total == STRANGERS // size * size)
        assert "half read at once" in caplog.text
        nursery.cancel_scope.cancel()
