"""One part in one task against a board in memory, a sender that only notes, and a trainer that only opens or fails."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from flock_chain.aggregation import encode_global
from flock_chain.content import object_digest
from flock_chain.errors import FlockError, InvalidContent, Unavailable
from flock_peers.roles.board import Phase
from flock_peers.roles.library import compute_file_digest
from flock_peers.roles.membership import MAX_BONDINGS
from flock_peers.roles.participant import Participant, Surroundings
from flock_peers.roles.proposer import Identity
from flock_peers.roles.task_loop import find_flock_error
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

    def release(self, digest: bytes) -> None:
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
        self.proposers: list[bytes] = []
        self.error: BaseException | None = None
        self.due = 0

    async def view(self, _contract: str, function: str, *_args: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        match function:
            case "task_view":
                return {"document": self.document, "adapter0": self.adapter, "terms": {"min_bond": 1_000}}
            case "participants":
                return self.rows
            case "claimable":
                return self.due
            case "round_view":
                bitmaps = ("committed", "revealed", "attested", "held_set", "score_committed", "score_revealed")
                return dict.fromkeys(bitmaps, 0) | {
                    "round": self.round, "phase": int(self.phase), "deadline": 0, "adapter": self.adapter,
                    "proposers": self.proposers, "voters": [], "manifests": [], "tallied": False, "verdicts": [],
                    "adoption_votes": 0,
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


class FakeSender:
    """What is sent takes effect on the board at once, if the board takes it."""

    def __init__(self, board: Board) -> None:
        self.board, self.sent = board, list[str]()
        self.calls: list[tuple[Any, ...]] = []
        self.takes_bonds = True
        self.is_slow = False  # what was sent stays pending

    async def call(self, _label: str, _contract: str, function: str, *args: Any, value: int = 0) -> bool:
        await trio.lowlevel.checkpoint()
        self.sent.append(function)
        self.calls.append((function, *args, value))
        if function == "join_task" and self.takes_bonds:
            self.board.rows = [{"account": ME, "leaving_at": 0, "bond": 1_000, "domain": b"d"}]
        if function == "leave_task":
            is_free = self.board.phase is Phase.WAITING
            self.board.rows = [] if is_free else [{"account": ME, "leaving_at": 9, "bond": 1_000, "domain": b"d"}]
        return True

    def is_pending(self, _label: str) -> bool:
        return self.is_slow and bool(self.sent)


class Process:
    """Trains for ever, and notes who gave it up."""

    is_alive = True
    trainings: list[str]

    def __init__(self) -> None:
        self.trainings = []

    async def train(self, *_: Any, **__: Any) -> Any:
        self.trainings.append("begun")
        try:
            await trio.sleep_forever()
        finally:
            self.trainings.append("given up")

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
            await trio.sleep(0.05)
        raise AssertionError("never happened")


def play(stage: Stage, test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.run)
            await test()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.005))


def test_the_bond_is_paid_while_the_trainer_is_still_opening(tmp_path: Path) -> None:
    stage = Stage(tmp_path)

    async def test() -> None:
        await stage.until(lambda: "join_task" in stage.sender.sent)
        assert stage.opened_at is None
        await stage.until(lambda: stage.opened_at is not None)
        assert stage.bonded_before and stage.sender.sent.count("join_task") == 1

    play(stage, test)


def test_after_a_trainer_that_failed_the_next_one_is_open_before_the_bond_is_paid(tmp_path: Path) -> None:
    stage = Stage(tmp_path, bonds_early=False)

    async def test() -> None:
        await stage.until(lambda: stage.opened_at is not None)
        await stage.until(lambda: "join_task" in stage.sender.sent)
        assert not stage.bonded_before

    play(stage, test)
    failing = Stage(tmp_path, bonds_early=False)
    failing.trainer_error = InvalidContent("layout: peft makes another one")

    async def never_bonded() -> None:
        await failing.until(lambda: failing.is_over)
        assert isinstance(find_flock_error(failing.error or KeyError()), InvalidContent) and not failing.sender.sent

    play(failing, never_bonded)


def test_a_document_that_is_no_task_on_this_base_is_refused_before_the_bond_is_paid(tmp_path: Path) -> None:
    document, _ = contents()
    stage = Stage(tmp_path, document=document.replace(b"config.json", b"konfig.json"))

    async def test() -> None:
        await stage.until(lambda: stage.is_over)
        assert stage.error is not None and isinstance(find_flock_error(stage.error), FlockError)
        assert not stage.sender.sent and stage.opened_at is None

    play(stage, test)


def test_a_trainer_that_fails_for_good_makes_the_account_leave_and_the_part_end_without_an_error(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path)
    stage.trainer_error = InvalidContent("layout: peft makes another one")

    async def test() -> None:
        await stage.until(lambda: stage.is_over)
        assert stage.error is None and stage.part.is_leaving
        assert stage.sender.sent == ["join_task", "leave_task"]

    play(stage, test)


def test_who_may_not_leave_yet_asks_once_and_then_once_a_round_until_it_is_free(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.trainer_error = InvalidContent("no")

    async def test() -> None:
        await stage.until(lambda: "join_task" in stage.sender.sent)
        stage.board.phase = Phase.COMMIT
        await stage.until(lambda: "leave_task" in stage.sender.sent)
        await trio.sleep(20)
        assert stage.sender.sent.count("leave_task") == 1
        stage.board.round, stage.board.phase = 2, Phase.TALLY
        await trio.sleep(5)
        assert stage.sender.sent.count("leave_task") == 2 and not stage.is_over
        stage.board.round, stage.board.phase = 3, Phase.WAITING
        await stage.until(lambda: stage.is_over)

    play(stage, test)


@pytest.mark.parametrize("error", [Unavailable("256 views wait already"), OSError(28, "No space left on device")])
def test_views_that_fail_are_asked_again_and_end_nothing(tmp_path: Path, error: Exception) -> None:
    stage = Stage(tmp_path)

    async def test() -> None:
        await stage.until(lambda: stage.part.membership.was_joined and stage.part.view is not None)
        stage.board.error = error
        await trio.sleep(30)
        stage.board.error, stage.board.round = None, 2
        await stage.until(lambda: stage.part.view is not None and stage.part.view.round == 2)
        assert not stage.is_over

    play(stage, test)


def test_who_was_slashed_below_the_minimum_is_told_why_it_is_drawn_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(tmp_path)

    async def test() -> None:
        await stage.until(lambda: stage.part.membership.was_joined and stage.part.view is not None)
        assert "below the task's minimum" not in caplog.text
        stage.board.rows[0]["bond"], stage.board.round = 900, 2
        await stage.until(lambda: stage.part.view is not None and stage.part.view.round == 2)
        await trio.sleep(10)
        assert caplog.text.count("bond of 900 wei is below the task's minimum of 1000") == 1
        assert stage.sender.sent == ["join_task"], "what a verdict cost is not paid again unasked"

    play(stage, test)


def test_what_a_missed_reveal_cost_is_paid_again_or_it_would_be_drawn_no_more(tmp_path: Path) -> None:
    stage = Stage(tmp_path)

    async def test() -> None:
        await stage.until(lambda: stage.part.membership.was_joined and stage.part.view is not None)
        stage.board.rows[0]["bond"], stage.board.round = 990, 2
        await stage.until(lambda: len(stage.sender.sent) == 2)
        assert stage.sender.calls[-1] == ("join_task", TASK, b"d", 10)
        stage.board.rows[0]["bond"] = 1_000
        stage.board.round = 3
        await stage.until(lambda: stage.part.view is not None and stage.part.view.round == 3)
        await trio.sleep(10)
        assert len(stage.sender.sent) == 2

    play(stage, test)


def test_who_was_evicted_ends_its_part_once_all_is_claimed(tmp_path: Path) -> None:
    stage = Stage(tmp_path)

    async def test() -> None:
        await stage.until(lambda: stage.part.membership.was_joined and stage.part.view is not None)
        stage.board.rows, stage.board.round, stage.board.due = [], 2, 7
        await stage.until(lambda: "claim" in stage.sender.sent)
        assert not stage.is_over
        stage.board.due = 0
        await stage.until(lambda: stage.is_over)
        assert stage.error is None

    play(stage, test)


def test_a_leave_that_was_asked_for_before_a_restart_is_carried_through(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.board.rows = [{"account": ME, "leaving_at": 9, "bond": 1_000, "domain": b"d"}]
    stage.board.phase = Phase.WAITING

    async def test() -> None:
        await stage.until(lambda: stage.is_over)
        assert stage.sender.sent == ["leave_task"] and stage.error is None

    play(stage, test)


@pytest.mark.parametrize(("round", "phase"), [(1, Phase.REVEAL), (2, Phase.COMMIT)])
def test_a_training_that_comes_too_late_is_given_up(tmp_path: Path, round: int, phase: Phase) -> None:
    """Its processor time is the next round's."""
    stage = Stage(tmp_path)
    stage.board.phase, stage.board.proposers = Phase.COMMIT, [ME]

    async def test() -> None:
        await stage.until(lambda: stage.process.trainings == ["begun"])
        training = stage.process
        await trio.sleep(5)
        assert training.trainings == ["begun"]
        stage.board.phase, stage.board.round = phase, round
        await stage.until(lambda: training.trainings == ["begun", "given up"])

    play(stage, test)


def test_a_task_that_ended_without_this_account_is_over_at_once(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.board.phase = Phase.ENDED

    async def test() -> None:
        await stage.until(lambda: stage.is_over)
        assert stage.error is None and not stage.sender.sent

    play(stage, test)


def test_a_task_that_ends_before_the_bond_was_taken_is_over(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.sender.takes_bonds = False

    async def test() -> None:
        await stage.until(lambda: bool(stage.sender.sent))
        stage.board.phase = Phase.ENDED
        await stage.until(lambda: stage.is_over)
        assert stage.error is None

    play(stage, test)


def test_a_bond_that_is_never_taken_is_not_paid_for_for_ever(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.sender.takes_bonds = False

    async def test() -> None:
        await stage.until(lambda: stage.is_over)
        assert isinstance(find_flock_error(stage.error or KeyError()), Unavailable)
        assert stage.sender.sent == ["join_task"] * MAX_BONDINGS

    play(stage, test)


def test_a_bond_that_is_under_way_is_not_paid_twice(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.sender.takes_bonds, stage.sender.is_slow = False, True

    async def test() -> None:
        await stage.until(lambda: bool(stage.sender.sent))
        await trio.sleep(30)
        assert stage.sender.sent == ["join_task"]

    play(stage, test)


def test_an_ended_task_that_was_taken_part_in_is_served_on_and_settled_once_all_is_kept(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.board.due = 3

    async def test() -> None:
        await stage.until(lambda: stage.part.membership.was_joined and stage.part.view is not None)
        stage.board.phase = Phase.ENDED
        await stage.until(lambda: "claim" in stage.sender.sent)
        assert not stage.part.is_settled
        stage.board.due = 0
        await stage.until(lambda: stage.part.is_settled)
        stage.board.rows = []  # left, to bond elsewhere
        await trio.sleep(60)
        assert not stage.is_over and stage.part.trainer is not None

    play(stage, test)
