"""What a finished demo's rounds were fed with, from a home's chain: seats, seeds, results, audits, documents."""

from bisect import bisect_left
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import trio

from flock_chain.audit_rule import ClosedAudit, read_closed_audit
from flock_chain.crypto import Account
from flock_chain.errors import Misuse
from flock_chain.execution.executor import Executor
from flock_chain.proposal import decode_manifest
from flock_p2p.demo.audit import TASK
from flock_peers.home import Home
from flock_peers.roles.board import NOBODY, Phase, RoundResult, as_account, parse_result, read_seed
from flock_peers.store.blob_store import BlobStore
from flock_peers.store.chain_store import ChainStore
from flock_peers.training.document import TaskDocument, decode_document


@dataclass
class Chain:
    """What the run is fed with, from the first peer's home."""

    executor: Executor
    blobs: BlobStore
    row: Any = None
    document: TaskDocument = field(init=False)

    def __post_init__(self) -> None:
        self.row = self.view("TaskBoard", "task_view", TASK)
        data = self.blobs.get_object(bytes(self.row["document"]))
        if data is None:
            raise Misuse("same rounds: the first home does not have the task's document")
        self.document = decode_document(data)

    def view(self, contract: str, function: str, *arguments: Any) -> Any:
        return self.executor.view(contract, function, *arguments)

    def board(self, function: str, *arguments: Any, height: int | None = None) -> Any:
        return self.executor.view("TaskBoard", function, *arguments, height=height)

    def seed(self, number: int, height: int, purpose: bytes) -> int:
        async def read(contract: str, function: str, *arguments: Any) -> Any:
            return self.view(contract, function, *arguments)

        where: Any = SimpleNamespace(task=TASK, round=number, seed_height=height)
        views: Any = SimpleNamespace(view=read)
        return trio.run(read_seed, views, where, purpose)

    def result(self, number: int) -> RoundResult:
        return parse_result(TASK, number, self.board("round_result", TASK, number))

    def audits(self, accounts: Collection[Account]) -> list[ClosedAudit]:
        """All closed ones, in order, and the stake that named each of these accounts."""
        closed = self.board("audit_view", TASK)["number"] - 1
        return [
            read_closed_audit(
                self.board("blame_of", TASK, audit, NOBODY),
                {account: self.board("blame_of", TASK, audit, account)[0] for account in accounts},
            )
            for audit in range(1, closed + 1)
        ]

    def find_opening(self, audit: int) -> tuple[int, set[Account]]:
        """From which round on its auditors looked, and whom they judged, as the board had it in the block that opened
        it, with which they begin. Of audits that do not count the next looks at the same rounds again."""

        def is_opened(height: int) -> bool:
            number = self.board("audit_view", TASK, height=height)["number"]
            _, phase = self.board("progress", TASK, height=height)
            return bool(number > audit or (number == audit and phase == Phase.AUDIT))

        height = bisect_left(range(self.executor.head.height), True, key=is_opened)
        rows = self.board("participants", TASK, height=height)
        return self.board("audit_view", TASK, height=height)["first"], {as_account(row["account"]) for row in rows}

    def delta_of(self, manifest: bytes) -> bytes | None:
        data = self.blobs.get_object(manifest)
        return None if data is None else bytes(decode_manifest(data).delta)


@contextmanager
def open_chain(home: Home) -> Iterator[Chain]:
    store = ChainStore(home.folder("chain"))
    try:
        yield Chain(Executor(home.load_genesis(), store), BlobStore(home.folder("blobs")))
    finally:
        store.close()
