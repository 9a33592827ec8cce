"""Blocks: one function builds and verifies, tampering is named, a failing system call stops nothing."""

import dataclasses

import pytest
from eth.vm.forks.cancun.blocks import CancunBlockHeader
from execution_support import (
    CHAIN_ID,
    GENESIS_TIME,
    KEYS,
    USERS,
    VALIDATORS,
    Chain,
    make_genesis,
    with_parameters,
)

from flock_chain import ecvrf
from flock_chain.errors import InvalidBlock, InvalidEncoding, InvalidRemote, Misuse, Unavailable
from flock_chain.execution import records, schedule
from flock_chain.execution.block_run import NotNow
from flock_chain.execution.blocks import Block, Header, decode_block
from flock_chain.execution.executor import CallReverted, Executor
from flock_chain.execution.machine import SYSTEM, MemoryStore, decode_reason, encode_reason
from flock_chain.execution.ordered_trie import compute_ordered_root
from flock_chain.execution.transactions import decode_system_transaction, decode_transaction, sign_call
from flock_contracts import loader
from flock_contracts.addresses import BEACON, FAUCET

ALICE, BOB, CAROL, DAVE = USERS


def transfers(chain: Chain, count: int = 2) -> list:  # type: ignore[type-arg]
    return [chain.call(ALICE, BOB.account, value=index + 1, gas=21_000) for index in range(count)]


def test_what_is_built_verifies_to_the_same_block_and_writes() -> None:
    chain = Chain()
    for _ in range(3):
        built = chain.build(transfers(chain))
        verified = chain.executor.verify(built.block.encoded)
        assert verified == built
        chain.commit(verified)
    assert chain.executor.account(BOB.account).balance == 1_000 * 10**18 + 3 * 3
    assert chain.executor.account(ALICE.account).nonce == 6


class Failing(MemoryStore):
    """A store whose disk fails at one read."""

    def __init__(self, store: MemoryStore, error: Exception) -> None:
        super().__init__(store.rows)
        self.error, self.reads, self.fails_at = error, 0, 1 << 30

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        if self.reads == self.fails_at:
            raise self.error
        return super().get(key)


@pytest.mark.parametrize("error", [Unavailable("disk"), Misuse("disk"), OSError("disk")], ids=lambda error: type(error))
def test_a_read_that_fails_stops_this_peer_and_makes_no_block_invalid(error: Exception) -> None:
    chain = Chain()
    block = chain.build(transfers(chain)).block
    store = Failing(chain.store, error)
    Executor(chain.genesis, store).verify(block.encoded)
    reads = store.reads
    for store.fails_at in range(1, reads + 1):
        store.reads = 0
        with pytest.raises(type(error), match="disk"):
            Executor(chain.genesis, store).verify(block.encoded)


def test_the_same_inputs_give_the_same_chain_on_two_peers() -> None:
    one, two = Chain(), Chain()
    assert one.executor.head.id == two.executor.head.id
    for index in range(5):
        built = one.build(transfers(one), proposer=VALIDATORS[index % 4], after=index)
        one.commit(built)
        two.commit(two.executor.verify(built.block.encoded))
        assert one.executor.head == two.executor.head
    assert one.store.rows == two.store.rows


def test_a_header_is_what_ethereum_tools_expect() -> None:
    chain = Chain()
    header = chain.add(*transfers(chain)).block.header
    theirs = CancunBlockHeader(
        difficulty=0,
        block_number=header.height,
        gas_limit=header.gas_limit,
        timestamp=header.timestamp,
        coinbase=header.coinbase,
        parent_hash=header.parent_hash,
        state_root=header.state_root,
        transaction_root=header.transaction_root,
        receipt_root=header.receipt_root,
        bloom=int.from_bytes(header.bloom, "big"),
        gas_used=header.gas_used,
        extra_data=header.extra_data,
        mix_hash=header.mix_hash,
        nonce=header.nonce,
        base_fee_per_gas=header.base_fee,
        parent_beacon_block_root=header.certificate_commitment,
    )
    assert theirs.hash == header.id


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Header)])
def test_a_changed_header_field_is_refused_by_name(name: str) -> None:
    chain = Chain()
    block = chain.build(transfers(chain)).block
    value = getattr(block.header, name)
    if name == "coinbase":
        changed: object = CAROL.account
    elif name == "extra_data":
        changed = b"note"
    elif name == "timestamp":
        changed = value - 2
    else:
        changed = value + 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
    forged = Block(dataclasses.replace(block.header, **{name: changed}), block.transactions)
    said = {"coinbase": "proposer", "height": "not a child", "parent_hash": "parent_hash"}.get(name, name)
    with pytest.raises(InvalidBlock, match=said):
        chain.executor.verify(forged.encoded)


def test_changed_transactions_are_refused() -> None:
    chain = Chain()
    block = chain.build(transfers(chain, 3)).block
    beacon, first, second, third = block.transactions
    other = chain.call(BOB, ALICE.account, value=1, gas=21_000, nonce=0).raw
    for raws, rule in [
        ((beacon, second, first, third), "nonce"),
        ((beacon, first, second), "root|bloom|gas"),
        ((beacon, first, second, third, other), "root|bloom|gas"),
        ((beacon, first, second, third, third), "nonce"),
        ((first, second, third), "beacon"),
        ((), "beacon"),
        ((beacon, beacon, first, second, third), "transactions"),
        ((first, beacon, second, third), "beacon|0x7e|system"),
        ((beacon, first[:-1], second, third), "rlp"),
        ((beacon, first[:-1] + bytes([first[-1] ^ 1]), second, third), "."),
    ]:
        with pytest.raises(InvalidRemote, match=rule):
            chain.executor.verify(Block(block.header, raws).encoded)


def test_a_system_call_that_consensus_does_not_prescribe_is_refused() -> None:
    chain = Chain()
    block = chain.build().block
    call = decode_system_transaction(block.transactions[0])
    assert (call.to, call.index, call.height) == (BEACON, 0, 1)
    for changes in ({"gas": call.gas + 1}, {"to": FAUCET}, {"index": 1}, {"chain_id": 1}, {"data": call.data + b"\0"}):
        forged = dataclasses.replace(call, **changes)  # type: ignore[arg-type] # each value has its field's type
        with pytest.raises(InvalidBlock, match="transactions"):
            chain.executor.verify(Block(block.header, (forged.raw,)).encoded)
    extra = dataclasses.replace(call, index=1)
    with pytest.raises(InvalidBlock, match="transactions"):
        chain.executor.verify(Block(block.header, (call.raw, extra.raw)).encoded)


def test_the_system_type_is_refused_from_outside() -> None:
    chain = Chain()
    with pytest.raises(InvalidBlock, match="0x7e"):
        decode_transaction(chain.build().block.transactions[0], CHAIN_ID)


def test_randomness_is_the_proposers_for_this_height_or_the_block_is_refused() -> None:
    chain = Chain()
    head = chain.executor.head
    good = chain.prove(VALIDATORS[0])
    wrong_height = ecvrf.prove(ecvrf.derive_seed(VALIDATORS[0]), schedule.compute_alpha(CHAIN_ID, 9, head.mix_hash))
    arguments = {"timestamp": head.timestamp, "strict": True}
    for proposer, proof in ((VALIDATORS[0], wrong_height), (VALIDATORS[1], good), (VALIDATORS[0], good[:-1])):
        with pytest.raises(InvalidBlock, match="randomness"):
            chain.executor.execute(head, (), proposer=proposer.account, vrf_proof=proof, **arguments)  # type: ignore[arg-type]
    with pytest.raises(InvalidBlock, match="no validator"):
        chain.executor.execute(head, (), proposer=ALICE.account, vrf_proof=good, **arguments)  # type: ignore[arg-type]


def test_each_block_mixes_the_proposers_output_into_the_parents_mix() -> None:
    chain = Chain()
    before = chain.executor.head.mix_hash
    block = chain.add().block
    output = ecvrf.verify(
        ecvrf.public_key(ecvrf.derive_seed(VALIDATORS[0])),
        schedule.compute_alpha(CHAIN_ID, 1, before),
        schedule.extract_proof(decode_system_transaction(block.transactions[0]).data),
    )
    assert output is not None and block.header.mix_hash == schedule.compute_mix(before, output)
    assert chain.executor.view("Beacon", "mix", 1) == block.header.mix_hash


def test_a_failing_system_call_gets_a_failed_receipt_and_the_chain_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "ON_BLOCK_GAS", 30_000)  # too little for the beacon
    chain = Chain()
    for _ in range(2):
        built = chain.build(transfers(chain))
        receipt = built.receipts[0]
        assert not receipt.status and receipt.gas_used == 30_000 and receipt.logs == ()
        assert [row.status for row in built.receipts[1:]] == [True, True]
        chain.commit(chain.executor.verify(built.block.encoded))
    with pytest.raises(CallReverted, match="no mix"):
        chain.executor.view("Beacon", "mix", 1)
    assert chain.executor.head.height == 2 and chain.executor.account(SYSTEM).balance == 0


def test_equal_timestamps_are_legal_and_earlier_ones_are_not() -> None:
    chain = Chain()
    assert chain.add(after=0).block.timestamp == GENESIS_TIME
    with pytest.raises(InvalidBlock, match="timestamp"):
        chain.build(after=-1)


def test_building_leaves_out_what_cannot_be_included_and_says_why() -> None:
    chain = Chain(make_genesis(with_parameters(block_gas_limit=16_000_000)))
    good = chain.call(ALICE, BOB.account, value=1, gas=21_000)
    repeated = chain.call(ALICE, BOB.account, gas=21_000, nonce=0)
    future = chain.call(ALICE, BOB.account, gas=21_000, nonce=5)
    greedy = chain.call(CAROL, BOB.account, gas=16_000_000)
    poor = chain.call(DAVE, BOB.account, value=10**30, gas=21_000)
    built = chain.build([good, repeated, future, greedy, poor])
    assert [row.status for row in built.receipts] == [True, True]
    assert [type(error) for _, error in built.rejected] == [InvalidBlock, InvalidBlock, NotNow, InvalidBlock]
    for text, (_, error) in zip(["nonce 0", "nonce 5", "left in the block", "afford"], built.rejected, strict=True):
        assert text in str(error)
    assert chain.executor.verify(built.block.encoded) == dataclasses.replace(built, rejected=())


def test_a_block_stays_below_its_byte_limit_and_a_larger_one_is_refused() -> None:
    chain = Chain(make_genesis(with_parameters(max_block_bytes=16 << 10)))
    calls = [chain.call(ALICE, BOB.account, bytes(5_000), gas=200_000) for _ in range(5)]
    built = chain.build(calls)
    assert len(built.block.encoded) <= 16 << 10 and len(built.block.transactions) == 1 + 2
    assert "bytes" in str(built.rejected[0][1]) and isinstance(built.rejected[0][1], NotNow)
    larger = Block(built.block.header, (*built.block.transactions, bytes(9_000)))
    with pytest.raises(InvalidBlock, match="at most 16384"):
        chain.executor.verify(larger.encoded)


def test_a_reverting_call_is_included_with_its_reason_and_pays_for_its_gas() -> None:
    chain = Chain()
    data = loader.load("Beacon").encode("on_block", bytes(32), b"")
    receipt = chain.add(chain.call(ALICE, BEACON, data)).receipts[1]
    assert not receipt.status and "only the system" in receipt.reason
    spent = 1_000 * 10**18 - chain.executor.account(ALICE.account).balance
    assert spent == receipt.gas_used * chain.genesis.parameters.base_fee


def test_receipts_come_back_from_the_store_as_they_were() -> None:
    chain = Chain()
    built = chain.add(*transfers(chain))
    assert records.read_receipts(chain.store, 1) == built.receipts
    for receipt in built.receipts:
        assert records.read_receipt(chain.store, receipt.hash) == receipt
    assert records.read_receipt(chain.store, bytes(32)) is None
    assert records.read_block(chain.store, 1) == built.block


def test_a_view_sees_final_state_at_any_height_and_changes_nothing() -> None:
    chain = Chain()
    chain.add(after=30)
    chain.add(after=200)  # a gap above 90 s counts as 90
    assert chain.executor.view("Beacon", "chain_time") == GENESIS_TIME + 30 + 90
    assert chain.executor.view("Beacon", "chain_time", height=1) == GENESIS_TIME + 30
    root = chain.executor.head.state_root
    with pytest.raises(CallReverted, match="only the system"):
        chain.executor.call(BEACON, loader.load("Beacon").encode("on_block", bytes(32), b""), sender=ALICE.account)
    assert chain.build(after=0).block.header.parent_hash == chain.executor.head.id
    assert chain.executor.head.state_root == root


def test_a_store_without_a_chain_or_with_another_networks_is_refused() -> None:
    with pytest.raises(Misuse, match="no chain"):
        _ = Executor(make_genesis(), MemoryStore()).head
    chain = Chain()
    with pytest.raises(Misuse, match="another genesis"):
        _ = Executor(make_genesis(timestamp=GENESIS_TIME + 1), chain.store).head
    with pytest.raises(Misuse, match="child of the head"):
        built = chain.build()
        chain.commit(built)
        chain.executor.advance(built)


def test_contracts_that_the_document_does_not_pin_are_refused_by_name() -> None:
    genesis = make_genesis()
    changed = tuple((name, bytes(32) if name == "Stake" else digest) for name, digest in genesis.contracts)
    with pytest.raises(InvalidEncoding, match="contract Stake"):
        Executor(dataclasses.replace(genesis, contracts=changed), MemoryStore())  # type: ignore[arg-type]
    with pytest.raises(InvalidEncoding, match="'Casino' is unknown"):
        Executor(dataclasses.replace(genesis, contracts=(("Casino", bytes(32)),)), MemoryStore())  # type: ignore[arg-type]


def test_a_document_that_a_contract_refuses_is_refused_with_its_reason() -> None:
    genesis = make_genesis()
    rows = (dataclasses.replace(genesis.validators[0], vrf_key=bytes(32)), *genesis.validators[1:])
    executor = Executor(dataclasses.replace(genesis, validators=rows), MemoryStore())
    with pytest.raises(InvalidEncoding, match=r"Stake.initialize refused .* without a VRF key"):
        executor.genesis_writes()


def test_genesis_places_stakes_and_balances() -> None:
    chain = Chain()
    rows = chain.executor.view("Stake", "validators")
    assert isinstance(rows, list)
    assert [row["account"] for row in rows] == sorted(key.account for key in VALIDATORS)
    assert [row["vrf_key"] for row in rows] == [row.vrf_key for row in chain.genesis.validators]
    for key in KEYS:
        assert chain.executor.account(key.account).balance == 1_000 * 10**18


@pytest.mark.parametrize("count", [0, 1, 2, 16, 17, 127, 128, 129, 130, 300])
def test_an_ordered_root_is_pyevms(count: int) -> None:
    from eth.db.trie import _make_trie_root_and_nodes

    items = tuple(bytes([index % 256]) * (index % 50 + 1) for index in range(count))
    assert compute_ordered_root(items) == _make_trie_root_and_nodes(items)[0]


def test_a_block_decodes_to_itself_and_only_in_one_form() -> None:
    chain = Chain()
    block = chain.build(transfers(chain)).block
    assert decode_block(block.encoded, max_bytes=1 << 20) == block
    for data in (block.encoded + b"\0", block.encoded[:-1], b"", b"\xc0", b"\x80", bytes(100)):
        with pytest.raises(InvalidEncoding):
            decode_block(data, max_bytes=1 << 20)


def test_the_reason_of_a_revert_is_bounded_and_printable() -> None:
    assert decode_reason(encode_reason("nothing due")) == "nothing due"
    assert decode_reason(encode_reason("a\nb\x1b[31m")) == "a?b?[31m"
    assert len(decode_reason(encode_reason("x" * 10_000))) == 256
    assert decode_reason(b"") == "failed without a reason"
    assert decode_reason(bytes.fromhex("4e487b71") + (17).to_bytes(32, "big")) == "panic 0x11"
    huge = bytes.fromhex("08c379a0") + (32).to_bytes(32, "big") + b"\xff" * 32 + b"hi"
    assert decode_reason(huge) == "hi"


def test_fees_go_to_the_proposer_and_the_base_fee_to_nobody() -> None:
    chain = Chain()
    raw = sign_call(ALICE, chain_id=CHAIN_ID, nonce=0, to=BOB.account, gas=21_000, fee=10, tip=3)
    before = chain.executor.account(VALIDATORS[0].account).balance
    chain.add(decode_transaction(raw, CHAIN_ID))
    assert chain.executor.account(VALIDATORS[0].account).balance == before + 3 * 21_000
    assert chain.executor.account(ALICE.account).balance == 1_000 * 10**18 - 4 * 21_000
