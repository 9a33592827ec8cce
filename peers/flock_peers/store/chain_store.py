"""The chain on disk: one LMDB file, one synced transaction per block. Knows rows and keys, not what a block is."""

import fcntl
import os
from pathlib import Path
from types import TracebackType

import lmdb

from flock_chain.errors import Misuse, Unavailable
from flock_peers.store.disk import DiskTrouble, disk_trouble
from flock_peers.store.mapped_file import MappedFile

MAP_BYTES = 64 << 30  # address space, not disk; a chain at a block a second grows by about 150 MB a day
MAX_READERS = 64  # LMDB's slots for read transactions at one time; ours are short
MODE = 0o600


class ChainStore:
    """Reads from any thread; writes from one. The only process that has this folder open.

    Pages of the file that were looked at are given back by `commit` alone: where nothing is written, on a halted chain
    that is asked much, or while it is verified, they still add up in what the process seems to take.

    Raises Unavailable where another process has, and DiskTrouble where the disk takes no more.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """`read_only`: for who looks at the home of a stopped peer; what is missing is not made."""
        if read_only and not (path / "chain.mdb").is_file():
            raise Unavailable(f"{path}: there is no chain here yet; let the peer run first")
        with disk_trouble(path):
            if not read_only:
                path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(path / "chain.lock", os.O_RDWR | os.O_CREAT, MODE)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise Unavailable(f"{path}: this home is in use by another process; stop that one first") from error
        self._path = path
        try:
            self._env = lmdb.open(
                os.fspath(path / "chain.mdb"),
                subdir=False,
                map_size=MAP_BYTES,
                max_readers=MAX_READERS,
                mode=MODE,
                sync=True,
                metasync=True,
                readonly=read_only,
                lock=not read_only,  # LMDB's own, for several processes; ours above keeps them out
            )
        except lmdb.Error as error:
            os.close(self._lock)
            raise Unavailable(f"{path}: cannot open the chain ({error}); restore it, or sync again") from error
        self._is_open = True
        self._mapped = MappedFile(path / "chain.mdb")

    def get(self, key: bytes) -> bytes | None:
        try:
            with self._env.begin() as transaction:
                value: bytes | None = transaction.get(key)
        except (lmdb.BadValsizeError, lmdb.BadTxnError, lmdb.BadDbiError) as error:
            raise Misuse(f"chain store: {error}") from error
        except (lmdb.Error, OSError) as error:
            raise DiskTrouble(
                f"{self._path}: the chain cannot be read ({error}); mend the disk or restore the home, and start again"
            ) from error
        return value

    def commit(self, writes: dict[bytes, bytes | None]) -> None:
        """All or nothing, and on disk when it returns."""
        try:
            with self._env.begin(write=True) as transaction:
                for key, value in writes.items():
                    if value is None:
                        transaction.delete(key)
                    else:
                        transaction.put(key, value)
        except (lmdb.BadValsizeError, lmdb.BadTxnError, lmdb.BadDbiError, lmdb.ReadonlyError) as error:
            raise Misuse(f"chain store: {error}") from error
        except (lmdb.Error, OSError) as error:
            raise DiskTrouble(
                f"{self._path}: the block cannot be written ({error}); free some space or mend the disk, and start "
                "again: what was final stays final"
            ) from error
        # A block looks at some 40 places of the file, of which each maps 64 KB; giving them back takes 0.5 ms a block,
        # most of it for looking at them anew.
        self._mapped.give_back()

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._env.close()
            os.close(self._lock)

    def __enter__(self) -> "ChainStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
