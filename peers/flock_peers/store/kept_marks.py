"""Who needs a blob: an empty file per owner and blob, so that a crash leaves each mark there or not. Knows no blob.

kept/<owner>/<digest>   an owner: a task, the snapshots, this peer itself; the file's time: since when
kept/<digest>           of releases that knew no owners; nobody releases those, `drop` alone removes them
"""

import os
import re
from collections.abc import Collection
from pathlib import Path

from flock_chain.errors import Misuse

OWN = "own"
SNAPSHOTS = "snapshots"
BASE_COMING = "base-coming"  # files of the one base model that is being fetched
BASE_GIVEN = "base-given"  # of the last one that the owner gave, until a task is opened on it
NOBODY = ""  # of an older release
_TASK = "task-"
_OPENED = "opened-task-"
_NEW_TASK = "new-task-"
_NEW_TASK_DIGITS = 24  # of its document's content id: with the word before them as long as an owner may be
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def task_owner(task: int) -> str:
    return f"{_TASK}{task}"


def opened_task_owner(task: int) -> str:
    """Of what its creator serves, whether it takes part or not."""
    return f"{_OPENED}{task}"


def find_task(owner: str) -> int | None:
    """None where the owner is no task."""
    number = owner.removeprefix(_OPENED).removeprefix(_TASK)
    return int(number) if owner.startswith((_TASK, _OPENED)) and number.isdigit() else None


def new_task_owner(document: bytes) -> str:
    """Of a task that is being opened: its number is not known before its transaction is final."""
    return f"{_NEW_TASK}{document.hex()[:_NEW_TASK_DIGITS]}"


def is_any_new_task(owner: str) -> bool:
    return owner.startswith(_NEW_TASK)


def find_document(owner: str) -> str:
    """Of a task that is being opened: how its document's content id begins, in hexadecimal."""
    return owner.removeprefix(_NEW_TASK)


class KeptMarks:
    """Not thread-safe: the store's lock is held around each call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._owners: dict[bytes, set[str]] = {}
        path.mkdir(parents=True, exist_ok=True)
        for entry in os.scandir(path):
            if _DIGEST.fullmatch(entry.name):
                self._owners.setdefault(bytes.fromhex(entry.name), set()).add(NOBODY)
            elif entry.is_dir() and _NAME.fullmatch(entry.name):
                for name in filter(_DIGEST.fullmatch, os.listdir(entry.path)):
                    self._owners.setdefault(bytes.fromhex(name), set()).add(entry.name)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._owners

    def owners(self) -> list[str]:
        return sorted({owner for owners in self._owners.values() for owner in owners})

    def of(self, owner: str) -> set[bytes]:
        return {digest for digest, owners in self._owners.items() if owner in owners}

    def since(self, owner: str) -> float:
        """When its last mark was made; 0 where it has none, or somebody removed them."""
        marks = (self._mark(digest, owner) for digest in self.of(owner))
        return max((mark.stat().st_mtime for mark in marks if mark.exists()), default=0.0)

    def all(self) -> Collection[bytes]:
        return list(self._owners)

    def add(self, digest: bytes, owner: str) -> None:
        if not _NAME.fullmatch(owner):
            raise Misuse(f"owner of blobs {owner!r}: lower-case letters, digits and hyphens are needed")
        if owner not in self._owners.get(digest, ()):
            (self._path / owner).mkdir(exist_ok=True)
            self._mark(digest, owner).touch()
            self._owners.setdefault(digest, set()).add(owner)

    def remove(self, digest: bytes, owner: str) -> None:
        if owner in self._owners.get(digest, ()):
            self._mark(digest, owner).unlink(missing_ok=True)
            self._owners[digest].discard(owner)
            if not self._owners[digest]:
                del self._owners[digest]

    def remove_all(self, digest: bytes) -> None:
        for owner in sorted(self._owners.get(digest, ())):
            self.remove(digest, owner)

    def _mark(self, digest: bytes, owner: str) -> Path:
        return self._path / owner / digest.hex()
