"""An append-only file of records: length | crc32 | type | payload. Knows how a disk fails, not what the records say.

A torn tail (a write that power loss cut short) is truncated on opening. A bad record with whole ones after it is
damage: CorruptLog, and whoever relies on the log must not sign.
"""

import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

from flock_chain.errors import Misuse, Refused

MAX_RECORD_BYTES = 1 << 20  # the largest block and its frame stay below
_HEAD = struct.Struct(">IIB")  # payload length, crc32 of type and payload, type
Record = tuple[int, bytes]


class CorruptLog(Refused):
    """Records that were durable cannot be read any more."""


def _frame(kind: int, payload: bytes) -> bytes:
    if len(payload) > MAX_RECORD_BYTES:
        raise Misuse(f"record log: {len(payload)} bytes, at most {MAX_RECORD_BYTES}")
    return _HEAD.pack(len(payload), zlib.crc32(bytes([kind]) + payload), kind) + payload


def _read_at(data: bytes, offset: int) -> Record | None:
    if offset + _HEAD.size > len(data):
        return None
    length, crc, kind = _HEAD.unpack_from(data, offset)
    start = offset + _HEAD.size
    if length > MAX_RECORD_BYTES or start + length > len(data):
        return None
    payload = data[start : start + length]
    return (kind, payload) if kind and zlib.crc32(bytes([kind]) + payload) == crc else None


def scan(data: bytes) -> tuple[list[Record], int]:
    """The records and the length that they fill; raises CorruptLog where a whole record follows a bad one."""
    records, offset = [], 0
    while offset < len(data):
        record = _read_at(data, offset)
        if record is None:
            break
        records.append(record)
        offset += _HEAD.size + len(record[1])
    if any(_read_at(data, later) for later in range(offset + 1, len(data) - _HEAD.size + 1)):
        raise CorruptLog(f"record log: damaged at byte {offset}, with whole records after it")
    return records, offset


def sync_folder(path: Path) -> None:
    """Make a creation or a rename in the folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RecordLog:
    """Opened by `open_record_log`. Blocking: an `append` is a write, a `sync` waits for the disk."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self._path, self._descriptor, self.size = path, descriptor, size
        self._dirty = False

    def append(self, kind: int, payload: bytes) -> None:
        frame = memoryview(_frame(kind, payload))
        self.size += len(frame)
        self._dirty = True
        while frame:
            frame = frame[os.write(self._descriptor, frame) :]

    def sync(self) -> None:
        if self._dirty:
            self._dirty = False
            os.fsync(self._descriptor)

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replace the whole file, whatever happens in between: write, fsync, rename, fsync of the folder."""
        data = b"".join(_frame(kind, payload) for kind, payload in records)
        fresh = self._path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND, 0o600)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
        os.replace(fresh, self._path)
        sync_folder(self._path.parent)
        os.close(self._descriptor)
        self._descriptor, self.size, self._dirty = descriptor, len(data), False

    def close(self) -> None:
        self.sync()
        os.close(self._descriptor)


def open_record_log(path: Path) -> tuple[RecordLog, list[Record]]:
    """Open or create (mode 0600), truncate a torn tail; raises CorruptLog."""
    existed = path.exists()
    data = path.read_bytes() if existed else b""
    records, length = scan(data)
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    if length < len(data):
        os.ftruncate(descriptor, length)
        os.fsync(descriptor)
    if not existed:
        sync_folder(path.parent)
    return RecordLog(path, descriptor, length), records
