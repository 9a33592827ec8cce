"""What the roles see of content-addressed storage: one place that has a thing, or gets it.

Joins the blob store and the blob service for one owner, say a task; knows no rounds and no libp2p.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from flock_chain.content import compute_chunk_list, split_chunks
from flock_chain.crypto import Account
from flock_chain.errors import Unavailable
from flock_peers.store.blob_store import BlobStore
from flock_peers.store.kept_marks import OWN

Thing = TypeVar("Thing")

Finder = Callable[[bytes], Awaitable[Sequence[Account]]]


class BlobFetcher(Protocol):
    async def fetch_object(self, digest: bytes, providers: Sequence[Account] | None = None) -> bytes: ...
    async def fetch_file(
        self, digest: bytes, providers: Sequence[Account] | None = None, max_bytes: int = ...
    ) -> Path: ...


class Contents:
    """What this peer puts is kept for the owner; what it fetches only once `keep` is called, for it may be anything."""

    def __init__(
        self, store: BlobStore, service: BlobFetcher, owner: str = OWN, find_providers: Finder | None = None
    ) -> None:
        self._store, self._service, self._owner = store, service, owner
        self._find_providers = find_providers

    def of(self, owner: str) -> "Contents":
        return Contents(self._store, self._service, owner, self._find_providers)

    def put_object(self, data: bytes) -> bytes:
        return self._store.put_object(data, owner=self._owner)

    def put_bytes(self, data: bytes) -> bytes:
        """Store a file that is in memory; the digest of its chunk list."""
        chunks = compute_chunk_list(split_chunks(data))
        return self._store.put_chunks(chunks, iter(split_chunks(data)), owner=self._owner)

    def get_object(self, digest: bytes) -> bytes | None:
        return self._store.get_object(digest)

    def file_path(self, digest: bytes) -> Path | None:
        return self._store.file_path(digest)

    def file_sizes(self) -> set[int]:
        return self._store.file_sizes()

    def put_file(self, path: Path) -> bytes:
        """Copy a file in; the digest of its chunk list."""
        return self._store.put_file(path, owner=self._owner)

    def drop(self, digest: bytes) -> None:
        """What turned out to be damaged."""
        self._store.drop(digest)

    def check_room(self, size: int) -> None:
        """Raises as a fetch of so many bytes would, before it begins."""
        self._store.check_room(size)

    def keep(self, digest: bytes) -> None:
        self._store.keep(digest, self._owner)

    def release(self, digests: Collection[bytes]) -> None:
        """Some of this owner's."""
        for digest in digests:
            self._store.release(digest, self._owner)

    def release_all(self, but: Collection[bytes] = ()) -> None:
        """Of this owner; what others need stays kept."""
        self._store.release_all(self._owner, but)

    async def fetch_object(self, digest: bytes, providers: Sequence[Account] | None = None) -> bytes:
        return await self._fetch(digest, providers, lambda named: self._service.fetch_object(digest, named))

    async def fetch_file(self, digest: bytes, providers: Sequence[Account] | None = None, *, max_bytes: int) -> Path:
        return await self._fetch(digest, providers, lambda named: self._service.fetch_file(digest, named, max_bytes))

    async def _fetch(
        self, digest: bytes, providers: Sequence[Account] | None,
        fetch: Callable[[Sequence[Account] | None], Awaitable[Thing]],
    ) -> Thing:  # fmt: skip
        """Whom nobody here is connected to is asked last: to find somebody takes seconds."""
        try:
            return await _from_named_then_all(providers, fetch)
        except Unavailable:
            found = await self._find_providers(digest) if self._find_providers else []
            if not found:
                raise
        return await fetch(found)


async def _from_named_then_all(
    providers: Sequence[Account] | None, fetch: Callable[[Sequence[Account] | None], Awaitable[Thing]]
) -> Thing:
    """Who made a thing is asked first, for it surely had it; then everybody, for it may be gone."""
    if providers:
        try:
            return await fetch(providers)
        except Unavailable:
            pass
    return await fetch(None)
