"""Addresses and the address book: what parses, who is remembered, when to dial again."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from network_support import key

from flock_chain.errors import InvalidEncoding
from flock_peers.network.addresses import AddressBook
from flock_peers.network.hello import decode_addresses, encode_addresses
from flock_peers.network.identity import Address, account_of, make_address, parse_address, peer_id_of
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


def test_where_somebody_who_is_wanted_comes_from_is_no_strangers_word() -> None:
    book, wanted = AddressBook(ME, Limits(), None), key(3)
    for number, host in ((2, "9.9.9.2"), (3, "9.9.9.3")):
        book.add(make_address(host, 1, peer_id_of(key(number))), is_confirmed=True)
    book.add(make_address("6.6.6.6", 1, peer_id_of(wanted)), told_by=b"somebody")
    assert not book.is_known("9.9.9.3")
    book.favour([wanted.account])
    assert book.is_known("9.9.9.3") and book.is_known("::ffff:9.9.9.3")
    assert not book.is_known("9.9.9.2") and not book.is_known("6.6.6.6")


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
    book.on_success(key(2).account, 200.0)
    book.on_lost(key(2).account, 300.0)
    assert entry.due < 304 and entry.failures == 0


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


def proof(book: AddressBook, number: int, port: int = 1) -> None:
    """Our dial was answered by a peer that said where it listens."""
    address = make_address("10.0.0.1", port, peer_id_of(key(number)))
    book.add(address, is_confirmed=True)
    book.on_success(key(number).account, 0.0, address)


def test_a_book_that_is_saved_and_read_again_is_the_same(tmp_path: Path) -> None:
    """It came back with each peer's addresses in reverse, and was reversed again at the next start."""
    path = tmp_path / "peers.json"
    book = AddressBook(ME, Limits(), path)
    for number in (2, 3, 4):
        for port in (1, 2, 3):
            book.add(make_address("10.0.0.1", port, peer_id_of(key(number))), is_confirmed=True)
    proof(book, 3, 2)
    book.set_own_port(4_321)
    book.save()
    again = AddressBook(ME, Limits(), path)
    assert list(again.entries) == list(book.entries)
    assert all(again.entries[a].addresses == entry.addresses for a, entry in book.entries.items())
    assert [e.account for e in again.entries.values() if e.is_anchor] == [key(3).account]
    assert again.own_port == 4_321
    again.set_own_port(1)
    again.save()
    assert json.loads(path.read_bytes())["addresses"][:2] == [
        str(a) for a in book.entries[key(2).account].addresses[:2]
    ]


def test_a_book_saved_while_its_best_address_is_not_answered_begins_with_it_all_the_same(tmp_path: Path) -> None:
    book = AddressBook(ME, Limits(), tmp_path / "peers.json")
    proof(book, 2, 1)
    book.add(make_address("10.0.0.1", 2, peer_id_of(key(2))), is_confirmed=True)
    book.on_lost(key(2).account, 50.0)
    book.on_failure(key(2).account, 51.0, book.entries[key(2).account].addresses[0])
    assert book.entries[key(2).account].addresses[0].port == 2  # the other one is tried next
    book.save()
    assert AddressBook(ME, Limits(), tmp_path / "peers.json").entries[key(2).account].addresses[0].port == 1


@pytest.mark.parametrize(
    "text",
    ['{"addresses": [["x"]]}', "[]", '{"addresses": [], "anchors": 7}', '{"addresses": [], "port": "x"}', "[" * 9_999],
)
def test_a_book_that_is_none_is_a_reason_to_start_with_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "peers.json").write_text(text)
    book = AddressBook(ME, Limits(), tmp_path / "peers.json")
    assert not book.entries and book.own_port == 0


def test_a_crowd_of_identities_pushes_out_neither_anchors_nor_who_is_connected() -> None:
    book = AddressBook(ME, Limits(known_peers=8, anchors=2), None)
    for number in (2, 3, 4):
        proof(book, number)
    for number in (2, 3):  # the two anchors are gone for now
        book.on_lost(key(number).account, 60.0)
        book.on_failure(key(number).account, 61.0)
    for number in range(100, 140):
        book.add(make_address("10.6.6.6", number, peer_id_of(key(number))), is_confirmed=True)
        book.on_success(key(number).account, 70.0)
    assert {key(number).account for number in (2, 3, 4)} <= set(book.entries)
    assert len(book.entries) == 8


def test_who_is_connected_stays_in_the_book_although_it_was_hard_to_reach() -> None:
    book = AddressBook(ME, Limits(known_peers=1, anchors=0), None)
    book.add(make_address("10.0.0.1", 1, peer_id_of(key(2))), is_confirmed=True)
    book.on_failure(key(2).account, 1.0)
    book.on_success(key(2).account, 2.0)
    assert not book.add(make_address("10.0.0.1", 1, peer_id_of(key(3))), is_confirmed=True)


def test_an_anchor_gives_up_its_place_only_when_it_is_gone_for_long() -> None:
    book = AddressBook(ME, Limits(anchors=1, forget_after_failures=3), None)
    proof(book, 2)
    book.on_lost(key(2).account, 60.0)
    for _ in range(2):
        book.on_failure(key(2).account, 61.0)
    proof(book, 3)
    assert [e.account for e in book.entries.values() if e.is_anchor] == [key(2).account]
    book.on_failure(key(2).account, 61.0)
    proof(book, 4)
    assert [e.account for e in book.entries.values() if e.is_anchor] == [key(4).account]


def test_one_source_of_hearsay_takes_an_eighth_of_the_book() -> None:
    book = AddressBook(ME, Limits(known_peers=16), None)
    heard = [book.add(make_address("10.0.0.1", 1, peer_id_of(key(n))), told_by=b"liar") for n in range(10, 20)]
    assert heard.count(True) == 2
    assert book.add(make_address("10.0.0.1", 1, peer_id_of(key(30))), told_by=b"somebody else")


def test_the_users_own_address_is_never_pushed_out_by_what_the_peer_claims() -> None:
    book = AddressBook(ME, Limits(addresses_per_peer=2), None)
    book.add(parse_address(GOOD), is_bootstrap=True)
    for port in range(1, 9):
        book.add(make_address("10.0.0.1", port, peer_id_of(key(2))), is_confirmed=True)
    entry = book.entries[key(2).account]
    assert parse_address(GOOD) in entry.addresses and len(entry.addresses) == 2


def test_what_another_peer_says_of_a_known_one_is_tried_once_and_dropped() -> None:
    book = AddressBook(ME, Limits(), None)
    proof(book, 2)
    wrong = make_address("10.9.9.9", 9, peer_id_of(key(2)))
    book.add(wrong, told_by=b"liar")
    entry = book.entries[key(2).account]
    assert entry.addresses[-1] == wrong
    book.on_failure(key(2).account, 1.0, entry.addresses[0])
    book.on_failure(key(2).account, 2.0, wrong)
    assert wrong not in entry.addresses and entry.addresses


def test_who_takes_a_connection_only_to_drop_it_is_dialed_less_and_less() -> None:
    """Each success used to end the back-off, so that such a peer cost five handshakes a second."""
    limits = Limits(redial_seconds=1, redial_seconds_max=16, settled_seconds=10)
    book, now, waits = AddressBook(bytes(20), limits, None), 0.0, []
    proof(book, 2)
    for _ in range(8):
        now += 0.1
        book.on_lost(key(2).account, now)
        waits.append(book.entries[key(2).account].due - now)
        now = book.entries[key(2).account].due
        book.on_success(key(2).account, now, book.entries[key(2).account].addresses[0])
    assert waits[0] <= 0.2 and waits[-1] >= 8
    book.on_lost(key(2).account, now + 11)
    assert book.entries[key(2).account].due <= now + 11.2  # it stayed


KNOWN = st.integers(2, 40)
PORTS = st.integers(1, 6)


class BookMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order: bounded, the user's and the anchors stay, every wait has its limit."""

    limits = Limits(
        known_peers=12, anchors=3, addresses_per_peer=3, redial_seconds=1, redial_seconds_max=8, forget_after_failures=3
    )

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name) / "peers.json"
        self.book = AddressBook(ME, self.limits, self.path)
        self.given: dict[bytes, set[Address]] = {}
        self.now = 0.0

    def teardown(self) -> None:
        self.folder.cleanup()

    def address(self, number: int, port: int) -> Address:
        return make_address("10.0.0.1", port, peer_id_of(key(number)))

    @rule(number=st.integers(2, 5), port=PORTS)
    def the_user_names_it(self, number: int, port: int) -> None:
        self.book.add(self.address(number, port), is_bootstrap=True)
        self.given.setdefault(key(number).account, set()).add(self.address(number, port))

    @rule(number=KNOWN, port=PORTS, source=st.integers(0, 2))
    def somebody_tells(self, number: int, port: int, source: int) -> None:
        self.book.add(self.address(number, port), now=self.now, told_by=bytes([source]))

    @rule(number=KNOWN, ports=st.lists(PORTS, min_size=1, max_size=4))
    def it_dials_us(self, number: int, ports: list[int]) -> None:
        for port in ports:
            self.book.add(self.address(number, port), is_confirmed=True)
        self.book.on_success(key(number).account, self.now)

    @rule(data=st.data(), answers=st.booleans())
    def we_dial(self, data: st.DataObject, answers: bool) -> None:
        entries = [entry for entry in self.book.entries.values() if entry.connected_since is None]
        if not entries:
            return
        entry = data.draw(st.sampled_from(entries))
        assert entry.addresses, "an entry that can never be dialed"
        address = entry.addresses[0]
        if answers:
            self.book.add(address, is_confirmed=True)
            self.book.on_success(entry.account, self.now, address)
            assert entry.proven == entry.addresses[0] == address
            return
        others, failures = entry.addresses[1:], entry.failures
        self.book.on_failure(entry.account, self.now, address)
        if entry.account in self.book.entries:
            most = 8 if entry.is_bootstrap or failures < 3 else 8 * 20
            assert self.now < entry.due <= self.now + most
            assert not others or entry.addresses[0] == others[0], "the next one is not tried"

    @rule(data=st.data())
    def a_connection_ends(self, data: st.DataObject) -> None:
        entries = [entry for entry in self.book.entries.values() if entry.connected_since is not None]
        if entries:
            entry = data.draw(st.sampled_from(entries))
            self.book.on_lost(entry.account, self.now)
            assert entry.due <= self.now + 8 * 20

    @rule(seconds=st.floats(0, 30))
    def time_goes_on(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def it_is_started_again(self) -> None:
        self.book.save()
        again = AddressBook(ME, self.limits, self.path)
        kept = [entry for entry in self.book.entries.values() if entry.is_confirmed]
        assert [e.account for e in again.entries.values()] == [e.account for e in kept if e.addresses][:12]
        assert {e.account for e in again.entries.values() if e.is_anchor} == {e.account for e in kept if e.is_anchor}
        for account, addresses in self.given.items():
            for address in addresses:
                again.add(address, is_bootstrap=True)
                assert again.entries[account].due == 0
        self.book, self.now = again, 0.0

    @invariant()
    def it_is_bounded(self) -> None:
        entries = self.book.entries.values()
        assert len(entries) <= 12 + len(self.given)
        assert sum(entry.is_hearsay for entry in entries) <= 6
        assert sum(entry.is_anchor for entry in entries) <= 3
        for entry in entries:
            assert len(entry.addresses) == len(set(entry.addresses)) <= max(3, len(entry.given) + 1)
            assert entry.rumours <= set(entry.addresses)

    @invariant()
    def nothing_of_worth_is_lost(self) -> None:
        for account, addresses in self.given.items():
            assert addresses <= set(self.book.entries[account].addresses)
        for entry in self.book.entries.values():
            assert entry.proven is None or entry.proven in entry.addresses


class AnchorMachine(BookMachine):
    """No rule but a long absence takes an anchor away."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[bytes] = set()

    @invariant()
    def anchors_stay(self) -> None:
        anchors = {entry.account for entry in self.book.entries.values() if entry.is_anchor}
        for gone in self.anchors - anchors:
            assert self.book.entries[gone].failures >= 3
        self.anchors = anchors


TestBookMachine = AnchorMachine.TestCase
TestBookMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
