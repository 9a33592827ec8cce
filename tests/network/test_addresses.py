"""Addresses and the address book: what parses, who is remembered, when to dial again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from network_support import key

from flock_chain.errors import InvalidEncoding
from flock_peers.network.addresses import AddressBook
from flock_peers.network.hello import decode_addresses, encode_addresses
from flock_peers.network.identity import account_of, make_address, parse_address, peer_id_of
from flock_peers.network.limits import Limits

ME = key(1).account
GOOD = f"/ip4/203.0.113.7/tcp/4001/p2p/{peer_id_of(key(2))}"


def test_a_peer_id_is_the_account() -> None:
    assert account_of(peer_id_of(key(2))) == key(2).account
    assert parse_address(GOOD).account == key(2).account
    assert str(parse_address(GOOD)) == GOOD


@pytest.mark.parametrize("host", ["/ip4/127.0.0.1", "/ip6/::1", "/dns4/peer.example.org", "/dns/localhost"])
def test_ip_and_dns_addresses_are_parsed(host: str) -> None:
    text = f"{host}/tcp/1/p2p/{peer_id_of(key(2))}"
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "nonsense", None, 7, "x" * 1000, GOOD + "/p2p-circuit", GOOD.replace("4001", "0"),
        GOOD.replace("4001", "99999"),
        GOOD.replace("4001", "٣"), GOOD.replace("ip4", "ip6"), GOOD.replace("tcp", "udp"),
        GOOD.replace("203.0.113.7", "300.1.1.1"), GOOD.replace("ip4/203.0.113.7", "dns4/a b"), GOOD[:-3],
        GOOD.rsplit("/", 1)[0] + "/12D3KooWGC6TvWhfajpgX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5", GOOD.rsplit("/", 2)[0],
    ],
)  # fmt: skip
def test_anything_else_is_no_address(text: object) -> None:
    with pytest.raises(InvalidEncoding):
        parse_address(text)


@given(st.text(max_size=300))
def test_no_text_makes_the_parser_fail_otherwise(text: str) -> None:
    try:
        parse_address(text)
    except InvalidEncoding:
        pass


def test_hearsay_is_bounded_and_names_no_strange_hosts() -> None:
    texts = [f"/ip4/10.0.0.{n}/tcp/1/p2p/{peer_id_of(key(n))}" for n in range(2, 12)]
    strange = [
        "/dns4/evil.example.org/tcp/1",
        "/ip4/0.0.0.0/tcp/1",
        "/ip4/224.0.0.1/tcp/1",
        "/ip4/255.255.255.255/tcp/1",
    ]
    addresses = [parse_address(f"{s}/p2p/{peer_id_of(key(2))}") for s in strange] + [parse_address(t) for t in texts]
    assert [str(a) for a in decode_addresses(encode_addresses(addresses), 9)] == texts[:5]


def test_a_full_book_forgets_hearsay_first_and_bootstrap_never() -> None:
    book = AddressBook(ME, Limits(known_peers=4), None)
    assert book.add(parse_address(GOOD), is_bootstrap=True)
    assert not book.add(make_address("10.0.0.1", 1, peer_id_of(key(1))))  # that is us
    hearsay = [book.add(make_address("10.0.0.1", 1, peer_id_of(key(n)))) for n in range(10, 15)]
    assert hearsay == [True, True, False, False, False]
    assert all(book.add(make_address("10.0.0.1", 1, peer_id_of(key(n))), is_confirmed=True) for n in range(20, 23))
    assert set(book.entries) == {key(n).account for n in (2, 20, 21, 22)}


def test_a_failed_dial_waits_longer_each_time_up_to_a_bound_and_hearsay_is_forgotten() -> None:
    book = AddressBook(ME, Limits(redial_seconds=1, redial_seconds_max=8, forget_after_failures=6), None)
    book.add(parse_address(GOOD), is_bootstrap=True)
    book.add(make_address("10.0.0.1", 1, peer_id_of(key(3))))
    entry, waits = book.entries[key(2).account], []
    for _ in range(6):
        book.on_failure(key(2).account, 100.0)
        book.on_failure(key(3).account, 100.0)
        waits.append(entry.due - 100.0)
    assert all(wait / 2 <= got <= wait for wait, got in zip([1, 2, 4, 8, 8, 8], waits, strict=True))
    assert key(3).account not in book.entries
    book.on_success(key(2).account)
    assert entry.due == 0 and entry.failures == 0


def test_addresses_of_one_peer_are_bounded_and_tried_in_turn() -> None:
    book = AddressBook(ME, Limits(addresses_per_peer=2), None)
    for port in (1, 2, 3):
        book.add(make_address("10.0.0.1", port, peer_id_of(key(2))), is_confirmed=True)
    entry = book.entries[key(2).account]
    assert [a.port for a in entry.addresses] == [3, 2]
    book.on_failure(key(2).account, 0.0)
    assert [a.port for a in entry.addresses] == [2, 3]


def test_of_two_that_hear_of_each_other_one_waits() -> None:
    low, high = sorted((key(1), key(2)), key=lambda k: k.account)
    books = {k.account: AddressBook(k.account, Limits(courtesy_seconds=2), None) for k in (low, high)}
    for mine, other in ((low, high), (high, low)):
        books[mine.account].add(make_address("10.0.0.1", 1, peer_id_of(other)), now=100.0)
    assert books[low.account].entries[high.account].due == 100.0
    assert books[high.account].entries[low.account].due == 102.0
