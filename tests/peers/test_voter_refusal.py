"""What a voter refuses of what an audit would find guilty."""

from pathlib import Path

import pytest
import trio
from auditor_support import file_name, kept_seeds
from roles_support import Desk, do, on_stepped_clock

from flock_chain.audit_rule import GUILTY_FROM
from flock_chain.tally import SCORE_LIMIT, SEATS_MAX
from flock_peers.roles.board import Phase
from flock_peers.roles.jobs import Jobs


@on_stepped_clock
@pytest.mark.parametrize(("audit_rounds", "refused"), [(0, []), (1, [0, 2]), (2, [0, 2])])
async def test_a_proposal_that_an_audit_would_find_guilty_is_scored_as_harmful(
    tmp_path: Path, audit_rounds: int, refused: list[int]
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        desk.board.terms["audit_rounds"] = audit_rounds
        offers = [desk.offer(seat) for seat in range(3)]
        view = desk.view(Phase.AVAILABILITY, offers)
        await do(desk.voter.step, view)  # now they are here
        desk.trainer.recited = {
            file_name(desk, offers[0]): GUILTY_FROM, file_name(desk, offers[2]): 900_000,
            file_name(desk, offers[1]): GUILTY_FROM - 1,
        }  # fmt: skip
        await do(desk.voter.step, desk.view(Phase.SCORE_COMMIT, offers, seed_height=9))
        await desk.voter.step(desk.view(Phase.SCORE_REVEAL, offers, score_committed=0b10, seed_height=9))
        ((scores, _, _),) = desk.sender.sent("reveal_scores")
        assert [index for index in range(SEATS_MAX) if scores[index] == SCORE_LIMIT] == refused
        assert len(desk.trainer.audited) == (1 if audit_rounds else 0)
        for _, *seeds in desk.trainer.audited:
            assert tuple(seeds) == await kept_seeds(desk, 1, "scores", view, b"flock recital")
