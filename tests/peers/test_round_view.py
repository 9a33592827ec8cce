"""Who a round waits for, read from the board's bitmaps."""

from pathlib import Path

import pytest
import trio
from roles_support import ACCOUNTS, Desk, on_stepped_clock

from flock_chain.crypto import Account
from flock_peers.roles.board import Phase
from flock_peers.roles.jobs import Jobs

A, B, C, D = ACCOUNTS[:4]


@on_stepped_clock
@pytest.mark.parametrize(
    ("phase", "done", "awaited", "enough"),
    [
        (Phase.COMMIT, {"committed": 0b01}, (B,), 1),
        (Phase.REVEAL, {"committed": 0b10, "revealed": 0}, (B,), 1),  # who did not commit has nothing to open
        (Phase.REVEAL, {"committed": 0b11, "revealed": 0b11}, (), None),
        (Phase.AVAILABILITY, {"attested": 0b01}, (D,), 1),
        (Phase.SCORE_COMMIT, {"score_committed": 0b10}, (C,), 1),
        (Phase.SCORE_REVEAL, {"score_committed": 0b11, "score_revealed": 0b01}, (D,), 1),
        (Phase.TALLY, {"tallied": False}, (C, D), 1),
        (Phase.TALLY, {"tallied": True}, (), None),
        (Phase.ADOPT, {"score_revealed": 0b11, "adoption_votes": 0b10}, (C,), 1),
        (Phase.SCORE_COMMIT, {"score_committed": 0}, (C, D), 2),
        (Phase.DRAW_PROPOSERS, {}, (), 0),  # blocks alone
        (Phase.DRAW_VOTERS, {}, (), 0),
        (Phase.WAITING, {}, (), None),
        (Phase.ENDED, {}, (), None),
    ],
)
async def test_a_round_says_who_still_has_to_act_and_how_many_of_them(
    tmp_path: Path, phase: Phase, done: dict[str, int], awaited: tuple[Account, ...], enough: int | None
) -> None:
    async with trio.open_nursery() as nursery:
        view = Desk(tmp_path, Jobs(nursery)).view(phase, proposers=(A, B), voters=(C, D), **done)
        assert (view.awaited(), view.enough()) == (awaited, enough)
        nursery.cancel_scope.cancel()
