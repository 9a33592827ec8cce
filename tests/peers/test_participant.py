"""One part in one task, from its document to its end: what stops it, and what only delays it."""

from pathlib import Path

import pytest
import trio
import trio.testing
from participant_support import ME, Stage, play

from flock_chain.errors import Unavailable
from flock_peers.roles.board import Phase
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.participant import _still_matters


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


def test_every_look_at_the_board_is_told_so_that_blocks_need_not_wait_for_who_has_acted(tmp_path: Path) -> None:
    seen: list[tuple[int, Phase]] = []
    stage = Stage(tmp_path, on_view=lambda view: seen.append((view.task, view.phase)))

    async def test() -> None:
        await stage.until(lambda: len(seen) >= 2)
        stage.board.phase = Phase.DRAW_PROPOSERS
        await stage.until(lambda: seen[-1] == (stage.part.task, Phase.DRAW_PROPOSERS))

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


def test_what_a_round_begins_with_is_measured_by_whom_a_seat_may_be_drawn_for(tmp_path: Path) -> None:
    """Others would fetch and keep every round's adapter for nothing."""
    stage = Stage(tmp_path)
    stage.board.phase, stage.sender.error = Phase.COMMIT, Unavailable("too few coins")

    async def measure_in(number: int) -> int:
        before, stage.board.round = len(stage.process.evaluated), number
        await stage.until(lambda: stage.part.view is not None and stage.part.view.round == number)
        await trio.sleep(10)
        return len(stage.process.evaluated) - before

    async def test() -> None:
        await stage.until(lambda: stage.opened_at is not None)
        assert await measure_in(2) == 0  # not bonded yet
        stage.sender.error = None
        await stage.until(lambda: stage.part.membership.was_joined)
        assert await measure_in(3) == 1 and stage.process.evaluated[-1] == "hold_out"
        stage.part.leave()
        assert await measure_in(4) == 0

    play(stage, test)


def test_who_was_evicted_measures_nothing_while_its_pay_is_claimed(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.board.phase = Phase.COMMIT

    async def test() -> None:
        await stage.until(lambda: bool(stage.process.evaluated))
        stage.board.rows, stage.board.round, stage.board.due = [], 2, 7
        await stage.until(lambda: "claim" in stage.sender.sent)
        await trio.sleep(10)
        assert len(stage.process.evaluated) == 1 and not stage.is_over

    play(stage, test)


def test_what_a_finished_piece_of_work_found_is_used_at_once(tmp_path: Path) -> None:
    """Not at the next look at the board, up to a second later: a round has four of them."""
    stage = Stage(tmp_path)
    stage.board.wait_new_head = never  # type: ignore[method-assign] # nobody sends anything

    async def look(height: int, jobs: Jobs) -> float:
        began = trio.current_time()
        assert await stage.part._wait_for_news(height, jobs) == height
        return trio.current_time() - began

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            jobs = Jobs(nursery)
            jobs.ensure(("good",), lambda: trio.sleep(0.3))
            assert await look(5, jobs) == pytest.approx(0.3)
            assert await look(5, jobs) == pytest.approx(1.0)
            jobs.ensure(("ended before anybody looks",), lambda: trio.sleep(0))
            await trio.sleep(3)
            assert await look(5, jobs) == 0

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_candidate_is_prepared_until_the_round_after_the_one_that_begins_with_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.board.round = 3

    async def test() -> None:
        await stage.until(lambda: stage.part.view is not None)
        assert stage.part.view is not None
        found = [_still_matters(stage.part.view, ("prepare", stage.part.task, number)) for number in (1, 2, 3)]
        assert found == [False, True, True]

    play(stage, test)


async def never(_height: int) -> int:
    await trio.sleep_forever()
    raise AssertionError


def test_a_task_that_ended_without_this_account_is_over_at_once(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.board.phase = Phase.ENDED

    async def test() -> None:
        await stage.until(lambda: stage.is_over)
        assert stage.error is None and not stage.sender.sent

    play(stage, test)


def test_an_ended_task_that_was_taken_part_in_is_served_on_and_settled_once_all_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "flock_peers.roles.keeper")
    stage = Stage(tmp_path)
    stage.board.due = 3

    async def test() -> None:
        await stage.until(lambda: stage.part.membership.was_joined and stage.part.view is not None)
        stage.board.phase, stage.board.proposers = Phase.ENDED, [ME]
        await stage.until(lambda: "claim" in stage.sender.sent)
        assert not stage.part.is_settled
        assert "earned 0.000000000000000003 coins as a proposer" in caplog.text
        assert (stage.part.read_pay() or {})["total"] == "3"
        stage.board.due = 0
        await stage.until(lambda: stage.part.is_settled)
        assert "earned nothing" not in caplog.text
        stage.board.rows = []  # left, to bond elsewhere
        await trio.sleep(60)
        assert not stage.is_over and stage.part.trainer is not None

    play(stage, test)
