"""Content-addressed blobs on disk: small objects and large files, under a quota. Knows no network.

    objects/<digest>   at most 1 MiB; verified whole each time it is read
    files/<digest>     the bytes of a chunk list whose object has the same digest
    parts/<digest>     a file that is being fetched; every chunk in it is re-hashed before it counts
    kept/<digest>      a mark: never removed to make room

What this peer puts itself is kept. What it fetches is not, until somebody calls `keep`; when the quota is full, the
oldest blobs without the mark go. Thread-safe: hashing and writing of large files happens in worker threads.
"""

import errno
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from flock_chain.content import (
    CHUNK_BYTES,
    MAX_OBJECT_BYTES,
    ChunkList,
    compute_chunk_list,
    decode_chunk_list,
    object_digest,
)
from flock_chain.errors import InvalidContent, InvalidRemote, Misuse, Refused
from flock_peers.store.disk import DiskTrouble, disk_trouble

DEFAULT_QUOTA = 20 << 30  # bytes: some rounds of adapters of a large model
PART_LIFETIME = 7 * 86_400  # seconds; an older part file is of a round long past
_PARSED_LISTS = 8  # chunk lists that are being served; 512 KB each at most


class BlobStore:
    def __init__(self, path: Path, quota: int = DEFAULT_QUOTA) -> None:
        self._path, self.quota = path, quota
        self._lock = threading.RLock()
        self._sizes: OrderedDict[bytes, int] = OrderedDict()  # oldest first; list and file together
        self._reserved: dict[bytes, int] = {}  # parts
        self._open_parts: set[bytes] = set()
        self._kept: set[bytes] = set()
        self._lists: OrderedDict[bytes, ChunkList] = OrderedDict()
        for name in ("objects", "files", "parts", "kept"):
            (path / name).mkdir(parents=True, exist_ok=True)
        self._scan()

    def _scan(self) -> None:
        found: list[tuple[float, bytes, int]] = []
        for folder in ("objects", "files"):
            for entry in os.scandir(self._path / folder):
                if entry.name.endswith(".new"):  # a crash in the middle of a write
                    os.unlink(entry.path)
                elif len(entry.name) == 64:
                    found.append((entry.stat().st_mtime, bytes.fromhex(entry.name), entry.stat().st_size))
        for _, digest, size in sorted(found):
            self._sizes[digest] = self._sizes.get(digest, 0) + size
        self._kept = {bytes.fromhex(name) for name in os.listdir(self._path / "kept") if len(name) == 64}
        for entry in os.scandir(self._path / "parts"):
            if time.time() - entry.stat().st_mtime > PART_LIFETIME:
                os.unlink(entry.path)
            elif len(entry.name) == 64:
                self._reserved[bytes.fromhex(entry.name)] = entry.stat().st_size

    # --- room

    @property
    def used(self) -> int:
        """Bytes on disk, and those promised to fetches that are running."""
        with self._lock:
            return sum(self._sizes.values()) + sum(self._reserved.values())

    def _make_room(self, size: int) -> None:
        """Raises Refused when even without every blob that may go there is no room."""
        with self._lock:
            excess = self.used + size - self.quota
            if excess <= 0:
                return
            for digest in [digest for digest in self._reserved if digest not in self._open_parts]:
                if excess > 0:  # a fetch that was given up
                    excess -= self._reserved[digest]
                    self.drop_part(digest)
            if excess <= 0:
                return
            removable = [digest for digest in self._sizes if digest not in self._kept]
            if sum(self._sizes[digest] for digest in removable) < excess:
                raise Refused(
                    f"disk quota: {size} bytes wanted, {max(0, self.quota - self.used)} of {self.quota} are free and "
                    "nothing more may be removed; raise the quota or drop blobs that are kept"
                )
            for digest in removable:
                excess -= self._sizes[digest]
                self.drop(digest)
                if excess <= 0:
                    return

    # --- put, get

    def put_object(self, data: bytes, *, keep: bool = True) -> bytes:
        digest = object_digest(data)
        with self._lock:
            if not self._object_path(digest).exists():
                self._make_room(len(data))
                _write_synced(self._object_path(digest), data)
                self._sizes[digest] = self._sizes.get(digest, 0) + len(data)
            if keep:
                self.keep(digest)
        return digest

    def put_file(self, source: Path) -> bytes:
        """Copy a file in; returns the digest of its chunk list. Reads it twice, holds one chunk."""
        chunks = compute_chunk_list(_read_chunks(source))
        digest = chunks.digest
        if self._file_path(digest).exists():
            self.keep(digest)
            return digest
        part = self.open_part(chunks)
        try:
            for index, data in enumerate(_read_chunks(source)):
                part.write(index, data)
            part.finish()
        except BaseException:
            part.close()
            raise
        self.keep(digest)
        return digest

    def get_object(self, digest: bytes) -> bytes | None:
        """Verified; a damaged one is dropped and not returned."""
        try:
            data = self._object_path(digest).read_bytes()
        except FileNotFoundError:
            return None
        if sha256(data).digest() != digest:
            self.drop(digest)
            return None
        return data

    def file_path(self, digest: bytes) -> Path | None:
        """Where a complete file lies. It was verified chunk by chunk when it was written."""
        path = self._file_path(digest)
        return path if path.exists() else None

    def has(self, digest: bytes) -> bool:
        return self._object_path(digest).exists() or self._file_path(digest).exists()

    def keep(self, digest: bytes) -> None:
        if not self.has(digest):
            raise Misuse(f"blob {digest.hex()}: cannot keep what is not here")
        with self._lock:
            if digest not in self._kept:
                self._kept.add(digest)
                (self._path / "kept" / digest.hex()).touch()

    def release(self, digest: bytes) -> None:
        """It may be removed for room again; no error when it is not here or was not kept."""
        with self._lock:
            self._kept.discard(digest)
            (self._path / "kept" / digest.hex()).unlink(missing_ok=True)

    def drop(self, digest: bytes) -> None:
        """Remove a blob, kept or not; no error when it is not here."""
        with self._lock:
            for path in (self._file_path(digest), self._object_path(digest), self._path / "kept" / digest.hex()):
                path.unlink(missing_ok=True)
            self._kept.discard(digest)
            self._sizes.pop(digest, None)
            self._lists.pop(digest, None)

    # --- chunks

    def chunk_list(self, digest: bytes) -> ChunkList | None:
        with self._lock:
            if digest in self._lists:
                self._lists.move_to_end(digest)
                return self._lists[digest]
        data = self.get_object(digest)
        if data is None:
            return None
        try:
            chunks = decode_chunk_list(data, digest=digest)
        except InvalidRemote:
            return None  # an object, but no chunk list
        with self._lock:
            self._lists[digest] = chunks
            while len(self._lists) > _PARSED_LISTS:
                self._lists.popitem(last=False)
        return chunks

    def read_chunk(self, digest: bytes, index: int) -> bytes | None:
        """One chunk of a complete file; None when it is not here. Not verified: the receiver does that."""
        chunks = self.chunk_list(digest)
        if chunks is None or not 0 <= index < len(chunks.digests):
            return None
        offset, length = chunks.bounds(index)
        try:
            with self._file_path(digest).open("rb") as file:
                return os.pread(file.fileno(), length, offset)
        except FileNotFoundError:
            return None

    def open_part(self, chunks: ChunkList) -> "PartFile":
        """Begin or go on with a file; reserves its size. Raises Refused above the quota."""
        digest = chunks.digest
        with self._lock:
            if digest in self._open_parts:
                raise Misuse(f"file {digest.hex()}: is being written already")
            wanted = chunks.size + len(chunks.encode())
            reserved = self._reserved.pop(digest, None)
            try:
                self._make_room(wanted)
            except Refused:
                if reserved is not None:
                    self._reserved[digest] = reserved
                raise
            self._reserved[digest] = wanted
            self._open_parts.add(digest)
        return PartFile(self, chunks, self._path / "parts" / digest.hex())

    def _adopt(self, chunks: ChunkList, part: Path) -> Path:
        digest, listing = chunks.digest, chunks.encode()
        with self._lock:
            _write_synced(self._object_path(digest), listing)
            os.replace(part, self._file_path(digest))
            _sync_folder(self._path / "files")
            self._reserved.pop(digest, None)
            self._sizes.pop(digest, None)
            self._sizes[digest] = chunks.size + len(listing)
        return self._file_path(digest)

    def drop_part(self, digest: bytes) -> None:
        with self._lock:
            (self._path / "parts" / digest.hex()).unlink(missing_ok=True)
            self._reserved.pop(digest, None)

    def _object_path(self, digest: bytes) -> Path:
        return self._path / "objects" / digest.hex()

    def _file_path(self, digest: bytes) -> Path:
        return self._path / "files" / digest.hex()


class PartFile:
    """A file in the making. All methods block; call them in a worker thread."""

    def __init__(self, store: BlobStore, chunks: ChunkList, path: Path) -> None:
        self._store, self._path, self.chunks = store, path, chunks
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._is_open = True

    def missing(self, among: Iterable[int] | None = None) -> list[int]:
        """Chunks (of those) that are not there yet, by re-hashing what is: no journal to trust."""
        size = os.fstat(self._file).st_size
        if size > self.chunks.size:
            os.ftruncate(self._file, self.chunks.size)
        indices = range(len(self.chunks.digests)) if among is None else among
        return [index for index in indices if not self._is_here(index, size)]

    def _is_here(self, index: int, size: int) -> bool:
        offset, length = self.chunks.bounds(index)
        if offset + length > size or self._is_hole(offset, length):
            return False
        return sha256(os.pread(self._file, length, offset)).digest() == self.chunks.digests[index]

    def _is_hole(self, offset: int, length: int) -> bool:
        """Chunks come in any order, so that a young part file is mostly holes."""
        try:
            return os.lseek(self._file, offset, os.SEEK_DATA) >= offset + length
        except OSError as error:  # ENXIO: nothing but a hole from here on; else a file system that does not say
            return error.errno == errno.ENXIO

    def write(self, index: int, *pieces: bytes | memoryview) -> None:
        """Verify, then write. Raises InvalidContent for bytes that are not that chunk, DiskTrouble for a full disk."""
        offset, length = self.chunks.bounds(index)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if len(data) != length or sha256(data).digest() != self.chunks.digests[index]:
            raise InvalidContent(f"chunk {index} does not match its digest")
        with disk_trouble(self._path):
            written = os.pwrite(self._file, data, offset)
        if written != length:
            raise DiskTrouble(f"disk: wrote {written} of {length} bytes to {self._path}")

    def flush(self) -> None:
        """What was written is on disk when this returns."""
        with disk_trouble(self._path):
            os.fdatasync(self._file)

    def finish(self) -> Path:
        with disk_trouble(self._path):
            os.fsync(self._file)
        self.close()
        return self._store._adopt(self.chunks, self._path)

    def close(self) -> None:
        """What was written stays, for the next try."""
        if self._is_open:
            self._is_open = False
            os.close(self._file)
            self._store._open_parts.discard(self.chunks.digest)


def _read_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            yield data


def _write_synced(path: Path, data: bytes) -> None:
    if len(data) > MAX_OBJECT_BYTES:
        raise Misuse(f"object: {len(data)} bytes, at most {MAX_OBJECT_BYTES}")
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
