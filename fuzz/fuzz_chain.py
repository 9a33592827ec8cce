"""Targets: what consensus, sync and snapshots exchange."""

import io
import struct
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fuzz_documents import again
from fuzz_mutators import mutate_bytes, mutate_msgpack, mutate_rlp
from fuzz_seeds import golden
from fuzz_target import PEER, Target, in_trio

from flock_chain import codec
from flock_chain.consensus.attendance import AttendanceRule
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.types import MAX_HEIGHT
from flock_chain.consensus.wire import (
    decode_certificate,
    decode_message,
    encode_certificate,
    encode_message,
    message_bytes,
)
from flock_chain.crypto import Key, keccak256
from flock_chain.errors import FlockError, InvalidRemote, Unavailable
from flock_chain.execution import strict_rlp
from flock_chain.execution.blocks import decode_block, decode_header
from flock_chain.execution.machine import MemoryStore
from flock_chain.execution.snapshot import MAGIC, read_snapshot
from flock_chain.execution.transactions import decode_system_transaction, decode_transaction
from flock_peers import courier, snapshots
from flock_peers.driver import sync
from flock_peers.driver.bodies import Bodies
from flock_peers.store.blob_store import BlobStore

_KEYS = [Key(bytes([index]) * 32) for index in (1, 2, 3, 4)]
_HASH, _CHAIN_ID = bytes(range(32, 64)), 771_000
_ROWS = [SimpleNamespace(account=key.account, weight=32 * 10**18) for key in _KEYS]
_RULE = AttendanceRule(ChainDomain(_CHAIN_ID, _HASH))
_MESSAGES = ("message: vote", "message: proposal", "message: certificate", "message: status")


def _run_message(data: bytes) -> None:
    message, body = decode_message(data, PEER)
    assert encode_message(message, body) == data and message_bytes(message) + len(body) + 16 >= len(data) - 64


def _run_attendance(data: bytes) -> None:
    absent = _RULE(data, 9, _ROWS)  # as much of a row as the rule reads
    assert 0 < absent < 1 << len(_ROWS)


def _run_transaction(data: bytes) -> None:
    transaction = decode_transaction(data, _CHAIN_ID)
    assert transaction.raw == data and len(transaction.sender) == 20 and transaction.intrinsic_gas <= transaction.gas


def _run_snapshot(data: bytes) -> None:
    """The block's id is taken from the input: else nothing but a hash would be compared."""
    start = len(MAGIC) + 3
    (length,) = struct.unpack_from(">H", data[start - 2 : start].ljust(2, b"\0"))
    emitted: Counter[str] = Counter()

    def emit(key: bytes, value: bytes) -> None:
        emitted["bytes"] += len(key) + len(value)

    read_snapshot(io.BytesIO(data).read, keccak256(data[start : start + length]), emit)
    assert emitted["bytes"] <= 64 * len(data) + 4_096, "a small snapshot makes many rows"


class _Ledger:
    """Nine final blocks."""

    def base(self) -> int:
        return 1

    def height(self) -> int:
        return 9

    async def block_and_certificate(self, height: int) -> tuple[bytes, bytes] | None:
        return (b"block %d" % height, b"certificate") if 1 <= height <= 9 else None

    def block_id(self, body: bytes) -> bytes:
        return bytes(keccak256(body))


async def _never(_height: int) -> None:
    return None


def _run_sync_request(data: bytes) -> None:
    async def script() -> None:
        server = sync.SyncServer(_Ledger(), Bodies(), _never)  # type: ignore[arg-type] # what a server reads
        assert len(await server.answer(PEER, data)) <= 1 << 20

    in_trio(script)


class _Port:
    """A peer that answers everything with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def peers(self) -> list[Any]:
        return [PEER]

    async def request(self, _account: Any, _payload: bytes, _timeout: float, _most: int) -> bytes:
        return self._answer


def _run_sync_answer(data: bytes) -> None:
    async def script() -> None:
        port, failures = _Port(data), []
        for ask in (
            lambda: sync.fetch_head(port, PEER),
            lambda: sync.fetch_range(port, PEER, 1, 8),
            lambda: sync.fetch_body(port, PEER, 3, _HASH),
        ):
            try:
                await ask()
            except InvalidRemote as error:
                failures.append(error)
        if len(failures) == 3:
            raise failures[0]

    in_trio(script)


_FOLDER = tempfile.TemporaryDirectory(prefix="fuzz-snapshots-")  # removed when the process ends


def _make_snapshots() -> snapshots.Snapshots:
    folder = Path(_FOLDER.name)
    chain = SimpleNamespace(reader=MemoryStore(), height=lambda: 9, wait_for_height=_never)
    return snapshots.Snapshots(chain, BlobStore(folder), folder, 10)


_SNAPSHOTS: list[snapshots.Snapshots] = []


def _run_snapshot_request(data: bytes) -> None:
    if not _SNAPSHOTS:
        _SNAPSHOTS.append(_make_snapshots())

    async def script() -> None:
        assert codec.decode(await _SNAPSHOTS[0].answer(PEER, data)) == []

    in_trio(script)


def _run_snapshot_answer(data: bytes) -> None:
    failures = 0
    for decode in (snapshots.decode_list, lambda data: snapshots.decode_headers(data, 16)):
        try:
            rows = decode(data)
            assert len(rows) <= 16
        except InvalidRemote:
            failures += 1
    if failures == 2:
        raise InvalidRemote("neither")


def _snapshot_answers() -> list[bytes]:
    (block,) = golden("chain", "block")
    header = strict_rlp.encode(strict_rlp.decode_list(block, "block", 2)[0])
    return [codec.encode([[9, _HASH, _HASH, 70]]), codec.encode([header, header])]


def _headers() -> list[bytes]:
    (block,) = golden("chain", "block")
    return [strict_rlp.encode(strict_rlp.decode_list(block, "block", 2)[0])]


def _sync_answers() -> list[bytes]:
    return [codec.encode([1, 9]), codec.encode([[b"block", b"certificate"]] * 2), codec.encode(b"a body")]


def targets() -> list[Target]:
    requests = ("sync request: head", "sync request: range", "sync request: body")
    listings = ("snapshot request: list", "snapshot request: headers")
    assert MAX_HEIGHT > 9 and issubclass(Unavailable, FlockError)
    return [
        Target("consensus_message", _run_message, lambda: golden("consensus", *_MESSAGES), mutate_msgpack),
        Target(
            "certificate", again(decode_certificate, encode_certificate), lambda: golden("consensus", "certificate"),
            mutate_msgpack,
        ),
        Target("attendance", _run_attendance, lambda: golden("consensus", "votes shown in a block"), mutate_msgpack),
        Target("rlp", again(strict_rlp.decode, strict_rlp.encode), lambda: golden("chain", "block"), mutate_rlp),
        Target("transaction", _run_transaction, lambda: golden("chain", "transaction: type 2"), mutate_rlp),
        Target(
            "system_transaction", again(decode_system_transaction, lambda value: value.raw),
            lambda: golden("chain", "transaction: system"), mutate_rlp,
        ),
        Target(
            "block", again(lambda data: decode_block(data, max_bytes=2_048), lambda block: block.encoded),
            lambda: golden("chain", "block"), mutate_rlp,
        ),
        Target("header", again(decode_header, lambda header: header.encoded), _headers, mutate_rlp),
        Target("snapshot", _run_snapshot, lambda: golden("chain", "snapshot"), mutate_bytes),
        Target("snapshot_request", _run_snapshot_request, lambda: golden("network", *listings), mutate_msgpack),
        Target("snapshot_answer", _run_snapshot_answer, _snapshot_answers, mutate_msgpack),
        Target("sync_request", _run_sync_request, lambda: golden("network", *requests), mutate_msgpack),
        Target("sync_answer", _run_sync_answer, _sync_answers, mutate_msgpack),
        Target(
            "transaction_message", again(courier.decode_transaction_message, courier.encode_transaction_message),
            lambda: golden("network", "transaction message"), mutate_msgpack,
        ),
    ]  # fmt: skip
