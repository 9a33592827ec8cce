"""What a voter does before it is asked for, and that nothing of it counts where the round goes another way."""

from functools import partial
from pathlib import Path

import pytest
import trio
from roles_support import TASK, Desk, do, expect_candidate, make_delta, on_stepped_clock

from flock_chain.errors import Unavailable
from flock_chain.tally import FILTER_NO_SCORE, FILTER_NORM_SLASH, SEATS_MAX, Verdict
from flock_peers.roles.board import Phase, RoundView
from flock_peers.roles.candidate import foresee_accepted
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.participant import _still_matters

TERMS = {"loss_limit": 20_000, "mad_multiple": 12}


async def prepare(desk: Desk, view: RoundView) -> None:
    """And time for what that begins."""
    desk.voter.prepare(view)
    await trio.sleep(30)


@on_stepped_clock
async def test_who_does_not_propose_measures_what_the_round_begins_with_while_others_train(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        for _ in range(3):
            await prepare(desk, desk.view(Phase.COMMIT, [desk.offer(0)], voters=()))
        assert desk.trainer.evaluated == [desk.adapter.hex()] and desk.sender.calls == []


@on_stepped_clock
async def test_a_proposer_leaves_the_trainer_to_its_training(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        await prepare(desk, desk.view(Phase.COMMIT, [desk.offer(0)], proposers=(desk.identity.account,), voters=()))
        assert desk.trainer.evaluated == []


@on_stepped_clock
@pytest.mark.parametrize("trouble", [Unavailable("not served to this voter"), OSError(28, "no space left")])
async def test_a_base_that_is_not_here_yet_is_left_to_be_measured_where_it_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, trouble: Exception
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        desk.service.trouble[bytes(32)] = trouble
        await prepare(desk, desk.view(Phase.COMMIT, adapter=bytes(32), voters=()))
        assert desk.trainer.evaluated == [] and not [row for row in caplog.records if row.levelname == "WARNING"]


@pytest.mark.parametrize(
    ("number", "phase", "matters"), [(1, Phase.COMMIT, True), (1, Phase.DRAW_VOTERS, False), (2, Phase.COMMIT, False)]
)
def test_measuring_the_base_is_given_up_when_votes_are_due(
    tmp_path: Path, number: int, phase: Phase, matters: bool
) -> None:
    async def look() -> None:
        async with trio.open_nursery() as nursery:
            view = Desk(tmp_path, Jobs(nursery)).view(phase, round=number)
            assert _still_matters(view, ("weigh", TASK, 1)) == matters

    trio.run(look)


@on_stepped_clock
async def test_what_was_measured_then_is_what_the_votes_of_the_round_ask_for(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        base = await desk.library.compute_candidate(desk.adapter, [make_delta(7)])
        await prepare(desk, desk.view(Phase.COMMIT, adapter=base, voters=()))
        await do(desk.voter.step, desk.view(Phase.SCORE_COMMIT, [desk.offer(0, parent=base)], adapter=base))
        await trio.sleep(30)  # the candidate is foreseen
        candidate = desk.trainer.evaluated.pop()
        assert desk.trainer.starts == [base.hex()]
        assert desk.trainer.evaluated == [base.hex()] * 2 and candidate != base.hex()


@on_stepped_clock
async def test_a_base_that_is_still_being_measured_then_is_let_go(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        jobs = Jobs(nursery)
        desk = Desk(tmp_path, jobs)
        desk.trainer.evaluation_seconds, key = 100.0, ("weigh", TASK, 3)
        await prepare(desk, desk.view(Phase.COMMIT, round=3, voters=()))
        for phase, is_running in ((Phase.COMMIT, True), (Phase.DRAW_VOTERS, False)):
            jobs.cancel_all_but(partial(_still_matters, desk.view(phase, round=3)))
            await trio.sleep(1)
            assert jobs.is_running(key) == is_running and not jobs.is_done(key)


@on_stepped_clock
async def test_in_no_other_phase_is_the_base_measured_by_who_has_no_seat(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        for phase in set(Phase) - {Phase.COMMIT}:
            await prepare(desk, desk.view(phase, [desk.offer(0)], voters=()))
        assert desk.trainer.evaluated == []


@on_stepped_clock
async def test_what_is_revealed_is_fetched_while_other_proposers_are_waited_for(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1)]
        await do(desk.voter.step, desk.view(Phase.REVEAL, offers, revealed=0b01))
        assert desk.store.file_path(offers[0].delta_digest) is not None
        assert desk.store.file_path(offers[1].delta_digest) is None
        assert desk.sender.calls == []


@on_stepped_clock
async def test_what_this_voter_holds_is_scored_at_once_and_committed_to_when_all_hold_the_same(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1)]
        await do(desk.voter.step, desk.view(Phase.AVAILABILITY, offers))
        await do(desk.voter.step, desk.view(Phase.AVAILABILITY, offers, attested=0b10))
        names = [offer.delta_digest.hex() for offer in offers]
        assert desk.trainer.measured == [names]
        assert desk.secrets.load(TASK, 1, "scores") is None  # nothing is committed to by then
        await desk.voter.step(desk.view(Phase.SCORE_COMMIT, offers))
        assert len(desk.sender.sent("commit_scores")) == 1 and desk.trainer.measured == [names]
        record = desk.secrets.load(TASK, 1, "scores")
        assert record is not None and record["scores"][:2] == [-1_000, -2_000]


@on_stepped_clock
async def test_scores_of_another_set_than_the_one_that_all_hold_are_not_committed_to(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1)]
        await do(desk.voter.step, desk.view(Phase.AVAILABILITY, offers))
        await do(desk.voter.step, desk.view(Phase.SCORE_COMMIT, offers, held_set=0b10))
        assert desk.trainer.measured[-1] == [offers[1].delta_digest.hex()]
        record = desk.secrets.load(TASK, 1, "scores")
        assert record is not None and record["scores"][:2] == [0, -1_000]
        assert len(desk.sender.sent("commit_scores")) == 1


@on_stepped_clock
async def test_scoring_that_is_under_way_for_another_set_is_given_up(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        jobs = Jobs(nursery)
        desk = Desk(tmp_path, jobs)
        desk.board.terms["audit_rounds"] = 2  # auditing takes a while
        offers = [desk.offer(0), desk.offer(1)]
        await do(desk.voter.step, desk.view(Phase.AVAILABILITY, offers), 1.0)
        assert jobs.is_running(("score", TASK, 1, 0b11))
        await desk.voter.step(desk.view(Phase.SCORE_COMMIT, offers, held_set=0b10))
        await trio.sleep(0.1)
        assert not jobs.is_running(("score", TASK, 1, 0b11)) and jobs.is_running(("score", TASK, 1, 0b10))


@on_stepped_clock
async def test_nothing_is_scored_ahead_of_time_by_who_does_not_hold_all_that_was_revealed(tmp_path: Path) -> None:
    """The set that all hold may be another one then, and would wait for a trainer that measures this one."""
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1)]
        desk.service.trouble[offers[1].digest] = Unavailable("not served to this voter")
        await do(desk.voter.step, desk.view(Phase.AVAILABILITY, offers))
        await trio.sleep(1)
        assert desk.sender.sent("attest_available") == [(0b01, 0)] and desk.trainer.measured == []


@on_stepped_clock
@pytest.mark.parametrize("is_foreseen", [True, False])
async def test_measuring_another_candidate_than_the_accepted_one_is_given_up(tmp_path: Path, is_foreseen: bool) -> None:
    async with trio.open_nursery() as nursery:
        jobs = Jobs(nursery)
        desk = Desk(tmp_path, jobs)
        desk.trainer.evaluation_seconds = 20.0
        offers = [desk.offer(0), desk.offer(1)]
        await do(desk.voter.step, desk.view(Phase.SCORE_COMMIT, offers), 5.0)
        await trio.sleep(1)
        assert jobs.is_running(("foresee", TASK, 1))
        verdicts = (Verdict.ACCEPTED, Verdict.ACCEPTED if is_foreseen else Verdict.REJECTED_LOSS)
        await desk.voter.step(desk.view(Phase.ADOPT, offers, score_revealed=0b10, verdicts=verdicts))
        await trio.sleep(1)
        assert jobs.is_running(("foresee", TASK, 1)) == is_foreseen


@on_stepped_clock
async def test_who_holds_nothing_scores_nothing_ahead_of_time(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        jobs = Jobs(nursery)
        desk = Desk(tmp_path, jobs)
        offers = [desk.offer(0)]
        desk.service.trouble[offers[0].digest] = Unavailable("gone")
        await do(desk.voter.step, desk.view(Phase.AVAILABILITY, offers))
        await trio.sleep(1)
        assert desk.sender.sent("attest_available") == [(0, 0)]
        assert not jobs.is_running(("score", TASK, 1, 0)) and not jobs.is_done(("score", TASK, 1, 0))


@on_stepped_clock
async def test_the_candidate_is_measured_while_others_still_score_and_once(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1)]
        await do(desk.voter.step, desk.view(Phase.SCORE_COMMIT, offers))
        await trio.sleep(30)
        candidate = expect_candidate(desk, 0, 1).hex()
        assert desk.trainer.evaluated == [desk.adapter.hex(), candidate]
        await do(desk.voter.step, desk.view(Phase.ADOPT, offers, score_revealed=0b10))
        assert desk.sender.sent("attest_adoption") == [(bytes.fromhex(candidate),)]
        assert desk.trainer.evaluated == [desk.adapter.hex(), candidate]


@on_stepped_clock
async def test_a_verdict_that_was_not_foreseen_has_its_own_candidate_measured(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1)]
        await do(desk.voter.step, desk.view(Phase.SCORE_COMMIT, offers))
        await trio.sleep(30)
        verdicts = (Verdict.REJECTED_LOSS, Verdict.ACCEPTED)
        candidate = expect_candidate(desk, 1).hex()
        desk.trainer.losses = {candidate: 2.0}  # worse, so the previous one stays
        await do(desk.voter.step, desk.view(Phase.ADOPT, offers, score_revealed=0b10, verdicts=verdicts))
        assert desk.trainer.evaluated[-1] == candidate
        assert desk.sender.sent("attest_adoption") == [(desk.adapter,)]


@on_stepped_clock
async def test_a_candidate_that_cannot_be_foreseen_costs_no_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1)]
        desk.service.trouble[offers[1].delta_digest] = Unavailable("gone")
        await do(desk.voter.step, desk.view(Phase.SCORE_COMMIT, offers))
        await trio.sleep(30)
        assert desk.trainer.evaluated[1:] == [expect_candidate(desk, 0).hex()] and "foresee" not in caplog.text


def test_who_is_foreseen_as_accepted_is_whom_the_own_scores_would_accept() -> None:
    padding = [0] * (SEATS_MAX - 4)
    scores = [-1_000, 50_000, -1_000, -1_000, *padding]
    filters = [0, 0, FILTER_NORM_SLASH, FILTER_NO_SCORE, *padding]
    record = {"scores": scores, "filters": filters}
    assert foresee_accepted(record, 0b11111, TERMS) == [0, 4]
    assert foresee_accepted(record, 0b00110, TERMS) == []
