"""What the document of a task says to people: its name, its base model, the rows that it takes; and who of the
connected peers has that base whole. Knows no round and no money."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

import trio

from flock_chain.content import format_cid, parse_cid
from flock_chain.crypto import Account
from flock_chain.errors import FlockError, Unavailable
from flock_peers.bases import Bases
from flock_peers.contents import Contents
from flock_peers.training.base_manifest import BaseManifest, describe_base
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import TaskDocument, decode_document

DOCUMENT_SECONDS = 5.0  # for all documents that are not here; who asks waits for the answer
HOLDERS_SECONDS = 3.0
MAX_KNOWN = 128  # parsed documents; a large one has a megabyte
MAX_ASKED_FOR = 16  # base models whose holders are asked for in one answer


class Holders(Protocol):
    """The blob service."""

    async def find_holders(self, digest: bytes, seconds: float) -> Sequence[Account]: ...


class TaskFacts:
    def __init__(self, contents: Contents, holders: Holders, bases: Bases) -> None:
        self._contents, self._holders, self._bases = contents, holders, bases
        self._known: OrderedDict[bytes, tuple[dict[str, Any], BaseManifest]] = OrderedDict()

    async def describe(self, documents: Sequence[bytes]) -> dict[bytes, dict[str, Any]]:
        """By content id of the document, those that are here or come at once."""
        with trio.move_on_after(DOCUMENT_SECONDS):
            async with trio.open_nursery() as nursery:
                for digest in set(documents) - set(self._known):
                    nursery.start_soon(self._learn, digest)
        known = {digest: self._known[digest] for digest in documents if digest in self._known}
        rows = {digest: row | {"is_here": self._bases.is_here(base)} for digest, (row, base) in known.items()}
        holders = await self._find_holders(sorted({row["base"] for row in rows.values()})[:MAX_ASKED_FOR])
        for row in rows.values():
            row["providers"] = holders.get(row["base"])
        return rows

    async def read_reference(self, digest: bytes) -> str:
        """The public text in a document; raises FlockError where it cannot be had."""
        with trio.move_on_after(DOCUMENT_SECONDS):
            return (await self._read(digest)).reference
        raise Unavailable("task: its document is at no connected peer now; try again when more are connected")

    async def _read(self, digest: bytes) -> TaskDocument:
        data = self._contents.get_object(digest) or await self._contents.fetch_object(digest)
        return await trio.to_thread.run_sync(decode_document, data)

    async def _learn(self, digest: bytes) -> None:
        try:
            document = await self._read(digest)
        except FlockError:
            return  # a stranger's: it is nowhere, or no document
        self._known[digest] = _to_row(document, await trio.to_thread.run_sync(_find_shipped)), document.base
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    async def _find_holders(self, bases: Sequence[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}

        async def ask(base: str) -> None:
            accounts = await self._holders.find_holders(parse_cid(base), HOLDERS_SECONDS)
            found[base] = ["0x" + account.hex() for account in accounts]

        async with trio.open_nursery() as nursery:
            for base in bases:
                nursery.start_soon(ask, base)
        return found


def _to_row(document: TaskDocument, shipped: bytes) -> dict[str, Any]:
    return {
        "name": document.name,
        "base": format_cid(document.base.digest),
        "base_bytes": document.base.size,
        "base_files": len(document.base.files),
        "is_shipped": document.base.digest == shipped,
        "data": document.data,
        "seq_len": document.budget.seq_len,
        "batch": document.budget.batch,
        "steps": document.budget.steps,
        "server_lr_thousandths": document.format.server_lr_thousandths,
        "reference_bytes": len(document.reference.encode()),
    }


@cache
def _find_shipped() -> bytes:
    """The content id of the package's own model, which every peer has without anybody's serving it."""
    return describe_base(BASE_FOLDER).digest
