"""Content-addressed blobs on disk: small objects and large files, under a quota. Knows no network.

    objects/<digest>   at most 1 MiB; verified whole each time it is read
    files/<digest>     the bytes of a chunk list whose object has the same digest
    parts/<digest>     a file that is being fetched; every chunk in it is re-hashed before it counts
    parts/*.new        one that is put by who has all of it; worth nothing after a crash
    kept/              who needs what (kept_marks.py)

A blob that somebody needs stays. When the quota is full, the others go, the oldest first, given up fetches before
them. Thread-safe: the lock is never held while the disk is waited for, because consensus takes it too.
"""

import os
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path

from flock_chain.content import (
    CHUNK_BYTES,
    ChunkList,
    compute_chunk_list,
    decode_chunk_list,
    object_digest,
)
from flock_chain.errors import InvalidRemote, Misuse, Refused
from flock_peers.store.disk import DiskTrouble
from flock_peers.store.kept_marks import NOBODY, OWN, KeptMarks
from flock_peers.store.part_file import PartFile

DEFAULT_QUOTA = 20 << 30  # bytes: some rounds of adapters of a large model
PART_LIFETIME = 7 * 86_400  # seconds; an older part file is of a round long past
LEFT_FOR_CHAIN = 256 << 20  # of the disk: a validator that cannot write its votes stops
_NEW = ".new"  # ends the name of what is being written by somebody who has all of it
_PARSED_LISTS = 8  # chunk lists that are being served; 512 KB each at most


@dataclass(frozen=True)
class Usage:
    """Bytes."""

    quota: int
    used: int  # on disk, and promised to fetches that are running
    kept: dict[str, int]  # by owner; what two need is counted with both


class BlobStore:
    def __init__(self, path: Path, quota: int = DEFAULT_QUOTA) -> None:
        self._path, self.quota = path, quota
        self._lock = threading.RLock()
        self._sizes: OrderedDict[bytes, int] = OrderedDict()  # oldest first; list and file together
        self._reserved: dict[bytes, int] = {}  # parts
        self._open_parts: set[bytes] = set()
        self._writing = 0  # bytes of objects that are being written
        self._lists: OrderedDict[bytes, ChunkList] = OrderedDict()
        self._numbers = count()
        for name in ("objects", "files", "parts"):
            (path / name).mkdir(parents=True, exist_ok=True)
        self._kept = KeptMarks(path / "kept")
        self._scan()

    def _scan(self) -> None:
        found: list[tuple[float, bytes, int]] = []
        for folder in ("objects", "files"):
            for entry in os.scandir(self._path / folder):
                if entry.name.endswith(_NEW):  # a crash in the middle of a write
                    os.unlink(entry.path)
                elif len(entry.name) == 64:
                    found.append((entry.stat().st_mtime, bytes.fromhex(entry.name), entry.stat().st_size))
        for _, digest, size in sorted(found):
            self._sizes[digest] = self._sizes.get(digest, 0) + size
        for digest in self._kept.all():
            if digest not in self._sizes:  # a crash before the blob was in its place, or somebody removed it
                self._kept.remove_all(digest)
        for entry in os.scandir(self._path / "parts"):
            if entry.name.endswith(_NEW) or time.time() - entry.stat().st_mtime > PART_LIFETIME:
                os.unlink(entry.path)
            elif len(entry.name) == 64:
                self._reserved[bytes.fromhex(entry.name)] = entry.stat().st_size

    # --- room

    @property
    def used(self) -> int:
        """Bytes on disk, and those promised to fetches that are running."""
        with self._lock:
            return sum(self._sizes.values()) + sum(self._reserved.values()) + self._writing

    def usage(self) -> Usage:
        with self._lock:
            kept = {owner: sum(self._sizes.get(digest, 0) for digest in self._kept.of(owner))
                    for owner in self._kept.owners()}  # fmt: skip
            return Usage(self.quota, self.used, kept)

    def check_room(self, size: int) -> None:
        """Raises as a fetch of so many bytes would, Refused or DiskTrouble, before it begins. Removes nothing."""
        self._check_disk(size)
        with self._lock:
            self._find_room(size)

    def _find_room(self, size: int) -> tuple[int, list[bytes], list[bytes]]:
        """How much must go for it, and what may: fetches that were given up, and blobs that nobody needs."""
        excess = self.used + size - self.quota
        given_up = [digest for digest in self._reserved if digest not in self._open_parts]
        removable = [digest for digest in self._sizes if digest not in self._kept]
        able = sum(self._reserved[digest] for digest in given_up) + sum(self._sizes[digest] for digest in removable)
        if excess > able:
            raise Refused(self._explain(size))
        return excess, given_up, removable

    def _make_room(self, size: int) -> None:
        """Raises Refused when even without every blob that may go there is no room; nothing is removed then."""
        excess, given_up, removable = self._find_room(size)
        for digest in given_up:
            if excess > 0:
                excess -= self._reserved[digest]
                self.drop_part(digest)
        for digest in removable:
            if excess > 0:
                excess -= self._sizes[digest]
                self.drop(digest)

    def _explain(self, size: int) -> str:
        usage = self.usage()
        needed = ", ".join(f"{size} by {owner or 'an older release'}" for owner, size in usage.kept.items())
        return (
            f"disk quota: {size} bytes wanted, {max(0, self.quota - usage.used)} of {self.quota} are free and nothing "
            f"more may be removed (needed: {needed or 'nothing'}; the rest is being fetched); this limit is this "
            "peer's own: raise the quota (`join --disk-quota GB`), or take part in less"
        )

    # --- put, get

    def put_object(self, data: bytes, *, keep: bool = True, owner: str = OWN) -> bytes:
        """Kept for `owner`, or not at all."""
        digest = object_digest(data)
        with self._lock:
            if self._object_path(digest).exists():
                if keep:
                    self._kept.add(digest, owner)
                return digest
            self._make_room(len(data))
            self._writing += len(data)
        try:
            new = self._write_new(digest, data)
            with self._lock:
                os.replace(new, self._object_path(digest))
                self._count(digest)
                if keep:
                    self._kept.add(digest, owner)
        finally:
            with self._lock:
                self._writing -= len(data)
        _sync_folder(self._path / "objects")
        return digest

    def put_file(self, source: Path, *, owner: str = OWN) -> bytes:
        """Copy a file in; returns the digest of its chunk list. Reads it twice, holds one chunk."""
        chunks = compute_chunk_list(_read_chunks(source))
        return self.put_chunks(chunks, _read_chunks(source), owner=owner)

    def put_chunks(self, chunks: ChunkList, content: Iterator[bytes], *, owner: str = OWN) -> bytes:
        """The same for chunks that were listed already. In a place of its own: who has a file waits for nobody who
        fetches or puts it too, and the last one's bytes are the same."""
        digest, size = chunks.digest, chunks.size + len(chunks.encode())
        self._check_disk(chunks.size)
        with self._lock:
            if self._file_path(digest).exists():
                self._kept.add(digest, owner)
                return digest
            self._make_room(size)
            self._writing += size
        path = self._path / "parts" / f"{digest.hex()}.{next(self._numbers)}{_NEW}"
        try:
            part = PartFile(
                path, chunks, lambda owner: self._adopt(chunks, path, owner), lambda: path.unlink(missing_ok=True)
            )
            try:
                for index, data in enumerate(content):
                    part.write(index, data)
                part.finish(owner)
            finally:
                part.close()
        finally:
            with self._lock:
                self._writing -= size
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

    def file_sizes(self) -> set[int]:
        """Bytes of whole files: one of another size is not here, which its size tells before it is read."""
        sizes = set[int]()
        for entry in os.scandir(self._path / "files"):
            with suppress(FileNotFoundError):  # it has gone meanwhile, for the room of others
                sizes.add(entry.stat().st_size)
        return sizes

    def has(self, digest: bytes) -> bool:
        return self._object_path(digest).exists() or self._file_path(digest).exists()

    # --- who needs what

    def is_kept(self, digest: bytes) -> bool:
        return digest in self._kept

    def list_kept(self) -> set[bytes]:
        with self._lock:
            return set(self._kept.all())

    def keep(self, digest: bytes, owner: str = OWN) -> None:
        with self._lock:
            if not self.has(digest):
                raise Misuse(f"blob {digest.hex()}: cannot keep what is not here")
            self._kept.add(digest, owner)

    def release(self, digest: bytes, owner: str = OWN) -> None:
        """It may be removed for room again, where nobody else needs it; no error when it is not here or not kept."""
        with self._lock:
            self._kept.remove(digest, owner)

    def release_all(self, owner: str, but: Collection[bytes] = ()) -> int:
        """The same for everything of an owner; returns how many."""
        with self._lock:
            released = sorted(self._kept.of(owner) - set(but))
            for digest in released:
                self._kept.remove(digest, owner)
            return len(released)

    def owners(self) -> list[str]:
        with self._lock:
            return [owner for owner in self._kept.owners() if owner != NOBODY]

    def kept_by(self, owner: str) -> set[bytes]:
        with self._lock:
            return self._kept.of(owner)

    def kept_since(self, owner: str) -> float:
        """When the last of what it needs was kept, by this machine's clock; 0 where it needs nothing."""
        with self._lock:
            return self._kept.since(owner)

    def drop(self, digest: bytes) -> None:
        """Remove a blob, kept or not; no error when it is not here. The marks go first: a crash in between leaves a
        blob that may go, and none that nobody would ever remove."""
        with self._lock:
            self._kept.remove_all(digest)
            for path in (self._file_path(digest), self._object_path(digest)):
                path.unlink(missing_ok=True)
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

    def open_part(self, chunks: ChunkList) -> PartFile:
        """Begin or go on with a file; reserves its size. Raises Refused above the quota, DiskTrouble on a full disk."""
        digest = chunks.digest
        path = self._path / "parts" / digest.hex()
        self._check_disk(chunks.size - (path.stat().st_blocks * 512 if path.exists() else 0))
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
        try:
            return PartFile(
                path, chunks, lambda owner: self._adopt(chunks, path, owner), lambda: self._on_closed(digest)
            )
        except BaseException:
            self._on_closed(digest)
            raise

    def _check_disk(self, wanted: int) -> None:
        free = shutil.disk_usage(self._path).free
        if wanted + LEFT_FOR_CHAIN > free:
            raise DiskTrouble(
                f"{self._path}: {wanted} bytes wanted, and {free} are free on this disk, of which {LEFT_FOR_CHAIN} are "
                "left for the chain; free some space, or move the home to a larger disk"
            )

    def _on_closed(self, digest: bytes) -> None:
        with self._lock:
            self._open_parts.discard(digest)
            if self._file_path(digest).exists():
                self.drop_part(digest)

    def _adopt(self, chunks: ChunkList, part: Path, owner: str | None) -> Path:
        digest, listing = chunks.digest, chunks.encode()
        new = self._write_new(digest, listing)
        with self._lock:
            os.replace(new, self._object_path(digest))
            os.replace(part, self._file_path(digest))
            if digest not in self._open_parts:
                self.drop_part(digest)
            self._count(digest)
            if owner is not None:
                self._kept.add(digest, owner)
        for folder in ("objects", "files"):
            _sync_folder(self._path / folder)
        return self._file_path(digest)

    def drop_part(self, digest: bytes) -> None:
        with self._lock:
            (self._path / "parts" / digest.hex()).unlink(missing_ok=True)
            self._reserved.pop(digest, None)

    # --- files

    def _count(self, digest: bytes) -> None:
        """As the newest."""
        paths = (self._object_path(digest), self._file_path(digest))
        self._sizes[digest] = sum(path.stat().st_size for path in paths if path.exists())
        self._sizes.move_to_end(digest)

    def _write_new(self, digest: bytes, data: bytes) -> Path:
        """On disk, beside its place."""
        new = self._path / "objects" / f"{digest.hex()}.{next(self._numbers)}{_NEW}"
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return new

    def _object_path(self, digest: bytes) -> Path:
        return self._path / "objects" / digest.hex()

    def _file_path(self, digest: bytes) -> Path:
        return self._path / "files" / digest.hex()


def _read_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            yield data


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
