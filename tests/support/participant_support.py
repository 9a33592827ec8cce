"""One part in one task against a board in memory, a sender that only notes, and a trainer that only opens or fails."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import trio
from clock_support import on_stepped_clock

from flock_chain.aggregation import encode_global
from flock_chain.content import object_digest
from flock_chain.errors import FlockError, Unavailable
from flock_peers.roles.board import Phase
from flock_peers.roles.library import compute_file_digest
from flock_peers.roles.participant import Participant, Surroundings
from flock_peers.roles.proposer import Identity
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import compute_initial_adapter, create_document
from flock_peers.training.supervised import supervise

ME = b"\x11" * 20
TASK = 4


@lru_cache(maxsize=1)
def contents() -> tuple[bytes, bytes]:
    document = create_document("a task", BASE_FOLDER, seed=b"\7" * 32)
    return document.encode(), encode_global(compute_initial_adapter(document))


class Store:
    """Both the store and the fetcher: has the document, keeps files."""

    def __init__(self, folder: Path, document: bytes) -> None:
        self._folder, self._objects = folder, {bytes(object_digest(document)): document}

    def get_object(self, digest: bytes) -> bytes | None:
        return self._objects.get(digest)

    def keep(self, digest: bytes) -> None:
        """Everything stays here anyway."""

    def release_all(self, but: Collection[bytes] = ()) -> None:
        """Nor does this store need room."""

    def put_object(self, data: bytes) -> bytes:
        self._objects[bytes(object_digest(data))] = data
        return bytes(object_digest(data))

    def put_bytes(self, data: bytes) -> bytes:
        digest = bytes(compute_file_digest(data))
        (self._folder / digest.hex()).write_bytes(data)
        return digest

    def file_path(self, digest: bytes) -> Path | None:
        path = self._folder / digest.hex()
        return path if path.exists() else None

    async def fetch_object(self, _digest: bytes, _providers: Any = None) -> bytes:
        raise Unavailable("nobody has it")

    async def fetch_file(self, _digest: bytes, _providers: Any = None, **_: Any) -> Path:
        raise Unavailable("nobody has it")


class Board:
    def __init__(self, document: bytes, adapter: bytes) -> None:
        self.document, self.adapter = object_digest(document), compute_file_digest(adapter)
        self.phase, self.round = Phase.WAITING, 1
        self.rows: list[dict[str, Any]] = []
        self.rows_at: dict[int, list[dict[str, Any]]] = {}  # by height; at any other there is no state
        self.unbonding_at: dict[int | None, int] = {}  # by height; None: now
        self.close_height = 0
        self.proposers: list[bytes] = []
        self.error: BaseException | None = None
        self.due = 0
        self.strikes = 0  # of this account, bonded or not

    async def view(self, _contract: str, function: str, *_args: Any, height: int | None = None) -> Any:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        match function:
            case "task_view":
                return {"document": self.document, "adapter0": self.adapter, "terms": {"min_bond": 1_000}}
            case "participants" if height is not None:
                if height not in self.rows_at:
                    raise Unavailable(f"no block of height {height}")
                return self.rows_at[height]
            case "participants":
                return self.rows
            case "standing":
                return {"phase": int(self.phase), "round": self.round, "close_height": self.close_height}
            case "participant":
                return {"strikes": self.strikes}
            case "unbonding":
                return {"amount": self.unbonding_at.get(height, 0), "release_at": 0}
            case "claimable":
                return self.due
            case "case_view":
                return {"open": 0}
            case "audit_view":
                return {"number": 1, "first": 1}
            case "round_view":
                bitmaps = ("committed", "revealed", "attested", "held_set", "score_committed", "score_revealed")
                return dict.fromkeys(bitmaps, 0) | {
                    "round": self.round, "phase": int(self.phase), "deadline": 0, "adapter": self.adapter,
                    "proposers": self.proposers, "voters": [], "manifests": [], "tallied": False, "verdicts": [],
                    "adoption_votes": 0, "seed_height": 0, "paid": True,
                }  # fmt: skip
            case "round_result":
                return {
                    "proposers": [], "voters": [], "manifests": [], "held_set": 0, "verdicts": [], "medians": [],
                    "scores_revealed": 0, "adapter_before": self.adapter, "adapter_after": self.adapter,
                }  # fmt: skip
        raise AssertionError(function)

    async def wait_new_head(self, _height: int) -> int:
        await trio.sleep(0.5)
        return 1


def make_row(**changes: Any) -> dict[str, Any]:
    return {
        "account": ME,
        "leaving_at": 0,
        "bond": 1_000,
        "domain": b"d",
        "unseated": False,
        "suspended": False,
        "joined_round": 1,
        "held": 0,
        "last_accepted": 0,
        "strikes": 0,
    } | changes


class FakeSender:
    """What is sent takes effect on the board at once, if the board takes it."""

    def __init__(self, board: Board) -> None:
        self.board, self.sent = board, list[str]()
        self.calls: list[tuple[Any, ...]] = []
        self.takes_bonds = True
        self.is_slow = False  # what was sent stays pending
        self.error: FlockError | None = None  # why nothing can be sent

    async def call(self, _label: str, _contract: str, function: str, *args: Any, value: int = 0) -> bool:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        self.sent.append(function)
        self.calls.append((function, *args, value))
        if function == "join_task" and self.takes_bonds:
            self.board.rows = [make_row()]
        if function == "leave_task":
            is_free = self.board.phase in (Phase.WAITING, Phase.ENDED)
            self.board.rows = [] if is_free else [make_row(leaving_at=9)]
        return True

    def is_pending(self, _label: str) -> bool:
        return self.is_slow and bool(self.sent)


class Process:
    """Trains for ever, and notes who gave it up."""

    is_alive = True
    trainings: list[str]

    def __init__(self) -> None:
        self.trainings = []
        self.evaluated = list[str]()  # which splits

    async def evaluate(self, _adapter_path: Path | None, split: str) -> Any:
        await trio.lowlevel.checkpoint()
        self.evaluated.append(split)

    async def train(self, *_: Any, **__: Any) -> Any:
        self.trainings.append("begun")
        try:
            await trio.sleep_forever()
        finally:
            self.trainings.append("given up")

    async def wait_ended(self) -> None:
        await trio.sleep_forever()

    async def close(self) -> None:
        self.is_alive = False


class Stage:
    def __init__(self, folder: Path, **values: Any) -> None:
        document, adapter = contents()
        document = values.pop("document", document)
        self.board = Board(document, adapter)
        self.sender = FakeSender(self.board)
        self.trainer_error: FlockError | None = None
        self.trainer_seconds = 20.0
        self.opened_at: float | None = None
        self.process = Process()
        self.bonded_before = False  # when the trainer was open
        store = Store(folder, document)
        around: dict[str, Any] = {
            "identity": Identity(ME, 1, b"g" * 32, 0), "ledger": self.board, "store": store, "fetcher": store,  # type: ignore[arg-type]
            "sender": self.sender, "open_trainer": self._open_trainer, "folder": folder / "rounds", "bond": 5,
            "domain": bytes(32), "on_round": lambda _number: None, **values,
        }  # fmt: skip
        self.part = Participant(TASK, Surroundings(**around))
        self.error: BaseException | None = None
        self.is_over = False

    @asynccontextmanager
    async def _open_trainer(self, _library: Any) -> AsyncIterator[Any]:
        async with supervise(self._open_process) as trainer:
            yield trainer

    async def _open_process(self) -> Any:
        await trio.sleep(self.trainer_seconds)
        if self.trainer_error is not None:
            raise self.trainer_error
        self.opened_at = trio.current_time()
        self.bonded_before = bool(self.sender.sent)
        self.process = Process()
        return self.process

    async def run(self) -> None:
        try:
            await self.part.run()
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.error = error
        self.is_over = True

    async def until(self, condition: Callable[[], bool]) -> None:
        """Threads work meanwhile, so time is given in steps."""
        for _ in range(4_000):
            if condition():
                return
            await trio.sleep(0.5)
        raise AssertionError("never happened")


def play(stage: Stage, test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.run)
            await test()
            nursery.cancel_scope.cancel()

    on_stepped_clock(main)()  # its store and its files work in threads
