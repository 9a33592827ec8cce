"""A final state as a file: canonical bytes that follow from the block's id alone, so that all peers make the same.

    magic
    H  length(2)  header                        the block's own, then its ancestors' (the EVM can ask for their ids)
    A  key hash(32)  length(2)  account         sorted by key hash; each followed by its
    S  key hash(32)  length(1)  value             slots, sorted by key hash
    C  length(4)  code                          every code that an account names, sorted by its hash

Reading trusts the block's id and nothing else: headers by their hashes, accounts and slots by the roots that they
build, code by its hash. Knows no file, network or store.
"""

import struct
from collections.abc import Callable, Iterator

from eth.constants import EMPTY_SHA3

from flock_chain.crypto import keccak256
from flock_chain.errors import InvalidContent, InvalidEncoding, InvalidRemote, Misuse
from flock_chain.execution import records
from flock_chain.execution import strict_rlp as rlp
from flock_chain.execution.blocks import Header, decode_header
from flock_chain.execution.final_state import MAX_ANCESTORS
from flock_chain.execution.machine import KeyValues
from flock_chain.execution.ordered_trie import EMPTY_ROOT
from flock_chain.execution.sorted_trie import Emit, SortedTrie, iterate_leaves

MAGIC = b"flock-snapshot-1\n"
MAX_SNAPSHOT_BYTES = 4 << 30  # some 30 million accounts and slots: ten minutes to build
MAX_CODES = 4_096  # whose hashes are held while reading; here only the genesis brings contracts
MAX_CODE_BYTES = 1 << 20  # Ethereum allows 24 KiB for what is deployed; a genesis is not held to that
_EMPTY_CODE: bytes = EMPTY_SHA3
_HEADER, _ACCOUNT, _SLOT, _CODE = b"H", b"A", b"S", b"C"
_TWO, _FOUR = struct.Struct(">H"), struct.Struct(">I")

Read = Callable[[int], bytes]  # up to so many of the next bytes; fewer only at the end


def write_snapshot(reader: KeyValues, height: int) -> Iterator[bytes]:
    """The file in pieces of some hundred bytes. Raises Unavailable where the block is not here."""
    header = records.read_header(reader, height)
    yield MAGIC
    yield from _write_headers(reader, header)
    codes: set[bytes] = set()
    load = _Loader(reader)
    for key, account in iterate_leaves(header.state_root, load):
        storage_root, code_hash = _parse_account(account)
        yield _ACCOUNT + key + _TWO.pack(len(account)) + account
        if code_hash != _EMPTY_CODE:
            codes.add(code_hash)
        for slot, value in iterate_leaves(storage_root, load):
            yield _SLOT + slot + bytes((len(value),)) + value
    for code_hash in sorted(codes):
        code = load(code_hash)
        yield _CODE + _FOUR.pack(len(code)) + code


def _write_headers(reader: KeyValues, header: Header) -> Iterator[bytes]:
    for _ in range(MAX_ANCESTORS):
        yield _HEADER + _TWO.pack(len(header.encoded)) + header.encoded
        if header.height == 0:
            return
        header = records.read_header(reader, header.height - 1)


class _Loader:
    def __init__(self, reader: KeyValues) -> None:
        self._reader = reader

    def __call__(self, key: bytes) -> bytes:
        value = self._reader.get(key)
        if value is None:
            raise Misuse(f"snapshot: this store has lost node or code {key.hex()}; sync into a new home")
        return value


def _parse_account(data: bytes) -> tuple[bytes, bytes]:
    """Storage root and code hash."""
    _, _, storage_root, code_hash = rlp.decode_list(data, "snapshot: account", 4)
    return rlp.to_bytes(storage_root, "storage root", 32), rlp.to_bytes(code_hash, "code hash", 32)


def read_snapshot(read: Read, block_id: bytes, emit: Emit) -> Header:
    """Every row that the state of this block needs goes to `emit`; returns the block's header.

    The rows hold only once this has returned. Raises InvalidRemote for anything but the one snapshot of that block.
    """
    return _SnapshotReader(_Records(read), block_id, emit).run()


class _Records:
    """The pieces of the file, each bounded before it is read."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._left = MAX_SNAPSHOT_BYTES
        self.tag = b""

    def take(self, count: int) -> bytes:
        self._left -= count
        if self._left < 0:
            raise InvalidEncoding(f"snapshot: longer than {MAX_SNAPSHOT_BYTES} bytes")
        data = self._read(count)
        if len(data) != count:
            raise InvalidEncoding("snapshot: cut short")
        return data

    def advance(self) -> None:
        """To the next record; at the end the tag is empty."""
        self.tag = self._read(1)

    def take_sized(self, size: struct.Struct, most: int) -> bytes:
        (length,) = size.unpack(self.take(size.size))
        if length > most:
            raise InvalidEncoding(f"snapshot: a record of {length} bytes, at most {most} allowed")
        return self.take(length)


class _SnapshotReader:
    def __init__(self, rows: _Records, block_id: bytes, emit: Emit) -> None:
        self._rows, self._block_id, self._emit = rows, block_id, emit
        self._codes: set[bytes] = set()  # named by accounts, and not read yet

    def run(self) -> Header:
        if self._rows.take(len(MAGIC)) != MAGIC:
            raise InvalidEncoding("snapshot: not one of format 1")
        self._rows.advance()
        header = self._read_headers()
        accounts = SortedTrie(self._emit)
        while self._rows.tag == _ACCOUNT:
            self._read_account(accounts)
        if accounts.finish() != header.state_root:
            raise InvalidContent(f"snapshot: its accounts do not build the state root of block {header.height}")
        self._read_codes()
        if self._rows.tag:
            raise InvalidEncoding("snapshot: a record where none may follow")
        return header

    def _read_headers(self) -> Header:
        first: Header | None = None
        expected, count = self._block_id, 0
        while self._rows.tag == _HEADER and count < MAX_ANCESTORS:
            encoded = self._rows.take_sized(_TWO, 1_024)
            header = decode_header(encoded)
            if header.id != expected:
                raise InvalidContent("snapshot: a header that is not the block's, nor its ancestor's")
            self._emit(records.header_key(header.id), encoded)
            self._emit(records.height_key(header.height), header.id)
            first = first or header
            expected, count = header.parent_hash, count + 1
            self._rows.advance()
        if first is None or count != min(first.height + 1, MAX_ANCESTORS):
            raise InvalidContent("snapshot: not as many headers as it must have")
        return first

    def _read_account(self, accounts: SortedTrie) -> None:
        rows = self._rows
        key, account = rows.take(32), rows.take_sized(_TWO, 256)
        storage_root, code_hash = _parse_account(account)
        accounts.add(key, account)
        if code_hash != _EMPTY_CODE:
            self._codes.add(code_hash)
            if len(self._codes) > MAX_CODES:
                raise InvalidContent(f"snapshot: more than {MAX_CODES} different contracts")
        slots = SortedTrie(self._emit if storage_root != EMPTY_ROOT else _refuse_slot)
        rows.advance()
        while rows.tag == _SLOT:
            slots.add(rows.take(32), rows.take(rows.take(1)[0]))
            rows.advance()
        if slots.finish() != storage_root:
            raise InvalidContent(f"snapshot: the slots of account {key.hex()} do not build its storage root")

    def _read_codes(self) -> None:
        last = b""
        while self._rows.tag == _CODE:
            code = self._rows.take_sized(_FOUR, MAX_CODE_BYTES)
            digest = keccak256(code)
            if digest <= last or digest not in self._codes:
                raise InvalidContent("snapshot: code that no account names, or not in order")
            self._emit(digest, code)
            self._codes.discard(digest)
            last = digest
            self._rows.advance()
        if self._codes:
            raise InvalidContent(f"snapshot: the code of {len(self._codes)} contracts is missing")


def _refuse_slot(_key: bytes, _value: bytes) -> None:
    raise InvalidRemote("snapshot: slots of an account that has none")
