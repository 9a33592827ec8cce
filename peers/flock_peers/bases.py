"""The base model of a task on this peer: in a folder of its owner, or fetched by content id from whoever has it.

What is fetched lies in the blob store, under its quota, and is served from there; `bases/ID` in the home is the folder
that a trainer opens, of links into the store. Everything that can refuse a stranger's model is asked before the bytes
that it is about: manifest, size, room, then the configuration and with it the memory, the tokenizer's configuration,
the other small files, and then the weights.
"""

import logging
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from flock_chain.content import format_cid
from flock_chain.errors import FlockError, InvalidContent, InvalidRemote, Misuse, Refused, Unavailable
from flock_peers.contents import Contents
from flock_peers.plural import plural
from flock_peers.store.kept_marks import BASE_COMING, task_owner
from flock_peers.training.base_check import check_base_folder, check_beside, check_configuration
from flock_peers.training.base_manifest import CONFIGS, BaseFile, BaseManifest, check_files, compute_base_file
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import TaskDocument
from flock_peers.training.memory import check_memory, plan_shape, read_free_gpus, read_free_memory
from flock_peers.training.precision import guess_precision

log = logging.getLogger(__name__)

FETCH_LEAST_SECONDS = 600.0  # for a small base, before the task is put aside and another one tried
FETCH_LEAST_RATE = 250_000  # bytes a second: below it a base of 1 GB would hold this peer for more than an hour
NUMBER_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}  # of a weight in its file


@dataclass(frozen=True)
class FoundBase:
    folder: Path
    is_fetched: bool = False  # a stranger's: nothing of it was ever opened here
    release: Callable[[], None] = lambda: None  # what was fetched may go again


BaseFinder = Callable[[int, TaskDocument], Awaitable[FoundBase]]  # of a task, by its number


@dataclass(frozen=True)
class BaseTerms:
    """What this peer gives to a base model."""

    folders: tuple[Path, ...] = (BASE_FOLDER,)  # where the owner has some already
    max_bytes: int | None = None  # of one that is fetched; None: what the quota has room for
    precision: str = "auto"
    checkpointing: bool = False


@dataclass
class Fetching:
    """How far it is; for `status`."""

    task: int
    name: str
    base: BaseManifest
    here: set[bytes] = field(default_factory=set)

    def as_row(self, transfers: Sequence[tuple[bytes, int]]) -> dict[str, Any]:
        """`transfers`: digest and verified bytes of the downloads that are running."""
        running = {file.digest for file in self.base.files} - self.here
        done = sum(file.size for file in self.base.files if file.digest in self.here)
        return {
            "task": self.task,
            "base": format_cid(self.base.digest),
            "files": len(self.base.files),
            "files_done": sum(file.digest in self.here for file in self.base.files),
            "bytes": self.base.size,
            "done": done + sum(size for digest, size in transfers if digest in running),
        }


class Bases:
    """`path`: the folder of folders. `contents`: of any owner."""

    def __init__(self, path: Path, contents: Contents, terms: BaseTerms) -> None:
        self._path, self._contents, self._terms = path, contents, terms
        self.fetching: Fetching | None = None
        _remove_broken(path)

    async def find(self, task: int, document: TaskDocument) -> FoundBase:
        """Every file of it checked by content id. Raises Misuse for a base that this peer does not take, InvalidContent
        for one that nobody should, Unavailable where it cannot be had now."""
        reasons: list[str] = []
        for folder in self._terms.folders:
            try:
                await trio.to_thread.run_sync(check_files, folder, document.base)
                return FoundBase(folder)
            except InvalidContent as error:
                reasons.append(str(error))
        try:
            return await self._fetch(task, document)
        except Unavailable as error:
            raise Unavailable(f"{'; '.join(reasons)}; and it cannot be fetched now: {error}") from error
        finally:
            self.fetching = None

    def is_here(self, base: BaseManifest) -> bool:
        """By names and sizes alone, in the store by content ids: for people."""
        in_store = all(self._contents.file_path(file.digest) is not None for file in base.files)
        return in_store or any(_has_sizes(folder, base) for folder in self._terms.folders)

    def show(self, base: BaseManifest) -> Path | None:
        """The folder of one that is whole in the store; None where it is not."""
        if any(self._contents.file_path(file.digest) is None for file in base.files):
            return None
        return self._link(base, base.files)

    def folder_of(self, base: BaseManifest) -> Path:
        return base_folder(self._path, base)

    # --- fetching

    async def _fetch(self, task: int, document: TaskDocument) -> FoundBase:
        base = document.base
        base.check_complete()
        coming, kept = self._contents.of(BASE_COMING), self._contents.of(task_owner(task))
        await trio.to_thread.run_sync(self._begin, task, document, coming)
        missing = sum(file.size for file in base.files if self._contents.file_path(file.digest) is None)
        if missing:
            self._check_size(base, missing)
            log.info(
                "task %d: fetching its base model %s, %s, %.1f MB, of which %.1f MB are missing here",
                task, format_cid(base.digest), plural(len(base.files), "file"), base.size / 1e6, missing / 1e6,
            )  # fmt: skip
        started = trio.current_time()
        try:
            with trio.fail_after(FETCH_LEAST_SECONDS + missing / FETCH_LEAST_RATE):
                folder = await self._fetch_files(task, document, coming)
        except trio.TooSlowError as error:
            raise Unavailable(
                f"task {task}: its base model came slower than {FETCH_LEAST_RATE} bytes a second"
            ) from error
        except InvalidRemote:
            coming.release_all()
            raise
        digests = [*(file.digest for file in base.files), kept.put_object(base.encode())]
        for digest in digests:
            kept.keep(digest)
        coming.release_all()
        if missing:
            log.info("task %d: its base model is here, %.1f s", task, trio.current_time() - started)
        return FoundBase(folder, is_fetched=True, release=lambda: kept.release(digests))

    def _begin(self, task: int, document: TaskDocument, coming: Contents) -> None:
        """What is here of it stays; what was fetched of another one before it may go."""
        base = document.base
        self.fetching = Fetching(task, document.name, base)
        for file in base.files:
            path = self._contents.file_path(file.digest)
            if path is None:
                continue
            found = compute_base_file(path)
            if found.digest != file.digest:  # a disk that forgets; of a wrong size it is the manifest that lies
                log.warning("base model: %s is damaged here and is fetched again", file.name)
                self._contents.drop(file.digest)
                continue
            _check_size(file, found.size)
            coming.keep(file.digest)
            self.fetching.here.add(file.digest)
        coming.release_all(but=self.fetching.here)

    def _check_size(self, base: BaseManifest, missing: int) -> None:
        most = self._terms.max_bytes
        if most is not None and base.size > most:
            raise Misuse(f"its base model has {base.size} bytes, and --max-base-bytes is {most}: raise it to take part")
        try:
            self._contents.check_room(missing)
        except Refused as error:
            raise Misuse(
                f"its base model has {base.size} bytes, of which {missing} are missing here: {error}"
            ) from error

    async def _fetch_files(self, task: int, document: TaskDocument, coming: Contents) -> Path:
        base = document.base
        beside = {file.name: file for file in base.files if not file.is_weights}
        for name in CONFIGS:
            if name in beside:
                await self._fetch_file(beside[name], coming)
                await self._checked(task, partial(self._check_configuration, document, beside[name]))
        for file in sorted(beside.values(), key=lambda file: file.size):
            await self._fetch_file(file, coming)
        await self._checked(task, lambda: check_beside(self._link(base, list(beside.values()))))
        for file in (file for file in base.files if file.is_weights):
            await self._fetch_file(file, coming)
        folder = await trio.to_thread.run_sync(self._link, base, base.files)
        await self._checked(task, lambda: check_base_folder(folder))
        return folder

    async def _fetch_file(self, file: BaseFile, coming: Contents) -> None:
        assert self.fetching is not None
        if file.digest not in self.fetching.here:
            path = await self._contents.fetch_file(file.digest, max_bytes=file.size)
            _check_size(file, path.stat().st_size)
            coming.keep(file.digest)
            self.fetching.here.add(file.digest)

    async def _checked(self, task: int, check: Callable[[], object]) -> None:
        """What the folder's checks call a misuse is a stranger's doing here."""
        try:
            await trio.to_thread.run_sync(check)
        except Misuse as error:
            raise InvalidContent(f"task {task}: {error}") from error

    def _check_configuration(self, document: TaskDocument, file: BaseFile) -> None:
        has_tokenizer = any(each.name == "tokenizer.json" for each in document.base.files)
        folder = self._link(document.base, [file])
        said = check_configuration(folder, file.name, has_tokenizer=has_tokenizer)
        if file.name == "config.json":
            self._check_plan(said, document)

    def _check_plan(self, config: dict[str, Any], document: TaskDocument) -> None:
        """The memory that the weights will take at least; the trainer counts again when they are here."""
        if read_free_gpus():
            return
        number = NUMBER_BYTES.get(str(config.get("dtype") or config.get("torch_dtype")), 4)
        plan = plan_shape(
            config, document.base.weight_bytes // number, document.layout, document.budget,
            guess_precision(self._terms.precision), checkpoints=self._terms.checkpointing,
        )  # fmt: skip
        check_memory(plan, read_free_memory())

    # --- folders

    def _link(self, base: BaseManifest, files: Sequence[BaseFile]) -> Path:
        """Links, so that the store alone owns the bytes; a home that was moved keeps them."""
        folder = self.folder_of(base)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for file in files:
            path = self._contents.file_path(file.digest)
            if path is None:
                raise Unavailable(f"base model: {file.name} was removed from the store")
            link, target = folder / file.name, os.path.relpath(path, folder)
            if not link.is_symlink() or os.readlink(link) != target:
                link.unlink(missing_ok=True)
                link.symlink_to(target)
        return folder


def _remove_broken(path: Path) -> None:
    """Folders of which the store has removed a file for the room of others."""
    for folder in path.iterdir() if path.is_dir() else ():
        if folder.is_dir() and not all(link.exists() for link in folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)  # links are not followed


def base_folder(path: Path, base: BaseManifest) -> Path:
    return path / format_cid(base.digest)


def _has_sizes(folder: Path, base: BaseManifest) -> bool:
    paths = [(folder / file.name, file.size) for file in base.files]
    return all(path.is_file() and path.stat().st_size == size for path, size in paths)


def _check_size(file: BaseFile, found: int) -> None:
    if found != file.size:
        raise InvalidContent(f"base manifest: {file.name} has {found} bytes, not the {file.size} that it says")


async def find_shipped(_task: int, document: TaskDocument) -> FoundBase:
    """Of a peer that fetches none: the model that the project ships."""
    await trio.to_thread.run_sync(check_files, BASE_FOLDER, document.base)
    return FoundBase(BASE_FOLDER)


def choose_folder(folders: Sequence[Path], document: TaskDocument) -> Path:
    """The first that holds the task's base; raises InvalidContent, of the first, where none does."""
    first: FlockError | None = None
    for folder in folders:
        try:
            check_files(folder, document.base)
            return folder
        except InvalidContent as error:
            first = first or error
    raise first or InvalidContent("base model: no folder to look in")
