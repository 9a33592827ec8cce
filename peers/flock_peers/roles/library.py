"""A task's adapters and proposals on this peer: fetched by content id, checked before use, kept until the task ends.

Every participant keeps every proposal that could be had, so that any home can be verified later. Knows the blob
store and the task's format; knows no votes and no torch.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from flock_chain.aggregation import (
    Delta,
    GlobalAdapter,
    apply,
    compute_delta_file_bytes,
    compute_global_file_bytes,
    encode_global,
    parse_delta,
    parse_global,
    take_out,
)
from flock_chain.content import MAX_OBJECT_BYTES, ChunkList, compute_chunk_list, split_chunks
from flock_chain.crypto import Account
from flock_chain.errors import InvalidContent, InvalidEncoding, Unavailable
from flock_chain.proposal import Manifest, decode_manifest
from flock_peers.bases import BaseFinder, FoundBase, find_shipped
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import TaskDocument, check_layout, compute_initial_adapter, decode_document

log = logging.getLogger(__name__)

DOCUMENT_SECONDS = 20.0  # for at most 1 MiB; other tasks wait meanwhile
FETCH_SECONDS = 60.0  # for one file from all providers together, where nobody says otherwise


class Objects(Protocol):
    """The local blob store, as far as the library needs it."""

    def put_object(self, data: bytes) -> bytes: ...
    def put_bytes(self, data: bytes) -> bytes: ...
    def get_object(self, digest: bytes) -> bytes | None: ...
    def file_path(self, digest: bytes) -> Path | None: ...
    def keep(self, digest: bytes) -> None: ...
    def release_all(self, but: Collection[bytes] = ()) -> None: ...


class Fetcher(Protocol):
    """Content-addressed fetch from other peers; verified on arrival."""

    async def fetch_object(self, digest: bytes, providers: Sequence[Account] | None = None) -> bytes: ...
    async def fetch_file(
        self, digest: bytes, providers: Sequence[Account] | None = None, *, max_bytes: int
    ) -> Path: ...


@dataclass(frozen=True)
class Proposal:
    """One proposal that is here, well formed, and fits its round."""

    index: int  # of its proposer
    manifest: Manifest
    delta: Delta
    path: Path  # of the delta file


def compute_file_digest(data: bytes) -> bytes:
    return compute_chunks(data).digest


def compute_chunks(data: bytes) -> ChunkList:
    return compute_chunk_list(split_chunks(data))


def check_manifest(
    data: bytes, *, chain: bytes, task: int, number: int, account: Account, parent: bytes, document: TaskDocument
) -> Manifest:
    """Parse a proposer's manifest and hold it against its round; raises InvalidContent naming the check."""
    try:
        manifest = decode_manifest(data)
    except InvalidEncoding as error:
        raise InvalidContent(str(error)) from error
    wanted = {"chain": chain, "task": task, "round": number, "account": account, "parent": parent}
    for name, value in wanted.items():
        if getattr(manifest, name) != value:
            raise InvalidContent(f"manifest: its {name} is not the round's")
    size = compute_delta_file_bytes(document.layout, document.format)
    if manifest.delta_bytes != size:
        raise InvalidContent(f"manifest: a delta of {manifest.delta_bytes} bytes; every one of this task has {size}")
    return manifest


class Library:
    """One task's contents. `chain` is the genesis hash."""

    def __init__(
        self, task: int, document: TaskDocument, chain: bytes, store: Objects, fetcher: Fetcher,
        base: FoundBase | None = None,
    ) -> None:  # fmt: skip
        self.task, self.document, self._chain = task, document, chain
        self._store, self._fetcher = store, fetcher
        self.base = base or FoundBase(BASE_FOLDER)
        self._computing = trio.Lock()  # of a candidate
        self.initial_digest = b""  # of the round-0 adapter, once it was computed
        self.document_digest = b""

    async def fetch_proposal(
        self, number: int, index: int, account: Account, manifest_digest: bytes, parent: bytes,
        seconds: float = FETCH_SECONDS,
    ) -> Proposal:  # fmt: skip
        """`seconds`: for each of its two files.

        Raises InvalidRemote where the bytes are here and no adapter, Unavailable where they cannot be had.
        """
        data = self._store.get_object(manifest_digest)
        if data is None:
            with trio.move_on_after(seconds):
                data = await self._fetcher.fetch_object(manifest_digest, [account])
        if data is None:
            raise Unavailable(f"round {number}: manifest of proposer {index} not found")
        manifest = check_manifest(
            data,
            chain=self._chain,
            task=self.task,
            number=number,
            account=account,
            parent=parent,
            document=self.document,
        )
        path = await self._file(manifest.delta, manifest.delta_bytes, [account], seconds)
        delta = await trio.to_thread.run_sync(self._parse_delta, path, manifest.delta_bytes)
        self._keep(manifest_digest, manifest.delta)  # only now: what fails a check may be removed for room
        return Proposal(index, manifest, delta, path)

    def _parse_delta(self, path: Path, size: int) -> Delta:
        found = path.stat().st_size
        if found != size:  # a manifest may name any file that is here already, of any task
            raise InvalidContent(f"delta: {found} bytes, its manifest says {size}")
        return parse_delta(path.read_bytes(), self.document.layout, self.document.format)

    async def _file(
        self, digest: bytes, max_bytes: int, providers: Sequence[Account], seconds: float = FETCH_SECONDS
    ) -> Path:
        path = self._store.file_path(digest)
        if path is None:
            with trio.move_on_after(seconds):
                path = await self._fetcher.fetch_file(digest, providers, max_bytes=max_bytes)
        if path is None:
            raise Unavailable(f"content {digest.hex()[:12]} not found at any connected peer")
        return path

    async def global_path(self, digest: bytes) -> Path:
        """The file of a global adapter of this task: here, computable (round 0), or fetched."""
        path = self._store.file_path(digest)
        if path is None and self.initial_digest in (b"", digest):
            await trio.to_thread.run_sync(self.put_initial)
            path = self._store.file_path(digest)
        if path is None:  # one that is being computed may be this one, and is there sooner
            async with self._computing:
                path = self._store.file_path(digest)
        if path is not None:
            return path
        path = await self._file(digest, compute_global_file_bytes(self.document.layout), [])
        self._keep(digest)
        return path

    def keep_if_here(self, digest: bytes) -> bool:
        """Whether a global adapter, or another content, need not be computed or fetched any more; then it is kept."""
        if self._store.file_path(digest) is None:
            return False
        self._keep(digest)
        return True

    def _keep(self, *digests: bytes) -> None:
        for digest in digests:
            self._store.keep(digest)

    def release(self, adapter: bytes) -> None:
        """When the task has ended: all but this adapter, its last, and the document that says what it is of may be
        removed for the room of others; also what was kept before a restart."""
        self._store.release_all(but={adapter, self.document_digest})

    def put_initial(self) -> bytes:
        """Compute and store the round-0 adapter; its content id."""
        self.initial_digest = self._store.put_bytes(encode_global(compute_initial_adapter(self.document)))
        return self.initial_digest

    async def read_global(self, digest: bytes) -> GlobalAdapter:
        return await trio.to_thread.run_sync(self._parse_global, await self.global_path(digest))

    def _parse_global(self, path: Path) -> GlobalAdapter:
        return parse_global(path.read_bytes(), self.document.layout, self.document.format)

    async def compute_candidate(self, parent: bytes, accepted: Sequence[Delta]) -> bytes:
        """The global adapter after a round, put into the store; its content id."""
        path = await self.global_path(parent)
        async with self._computing:
            return await trio.to_thread.run_sync(self._put_candidate, path, accepted)

    def _put_candidate(self, parent: Path, accepted: Sequence[Delta]) -> bytes:
        return self._store.put_bytes(encode_global(apply(self._parse_global(parent), accepted)))

    async def compute_without(self, adapter: bytes, rounds: Sequence[tuple[Sequence[Delta], Sequence[int]]]) -> bytes:
        """The global adapter as if some of each round's deltas had not been accepted; its content id, in the store."""
        before = await self.read_global(adapter)
        return await trio.to_thread.run_sync(self._put_without, before, rounds)

    def _put_without(self, adapter: GlobalAdapter, rounds: Sequence[tuple[Sequence[Delta], Sequence[int]]]) -> bytes:
        for accepted, places in rounds:
            adapter = take_out(adapter, accepted, places)
        return self._store.put_bytes(encode_global(adapter))


async def open_library(
    task: int, document_digest: bytes, adapter: bytes, chain: bytes, store: Objects, fetcher: Fetcher,
    find_base: BaseFinder = find_shipped, check_format: Callable[[str], None] = lambda _format: None,
) -> Library:  # fmt: skip
    """Fetch and check a task's document, and find its base model; the rows that it takes are looked at first, for the
    base may be large. Raises InvalidContent where the document does not fit its base, or where its round-0 adapter is
    not the one on chain, Misuse where this peer's rows or limits do not fit, and Unavailable where nobody has it."""
    data = store.get_object(document_digest)
    if data is None:
        with trio.move_on_after(DOCUMENT_SECONDS):
            data = await fetcher.fetch_object(document_digest, None)
    if data is None or len(data) > MAX_OBJECT_BYTES:
        raise Unavailable(f"task {task}: its document {document_digest.hex()[:12]} is at no connected peer")
    document = decode_document(data)
    await trio.to_thread.run_sync(check_format, document.data)
    base = await find_base(task, document)
    try:
        await trio.to_thread.run_sync(check_layout, base.folder, document)  # before a stranger's gets any memory
        library = Library(task, document, chain, store, fetcher, base)
        if await trio.to_thread.run_sync(library.put_initial) != adapter:
            raise InvalidContent(f"task {task}: its round-0 adapter is not the one that its document describes")
    except InvalidContent:
        base.release()
        raise
    store.keep(document_digest)
    library.document_digest = document_digest
    return library
