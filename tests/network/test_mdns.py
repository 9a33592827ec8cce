"""What is said by multicast DNS: records of anybody on the wire, read within bounds, believed in nothing."""

from collections.abc import Awaitable, Callable
from ipaddress import IPv4Interface
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from network_support import in_trio, key, wait_until
from zeroconf import DNSText, RecordUpdate, ServiceInfo
from zeroconf._protocol.incoming import DNSIncoming
from zeroconf._protocol.outgoing import DNSOutgoing

from flock_chain.errors import InvalidEncoding
from flock_peers.network.heard import MAX_OF_A_SOURCE, MAX_SOURCES, Heard
from flock_peers.network.identity import make_address, peer_id_of
from flock_peers.network.lan import is_neighbour
from flock_peers.network.mdns import SERVICE, LanDiscovery, Sighting, _Listener, decode_text, encode_text, open_wire

GENESIS = bytes(range(32))
NAME = f"{GENESIS[:8].hex()}-0123456789abcdef.{SERVICE}"
TEN = make_address("10.0.0.1", 4_200, peer_id_of(key(2)))
HOUSE = [IPv4Interface("10.0.0.5/24")]


def text_of(genesis_hash: bytes = GENESIS, *addresses: str) -> bytes:
    return ServiceInfo(SERVICE, NAME, properties=encode_text(genesis_hash, addresses or [str(TEN)])).text


def test_what_is_announced_is_understood() -> None:
    other = str(TEN).replace("10.0.0.1", "192.168.0.7")
    assert decode_text(text_of()) == Sighting(GENESIS, (TEN,))
    assert [a.host for a in decode_text(text_of(GENESIS, str(TEN), other)).addresses] == ["10.0.0.1", "192.168.0.7"]


@pytest.mark.parametrize(
    "text",
    [
        b"", text_of()[:-3], text_of(b"short"), text_of().replace(b"genesis", b"ginesis"), text_of() * 9,
        text_of(GENESIS, str(TEN), str(make_address("10.0.0.1", 4_200, peer_id_of(key(3))))), b"\xff",
        text_of(GENESIS, "/dnsaddr/example.org"),
    ],
)  # fmt: skip
def test_any_other_record_is_none_of_ours(text: bytes) -> None:
    with pytest.raises(InvalidEncoding):
        decode_text(text)


@settings(deadline=None)
@given(st.binary(max_size=1_500))
@example(text_of()[:60] + b"\xc0\x80")
def test_no_record_makes_the_reader_fail_otherwise(text: bytes) -> None:
    try:
        decode_text(text)
    except InvalidEncoding:
        pass


@pytest.mark.parametrize(
    ("host", "expected"),
    [("10.0.0.1", True), ("10.0.1.1", False), ("127.0.0.1", False), ("8.8.8.8", False), ("10.0.0.255", False)],
)
def test_nobody_on_the_wire_makes_us_dial_another_network(host: str, expected: bool) -> None:
    assert is_neighbour(make_address(host, 1, peer_id_of(key(2))), HOUSE) == expected


class Wire:
    """A listener in a run of trio with a clock of its own; what it saw, and whom it complained of."""

    def __init__(self) -> None:
        self.seen: list[Sighting] = []
        self.complaints: dict[str, str] = {}

    def say(self, source: str, text: bytes, name: str = NAME) -> None:
        """As zeroconf hands it over: its sockets have more packets than this one."""
        sockets = [SimpleNamespace(last_message=None)]
        sockets += [SimpleNamespace(last_message=DNSIncoming(b"", (ip, 5353), None, now)) for ip, now in
                    (("10.0.0.77", 6_000.0), (source, 7_000.0))]  # fmt: skip
        zc: Any = SimpleNamespace(engine=SimpleNamespace(protocols=sockets))
        record = DNSText(name, 16, 1, 120, text)
        self.listener.async_update_records(zc, 7_000.0, [RecordUpdate(record, None)])

    def note(self, who: str, what: object) -> None:
        self.complaints[who] = str(what)

    async def run(self, script: Callable[["Wire"], Awaitable[None]]) -> None:
        self.listener = _Listener(HOUSE, self.seen.append, lambda who, what, _kind: self.note(who, what))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.listener.run)
            await script(self)
            nursery.cancel_scope.cancel()


def listen(script: Callable[[Wire], Awaitable[None]]) -> Wire:
    wire = Wire()
    trio.run(wire.run, script, clock=trio.testing.MockClock(autojump_threshold=0))
    return wire


def peer(number: int) -> bytes:
    return text_of(GENESIS, str(make_address("10.0.0.1", number, peer_id_of(key(2)))))


def test_a_flood_of_spoofed_records_is_cut_to_a_rate_before_it_is_parsed() -> None:
    """20,000 records of 50 sources within four seconds."""

    async def flood(wire: Wire) -> None:
        for _ in range(40):
            for number in range(500):
                wire.say(f"10.0.0.{100 + number % 50}", peer(1 + number))
            await trio.sleep(0.1)

    assert 100 <= len(listen(flood).seen) <= 64 + 16 * 4


def test_whoever_says_much_takes_nobody_elses_turn_and_is_named() -> None:
    async def flood(wire: Wire) -> None:
        for number in range(5_000):
            wire.say("10.0.0.66", peer(1 + number))
        await trio.sleep(60)  # its share is over, and all that is allowed at once was used
        for number in range(5_000):
            wire.say("10.0.0.66", peer(1 + number))
            wire.say("10.0.0.67", peer(1 + number))
        wire.say("10.0.0.7", peer(60_000))
        before = len(wire.seen)
        await trio.sleep(60)
        assert [sighting.addresses[0].port for sighting in wire.seen[before:]].index(60_000) == 2

    wire = listen(flood)
    assert "10.0.0.7" not in wire.complaints and "4984 records" in wire.complaints["10.0.0.66"]


def test_who_waits_is_bounded_and_of_a_small_network_nobody_is_kept_out() -> None:
    heard = Heard()
    for machine in range(1, 255):
        for number in range(20):
            heard.put(f"10.0.0.{machine}", bytes([number]))
            heard.put(f"10.0.0.{machine}", bytes([number]))  # the same again is nothing new
    for forged in range(1_000):
        heard.put(f"10.1.{forged >> 8}.{forged & 255}", b"x")
    first = [heard.take() for _ in range(254)]
    assert first == [(f"10.0.0.{machine}", b"\0") for machine in range(1, 255)]
    rest = 0
    while heard.take():
        rest += 1
    assert rest == 254 * (MAX_OF_A_SOURCE - 1) + MAX_SOURCES - 254
    assert len(dropped := heard.take_dropped()) == MAX_SOURCES and dropped["10.0.0.1"] == 2 * (20 - MAX_OF_A_SOURCE)
    assert not heard.take_dropped()


def test_records_of_other_services_and_of_other_networks_are_left_alone() -> None:
    async def say(wire: Wire) -> None:
        for name in (f"printer.{SERVICE}", "x._ipp._tcp.local.", NAME.replace("_flock", "_other")):
            wire.say("10.0.0.7", text_of(), name)
        wire.say("192.0.2.7", text_of())
        await trio.sleep(1)

    wire = listen(say)
    assert not wire.seen and not wire.complaints


def test_nonsense_is_told_with_the_address_that_its_packet_gave() -> None:
    async def say(wire: Wire) -> None:
        wire.say("10.0.0.7", b"\x05nothing")
        await trio.sleep(1)

    assert "mdns: a record without a genesis hash" in listen(say).complaints["10.0.0.7"]


@in_trio()
async def test_zeroconf_as_it_is_installed_tells_who_sent_a_packet() -> None:
    """Its sockets remember their last packet, which nobody has promised: where a new version does not, all senders have
    one share among them, and a spoofer can take it. Then find another way before the pin is raised."""
    complaints: list[str] = []
    machine = [IPv4Interface("127.0.0.1/8")]
    async with open_wire(machine, lambda _sighting: None, lambda who, _what, _kind: complaints.append(who)) as wire:
        zeroconf = wire._zeroconf
        assert zeroconf.loop is not None and zeroconf.engine.protocols
        for number, socket in enumerate(zeroconf.engine.protocols):
            packet = DNSOutgoing(0x8400)  # an answer
            packet.add_answer_at_time(DNSText(NAME, 16, 1, 120, bytes([1, 65 + number])), 0)
            source = (f"127.0.0.{90 + number}", 5353)
            zeroconf.loop.call_soon_threadsafe(socket.datagram_received, packet.packets()[0], source)
        await wait_until(lambda: len(complaints) == len(zeroconf.engine.protocols))
    assert sorted(complaints) == [f"127.0.0.{90 + number}" for number in range(len(complaints))]


@pytest.mark.parametrize(
    "zc",
    [
        SimpleNamespace(), SimpleNamespace(engine=SimpleNamespace(protocols=[SimpleNamespace()])),
        SimpleNamespace(engine=SimpleNamespace(protocols=[
            SimpleNamespace(last_message=SimpleNamespace(now=7_000.0, source=("a name", 5353)))
        ])),
    ],
)  # fmt: skip
def test_what_is_heard_by_another_zeroconf_is_heard_still_and_said_once(
    zc: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def say(wire: Wire) -> None:
        for number in (1, 2):
            record = DNSText(NAME, 16, 1, 120, peer(number))
            wire.listener.async_update_records(zc, 7_000.0, [RecordUpdate(record, None)])
        await trio.sleep(1)

    assert len(listen(say).seen) == 2
    assert sum("does not tell who sent what" in line for line in caplog.messages) == 1


def test_a_neighbour_of_another_network_is_no_hint() -> None:
    hints: list[object] = []
    lan = LanDiscovery(GENESIS, lambda: [TEN], hints.extend, lambda _source, _what, _kind: None)
    lan._interfaces = HOUSE
    lan._on_sighting(Sighting(b"o" * 32, (TEN,)))
    assert not hints
    lan._on_sighting(Sighting(GENESIS, (TEN, make_address("8.8.8.8", 1, TEN.peer_id))))
    assert hints == [TEN]
