"""What of ended tasks may go, as the chain says it, also after a restart."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from clock_support import on_stepped_clock

from flock_chain.crypto import Account
from flock_chain.errors import Unavailable
from flock_peers.retention import AT_ONCE, LOOK_SECONDS, NEW_SECONDS, PAUSE_SECONDS, Retention
from flock_peers.roles.board import Phase
from flock_peers.store.blob_store import BlobStore
from flock_peers.store.kept_marks import find_document, new_task_owner, opened_task_owner
from flock_peers.tasks import opening_label

ME = Account(b"\x11" * 20)
OTHER = Account(b"\x22" * 20)


class Chain:
    """Tasks 1 to `count`, all on one document, and of others but those that are `own`; `ended` by number. `now`: the
    timestamp of its head."""

    def __init__(self, adapter: bytes, document: bytes) -> None:
        self.ended: set[int] = set()
        self.is_there, self.now = True, 1_000_000
        self.on_count: Callable[[], None] = lambda: None  # what happens right after it was asked for
        self.count, self.own, self.fails_at = 3, {3}, 0
        self.asked: list[int] = []
        self._row = {"adapter": adapter, "document": document}

    async def view(self, contract: str, function: str, *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if not self.is_there:
            raise Unavailable("no block yet")
        if (contract, function) == ("Beacon", "last_timestamp"):
            return self.now
        assert contract == "TaskBoard"
        if function == "task_count":
            self.on_count()
            return self.count
        (task,) = arguments
        if task == self.fails_at:
            raise Unavailable("no time now")
        self.asked.append(task)
        creator = ME if task in self.own else OTHER
        return {**self._row, "creator": creator, "ended": task in self.ended, "phase": Phase.COMMIT}


class Desk:
    def __init__(self, path: Path) -> None:
        self.path, self.store = path, BlobStore(path)
        self.adapter, self.document = self.store.put_object(b"adapter", keep=False), self.store.put_object(b"document")
        self.proposals = [self.store.put_object(bytes([n]), owner=f"task-{n}") for n in range(1, 5)]
        for task in (1, 2, 3):
            self.store.keep(self.adapter, f"task-{task}")
            self.store.keep(self.document, f"task-{task}")
        self.chain = Chain(self.adapter, self.document)
        self.current: int | None = None
        self.opening = set[str]()
        self.retention = self.make_retention(path)

    def make_retention(self, path: Path) -> Retention:
        return Retention(BlobStore(path), self.chain, ME, lambda: self.current, self.opening.__contains__)

    def keep_new(self, data: bytes, document: bytes) -> bytes:
        """Of a task that is being opened, at the chain's time."""
        owner = new_task_owner(document)
        digest = self.store.put_object(data, owner=owner)
        os.utime(self.path / "kept" / owner / digest.hex(), (self.chain.now, self.chain.now))
        return digest

    async def start_again(self) -> None:
        self.retention = self.make_retention(self.path)
        await self.look_twice()

    async def look_twice(self) -> None:
        for _ in range(2):
            await self.retention.step()

    def kept(self, task: int) -> set[bytes]:
        return self.retention._store.kept_by(f"task-{task}")


@on_stepped_clock
async def test_of_an_ended_task_the_last_adapter_and_the_document_stay_and_of_a_running_one_everything(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path)
    await desk.retention.step()
    assert all(desk.proposals[task - 1] in desk.kept(task) for task in (1, 2, 3))
    desk.chain.ended = {1, 2}
    desk.current = 2  # the part in it is still served, and releases its own
    await desk.retention.step()
    assert desk.kept(1) == {desk.adapter, desk.document}
    assert desk.proposals[1] in desk.kept(2) and desk.proposals[2] in desk.kept(3)
    desk.current = 3
    await desk.retention.step()
    assert desk.kept(2) == {desk.adapter, desk.document}


@on_stepped_clock
async def test_what_belongs_to_no_task_of_this_chain_stays(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.chain.ended = {1, 2, 3, 4}
    await desk.retention.step()
    assert desk.kept(4) == {desk.proposals[3]}
    assert desk.retention._store.kept_by("own") == {desk.document}


@on_stepped_clock
async def test_a_chain_that_cannot_be_asked_is_asked_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    desk = Desk(tmp_path)
    desk.chain.ended, desk.chain.is_there = {1}, False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.retention.run)
        await trio.sleep(LOOK_SECONDS / 2)
        assert desk.proposals[0] in desk.kept(1) and "no block yet" in caplog.text
        desk.chain.is_there = True
        await trio.sleep(LOOK_SECONDS)
        assert desk.proposals[0] not in desk.kept(1) and "task 1 has ended: 1 content may" in caplog.text
        nursery.cancel_scope.cancel()


@on_stepped_clock
async def test_what_was_kept_for_a_task_that_was_being_opened_goes_over_to_its_number(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    base, never = desk.keep_new(b"base", desk.document), desk.keep_new(b"of a task that never came", b"n" * 32)
    desk.retention = desk.make_retention(tmp_path)
    await desk.retention.step()
    assert desk.retention._store.kept_by(opened_task_owner(3)) == {base}
    assert not desk.retention._store.kept_by(new_task_owner(desk.document))
    assert desk.retention._store.is_kept(never)
    desk.chain.ended, desk.current = {1, 2, 3}, 3  # whether the creator has a part in it or not
    await desk.retention.step()
    assert not desk.retention._store.is_kept(base)


@on_stepped_clock
async def test_what_was_kept_for_a_task_that_never_came_is_let_go_of_after_a_day(tmp_path: Path) -> None:
    """The board turned its transaction away: its base model would stay for good."""
    desk = Desk(tmp_path)
    never = desk.keep_new(b"of a task that never came", b"n" * 32)
    await desk.start_again()
    desk.chain.now += NEW_SECONDS - 1
    await desk.look_twice()
    assert desk.retention._store.is_kept(never), "it may still become final"
    desk.chain.now += 1
    await desk.look_twice()
    assert not desk.retention._store.is_kept(never)


@on_stepped_clock
async def test_the_day_after_which_it_is_let_go_of_does_not_begin_anew_when_a_peer_is_started_again(
    tmp_path: Path,
) -> None:
    """It did with each process: whoever started it once a day kept the base model for good."""
    desk = Desk(tmp_path)
    never = desk.keep_new(b"of a task that never came", b"n" * 32)
    for _ in range(2):
        assert desk.store.is_kept(never)
        desk.chain.now += NEW_SECONDS // 2
        await desk.start_again()
    assert not desk.retention._store.is_kept(never)


@on_stepped_clock
async def test_what_was_kept_for_a_task_stays_when_a_peer_was_off_or_its_chain_stood_still_for_days(
    tmp_path: Path,
) -> None:
    """The first block after that is days later than the last one, and the task may come in the second."""
    desk = Desk(tmp_path)
    base = desk.keep_new(b"base", desk.document)
    desk.chain.count = 2
    await desk.start_again()
    assert desk.retention._store.kept_by(new_task_owner(desk.document)) == {base}, "the head is as old as that"
    desk.chain.now += 9 * NEW_SECONDS
    await desk.retention.step()
    desk.chain.count = 3
    await desk.retention.step()
    assert desk.retention._store.kept_by(opened_task_owner(3)) == {base}


@on_stepped_clock
async def test_what_was_kept_for_a_task_whose_transaction_is_still_sent_stays(tmp_path: Path) -> None:
    """A chain that had stood still for a day opened a task whose base model nobody had to keep any more."""
    desk = Desk(tmp_path)
    base = desk.keep_new(b"base", b"n" * 32)
    desk.retention = desk.make_retention(tmp_path)
    beginning = find_document(new_task_owner(b"n" * 32))
    assert opening_label(beginning) == opening_label((b"n" * 32).hex()), "all that the owner's name has room for"
    desk.opening.add(beginning)
    await desk.retention.step()
    desk.chain.now += 2 * NEW_SECONDS
    await desk.look_twice()
    assert desk.retention._store.is_kept(base)
    desk.opening.clear()
    await desk.retention.step()
    assert not desk.retention._store.is_kept(base)


@on_stepped_clock
async def test_what_becomes_final_while_the_chain_is_asked_was_no_task_that_never_came(tmp_path: Path) -> None:
    """A chain that goes on after a day: the count was that of before the task, and its transaction was sent no more."""
    desk = Desk(tmp_path)
    base = desk.keep_new(b"base", b"n" * 32)
    desk.retention = desk.make_retention(tmp_path)
    desk.opening.add(find_document(new_task_owner(b"n" * 32)))
    desk.chain.now += NEW_SECONDS
    await desk.retention.step()
    desk.chain.on_count = desk.opening.clear
    await desk.retention.step()
    assert desk.retention._store.is_kept(base)


@on_stepped_clock
async def test_a_task_is_found_however_many_were_opened_after_it_between_two_looks_or_while_the_peer_was_off(
    tmp_path: Path,
) -> None:
    """Behind a hundred newer ones it was not: after a day its base model, which nobody else may have had, was let go
    of."""
    for is_off in (False, True):
        desk = Desk(tmp_path / str(is_off))
        desk.chain.count = 2
        await desk.retention.step()
        base = desk.keep_new(b"base", desk.document)
        desk.retention._store.keep(base, new_task_owner(desk.document))  # by the peer itself, not beside it
        desk.chain.count = 3 + 2 * AT_ONCE
        if is_off:
            await desk.start_again()
        else:
            await desk.retention.step()
        assert desk.retention._store.kept_by(opened_task_owner(3)) == {base}
        desk.chain.now += 2 * NEW_SECONDS
        await desk.look_twice()
        assert desk.retention._store.is_kept(base)


@on_stepped_clock
async def test_each_task_is_asked_for_once_and_a_chain_that_fails_in_between_for_the_rest(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.keep_new(b"of a task that never came", b"n" * 32)
    desk.retention = desk.make_retention(tmp_path)
    desk.chain.count, desk.chain.fails_at = 7, 6
    with pytest.raises(Unavailable):
        await desk.retention.step()
    desk.chain.fails_at = 0
    await desk.look_twice()
    assert [task for task in desk.chain.asked if task > 4] == [5, 6, 7]  # of those below, contents are kept


@on_stepped_clock
async def test_only_tasks_since_something_is_kept_are_asked_for_and_of_many_not_all_in_a_row(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.chain.count = 7
    await desk.retention.step()  # nothing is being opened
    base = desk.keep_new(b"base", desk.document)
    desk.retention._store.keep(base, new_task_owner(desk.document))  # by the peer itself, not beside it
    desk.chain.count = 7 + 2 * AT_ONCE + 1
    began = trio.current_time()
    await desk.retention.step()
    asked = [task for task in desk.chain.asked if task > 4]  # of those below, contents are kept
    assert asked == [*range(8, desk.chain.count + 1)]
    assert trio.current_time() - began == pytest.approx(2 * PAUSE_SECONDS)


@on_stepped_clock
async def test_what_is_kept_while_the_chain_is_asked_for_the_count_is_found_too(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    base = b""

    def open_at_once() -> None:
        nonlocal base
        base = base or desk.retention._store.put_object(b"base", owner=new_task_owner(desk.document))

    desk.chain.on_count = open_at_once
    await desk.look_twice()
    assert desk.retention._store.kept_by(opened_task_owner(3)) == {base}


@on_stepped_clock
async def test_nobody_elses_task_on_the_same_document_takes_over_what_is_kept_and_lets_go_of_it(tmp_path: Path) -> None:
    """Whoever saw the transaction could open one before it, and let it end at once."""
    desk = Desk(tmp_path)
    base = desk.keep_new(b"base", desk.document)
    desk.chain.count, desk.chain.ended = 2, {1, 2}
    await desk.start_again()
    assert desk.retention._store.kept_by(new_task_owner(desk.document)) == {base}
    desk.chain.count, desk.chain.ended = 4, {1, 2, 4}
    await desk.look_twice()
    assert desk.retention._store.kept_by(opened_task_owner(3)) == {base}
