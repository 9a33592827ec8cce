"""What a participant says of accusations: what it recomputes, once, and nothing that it cannot know."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from roles_support import ME, PROPOSERS, Desk, Offer, make_delta, make_offer, on_stepped_clock

from flock_chain.aggregation import encode_delta
from flock_chain.errors import Unavailable
from flock_chain.tally import Verdict
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.jury import LOOKS_AT_ONCE

LARGE = 5.0  # outside the task's ball, and far above three times the others' norm
NORMS = [Verdict.ACCUSED_NORM, Verdict.ACCUSED_NORM, Verdict.ACCEPTED]


def accuse(desk: Desk, offers: Sequence[Offer], open_: int = 0b011, **changes: Any) -> None:
    """Round 1: these accusations are open; this account was eligible, and has said nothing yet."""
    desk.settle(1, offers, **{"verdicts": NORMS, **changes})
    desk.board.cases[1] = {"open": open_, "until": desk.board.chain_time + 300}
    desk.board.says[1] = (7, 0)


def three(desk: Desk) -> list[Offer]:
    return [desk.offer(0), desk.offer(1, delta=encode_delta(make_delta(9, LARGE))), desk.offer(2)]


async def look(desk: Desk, steps: int = 10, *, current: int = 2, is_ended: bool = False) -> None:
    for _ in range(steps):
        await desk.jury.step(current, is_ended)
        await trio.sleep(1)


@on_stepped_clock
async def test_true_and_false_accusations_of_norms_are_told_apart_by_the_exact_filter(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        accuse(desk, three(desk))
        await look(desk)
        assert desk.sender.calls == [("confirm", 1, 1, 0b010, 0b001)]
        assert desk.jury.judged_until == 1  # until it is final
        desk.board.says[1] = (7, 0b011)
        desk.sender.under_way.clear()
        await look(desk)
        assert len(desk.sender.calls) == 1 and desk.jury.judged_until == 2


@on_stepped_clock
async def test_accusations_of_bytes_are_judged_one_by_one(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1, delta=b"no adapter"), desk.offer(2)]
        desk.service.trouble[offers[2].delta_digest] = Unavailable("served to the committee alone")
        accuse(desk, offers, 0b111, verdicts=[Verdict.INVALID] * 3, held_set=0)
        await look(desk)
        assert [call[0] for call in desk.sender.calls] == ["confirm"] * len(desk.sender.calls)
        guilty, innocent = 0, 0
        for call in desk.sender.calls:
            guilty, innocent = guilty | call[3], innocent | call[4]
        assert (guilty, innocent) == (0b010, 0b001), "of the third it cannot know"


@on_stepped_clock
async def test_without_the_whole_input_set_nothing_is_said_of_norms_and_what_comes_late_is_judged(
    tmp_path: Path,
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = three(desk)
        desk.service.trouble[offers[2].delta_digest] = Unavailable("away")
        accuse(desk, offers)
        await look(desk, 20)
        assert desk.sender.calls == []
        del desk.service.trouble[offers[2].delta_digest]
        await look(desk, 20)
        assert desk.sender.calls == [("confirm", 1, 1, 0b010, 0b001)]


@on_stepped_clock
async def test_who_was_not_eligible_says_nothing_and_nobody_judges_itself(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        accuse(desk, three(desk))
        desk.board.says[1] = (0, 0)
        await look(desk)
        assert desk.sender.calls == [] and desk.jury.judged_until == 2
        other = Desk(tmp_path / "other", Jobs(nursery))
        accuse(other, three_of_mine(other), proposers=(ME, *PROPOSERS[1:]))
        await look(other, 20)
        assert other.sender.calls == [("confirm", 1, 1, 0b010, 0)], "of the other alone"


def three_of_mine(desk: Desk) -> list[Offer]:
    """As `three`, but the first is this account's own."""
    own = desk.service.serve(make_offer(ME, desk.adapter, encode_delta(make_delta(100)), number=1))
    return [own, *three(desk)[1:]]


@on_stepped_clock
async def test_the_accused_takes_its_bond_back_when_the_time_is_over(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        accuse(desk, three_of_mine(desk), proposers=(ME, *PROPOSERS[1:]))
        desk.board.says[1] = (0, 0)  # no share in what all stake says
        desk.board.chain_time += 300
        await look(desk)
        assert desk.sender.calls == [] and desk.jury.judged_until == 1
        desk.board.chain_time += 1
        await look(desk)
        assert desk.sender.calls == [("lift", 1, 1)] and desk.jury.judged_until == 1, "until it is free"
        desk.board.cases[1]["open"] = 0b010
        await look(desk)
        assert len(desk.sender.calls) == 1 and desk.jury.judged_until == 2


@on_stepped_clock
async def test_what_others_are_accused_of_is_let_go_when_the_time_is_over(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        accuse(desk, three(desk))
        desk.board.chain_time += 301
        await look(desk)
        assert desk.sender.calls == [] and desk.jury.judged_until == 2


@on_stepped_clock
async def test_a_running_round_is_judged_at_once_and_looked_at_until_it_has_ended(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        await look(desk, 2, current=1)
        accuse(desk, three(desk))
        await look(desk, current=1)
        assert desk.sender.calls == [("confirm", 1, 1, 0b010, 0b001)]
        desk.board.says[1] = (7, 0b011)
        await look(desk, current=1)
        assert desk.jury.judged_until == 1
        await look(desk, current=1, is_ended=True)
        assert desk.jury.judged_until == 2


@pytest.mark.parametrize("scale", [2.5e-2, 4e-2], ids=["below three times the median", "inside the task's ball"])
def test_a_norm_that_is_only_rejected_is_no_guilt(tmp_path: Path, scale: float) -> None:
    @on_stepped_clock
    async def judge() -> None:
        async with trio.open_nursery() as nursery:
            desk = Desk(tmp_path, Jobs(nursery))
            accuse(desk, [desk.offer(0), desk.offer(1, delta=encode_delta(make_delta(9, scale))), desk.offer(2)], 0b010)
            await look(desk)
            assert desk.sender.calls == [("confirm", 1, 1, 0, 0b010)]

    judge()


@on_stepped_clock
async def test_an_input_set_that_holds_no_proposal_is_judged_by_nobody(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0, delta=b"no adapter"), *three(desk)[1:]]
        accuse(desk, offers)
        await look(desk, 20)
        assert desk.sender.calls == []
        assert desk.service.asked == [offers[0].digest]


@on_stepped_clock
async def test_nothing_is_asked_for_any_more_when_the_time_to_judge_is_over(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = three(desk)
        accuse(desk, offers, verdicts=[Verdict.INVALID, *NORMS[1:]])
        for offer, trouble in ((offers[0], Unavailable("away")), (offers[2], MemoryError("no room"))):
            desk.service.trouble[offer.delta_digest] = trouble
        await look(desk, 1)
        await trio.sleep(310)
        asked = len(desk.service.asked)
        assert asked > 20
        await look(desk, 30)
        assert len(desk.service.asked) == asked and desk.sender.calls == []


@on_stepped_clock
async def test_after_a_restart_in_a_long_task_some_rounds_are_looked_at_in_each_step(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        for seen in (LOOKS_AT_ONCE, 2 * LOOKS_AT_ONCE, 2 * LOOKS_AT_ONCE + 5):
            await desk.jury.step(2 * LOOKS_AT_ONCE + 5, True)
            assert desk.jury.judged_until == seen + 1
