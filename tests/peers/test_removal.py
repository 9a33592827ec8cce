"""What an audit's guilt takes out of what the next round builds on."""

from pathlib import Path

import pytest
import trio
from auditor_support import ANN, BOB, EVE
from roles_support import Desk, do, make_delta, make_offer, on_stepped_clock

from flock_chain.aggregation import encode_delta
from flock_chain.errors import Unavailable
from flock_chain.tally import Verdict
from flock_peers.roles.board import Phase
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.library import compute_file_digest


async def adopt_first_round(desk: Desk) -> tuple[bytes, bytes]:
    """Round 1 was adopted with two of three contributions, then the audit found Eve guilty: that adapter, and it less
    hers."""
    offers = [desk.offer(seat) for seat in range(3)]
    deltas = [make_delta(100 + seat) for seat in (0, 2)]
    after = await desk.library.compute_candidate(desk.adapter, deltas)
    verdicts = [Verdict.ACCEPTED, Verdict.REJECTED_LOSS, Verdict.ACCEPTED]
    desk.settle(1, offers, verdicts=verdicts, adapter_after=after)
    desk.board.audit = 2
    desk.board.blamed = {(1, bytes(20)): (9, 1), (1, EVE): (5, 0), (1, ANN): (4, 4)}
    return after, await desk.library.compute_without(after, [(deltas, [1])])


@on_stepped_clock
@pytest.mark.parametrize("is_worse", [False, True])
async def test_a_voter_builds_on_what_is_left_after_an_audit_and_never_on_what_it_took_out(
    tmp_path: Path, is_worse: bool
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        after, without = await adopt_first_round(desk)
        offers = [desk.service.serve(make_offer(BOB, after, encode_delta(make_delta(5)), number=2))]
        candidate = await desk.library.compute_candidate(without, [make_delta(5)])
        path = await desk.library.global_path(candidate)
        desk.trainer.losses = {path.name: 9.0} if is_worse else {}
        view = desk.view(Phase.ADOPT, offers, round=2, adapter=after, proposers=(BOB,), score_revealed=0b10)
        await do(desk.voter.step, view)
        assert desk.sender.sent("attest_adoption") == [(without if is_worse else candidate,)]
        assert len({after, without, candidate, desk.adapter}) == 4


@on_stepped_clock
async def test_what_a_round_did_not_add_is_not_taken_out_later(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        after, without = await adopt_first_round(desk)
        offers = [desk.offer(seat, number=2) for seat in range(3)]
        desk.settle(2, offers, adapter_before=after, adapter_after=without)  # accepted, and not adopted
        desk.board.audit = 3
        desk.board.blamed |= {(2, bytes(20)): (9, 2), (2, BOB): (9, 0)}
        assert await desk.removal.compute_base(3, without) == without


@on_stepped_clock
async def test_without_a_proposal_of_the_guilty_s_round_the_previous_adapter_stays(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        after, _ = await adopt_first_round(desk)
        desk.service.trouble[compute_file_digest(encode_delta(make_delta(102)))] = Unavailable("gone")
        offers = [desk.service.serve(make_offer(BOB, after, encode_delta(make_delta(5)), number=2))]
        view = desk.view(Phase.ADOPT, offers, round=2, adapter=after, proposers=(BOB,), score_revealed=0b10)
        await do(desk.voter.step, view, 120)
        assert desk.sender.sent("attest_adoption") == [(after,)]
