"""Snapshots of a state: one encoding, whole or refused, whatever byte is changed; and the trie that is built sorted."""

import io
from typing import Any

import pytest
from execution_support import ETHER, USERS, Chain
from hypothesis import given, settings
from hypothesis import strategies as st
from trie import HexaryTrie

from flock_chain.crypto import keccak256
from flock_chain.errors import InvalidContent, InvalidEncoding, InvalidRemote, Misuse, Unavailable
from flock_chain.execution import records, snapshot
from flock_chain.execution import strict_rlp as rlp
from flock_chain.execution.blocks import Block, make_header
from flock_chain.execution.executor import Executor
from flock_chain.execution.final_state import MAX_ANCESTORS
from flock_chain.execution.machine import MemoryStore
from flock_chain.execution.ordered_trie import EMPTY_ROOT
from flock_chain.execution.snapshot import read_snapshot, write_snapshot
from flock_chain.execution.sorted_trie import SortedTrie, iterate_leaves

# Keys that share long beginnings make extensions and nodes short enough to stand in their parents.
KEY = st.builds(
    lambda start, end: (start + bytes(32))[: 32 - len(end)] + end,
    st.sampled_from([b"", b"\x11" * 31, b"\x10", b"\x11\x11"]),
    st.binary(min_size=1, max_size=3) | st.binary(min_size=32, max_size=32),
)
LEAVES = st.dictionaries(KEY, st.binary(min_size=1, max_size=40), max_size=12)


@settings(deadline=None)
@given(LEAVES)
def test_a_trie_built_from_sorted_leaves_is_the_one_that_inserting_builds(rows: dict[bytes, bytes]) -> None:
    stored: dict[bytes, bytes] = {}
    slow = HexaryTrie(stored, prune=True)
    for key, value in rows.items():
        slow[key] = value
    built: dict[bytes, bytes] = {}
    trie = SortedTrie(built.__setitem__)
    for key in sorted(rows):
        trie.add(key, rows[key])
    assert trie.finish() == slow.root_hash
    assert not rows or built == {key: value for key, value in stored.items() if key != EMPTY_ROOT}
    assert list(iterate_leaves(slow.root_hash, built.__getitem__)) == sorted(rows.items())


def test_leaves_out_of_order_twice_or_empty_are_refused() -> None:
    for keys, value in (([2, 1], b"v"), ([1, 1], b"v"), ([1], b"")):
        trie = SortedTrie(lambda _key, _value: None)
        with pytest.raises(InvalidEncoding, match="not sorted, or one is empty"):
            for key in keys:
                trie.add(bytes([key]) * 32, value)


def make_store(accounts: dict[bytes, tuple[int, dict[bytes, bytes], bytes]]) -> tuple[MemoryStore, bytes]:
    """A store whose only block has these accounts (balance, slots, code), each by stock's trie; and the block's id."""
    rows: dict[bytes, bytes] = {}
    state = HexaryTrie(rows)
    for key, (balance, slots, code) in accounts.items():
        storage = HexaryTrie(rows)
        for slot, value in slots.items():
            storage[slot] = value
        rows[keccak256(code)] = code
        state[key] = rlp.encode([0, balance, storage.root_hash, bytes(keccak256(code))])
    header = make_header(
        parent_hash=bytes(32), coinbase=bytes(20), height=0, timestamp=1, mix_hash=bytes(32), gas_limit=1, base_fee=1,
        state_root=state.root_hash,
    )  # fmt: skip
    store = MemoryStore(rows)
    store.commit(records.make_rows(Block(header, ()), ()))
    return store, header.id


ACCOUNTS = st.dictionaries(
    KEY, st.tuples(st.integers(0, 1 << 100), LEAVES, st.sampled_from([b"", b"code", b"other code"])), max_size=5
)


def take(data: bytes, block_id: bytes) -> dict[bytes, bytes]:
    rows: dict[bytes, bytes] = {}
    read_snapshot(io.BytesIO(data).read, block_id, rows.__setitem__)
    return rows


@settings(max_examples=40, deadline=None)
@given(ACCOUNTS, st.data())
def test_a_snapshot_round_trips_and_every_changed_byte_is_refused(
    accounts: dict[bytes, tuple[int, dict[bytes, bytes], bytes]], data: Any
) -> None:
    store, block_id = make_store(accounts)
    whole = b"".join(write_snapshot(store, 0))
    rows = take(whole, block_id)
    restored = MemoryStore(rows)
    restored.rows[records.block_key(block_id)] = store.rows[records.block_key(block_id)]
    assert b"".join(write_snapshot(restored, 0)) == whole
    at, mask = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    flipped = whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :]
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    longer = whole + data.draw(st.binary(min_size=1, max_size=50))
    for bad in (flipped, cut, longer):
        with pytest.raises(InvalidRemote):
            take(bad, block_id)


def played() -> tuple[Chain, bytes]:
    chain = Chain()
    for height in range(5):
        chain.add(*[chain.call(USERS[index], bytes([index + 1, height]) * 10, value=1) for index in range(3)])
    return chain, b"".join(write_snapshot(chain.store, 5))


def test_every_single_byte_of_a_real_snapshot_counts() -> None:
    chain, data = played()
    block_id = chain.executor.head.id
    for at in range(0, len(data), 401):
        with pytest.raises(InvalidRemote):
            take(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], block_id)


def restore(data: bytes, chain: Chain, height: int) -> MemoryStore:
    """A store as a checkpoint start leaves it."""
    store = MemoryStore()
    store.commit(chain.executor.genesis_writes())
    block = records.read_block(chain.store, height)
    store.commit(dict(take(data, block.id)))
    store.commit({**records.make_rows(block, ()), records.BASE: height.to_bytes(8, "big")})
    return store


def test_a_peer_that_began_with_a_snapshot_executes_the_next_blocks_like_all_others() -> None:
    chain, data = played()
    joined = Executor(chain.genesis, store := restore(data, chain, 5))
    for height in range(3):
        transaction = chain.call(USERS[3], bytes([9, height]) * 10, value=ETHER)
        block = chain.add(transaction).block
        candidate = joined.verify(block.encoded)
        store.commit(candidate.writes)
        joined.advance(candidate)
        assert joined.head == chain.executor.head
    assert joined.account(USERS[3].account) == chain.executor.account(USERS[3].account)


def test_its_own_later_snapshot_is_the_same_as_everybodys() -> None:
    chain, data = played()
    store = restore(data, chain, 5)
    candidate = chain.add()
    store.commit(candidate.writes)
    assert b"".join(write_snapshot(store, 6)) == b"".join(write_snapshot(chain.store, 6))


def test_what_lies_before_the_snapshot_is_said_not_to_be_here() -> None:
    chain, data = played()
    joined = Executor(chain.genesis, store := restore(data, chain, 5))
    assert records.read_base(store) == 5 and joined.header(4).id == records.read_block(chain.store, 4).id
    for action in (lambda: records.read_block(store, 4), lambda: joined.call(bytes(20), b"", height=3)):
        with pytest.raises(Unavailable, match="this home began with a snapshot at 5"):
            action()


def test_headers_are_those_that_a_contract_can_ask_for() -> None:
    chain = Chain()
    for _ in range(MAX_ANCESTORS + 3):
        head = chain.executor.head
        header = make_header(
            parent_hash=head.id, coinbase=bytes(20), height=head.height + 1, timestamp=head.timestamp, gas_limit=1,
            mix_hash=bytes(32), base_fee=1, state_root=head.state_root,
        )  # fmt: skip
        chain.store.commit(records.make_rows(Block(header, ()), ()))
        chain.executor._final.advance(header)
    rows = take(b"".join(write_snapshot(chain.store, head.height + 1)), chain.executor.head.id)
    heights = sorted(int.from_bytes(key[1:], "big") for key in rows if key[:1] == b"n" and len(key) == 9)
    assert heights == list(range(4, MAX_ANCESTORS + 4))


def test_a_snapshot_of_another_block_is_refused() -> None:
    chain, data = played()
    with pytest.raises(InvalidContent, match="not the block's"):
        take(data, records.read_block(chain.store, 4).id)


def test_code_that_is_left_out_is_missed() -> None:
    store, block_id = make_store({bytes([n]) * 32: (1, {}, b"code") for n in range(2)})
    data = b"".join(write_snapshot(store, 0))
    assert data.endswith(b"C\0\0\0\x04code")
    with pytest.raises(InvalidContent, match="the code of 1 contracts is missing"):
        take(data[:-9], block_id)
    for extra in (b"C\0\0\0\x04code", b"C\0\0\0\x05other"):
        with pytest.raises(InvalidContent, match="code that no account names, or not in order"):
            take(data + extra, block_id)


def test_a_store_that_lost_a_node_makes_no_snapshot() -> None:
    chain, _ = played()
    rows = dict(chain.store.rows)
    del rows[chain.executor.head.state_root]
    with pytest.raises(Misuse, match="has lost node"):
        list(write_snapshot(MemoryStore(rows), 5))
    with pytest.raises(Unavailable):
        list(write_snapshot(chain.store, 77))


def test_what_a_hostile_snapshot_can_make_a_reader_hold_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = {bytes([n]) * 32: (1, {}, b"code %d" % n) for n in range(1, 6)}
    store, block_id = make_store(accounts)
    data = b"".join(write_snapshot(store, 0))
    monkeypatch.setattr(snapshot, "MAX_CODES", 4)
    with pytest.raises(InvalidContent, match="more than 4 different contracts"):
        take(data, block_id)
    monkeypatch.undo()
    monkeypatch.setattr(snapshot, "MAX_SNAPSHOT_BYTES", len(data) // 2)
    with pytest.raises(InvalidEncoding, match="longer than"):
        take(data, block_id)
    monkeypatch.undo()
    huge = snapshot.MAGIC + b"H" + b"\xff\xff"
    with pytest.raises(InvalidEncoding, match="a record of 65535 bytes"):
        take(huge + bytes(70_000), block_id)
