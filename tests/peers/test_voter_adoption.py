"""The voter's tally and its vote on the candidate."""

from pathlib import Path

import pytest
import trio
from roles_support import Desk, Offer, do, expect_candidate, on_stepped_clock

from flock_chain.errors import Unavailable
from flock_chain.tally import SEATS_MAX, Verdict, compute_tally
from flock_peers.roles.board import Phase, RoundView
from flock_peers.roles.jobs import Jobs


def adopting(desk: Desk, offers: list[Offer], **changes: object) -> RoundView:
    return desk.view(Phase.ADOPT, offers, score_revealed=0b10, **changes)


@on_stepped_clock
@pytest.mark.parametrize(
    ("loss", "is_adopted"),
    [(0.9, True), (1.05, True), (1.050001, False), (float("nan"), False)],
)
async def test_a_candidate_that_is_worse_on_the_own_hold_out_gets_a_vote_for_the_previous_adapter(
    tmp_path: Path, loss: float, is_adopted: bool
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        candidate = expect_candidate(desk, 0, 1)
        desk.trainer.losses = {candidate.hex(): loss}
        await do(desk.voter.step, adopting(desk, [desk.offer(0), desk.offer(1)]))
        assert desk.sender.sent("attest_adoption") == [(candidate if is_adopted else desk.adapter,)]


@on_stepped_clock
async def test_only_accepted_proposals_are_in_the_candidate(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1), desk.offer(2)]
        desk.service.trouble[offers[1].digest] = "stall"
        verdicts = (Verdict.ACCEPTED, Verdict.REJECTED_LOSS, Verdict.ACCEPTED)
        await do(desk.voter.step, adopting(desk, offers, verdicts=verdicts))
        assert desk.sender.sent("attest_adoption") == [(expect_candidate(desk, 0, 2),)]


@on_stepped_clock
async def test_no_vote_is_cast_until_every_accepted_proposal_is_here(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1)]
        desk.service.trouble[offers[1].delta_digest] = Unavailable("gone")
        await do(desk.voter.step, adopting(desk, offers))
        assert desk.sender.calls == [] and "an accepted proposal is not here yet" in caplog.text
        del desk.service.trouble[offers[1].delta_digest]
        await trio.sleep(30)
        await desk.voter.step(adopting(desk, offers))
        assert desk.sender.sent("attest_adoption") == [(expect_candidate(desk, 0, 1),)]


@on_stepped_clock
async def test_who_is_not_served_an_accepted_proposal_keeps_the_previous_adapter_before_the_phase_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Silence here is an absence, which costs a part of the bond: another's deed must not cost this voter anything."""
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1)]
        desk.service.trouble[offers[1].delta_digest] = Unavailable("gone")
        seconds = desk.board.terms["adopt_seconds"]
        await do(desk.voter.step, adopting(desk, offers))
        await trio.sleep(seconds / 4)
        await desk.voter.step(adopting(desk, offers))
        assert desk.sender.calls == []
        await trio.sleep(seconds / 2)
        await desk.voter.step(adopting(desk, offers))
        assert desk.sender.sent("attest_adoption") == [(desk.adapter,)] and "the previous one stays" in caplog.text


@on_stepped_clock
@pytest.mark.parametrize("changes", [{"score_revealed": 0b01}, {"adoption_votes": 0b10}])
async def test_who_did_not_reveal_or_has_voted_does_not_vote(tmp_path: Path, changes: dict[str, int]) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        view = desk.view(Phase.ADOPT, [desk.offer(0)], **{"score_revealed": 0b10, **changes})
        await do(desk.voter.step, view)
        assert desk.sender.calls == []


@on_stepped_clock
async def test_the_tally_that_is_sent_is_the_reference_over_who_revealed(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        padding = [0] * (SEATS_MAX - 2)
        desk.board.scores = {
            0: ([-5_000, 7_000, *padding], [0] * SEATS_MAX),
            1: ([-1_000, 9_000, *padding], [0] * SEATS_MAX),
        }
        offers = [desk.offer(0), desk.offer(1)]
        await do(desk.voter.step, desk.view(Phase.TALLY, offers, score_revealed=0b10))
        scores, filters = desk.board.scores[1]
        tally = compute_tally([scores], [filters], 0b11, 20_000, 12)
        assert desk.sender.sent("tally") == [(list(tally.medians), tally.center, tally.mad)]
