"""Headers, blocks and receipts as bytes: Ethereum's Cancun layout, so that ordinary tools read them.

Encodes, decodes and hashes; executes nothing and judges no content beyond its form.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

from eth.constants import EMPTY_UNCLE_HASH

from flock_chain.crypto import Digest, keccak256
from flock_chain.errors import InvalidBlock, InvalidEncoding
from flock_chain.execution import strict_rlp as rlp
from flock_chain.execution.machine import Outcome
from flock_chain.execution.ordered_trie import EMPTY_ROOT

EMPTY_UNCLES: bytes = EMPTY_UNCLE_HASH
ZERO_32 = bytes(32)
HEADER_ROOM_BYTES = 1_024  # a header takes at most 650 bytes; the rest is for the lengths of lists
MAX_BLOCK_TRANSACTIONS = 4_096  # a transfer takes 100 bytes, a block at most 512 KiB


@dataclass(frozen=True)
class Header:
    """The fields of a Cancun header, in their order."""

    parent_hash: bytes
    uncles_hash: bytes
    coinbase: bytes  # the proposer
    state_root: bytes
    transaction_root: bytes
    receipt_root: bytes
    bloom: bytes
    difficulty: int
    height: int
    gas_limit: int
    gas_used: int
    timestamp: int
    extra_data: bytes  # the genesis hash in the genesis header, else empty
    mix_hash: bytes  # the chain's randomness
    nonce: bytes
    base_fee: int
    withdrawals_root: bytes
    blob_gas_used: int
    excess_blob_gas: int
    certificate_commitment: bytes  # Ethereum's parent_beacon_block_root

    @cached_property
    def encoded(self) -> bytes:
        return rlp.encode(self.values())

    @cached_property
    def id(self) -> Digest:
        return keccak256(self.encoded)

    def values(self) -> list[bytes | int]:
        return [getattr(self, name) for name in _FIELD_NAMES]


_FIELD_NAMES = tuple(field.name for field in fields(Header))
_FIELD_LENGTHS: dict[str, int | None] = {
    "coinbase": 20,
    "bloom": 256,
    "nonce": 8,
    "extra_data": None,
    **{name: 32 for name in _FIELD_NAMES if name.endswith(("_hash", "_root", "_commitment"))},
}


def make_header(
    *,
    parent_hash: bytes,
    coinbase: bytes,
    height: int,
    timestamp: int,
    mix_hash: bytes,
    gas_limit: int,
    base_fee: int,
    certificate_commitment: bytes = ZERO_32,
    extra_data: bytes = b"",
    state_root: bytes = EMPTY_ROOT,
    transaction_root: bytes = EMPTY_ROOT,
    receipt_root: bytes = EMPTY_ROOT,
    bloom: bytes = bytes(256),
    gas_used: int = 0,
) -> Header:
    """A header whose fields without a meaning here have the values that Ethereum's rules give them."""
    return Header(
        parent_hash=parent_hash,
        uncles_hash=EMPTY_UNCLES,
        coinbase=coinbase,
        state_root=state_root,
        transaction_root=transaction_root,
        receipt_root=receipt_root,
        bloom=bloom,
        difficulty=0,
        height=height,
        gas_limit=gas_limit,
        gas_used=gas_used,
        timestamp=timestamp,
        extra_data=extra_data,
        mix_hash=mix_hash,
        nonce=bytes(8),
        base_fee=base_fee,
        withdrawals_root=EMPTY_ROOT,
        blob_gas_used=0,
        excess_blob_gas=0,
        certificate_commitment=certificate_commitment,
    )


@dataclass(frozen=True)
class Block:
    header: Header
    transactions: tuple[bytes, ...]  # as they were signed; the system's first

    @property
    def id(self) -> Digest:
        return self.header.id

    @property
    def height(self) -> int:
        return self.header.height

    @property
    def timestamp(self) -> int:
        return self.header.timestamp

    @property
    def proposer(self) -> bytes:
        return self.header.coinbase

    @property
    def parent_id(self) -> bytes:
        return self.header.parent_hash

    @property
    def state_root(self) -> bytes:
        return self.header.state_root

    @cached_property
    def encoded(self) -> bytes:
        return rlp.encode([self.header.values(), self.transactions])


def decode_block(data: bytes, *, max_bytes: int) -> Block:
    """The form alone: raises InvalidBlock above `max_bytes`, InvalidEncoding for anything not canonical."""
    if len(data) > max_bytes:
        raise InvalidBlock(f"block: {len(data)} bytes, at most {max_bytes} allowed")
    header, transactions = rlp.decode_list(data, "block", 2)
    if not isinstance(transactions, list) or len(transactions) > MAX_BLOCK_TRANSACTIONS:
        raise InvalidEncoding(f"block: transactions are no list of at most {MAX_BLOCK_TRANSACTIONS}")
    return Block(_decode_header(header), tuple(rlp.to_bytes(raw, "block: transaction") for raw in transactions))


def decode_header(data: bytes) -> Header:
    """The form alone: raises InvalidEncoding for anything not canonical."""
    return _decode_header(rlp.decode(data))


def _decode_header(item: rlp.Item) -> Header:
    if not isinstance(item, list) or len(item) != len(_FIELD_NAMES):
        raise InvalidEncoding(f"header: not a list of {len(_FIELD_NAMES)} fields")
    values: dict[str, bytes | int] = {}
    for name, value in zip(_FIELD_NAMES, item, strict=True):
        if name in _FIELD_LENGTHS:
            values[name] = rlp.to_bytes(value, f"header: {name}", _FIELD_LENGTHS[name])
        else:
            values[name] = rlp.to_int(value, f"header: {name}", 64)
    if len(values["extra_data"]) > 32:  # type: ignore[arg-type] # bytes by its row in _FIELD_LENGTHS
        raise InvalidEncoding("header: extra_data above 32 bytes")
    return Header(**values)  # type: ignore[arg-type] # each value has its field's type by the rows above


Log = tuple[bytes, tuple[int, ...], bytes]  # contract, topics, data


@dataclass(frozen=True)
class Receipt:
    """What a transaction did, with its place. `reason`: why it failed, for people; not under the header's root."""

    hash: Digest
    height: int
    index: int
    status: bool
    gas_used: int
    logs: tuple[Log, ...]
    reason: str


def compute_bloom(logs: Sequence[Log]) -> int:
    bloom = 0
    for contract, topics, _ in logs:
        for item in (contract, *(topic.to_bytes(32, "big") for topic in topics)):
            digest = keccak256(item)
            for offset in (0, 2, 4):
                bloom |= 1 << (int.from_bytes(digest[offset : offset + 2], "big") & 2047)
    return bloom


def _log_items(logs: Sequence[Log]) -> list[object]:
    return [[contract, [topic.to_bytes(32, "big") for topic in topics], data] for contract, topics, data in logs]


def encode_receipt(type_id: int, outcome: Outcome, cumulative_gas: int, bloom: int) -> bytes:
    """As it goes under the header's receipt root (EIP-2718)."""
    status = b"\x01" if outcome.status else b""
    body = rlp.encode([status, cumulative_gas, bloom.to_bytes(256, "big"), _log_items(outcome.logs)])
    return body if type_id == 0 else bytes((type_id,)) + body


def encode_receipts(receipts: Sequence[Receipt]) -> bytes:
    """As they are stored: all of one block."""
    rows = [[row.hash, int(row.status), row.gas_used, _log_items(row.logs), row.reason.encode()] for row in receipts]
    return rlp.encode(rows)


def decode_receipts(data: bytes, height: int) -> tuple[Receipt, ...]:
    """The inverse of `encode_receipts`, for this peer's own store."""
    receipts = []
    for index, row in enumerate(rlp.to_list(rlp.decode(data), "receipts")):
        digest, status, gas_used, logs, reason = rlp.to_list(row, "receipt", 5)
        receipts.append(
            Receipt(
                hash=Digest(rlp.to_bytes(digest, "receipt", 32)),
                height=height,
                index=index,
                status=rlp.to_int(status, "receipt", 1 << 3) == 1,
                gas_used=rlp.to_int(gas_used, "receipt", 64),
                logs=tuple(_decode_log(log) for log in rlp.to_list(logs, "receipt")),
                reason=rlp.to_bytes(reason, "receipt").decode(),
            )
        )
    return tuple(receipts)


def _decode_log(item: rlp.Item) -> Log:
    contract, topics, data = rlp.to_list(item, "log", 3)
    numbers = tuple(int.from_bytes(rlp.to_bytes(topic, "log", 32), "big") for topic in rlp.to_list(topics, "log"))
    return rlp.to_bytes(contract, "log", 20), numbers, rlp.to_bytes(data, "log")
