"""An append-only file of records: length | crc32 | type | payload. Knows how a disk fails, not what the records say.

A torn tail (a write that power loss cut short) is truncated on opening. A bad record with whole ones after it is
damage: CorruptLog, and whoever relies on the log must not sign.
"""

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flock_chain.errors import Misuse, Refused
from flock_peers.store.disk import DiskTrouble, disk_trouble

MAX_RECORD_BYTES = 1 << 20  # the largest block and its frame stay below
_HEAD = struct.Struct(">IIB")  # payload length, crc32 of type and payload, type
Record = tuple[int, bytes]


class CorruptLog(Refused):
    """Records that were durable cannot be read any more."""


def encode_record(kind: int, payload: bytes) -> bytes:
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
    """Opened by `open_record_log`. Blocking: an `append` is a write, a `sync` waits for the disk.

    After a write or a sync that failed nobody knows what is on disk, and a second fsync may report success for pages
    that the kernel has dropped. So everything that follows fails too; whoever opens the file anew reads what is there.
    """

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self._path, self._descriptor, self.size = path, descriptor, size
        self._dirty = False
        self._trouble: DiskTrouble | None = None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self._trouble:
            raise self._trouble
        try:
            with disk_trouble(self._path):
                yield
        except DiskTrouble as error:
            self._trouble = error
            raise

    def append(self, kind: int, payload: bytes) -> None:
        frame = encode_record(kind, payload)
        with self._writing():
            self._dirty = True
            _write_all(self._descriptor, frame)
            self.size += len(frame)

    def sync(self) -> None:
        with self._writing():
            if self._dirty:
                os.fsync(self._descriptor)
                self._dirty = False

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replace the whole file, whatever happens in between: write, fsync, rename, fsync of the folder."""
        data = b"".join(encode_record(kind, payload) for kind, payload in records)
        fresh = self._path.with_suffix(".new")
        with self._writing():
            descriptor = os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND, 0o600)
            try:
                _write_all(descriptor, data)
                os.fsync(descriptor)
                os.replace(fresh, self._path)
                sync_folder(self._path.parent)
            except OSError:
                os.close(descriptor)
                raise
        os.close(self._descriptor)
        self._descriptor, self.size, self._dirty = descriptor, len(data), False

    def close(self) -> None:
        """Synced, unless an earlier write failed: that was said then."""
        try:
            if self._trouble is None:
                self.sync()
        finally:
            os.close(self._descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def open_record_log(path: Path) -> tuple[RecordLog, list[Record]]:
    """Open or create (mode 0600), truncate a torn tail; raises CorruptLog, and DiskTrouble."""
    with disk_trouble(path):
        existed = path.exists()
        data = path.read_bytes() if existed else b""
        records, length = scan(data)
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            if length < len(data):
                os.ftruncate(descriptor, length)
            if data:  # a killed process may have written without syncing; what is read here is acted on
                os.fsync(descriptor)
            if not existed:
                sync_folder(path.parent)
        except OSError:
            os.close(descriptor)
            raise
    return RecordLog(path, descriptor, length), records
