"""The payloads of the two logs on disk: the write-ahead log and the signer's. Framing and files are others' work."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from flock_chain.codec import decode, encode
from flock_chain.consensus.signer import MarkRecord, SignerRecord, SignRecord
from flock_chain.consensus.types import Certificate, Kind
from flock_chain.consensus.wire import decode_certificate, encode_certificate
from flock_chain.errors import InvalidEncoding


class RecordType(IntEnum):
    CERTIFICATE = 1
    BODY = 2
    SIGNED = 3
    MARK = 4


@dataclass(frozen=True, slots=True)
class BodyRecord:
    """A block that this validator votes for: a notarized block whose bytes nobody has would stop the chain."""

    height: int
    block_id: bytes
    body: bytes


WalRecord = Certificate | BodyRecord


def encode_wal_record(record: WalRecord) -> tuple[RecordType, bytes]:
    if isinstance(record, Certificate):
        return RecordType.CERTIFICATE, encode_certificate(record)
    return RecordType.BODY, encode([record.height, record.block_id, record.body])


def decode_wal_record(kind: int, payload: bytes) -> WalRecord:
    """Raises InvalidEncoding for a type or a payload that this log never holds."""
    if kind == RecordType.CERTIFICATE:
        return decode_certificate(payload)
    if kind == RecordType.BODY:
        height, block_id, body = _fields(decode(payload), (int, bytes, bytes))
        return BodyRecord(height, block_id, body)
    raise InvalidEncoding(f"write-ahead log: record type {kind}")


def encode_signer_record(record: SignerRecord) -> tuple[RecordType, bytes]:
    if isinstance(record, MarkRecord):
        return RecordType.MARK, encode([record.height])
    r = record
    return RecordType.SIGNED, encode([int(r.kind), r.height, r.view, r.block_id, r.parent_view])


def decode_signer_record(kind: int, payload: bytes) -> SignerRecord:
    """Raises InvalidEncoding for a type or a payload that this log never holds."""
    if kind == RecordType.MARK:
        (height,) = _fields(decode(payload), (int,))
        return MarkRecord(height)
    if kind == RecordType.SIGNED:
        number, height, view, block_id, parent_view = _fields(decode(payload), (int, int, int, bytes, int))
        if number not in tuple(Kind):
            raise InvalidEncoding(f"signer file: vote kind {number}")
        return SignRecord(Kind(number), height, view, block_id, parent_view)
    raise InvalidEncoding(f"signer file: record type {kind}")


def _fields(value: Any, types: tuple[type, ...]) -> list[Any]:
    if not isinstance(value, list) or len(value) != len(types):
        raise InvalidEncoding(f"record: not {len(types)} fields")
    if any(type(item) is not wanted for item, wanted in zip(value, types, strict=True)):
        raise InvalidEncoding("record: a field of the wrong type")
    return value
