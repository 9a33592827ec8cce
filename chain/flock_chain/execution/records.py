"""Under which keys the chain's rows are stored, and how they are read back. Trie nodes and code: by hash alone.

H            id of the head                      h | id        block
n | height   id of the block at that height      r | id        receipts of that block
t | hash     height | index of a transaction     c | height    finalize certificate (written by who commits)
a | id       header of a block before the snapshot that this store began with: its body is not here
P            height | id of the block that the user trusted when this store began
B            height of the snapshot that this store began with; absent where it began with its genesis
"""

import struct
from dataclasses import dataclass

from flock_chain.errors import Unavailable
from flock_chain.execution.blocks import (
    Block,
    Header,
    Receipt,
    decode_block,
    decode_header,
    decode_receipts,
    encode_receipts,
)
from flock_chain.execution.machine import KeyValues, Writes

HEAD = b"H"
BASE, PIN = b"B", b"P"
_PLACE = struct.Struct(">QI")
_NO_LIMIT = 1 << 62  # what we stored was checked before


@dataclass(frozen=True)
class Pin:
    """A block that the user trusts: the chain must hold it at its height."""

    height: int
    block_id: bytes

    def __str__(self) -> str:
        return f"{self.height}:{self.block_id.hex()}"


def height_key(height: int) -> bytes:
    return b"n" + height.to_bytes(8, "big")


def block_key(block_id: bytes) -> bytes:
    return b"h" + block_id


def header_key(block_id: bytes) -> bytes:
    return b"a" + block_id


def receipts_key(block_id: bytes) -> bytes:
    return b"r" + block_id


def transaction_key(transaction_hash: bytes) -> bytes:
    return b"t" + transaction_hash


def certificate_key(height: int) -> bytes:
    return b"c" + height.to_bytes(8, "big")


def make_rows(block: Block, receipts: tuple[Receipt, ...]) -> Writes:
    """Everything but the state that a final block adds."""
    rows: Writes = {
        HEAD: block.id,
        height_key(block.height): block.id,
        block_key(block.id): block.encoded,
        receipts_key(block.id): encode_receipts(receipts),
    }
    for receipt in receipts:
        rows[transaction_key(receipt.hash)] = _PLACE.pack(receipt.height, receipt.index)
    return rows


def read_block_bytes(reader: KeyValues, height: int) -> bytes | None:
    block_id = reader.get(height_key(height))
    return None if block_id is None else reader.get(block_key(block_id))


def read_block(reader: KeyValues, height: int) -> Block:
    """Raises Unavailable where the block is not final here."""
    data = read_block_bytes(reader, height)
    if data is None:
        raise Unavailable(_explain_missing(reader, height))
    return decode_block(data, max_bytes=_NO_LIMIT)


def read_header(reader: KeyValues, height: int) -> Header:
    """Of a final block, or of one not long before the snapshot that this store began with; raises Unavailable."""
    block_id = reader.get(height_key(height))
    data = None if block_id is None else reader.get(block_key(block_id))
    if data is not None:
        return decode_block(data, max_bytes=_NO_LIMIT).header
    encoded = None if block_id is None else reader.get(header_key(block_id))
    if encoded is None:
        raise Unavailable(_explain_missing(reader, height))
    return decode_header(encoded)


def _explain_missing(reader: KeyValues, height: int) -> str:
    base = read_base(reader)
    if height < base:
        return f"block {height} is not here: this home began with a snapshot at {base}"
    return f"block {height} is not here"


def read_head(reader: KeyValues) -> Block | None:
    block_id = reader.get(HEAD)
    data = None if block_id is None else reader.get(block_key(block_id))
    return None if data is None else decode_block(data, max_bytes=_NO_LIMIT)


def read_base(reader: KeyValues) -> int:
    """The lowest height from which every block is stored: 1, or where the snapshot was taken."""
    stored = reader.get(BASE)
    return 1 if stored is None else int.from_bytes(stored, "big")


def make_base(height: int) -> Writes:
    return {BASE: height.to_bytes(8, "big")}


def make_pin(pin: Pin) -> Writes:
    return {PIN: pin.height.to_bytes(8, "big") + pin.block_id}


def read_pin(reader: KeyValues) -> Pin | None:
    stored = reader.get(PIN)
    return None if stored is None else Pin(int.from_bytes(stored[:8], "big"), stored[8:])


def read_receipts(reader: KeyValues, height: int) -> tuple[Receipt, ...]:
    """In the order of the block; raises Unavailable where the block is not final here."""
    block_id = reader.get(height_key(height))
    data = None if block_id is None else reader.get(receipts_key(block_id))
    if data is None:
        raise Unavailable(f"receipts of block {height} are not here")
    return decode_receipts(data, height)


def read_place(reader: KeyValues, transaction_hash: bytes) -> tuple[int, int] | None:
    """Height and index of a final transaction; None where it is not final here."""
    place = reader.get(transaction_key(transaction_hash))
    if place is None:
        return None
    height, index = _PLACE.unpack(place)
    return height, index


def read_receipt(reader: KeyValues, transaction_hash: bytes) -> Receipt | None:
    place = read_place(reader, transaction_hash)
    return None if place is None else read_receipts(reader, place[0])[place[1]]


def find_height(reader: KeyValues, block_id: bytes) -> int | None:
    """Of a final block whose body is here."""
    data = reader.get(block_key(block_id))
    return None if data is None else decode_block(data, max_bytes=_NO_LIMIT).height
