"""The account database beside a slow and obvious twin, under every order of writes, checkpoints and roots."""

import copy
import tracemalloc
from dataclasses import dataclass, field, replace

import pytest
import rlp
from eth_utils import ValidationError
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from trie import HexaryTrie

from flock_chain.crypto import keccak256
from flock_chain.errors import Misuse
from flock_chain.execution import account_database
from flock_chain.execution.account_database import EMPTY_CODE, AccountDatabase, MissingState
from flock_chain.execution.machine import STORE_FAULTS, MemoryStore, Overlay
from flock_chain.execution.ordered_trie import EMPTY_ROOT
from flock_chain.execution.state_cache import MAX_NODES, StateCache
from flock_chain.execution.state_trie import Branch, StateTrie

ADDRESSES = [keccak256(bytes([index]))[12:] for index in range(4)]
addresses = st.sampled_from(ADDRESSES)
slots = st.sampled_from([0, 1, 2, (1 << 256) - 1])
values = st.sampled_from([0, 0, 1, 127, 128, (1 << 256) - 1])
codes = st.sampled_from([b"", b"\0", b"code" * 20])


@dataclass
class Row:
    nonce: int = 0
    balance: int = 0
    code: bytes = b""
    slots: dict[int, int] = field(default_factory=dict)


@dataclass
class World:
    """All that can be undone."""

    rows: dict[bytes, Row] = field(default_factory=dict)
    warm: set[object] = field(default_factory=set)
    wiped: set[bytes] = field(default_factory=set)  # in this transaction: what its slots were before is not asked then


class Twin:
    """Copies everything at each checkpoint, and hashes everything for each root."""

    def __init__(self) -> None:
        self.world = World()
        self.original: dict[bytes, Row] = {}
        self.checkpoints: list[World] = []

    def row(self, address: bytes) -> Row:
        return self.world.rows.get(address, Row())

    def change(self, address: bytes, **changes: object) -> None:
        self.world.rows[address] = replace(self.row(address), **changes)  # type: ignore[arg-type]

    def set_slot(self, address: bytes, slot: int, value: int) -> None:
        self.change(address, slots={**self.row(address).slots, slot: value})

    def lock(self) -> None:
        self.world.warm.clear()
        self.world.wiped.clear()
        self.checkpoints.clear()
        self.original = copy.deepcopy(self.world.rows)

    def compute_root(self) -> bytes:
        trie = HexaryTrie({})
        for address, row in self.world.rows.items():
            storage = HexaryTrie({})
            for slot, value in row.slots.items():
                if value:
                    storage[keccak256(slot.to_bytes(32, "big"))] = rlp.encode(value)
            fields = [row.nonce, row.balance, storage.root_hash, keccak256(row.code)]
            trie[keccak256(address)] = rlp.encode(fields)
        return bytes(trie.root_hash)


class Beside(RuleBasedStateMachine):
    """Storage is written to existing accounts only, as the EVM has it."""

    @initialize(nodes=st.sampled_from([1, 3, 1_000]), row_limit=st.sampled_from([0, 5, 1_000]))
    def start(self, nodes: int, row_limit: int) -> None:
        self.store, self.cache, self.row_limit = MemoryStore(), StateCache(max_nodes=nodes, max_codes=1), row_limit
        self.twin = Twin()
        self.numbers: list[int] = []
        self.persisted: list[tuple[bytes, dict[bytes, Row]]] = []
        self.open(EMPTY_ROOT)

    def open(self, root: bytes) -> None:
        self.overlay = Overlay(self.store, self.cache)
        self.database = AccountDatabase(self.overlay, root)
        self.database._row_limit = self.row_limit

    @rule(address=addresses, balance=values)
    def set_balance(self, address: bytes, balance: int) -> None:
        self.database.set_balance(address, balance)
        self.twin.change(address, balance=balance)

    @rule(address=addresses)
    def increment_nonce(self, address: bytes) -> None:
        self.database.increment_nonce(address)
        self.twin.change(address, nonce=self.twin.row(address).nonce + 1)

    @rule(address=addresses, code=codes)
    def set_code(self, address: bytes, code: bytes) -> None:
        self.database.set_code(address, code)
        self.twin.change(address, code=code)

    @rule(address=addresses)
    def delete_code(self, address: bytes) -> None:
        self.database.delete_code(address)
        self.twin.change(address, code=b"")

    @rule(address=addresses)
    def touch(self, address: bytes) -> None:
        self.database.touch_account(address)
        self.twin.change(address)

    @rule(address=addresses, slot=slots, value=values)
    def set_storage(self, address: bytes, slot: int, value: int) -> None:
        if address not in self.twin.world.rows:
            self.touch(address)
        self.database.set_storage(address, slot, value)
        self.twin.set_slot(address, slot, value)

    @rule(address=addresses)
    def delete_account(self, address: bytes) -> None:
        self.database.delete_account(address)
        self.twin.world.rows.pop(address, None)
        self.twin.world.wiped.add(address)

    @rule(address=addresses)
    def delete_storage(self, address: bytes) -> None:
        self.database.delete_storage(address)
        self.twin.change(address, slots={})
        self.twin.world.wiped.add(address)

    @rule(address=addresses, slot=slots)
    def warm(self, address: bytes, slot: int) -> None:
        self.database.mark_address_warm(address)
        self.database.mark_storage_warm(address, slot)
        self.twin.world.warm |= {address, (address, slot)}

    @rule()
    def record(self) -> None:
        self.numbers.append(self.database.record())
        self.twin.checkpoints.append(copy.deepcopy(self.twin.world))

    @precondition(lambda self: self.numbers)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.numbers) - 1))
        self.database.discard(self.numbers[index])
        self.twin.world = self.twin.checkpoints[index]
        del self.numbers[index:], self.twin.checkpoints[index:]

    @precondition(lambda self: self.numbers)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.numbers) - 1))
        self.database.commit(self.numbers[index])
        del self.numbers[index:], self.twin.checkpoints[index:]

    @rule(how=st.sampled_from(["transaction", "root", "block", "block", "reopened", "back"]), data=st.data())
    def end(self, how: str, data: st.DataObject) -> None:
        """One rule for all ends: checkpoints live only between them."""
        self.lock()
        if how == "root":
            assert self.database.make_state_root() == self.twin.compute_root()
        if how in ("block", "reopened"):
            self.persist()
        if how == "reopened":
            self.open(self.database.state_root)
        if how == "back" and self.persisted:  # a candidate is dropped, another one begun on the state of a block before
            root, rows = data.draw(st.sampled_from(self.persisted))
            self.open(root)
            self.twin.world = World(copy.deepcopy(rows))
            self.twin.lock()

    def lock(self) -> None:
        self.database.lock_changes()
        self.twin.lock()
        self.numbers.clear()

    def persist(self) -> None:
        self.database.persist()
        assert self.database.state_root == self.twin.compute_root()
        self.store.commit(self.overlay.writes)
        self.persisted.append((self.database.state_root, copy.deepcopy(self.twin.world.rows)))

    @invariant()
    def what_is_read_is_equal(self) -> None:
        for address in ADDRESSES if hasattr(self, "twin") else ():
            row, database = self.twin.row(address), self.database
            assert database.get_balance(address) == row.balance
            assert database.get_nonce(address) == row.nonce
            assert database.get_code(address) == row.code
            assert database.get_code_hash(address) == (keccak256(row.code) if row.code else EMPTY_CODE)
            assert database.account_exists(address) == (address in self.twin.world.rows)
            assert database.account_has_code_or_nonce(address) == (row.nonce > 0 or row.code != b"")
            assert database.account_is_empty(address) == (row.nonce == row.balance == 0 and row.code == b"")
            assert database.is_address_warm(address) == (address in self.twin.world.warm)
            before = self.twin.original.get(address, Row()).slots
            for slot in (0, 1, 2, (1 << 256) - 1):
                assert database.get_storage(address, slot) == row.slots.get(slot, 0)
                if address not in self.twin.world.wiped:
                    assert database.get_storage(address, slot, from_journal=False) == before.get(slot, 0)
                assert database.is_storage_warm(address, slot) == ((address, slot) in self.twin.world.warm)


TestBeside = Beside.TestCase
TestBeside.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


near_keys = st.builds(
    lambda head, tail: (head * 32)[: 32 - len(tail)] + tail,
    st.sampled_from([b"\0", b"\1", b"\x10"]),
    st.lists(st.sampled_from([0, 1, 0x10, 0x11, 0xFF]), max_size=4).map(bytes),
)


@given(
    batches=st.lists(st.dictionaries(near_keys, st.sampled_from([b"", b"\1", b"\2" * 33]), max_size=8), max_size=6),
    nodes=st.sampled_from([1, 100]),
    reopens=st.booleans(),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_a_trie_of_keys_that_share_long_paths_is_pyevms(
    batches: list[dict[bytes, bytes]], nodes: int, reopens: bool
) -> None:
    """Hashed keys part within a few digits; whoever grinds them may get nodes shorter than a hash."""
    stored: dict[bytes, bytes] = {}
    cache, theirs = StateCache(max_nodes=nodes), HexaryTrie({})
    trie = StateTrie(EMPTY_ROOT, stored.__getitem__, cache.nodes)
    for batch in batches:
        for key, value in batch.items():
            trie.set(key, value)
            theirs.set(key, value)
        root = trie.commit(stored)
        assert root == theirs.root_hash
        if reopens:
            trie = StateTrie(root, stored.__getitem__, cache.nodes)
        for key in batch:
            assert trie.get(key) == theirs.get(key)


def opened(store: MemoryStore, root: bytes = EMPTY_ROOT) -> AccountDatabase:
    return AccountDatabase(Overlay(store), root)


def stored() -> tuple[MemoryStore, bytes]:
    store = MemoryStore()
    overlay = Overlay(store)
    database = AccountDatabase(overlay)
    for address in ADDRESSES:
        database.set_balance(address, 7)
        database.set_code(address, b"code of " + address)
        for slot in range(20):
            database.set_storage(address, slot, slot + 1)
    database.persist()
    store.commit(overlay.writes)
    return store, database.state_root


def test_lost_or_damaged_state_is_this_peers_fault_and_named() -> None:
    store, root = stored()
    for key in sorted(store.rows):
        for damaged in (None, store.rows[key][:-1] + bytes([store.rows[key][-1] ^ 1])):
            broken = MemoryStore(store.rows)
            broken.commit({key: damaged})
            database = opened(broken, root)
            with pytest.raises(MissingState, match=key.hex()) as caught:
                for address in ADDRESSES:
                    database.get_code(address)
                    for slot in range(20):
                        database.get_storage(address, slot)
            assert isinstance(caught.value, STORE_FAULTS)


def test_what_a_store_holds_is_all_that_a_root_needs() -> None:
    store, root = stored()
    database = opened(store, root)
    assert [database.get_storage(ADDRESSES[0], slot) for slot in range(21)] == [*range(1, 21), 0]
    assert database.has_root(root) and not database.has_root(bytes(32))


def test_emptied_state_has_the_empty_root() -> None:
    store, root = stored()
    database = opened(store, root)
    for address in ADDRESSES:
        database.delete_account(address)
    assert database.make_state_root() == EMPTY_ROOT


def test_storage_that_was_deleted_comes_back_where_that_is_undone() -> None:
    store, root = stored()
    for delete in (AccountDatabase.delete_account, AccountDatabase.delete_storage):
        for has_read in (False, True):
            database = opened(store, root)
            if has_read:
                assert database.get_storage(ADDRESSES[0], 3) == 4
            checkpoint = database.record()
            delete(database, ADDRESSES[0])
            assert database.get_storage(ADDRESSES[0], 3) == 0
            database.set_storage(ADDRESSES[0], 3, 9)
            database.discard(checkpoint)
            assert database.get_storage(ADDRESSES[0], 3) == 4
            assert database.make_state_root() == root


def test_numbers_outside_their_range_are_refused() -> None:
    database = opened(MemoryStore())
    for write in (
        lambda: database.set_balance(ADDRESSES[0], -1),
        lambda: database.set_balance(ADDRESSES[0], 1 << 256),
        lambda: database.set_nonce(ADDRESSES[0], 1 << 64),
        lambda: database.set_storage(ADDRESSES[0], 0, 1 << 256),
    ):
        with pytest.raises(ValidationError, match="is not within"):
            write()
    assert not database.account_exists(ADDRESSES[0])


def test_a_checkpoint_from_before_the_transaction_cannot_be_mistaken_for_a_later_one() -> None:
    database = opened(MemoryStore())
    old = [database.record() for _ in range(3)]
    database.lock_changes()
    new = [database.record() for _ in range(5)]
    for close in (database.discard, database.commit):
        for number in old:
            with pytest.raises(Misuse, match="not open"):
                close(number)
    database.commit(new[0])


@pytest.mark.parametrize("index", [0, 1])
def test_a_checkpoint_is_closed_once_and_with_it_those_inside(index: int) -> None:
    for close in (AccountDatabase.discard, AccountDatabase.commit):
        database = opened(MemoryStore())
        numbers = [database.record() for _ in range(3)]
        close(database, numbers[index])
        for number in numbers[index:]:
            with pytest.raises(Misuse, match="not open"):
                close(database, number)


def test_a_root_that_was_made_is_not_undone_in_silence() -> None:
    database = opened(MemoryStore())
    before = database.state_root
    database.set_balance(ADDRESSES[0], 1)
    database.make_state_root()
    with pytest.raises(ValidationError, match="cannot be undone"):
        database.state_root = before


def test_rows_that_were_only_read_are_dropped_at_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_database, "MAX_CLEAN_ROWS", 10)
    store, root = stored()
    database = opened(store, root)
    for round in range(5):
        for address in ADDRESSES:
            for slot in range(20):
                database.get_storage(address, slot)
        database.set_storage(ADDRESSES[round % 4], round, 99)
        database.lock_changes()
        assert database._rows <= 10
    assert [database.get_storage(ADDRESSES[index % 4], index) for index in range(5)] == [99] * 5


def test_the_caches_stay_within_their_limits() -> None:
    cache = StateCache(max_nodes=5, max_codes=2)
    store, root = stored()
    database = AccountDatabase(Overlay(store, cache), root)
    for address in ADDRESSES:
        assert database.get_code(address) == b"code of " + address
        assert [database.get_storage(address, slot) for slot in range(20)] == list(range(1, 21))
    assert len(cache.nodes) == 5 and len(cache.codes) == 2


def test_a_full_cache_of_nodes_of_the_largest_kind_takes_what_is_said_of_it() -> None:
    """It is full after a dozen rounds, and in every peer."""
    cache = StateCache()
    tracemalloc.start()
    try:
        for number in range(MAX_NODES + 100):
            branch = Branch([(16 * number + index).to_bytes(32, "big") for index in range(16)])
            branch.reference = number.to_bytes(32, "little")
            cache.nodes.put(branch.reference, branch)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(cache.nodes) == MAX_NODES and held < 8 << 20
