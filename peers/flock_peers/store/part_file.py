"""A file in the making: chunks in any order, each verified before it is written. Knows no quota and no network.

What an earlier try left is believed only chunk by chunk, after hashing it again: there is no journal to trust.
"""

import errno
import os
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

from flock_chain.content import ChunkList
from flock_chain.errors import InvalidContent
from flock_peers.store.disk import DiskTrouble, disk_trouble


class PartFile:
    """All methods block; call them in a worker thread. `adopt(owner)` puts the file in its place."""

    def __init__(
        self, path: Path, chunks: ChunkList, adopt: Callable[[str | None], Path], on_closed: Callable[[], None]
    ) -> None:
        self._path, self.chunks = path, chunks
        self._adopt, self._on_closed = adopt, on_closed
        with disk_trouble(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._is_open = True

    def missing(self, among: Iterable[int] | None = None) -> list[int]:
        """Chunks (of those) that are not there yet."""
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
            raise DiskTrouble(f"{self._path}: the disk took {written} of {length} bytes")

    def flush(self) -> None:
        """What was written is on disk when this returns."""
        with disk_trouble(self._path):
            os.fdatasync(self._file)

    def finish(self, owner: str | None = None) -> Path:
        """Where the file lies now; kept for `owner`, if there is one."""
        with disk_trouble(self._path):
            os.fsync(self._file)
            path = self._adopt(owner)
        self.close()
        return path

    def close(self) -> None:
        """What was written stays, for the next try."""
        if self._is_open:
            self._is_open = False
            os.close(self._file)
            self._on_closed()
