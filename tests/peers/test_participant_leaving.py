"""How a part in a task ends and its bond comes back: by an order, by a trainer that fails, by eviction or a verdict."""

from pathlib import Path

import pytest
import trio
from participant_support import Stage, make_row, play

from flock_chain.audit_rule import STRIKES_TO_EXPEL
from flock_chain.errors import InvalidContent, Misuse
from flock_peers.roles.board import Phase
from flock_peers.roles.task_loop import find_flock_error
from flock_peers.training.base_check import UnusableBase


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


@pytest.mark.parametrize(
    "why",
    [UnusableBase("base model x: takes no LoRA"), Misuse("privacy: one training of this task takes epsilon 7.77")],
)
def test_why_no_trainer_is_opened_is_told_when_the_bond_is_out_so_that_the_task_is_not_taken_up_again(
    why: Misuse, tmp_path: Path
) -> None:
    """Of what was no fault of the model `status` said nothing."""
    stage = Stage(tmp_path)
    stage.trainer_error = why

    async def test() -> None:
        await stage.until(lambda: stage.is_over)
        assert stage.sender.sent == ["join_task", "leave_task"]
        assert find_flock_error(stage.error or KeyError()) is why

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


def test_who_could_not_leave_in_the_last_round_leaves_when_the_task_has_ended(tmp_path: Path) -> None:
    """Nothing comes after the end that would make it ask again: its bond would stay there."""
    stage = Stage(tmp_path)
    stage.trainer_error = InvalidContent("no")

    async def test() -> None:
        await stage.until(lambda: "join_task" in stage.sender.sent)
        stage.board.phase = Phase.COMMIT
        await stage.until(lambda: "leave_task" in stage.sender.sent)
        stage.board.round, stage.board.phase = 2, Phase.AUDIT
        await trio.sleep(5)
        assert stage.sender.sent.count("leave_task") == 2 and not stage.is_over
        stage.board.phase = Phase.ENDED
        await stage.until(lambda: stage.is_over)

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


@pytest.mark.parametrize(
    ("strikes", "why"), [(STRIKES_TO_EXPEL, "which is expelled; its bond"), (0, "had too small a bond, or no seats")]
)
def test_who_was_evicted_is_told_why(tmp_path: Path, caplog: pytest.LogCaptureFixture, strikes: int, why: str) -> None:
    stage = Stage(tmp_path)

    async def test() -> None:
        await stage.until(lambda: stage.part.membership.was_joined and stage.part.view is not None)
        stage.board.strikes, stage.board.rows, stage.board.round = strikes, [], 2
        await stage.until(lambda: stage.is_over)

    play(stage, test)
    assert "somebody evicted this account" in caplog.text and why in caplog.text


def test_who_is_expelled_takes_its_bond_back_and_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(tmp_path)
    stage.board.rows, stage.board.strikes = [make_row(leaving_at=9, strikes=STRIKES_TO_EXPEL)], STRIKES_TO_EXPEL
    stage.board.phase = Phase.WAITING

    async def test() -> None:
        await stage.until(lambda: stage.is_over)
        assert stage.sender.sent == ["leave_task"] and stage.error is None

    play(stage, test)
    assert "this account is expelled: the bond comes back" in caplog.text


def test_who_was_expelled_pays_no_bond_that_the_board_would_refuse(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.board.strikes = STRIKES_TO_EXPEL

    async def test() -> None:
        await stage.until(lambda: stage.error is not None)
        assert stage.sender.sent == [] and "expelled from it, for good" in str(find_flock_error(stage.error))
        assert isinstance(find_flock_error(stage.error), Misuse), "tried again in an hour, not in half a minute"
        assert stage.part.library is None and stage.opened_at is None, "nor opens a library and a trainer for that"

    play(stage, test)


def test_who_is_evicted_as_expelled_while_its_trainer_opens_pays_no_bond(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.board.strikes = STRIKES_TO_EXPEL

    async def test() -> None:
        with trio.fail_after(10), pytest.raises(Misuse, match="expelled from it, for good"):
            await stage.part.membership.bond_until_joined(lambda: True)
        assert stage.sender.sent == []

    trio.run(test)


def test_who_is_told_to_leave_before_it_begins_serves_its_seats_until_it_may_go(tmp_path: Path) -> None:
    """An owner's order of which the peer was stopped before anything was final."""
    stage = Stage(tmp_path)
    stage.board.rows, stage.board.phase = [make_row()], Phase.COMMIT
    stage.part.leave()

    async def test() -> None:
        await stage.until(lambda: "leave_task" in stage.sender.sent)
        await trio.sleep(5)
        assert stage.part.membership.was_joined and not stage.is_over
        stage.board.phase = Phase.ENDED
        await stage.until(lambda: stage.is_over)
        assert stage.sender.sent == ["leave_task", "leave_task"] and stage.error is None

    play(stage, test)


def test_a_leave_that_was_asked_for_before_a_restart_is_carried_through(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.board.rows = [make_row(leaving_at=9)]
    stage.board.phase = Phase.WAITING

    async def test() -> None:
        await stage.until(lambda: stage.is_over)
        assert stage.sender.sent == ["leave_task"] and stage.error is None

    play(stage, test)
