"""What is said by multicast DNS: records of anybody on the wire, read within bounds, believed in nothing."""

from ipaddress import IPv4Interface

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from network_support import in_trio, key
from zeroconf import DNSText, RecordUpdate, ServiceInfo

from flock_chain.errors import InvalidEncoding
from flock_peers.network.identity import make_address, peer_id_of
from flock_peers.network.lan import is_neighbour
from flock_peers.network.mdns import SERVICE, LanDiscovery, Sighting, _Listener, decode_text, encode_text

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


@in_trio()
async def test_a_flood_of_spoofed_records_is_cut_to_a_rate_before_it_is_parsed() -> None:
    """A quarter of a million records, within one second of the clock that counts."""
    heard: list[Sighting] = []
    listener = _Listener(heard.append, lambda: 100.0)
    record = DNSText(NAME, 16, 1, 120, text_of())
    for _ in range(50):
        listener.async_update_records(None, 0.0, [RecordUpdate(record, None)] * 5_000)  # type: ignore[arg-type]
        await trio.sleep(0.001)  # what waits is taken in between
    await trio.testing.wait_all_tasks_blocked()
    await trio.sleep(0.01)
    assert 0 < len(heard) <= 64


@in_trio()
async def test_records_of_other_services_are_left_alone() -> None:
    heard: list[Sighting] = []
    listener = _Listener(heard.append, lambda: 100.0)
    for name in (f"printer.{SERVICE}", "x._ipp._tcp.local.", NAME.replace("_flock", "_other")):
        record = DNSText(name, 16, 1, 120, text_of())
        listener.async_update_records(None, 0.0, [RecordUpdate(record, None)])  # type: ignore[arg-type]
    await trio.sleep(0.01)
    assert not heard


def test_a_neighbour_of_another_network_is_no_hint() -> None:
    hints: list[object] = []
    lan = LanDiscovery(GENESIS, lambda: [TEN], hints.extend)
    lan._interfaces = HOUSE
    lan._on_sighting(Sighting(b"o" * 32, (TEN,)))
    assert not hints
    lan._on_sighting(Sighting(GENESIS, (TEN, make_address("8.8.8.8", 1, TEN.peer_id))))
    assert hints == [TEN]
