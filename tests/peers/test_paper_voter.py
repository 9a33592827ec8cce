"""The voter's part where a task votes on the aggregate: what is committed, what is opened, and after a restart."""

from pathlib import Path

import pytest
import trio
from roles_support import CHAIN_ID, ME, TASK, Desk, Offer, do, make_delta, on_stepped_clock

from flock_chain.aggregation import apply, encode_global
from flock_chain.errors import Unavailable
from flock_chain.paper_rule import ABSTAIN
from flock_chain.proposal import compute_vote_commitment
from flock_contracts.addresses import BOARD
from flock_peers.roles.board import Phase, RoundView
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.library import compute_file_digest
from flock_peers.training.document import compute_initial_adapter


def paper_desk(path: Path, nursery: trio.Nursery) -> Desk:
    desk = Desk(path, Jobs(nursery))
    desk.board.terms["voting_rule"] = 1
    return desk


def candidate_of(desk: Desk, *seats: int) -> bytes:
    before = compute_initial_adapter(desk.library.document)
    return compute_file_digest(encode_global(apply(before, [make_delta(100 + seat) for seat in seats])))


def revealing(desk: Desk, offers: list[Offer]) -> RoundView:
    return desk.view(Phase.SCORE_REVEAL, offers, score_committed=0b10)


@on_stepped_clock
@pytest.mark.parametrize(("loss", "approves"), [(0.9, True), (1.05, True), (1.050001, False), (float("inf"), False)])
async def test_a_vote_names_the_candidate_of_the_whole_input_set_or_the_adapter_before(
    tmp_path: Path, loss: float, approves: bool
) -> None:
    async with trio.open_nursery() as nursery:
        desk = paper_desk(tmp_path, nursery)
        offers = [desk.offer(0), desk.offer(1), desk.offer(2)]
        candidate = candidate_of(desk, 0, 2)
        desk.trainer.losses = {candidate.hex(): loss}
        await do(desk.voter.step, desk.view(Phase.SCORE_COMMIT, offers, held_set=0b101))
        await desk.voter.step(revealing(desk, offers))
        choice, salt = desk.sender.sent("reveal_vote")[0]
        assert choice == (candidate if approves else desk.adapter)
        digest = compute_vote_commitment(CHAIN_ID, BOARD, TASK, 1, ME, choice, salt)
        assert desk.sender.sent("commit_scores") == [(digest,)]
        assert desk.trainer.measured == [] and desk.sender.sent("reveal_scores") == []


@on_stepped_clock
async def test_a_peer_that_was_killed_after_committing_opens_the_same_vote(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = paper_desk(tmp_path, nursery)
        offers = [desk.offer(0)]
        await do(desk.voter.step, desk.view(Phase.SCORE_COMMIT, offers))
        again = paper_desk(tmp_path, nursery)
        again.trainer.losses = {candidate_of(desk, 0).hex(): 9.0}  # it would vote otherwise now
        await again.voter.step(desk.view(Phase.SCORE_COMMIT, offers))
        await again.voter.step(revealing(desk, offers))
        assert again.sender.sent("commit_scores") == desk.sender.sent("commit_scores")
        assert again.sender.sent("reveal_vote")[0][0] == candidate_of(desk, 0)


@on_stepped_clock
async def test_no_vote_is_committed_until_the_whole_input_set_is_here(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = paper_desk(tmp_path, nursery)
        offers = [desk.offer(0), desk.offer(1)]
        desk.service.trouble[offers[1].delta_digest] = Unavailable("gone")
        view = desk.view(Phase.SCORE_COMMIT, offers)
        await do(desk.voter.step, view)
        assert desk.sender.calls == []
        del desk.service.trouble[offers[1].delta_digest]
        await trio.sleep(30)
        await desk.voter.step(view)
        assert len(desk.sender.sent("commit_scores")) == 1


@on_stepped_clock
async def test_who_is_not_served_a_proposal_abstains_in_half_of_the_phase(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = paper_desk(tmp_path, nursery)
        desk.board.terms["score_commit_seconds"] = 60
        offers = [desk.offer(0), desk.offer(1)]
        desk.service.trouble[offers[1].delta_digest] = Unavailable("gone")
        view, began = desk.view(Phase.SCORE_COMMIT, offers), trio.current_time()
        while not desk.sender.sent("commit_scores"):
            await desk.voter.step(view)
            await trio.sleep(1)
        assert 30 <= trio.current_time() - began < 50
        await desk.voter.step(revealing(desk, offers))
        assert desk.sender.sent("reveal_vote")[0][0] == ABSTAIN


@on_stepped_clock
async def test_a_lost_record_reveals_nothing_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with trio.open_nursery() as nursery:
        desk = paper_desk(tmp_path, nursery)
        await desk.voter.step(revealing(desk, [desk.offer(0)]))
        assert desk.sender.calls == [] and "the record is gone" in caplog.text
