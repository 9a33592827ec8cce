"""Puts base models from the owner's folders into the store, from where others fetch them: for a task that is about to
be opened, or beside the own part in one. Knows no task's document and no network."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from flock_chain.content import format_cid
from flock_chain.errors import FlockError, InvalidContent, Misuse, Unavailable
from flock_peers.contents import Contents
from flock_peers.store.kept_marks import BASE_GIVEN, new_task_owner, task_owner
from flock_peers.training.base_check import check_base_folder
from flock_peers.training.base_manifest import BaseFile, BaseManifest, check_sizes, describe_base, list_sizes

log = logging.getLogger(__name__)

MAX_GIVEN = 16  # manifests in memory, of at most 20 kB each
UNASKED_SECONDS = 60.0  # then whoever wanted it is gone, who would have asked twice a second; nothing else waits for it
WATCH_SECONDS = 1.0


@dataclass
class Giving:
    """How far it is; asked for by whoever waits for it."""

    folder: Path
    bytes: int = 0
    read: int = 0  # for the content ids
    done: int = 0  # in the store
    asked_at: float = 0.0
    base: BaseManifest | None = None  # when it is whole in the store
    error: str = ""

    def as_row(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "bytes": self.bytes,
            "read": self.read,
            "done": self.done,
            "base": None if self.base is None else format_cid(self.base.digest),
            "files": 0 if self.base is None else len(self.base.files),
            "error": self.error,
        }

    @property
    def is_over(self) -> bool:
        return self.base is not None or bool(self.error)

    def describe(self) -> str:
        what, done = ("stored", self.done) if self.read >= self.bytes else ("read", self.read)
        return f"{self.folder}: {done / 1e6:.0f} of {self.bytes / 1e6:.0f} MB {what}"


class BaseGiver:
    """`contents`: of any owner. One folder at a time: `now`, if any. What became of an order is told to whoever gave
    it, though another one came after it: else two of small models, each given again, would not come to an end."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        contents.of(BASE_GIVEN).release_all()  # of an earlier process: no task can be opened on that any more
        self._nursery: trio.Nursery | None = None
        self._turn = trio.Lock()
        self._given: dict[str, BaseManifest] = {}  # by content id as text
        self._ordered: dict[Path, Giving] = {}  # for new tasks, the last one last
        self.now: Giving | None = None

    def run_in(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    # --- for a new task

    def start(self, folder: Path) -> Giving:
        """Returns at once: files of many gigabytes are read. `ask` says how far it is; nobody asks, and it ends."""
        if self._nursery is None:
            raise Unavailable("base model: this peer is only starting")
        check_base_folder(folder)
        size = _measure(folder)
        if self._turn.locked():
            before = self._ordered.get(folder)
            if before is not None and not before.is_over:
                return self._touch(before)
            what = "" if self.now is None else f" ({self.now.describe()})"
            raise Unavailable(f"base model: another one is being published{what}; try again when it is over")
        self._ordered.pop(folder, None)
        giving = self._ordered[folder] = self._touch(Giving(folder, size))
        while len(self._ordered) > MAX_GIVEN:
            del self._ordered[next(iter(self._ordered))]
        self._nursery.start_soon(self._give, giving)
        return giving

    def ask(self, folder: Path) -> Giving | None:
        """None where it was not ordered since this process began."""
        giving = self._ordered.get(folder)
        return None if giving is None else self._touch(giving)

    def _touch(self, giving: Giving) -> Giving:
        giving.asked_at = trio.current_time()
        return giving

    async def _give(self, giving: Giving) -> None:
        async with self._turn, trio.open_nursery() as nursery:
            nursery.start_soon(_end_unasked, giving, nursery.cancel_scope)
            await self._give_now(giving)
            nursery.cancel_scope.cancel()
        if not giving.is_over:
            giving.error = f"base model {giving.folder}: whoever published it asks no more; give the order again"
            log.info("base model %s is not published: whoever ordered it is gone", giving.folder)

    async def _give_now(self, giving: Giving) -> None:
        marks = self._contents.of(BASE_GIVEN)
        try:
            marks.release_all()
            base = await self._put(giving, marks)
            self._given[format_cid(base.digest)] = giving.base = base
            while len(self._given) > MAX_GIVEN:
                del self._given[next(iter(self._given))]
        except Exception as error:  # noqa: BLE001 - a request's edge: it answered long ago
            giving.error = str(error) if isinstance(error, FlockError) else repr(error)
            log.warning("base model %s is not published: %s", giving.folder, giving.error)
        finally:
            if giving.base is None:
                marks.release_all()  # a part of a model is of no use to anybody, and holds others' room

    def find(self, base: str) -> BaseManifest:
        """By the content id that `giving` told. Raises Misuse where it was given by an earlier process."""
        if base not in self._given:
            raise Misuse(f"base model {base[:80]}: was not published by this peer since it was started")
        return self._given[base]

    def keep_for(self, document: bytes, base: BaseManifest) -> None:
        """From now on, with the task's other contents."""
        marks = self._contents.of(new_task_owner(document))
        for digest in _digests(base):
            marks.keep(digest)

    # --- beside the own part

    def share(self, task: int, folder: Path) -> None:
        """What a participant has in a folder of its own, where the quota has the room: the creator may be gone soon."""
        if self._nursery is not None:
            self._nursery.start_soon(self._share, task, folder)

    async def _share(self, task: int, folder: Path) -> None:
        try:
            async with self._turn:
                await self._put(Giving(folder, _measure(folder)), self._contents.of(task_owner(task)))
        except Exception as error:  # noqa: BLE001 - a task's edge: others serve it, or nobody does
            known = error if isinstance(error, FlockError) else repr(error)
            log.info("task %d: the base model in %s is not served to others: %s", task, folder, known)

    async def _put(self, giving: Giving, marks: Contents) -> BaseManifest:
        self.now = giving
        try:
            return await self._put_files(giving, marks)
        finally:
            self.now = None

    async def _put_files(self, giving: Giving, marks: Contents) -> BaseManifest:
        await trio.to_thread.run_sync(self._check_least_room, giving.folder)

        def count(size: int) -> None:
            giving.read += size
            trio.from_thread.check_cancelled()

        base = await trio.to_thread.run_sync(describe_base, giving.folder, count)
        base.check_complete()
        giving.bytes = giving.read = base.size
        self._contents.check_room(
            sum(file.size for file in base.files if self._contents.file_path(file.digest) is None)
        )
        for file in base.files:
            await trio.to_thread.run_sync(_put_file, giving.folder, file, marks)
            giving.done += file.size
        marks.put_object(base.encode())  # last: who has it has everything
        return base

    def _check_least_room(self, folder: Path) -> None:
        """Before anything is read: what has the size of a file that is here may be that one, the rest is not."""
        here = self._contents.file_sizes()
        self._contents.check_room(sum(size for size in list_sizes(folder).values() if size not in here))


async def _end_unasked(giving: Giving, scope: trio.CancelScope) -> None:
    while trio.current_time() - giving.asked_at < UNASKED_SECONDS:
        await trio.sleep(WATCH_SECONDS)
    scope.cancel()


def _measure(folder: Path) -> int:
    """Bytes. Raises Misuse for what no task could be on: the sizes tell, and reading 140 GB takes minutes."""
    sizes = list_sizes(folder)
    try:
        check_sizes(sizes)
    except InvalidContent as error:
        raise Misuse(f"base model {folder}: {error}") from error
    return sum(sizes.values())


def _put_file(folder: Path, file: BaseFile, marks: Contents) -> None:
    if marks.put_file(folder / file.name) != file.digest:
        raise Unavailable(f"base model {folder}: {file.name} changed while it was read; try again")


def _digests(base: BaseManifest) -> Sequence[bytes]:
    return [*(file.digest for file in base.files), base.digest]
