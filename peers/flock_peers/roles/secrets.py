"""What this peer committed to and must be able to open: salts, manifests and scores of its rounds, on its own disk.

A record is on disk, synced, before the commitment leaves: a peer that is killed after committing can still open.
"""

from pathlib import Path
from typing import Any

from flock_chain import codec
from flock_chain.errors import Refused, Unavailable
from flock_peers.home import write_private
from flock_peers.store.disk import DiskTrouble

MAX_SECRET_BYTES = 64 << 10  # a score vector of 16 and its filters take under 2 KB


class RoundSecrets:
    """Records by (task, round, kind); a second, different record of one name is refused."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder

    def _path(self, task: int, number: int, kind: str) -> Path:
        return self._folder / f"task{task}-round{number}-{kind}"

    def load(self, task: int, number: int, kind: str) -> dict[str, Any] | None:
        try:
            data = self._path(task, number, kind).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable(f"round {number}: the record of its {kind} cannot be read: {error}") from error
        return dict(codec.decode(data, limit=MAX_SECRET_BYTES))

    def save(self, task: int, number: int, kind: str, record: dict[str, Any]) -> None:
        known = self.load(task, number, kind)
        if known is not None:
            if known != record:
                raise Refused(f"round {number}: a {kind} was committed already and is kept")
            return
        try:
            write_private(self._path(task, number, kind), codec.encode(record))
        except DiskTrouble as error:
            raise Unavailable(f"round {number}: nothing is committed, its {kind} could not be kept: {error}") from error
