"""The bond of one part in one task: when it is paid and filled up, and from which round on it counts."""

import math
from pathlib import Path

import pytest
import trio
from participant_support import TASK, Stage, contents, make_row, play

from flock_chain.errors import FlockError, InvalidContent, Misuse, Refused, Unavailable
from flock_peers.bases import FoundBase
from flock_peers.roles.board import Phase
from flock_peers.roles.membership import MAX_BONDINGS
from flock_peers.roles.task_loop import find_flock_error
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import TaskDocument


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


def test_a_strangers_base_is_open_in_the_trainer_before_the_bond_is_paid_and_is_not_waited_for_for_ever(
    tmp_path: Path,
) -> None:
    released: list[str] = []

    async def find(_task: int, _document: TaskDocument) -> FoundBase:
        return FoundBase(BASE_FOLDER, is_fetched=True, release=lambda: released.append("room"))

    stage = Stage(tmp_path, find_base=find)

    async def test() -> None:
        await stage.until(lambda: "join_task" in stage.sender.sent)
        assert stage.opened_at is not None and not stage.bonded_before
        await stage.until(lambda: stage.part.membership.was_joined)

    play(stage, test)
    assert not released
    hanging = Stage(tmp_path, find_base=find)
    hanging.trainer_seconds = math.inf

    async def never_bonded() -> None:
        await hanging.until(lambda: hanging.is_over)
        assert isinstance(find_flock_error(hanging.error or KeyError()), Misuse) and not hanging.sender.sent
        assert released == ["room"]
        assert trio.current_time() < 15 * 60  # a base that takes seconds to read does not hold a peer for long

    play(hanging, never_bonded)


def test_rows_that_a_task_does_not_take_are_told_before_its_base_is_looked_for(tmp_path: Path) -> None:
    def refuse(wanted: str) -> None:
        assert wanted == "any"
        raise Misuse("rows: others")

    async def find(_task: int, _document: TaskDocument) -> FoundBase:
        raise AssertionError("the base was looked for")

    stage = Stage(tmp_path, find_base=find, check_format=refuse)

    async def test() -> None:
        await stage.until(lambda: stage.is_over)
        assert str(stage.error) == "rows: others" and not stage.sender.sent

    play(stage, test)


def test_a_document_that_is_no_task_on_this_base_is_refused_before_the_bond_is_paid(tmp_path: Path) -> None:
    document, _ = contents()
    stage = Stage(tmp_path, document=document.replace(b"config.json", b"konfig.json"))

    async def test() -> None:
        await stage.until(lambda: stage.is_over)
        assert stage.error is not None and isinstance(find_flock_error(stage.error), FlockError)
        assert not stage.sender.sent and stage.opened_at is None

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
        assert caplog.text.count("bond of 0.0000000000000009 coins is below the task's minimum of 0.") == 1
        assert stage.sender.sent == ["join_task"], "what a verdict cost is not paid again unasked"

    play(stage, test)


async def go_to(stage: Stage, number: int, bond: int) -> None:
    stage.board.rows[0]["bond"], stage.board.round = bond, number
    await stage.until(lambda: stage.part.view is not None and stage.part.view.round == number)
    await trio.sleep(2)


def test_it_is_told_once_and_again_when_something_has_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(tmp_path)

    async def test() -> None:
        await stage.until(lambda: stage.part.membership.was_joined and stage.part.view is not None)
        told = []
        for number, bond in enumerate((900, 900, 900, 800, 1_000, 800), start=2):
            await go_to(stage, number, bond)
            told.append(caplog.text.count("below the task's minimum"))
        assert told == [1, 1, 1, 2, 2, 3]

    play(stage, test)


def test_why_a_bond_cannot_be_filled_up_is_told_once_for_each_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(tmp_path)

    async def test() -> None:
        await stage.until(lambda: stage.part.membership.was_joined and stage.part.view is not None)
        for number, reason in enumerate(("3 coins are left", "3 coins are left", "board: leaving"), start=2):
            stage.sender.error = Refused(reason)
            await go_to(stage, number, 990)
        told = [line for line in caplog.messages if "cannot be filled up" in line]
        assert [line.split("no seat: ")[1] for line in told] == ["3 coins are left", "board: leaving"]
        assert stage.sender.sent == ["join_task"]
        stage.sender.error = None
        await go_to(stage, 5, 990)
        assert stage.sender.calls[-1] == ("join_task", TASK, b"d", 10), "as soon as it can be"

    play(stage, test)


def test_the_first_round_it_counts_in_is_the_running_one_where_it_was_bonded_when_that_began(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    find, board = stage.part.membership.find_first_round, stage.board

    async def test() -> None:
        assert await find() is None, "not bonded"
        await stage.until(lambda: stage.part.membership.was_joined)
        board.round = 5
        assert await find() == 5, "none has begun"
        board.phase, board.close_height, board.rows_at = Phase.COMMIT, 40, {40: [make_row()], 60: []}
        assert await find() == 5, "its voters may yet be drawn"
        board.close_height = 60
        assert await find() == 6
        board.close_height = 20
        assert await find() == 6, "no state of that height is here"
        board.close_height, board.rows_at = 40, {40: [make_row(unseated=True)]}
        assert await find() == 6
        stage.part.membership.min_bond = 1_000
        then: dict[str, object]
        for then in ({"bond": 999}, {"held": 1}, {"suspended": True}, {"leaving_at": 39}):
            board.rows_at = {40: [make_row(**then)]}
            assert await find() == 6, then
        for asked in (40, 41):
            board.rows_at = {40: [make_row(leaving_at=asked)]}
            assert await find() == 5, "it asked to leave when the draw was fixed, or after that"
        board.phase = Phase.ENDED
        assert await find() is None

    play(stage, test)


def test_who_left_a_running_round_and_is_bonded_again_counts_in_the_next_one(tmp_path: Path) -> None:
    """It was told the running one, in which it has no weight: its row is there, as it was when the round was closed."""
    stage = Stage(tmp_path)
    find, board = stage.part.membership.find_first_round, stage.board

    async def test() -> None:
        await stage.until(lambda: stage.part.membership.was_joined)
        board.round, board.phase, board.close_height = 5, Phase.COMMIT, 40
        board.rows_at = {40: [make_row(joined_round=3)]}
        board.rows[:] = [make_row(joined_round=3)]
        assert await find() == 5
        board.rows[:] = [make_row(joined_round=5)]
        assert await find() == 6
        board.rows[:] = [make_row(joined_round=3, unseated=True)]
        assert await find() == 6, "drawn no more before it says that it is back"
        board.round, board.rows_at, board.rows[:] = 3, {40: [make_row(joined_round=3)]}, [make_row(joined_round=3)]
        board.unbonding_at = {40: 500, None: 500}
        assert await find() == 3, "it left once before"
        board.unbonding_at = {40: 500, None: 1_500}
        assert await find() == 4, "it left in the round in which it had joined, and joined again"

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


def test_who_was_unseated_while_it_was_away_comes_back_by_itself(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.board.rows = [make_row(unseated=True)]
    stage.board.phase = Phase.COMMIT

    async def test() -> None:
        await stage.until(lambda: "rejoin" in stage.sender.sent)
        await trio.sleep(5)
        assert stage.sender.sent == ["rejoin"], "once a round is enough"

    play(stage, test)


def test_who_was_unseated_and_lost_of_its_bond_fills_it_up_and_comes_back_in_one_round(tmp_path: Path) -> None:
    """The third seat missed does both; the task may have too few without it, and then no round comes in which to."""
    stage = Stage(tmp_path)
    stage.board.rows = [make_row(unseated=True, bond=999)]
    stage.board.phase = Phase.WAITING

    async def test() -> None:
        await stage.until(lambda: "rejoin" in stage.sender.sent)
        await trio.sleep(5)
        assert stage.sender.sent == ["join_task", "rejoin"]

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
