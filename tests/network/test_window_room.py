"""Windows of streams that nobody reads, counted: who goes first, what is given back, and a relay's circuits."""

from types import SimpleNamespace
from typing import Any

from muxer_support import FakeSession
from network_support import in_trio, key

from flock_chain.crypto import Account
from flock_peers.network.limits import Limits
from flock_peers.network.window_room import WindowRoom
from flock_peers.network.yamux import MAX_BYTES_TO_NOBODY, Muxer
from flock_peers.network.yamux_frame import DATA, SYN, WINDOW, WINDOW_BYTES, pack_header

PEOPLE = [key(number).account for number in range(1, 10)]


class Holder:
    def __init__(self, account: Account, room: WindowRoom) -> None:
        self.link: Any = SimpleNamespace(account=account)
        self.room, self.reasons, self.is_apart = room, list[str](), False

    def give_way(self, reason: str) -> None:
        self.reasons.append(reason)
        self.room.forget(self)


def test_of_the_strangers_who_holds_the_most_goes_first_and_of_all_only_where_all_hold_too_much() -> None:
    validator = PEOPLE[0]
    room = WindowRoom(Limits(unread_bytes_of_strangers=100, unread_bytes_of_all=300), lambda who: who != validator)
    rich, poor, greedy, favoured = (Holder(who, room) for who in (PEOPLE[1], PEOPLE[2], PEOPLE[3], validator))
    room.change(favoured, 200)
    room.change(poor, 40)
    room.change(rich, 60)
    assert room.total == 300 and not any(row.reasons for row in (rich, poor, favoured))
    room.change(rich, -20)
    room.change(greedy, 20)
    assert greedy.reasons == rich.reasons == poor.reasons == []
    room.change(greedy, 31)
    assert len(greedy.reasons) == 1 and "of all strangers" in greedy.reasons[0] and room.total == 280
    room.change(favoured, 21)
    assert len(favoured.reasons) == 1 and "of all peers" in favoured.reasons[0] and room.total == 80
    assert not rich.reasons and not poor.reasons
    room.forget(rich)
    room.change(poor, -40)
    assert room.total == 0 and not room._held


def test_who_has_one_full_window_has_never_the_most() -> None:
    x = Limits()
    assert x.unread_bytes_of_strangers > (x.max_inbound + x.max_outbound) * WINDOW_BYTES
    assert x.unread_bytes_of_all > x.unread_bytes_of_strangers


@in_trio()
async def test_what_nobody_read_of_a_connection_is_given_back_once_at_its_end() -> None:
    room = WindowRoom(Limits(), lambda _account: True)
    muxer = Muxer(FakeSession(False), None, SimpleNamespace(account=PEOPLE[0]), room)
    muxer._feed(pack_header(WINDOW, SYN, 1, 0) + pack_header(DATA, 0, 1, 1_000) + bytes(1_000))
    stream = muxer.streams[1]
    assert room.total == 1_000
    muxer._end()
    assert room.total == 0 and not room._held
    assert await stream.read(400) == bytes(400)  # who reads just now has it to the end
    stream.on_reset()
    assert room.total == 0 and not room._held
    muxer = Muxer(FakeSession(False), None, SimpleNamespace(account=PEOPLE[0]), room)
    muxer._feed(pack_header(WINDOW, SYN, 1, 0) + pack_header(DATA, 0, 1, 1_000) + bytes(1_000))
    muxer.give_way("too much")
    assert muxer.streams[1].buffered_bytes == room.total == 0 and not room._held
    assert muxer.breach == "too much" and muxer.session.below.is_closed


@in_trio()
async def test_a_circuit_that_nobody_reads_goes_first_and_not_the_connection_of_who_lends_it() -> None:
    relay, other = PEOPLE[:2]
    room = WindowRoom(Limits(unread_bytes_of_strangers=250_000), lambda account: account != relay)
    muxer = Muxer(FakeSession(False), None, SimpleNamespace(account=relay), room)
    for number in (1, 3, 5):
        muxer._feed(pack_header(WINDOW, SYN, number, 0) + pack_header(DATA, 0, number, 60_000) + bytes(60_000))
        muxer.streams[number].count_apart()
    poor = Holder(other, room)
    room.change(poor, 50_000)
    circuit = muxer.streams[3]
    muxer._feed(pack_header(DATA, 0, 3, 30_000) + bytes(30_000))  # 260,000 of strangers, though the relay is none
    assert circuit.is_reset and circuit.buffered_bytes == 0 and not muxer.breach and not poor.reasons
    assert room.total == 2 * 60_000 + 50_000 and await muxer.streams[1].read(1_000) == bytes(1_000)
    assert room.total == 2 * 60_000 + 49_000
    muxer._end()
    assert room.total == 50_000 and list(room._held) == [poor]


@in_trio()
async def test_what_is_under_way_when_circuits_end_is_no_fault_of_who_lends_them() -> None:
    """A stranger behind a relay, whose handshakes fail with full windows behind them, had it cut off and named."""
    muxer = Muxer(FakeSession(False), None)
    numbers = range(1, 2 * (MAX_BYTES_TO_NOBODY // WINDOW_BYTES + 8), 2)
    for number in numbers:
        muxer._feed(pack_header(WINDOW, SYN, number, 0))
        muxer.streams[number].count_apart()
        await muxer.streams[number].reset()
    for number in numbers:
        muxer._feed(pack_header(DATA, 0, number, WINDOW_BYTES) + bytes(WINDOW_BYTES))
    assert not muxer.breach and not muxer.session.below.is_closed
    muxer._feed(pack_header(DATA, 0, 1, MAX_BYTES_TO_NOBODY + 1))  # which no window had room for
    assert "streams of its own" in muxer.breach and muxer.session.below.is_closed


def test_circuits_of_one_relay_count_together_and_no_stranger_goes_for_them_who_holds_more_than_each() -> None:
    relay, other = PEOPLE[:2]
    room = WindowRoom(Limits(unread_bytes_of_strangers=1_000), lambda _account: True)
    lender, honest, *circuits = (Holder(who, room) for who in (relay, other, *20 * [relay]))
    for circuit in circuits:
        circuit.link, circuit.is_apart = lender.link, True
        room.change(circuit, 35)
    room.change(lender, 200)  # by itself
    room.change(honest, 99)
    room.change(circuits[3], 2)
    assert len(circuits[3].reasons) == 1 and not honest.reasons and not lender.reasons
    assert [len(circuit.reasons) for circuit in circuits] == [int(number == 3) for number in range(20)]
    assert room.total == 19 * 35 + 200 + 99


def test_small_circuits_go_one_after_the_other_until_there_is_room_for_what_came() -> None:
    relay = PEOPLE[0]
    room = WindowRoom(Limits(unread_bytes_of_strangers=1_000, unread_bytes_of_all=1_000), lambda who: who != relay)
    link = Holder(relay, room).link
    circuits = [Holder(relay, room) for _ in range(30)]
    for circuit in circuits:
        circuit.link, circuit.is_apart = link, True
        room.change(circuit, 20)
    others = [Holder(who, room) for who in PEOPLE[1:9]]
    for other in others:
        room.change(other, 64)
        assert room.total <= 1_000
    assert sum(len(circuit.reasons) for circuit in circuits) == 6 and not any(other.reasons for other in others)
    lender = Holder(relay, room)
    room.change(lender, 110)  # no stranger: the bound of all
    assert room.total <= 1_000 and not any(other.reasons for other in [*others, lender])


def test_small_circuits_go_until_there_is_room_for_a_stranger_too() -> None:
    relay, other = PEOPLE[:2]
    room = WindowRoom(Limits(unread_bytes_of_strangers=1_000), lambda who: who != relay)
    link = Holder(relay, room).link
    circuits = [Holder(relay, room) for _ in range(49)]
    for circuit in circuits:
        circuit.link, circuit.is_apart = link, True
        room.change(circuit, 20)
    room.change(Holder(other, room), 99)
    assert sum(len(circuit.reasons) for circuit in circuits) == 4 and room.total == 999


class Deaf(Holder):
    def give_way(self, reason: str) -> None:
        self.reasons.append(reason)
        assert len(self.reasons) < 3


def test_who_does_not_give_way_is_asked_once_and_holds_up_nobody() -> None:
    room = WindowRoom(Limits(unread_bytes_of_strangers=100), lambda _account: True)
    deaf, other = Deaf(PEOPLE[0], room), Holder(PEOPLE[1], room)
    room.change(other, 40)
    room.change(deaf, 70)
    assert len(deaf.reasons) == 1 and not other.reasons and room.total == 40
