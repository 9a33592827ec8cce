"""A round whose parent nobody serves: who notices, when it says so, and who keeps silent."""

from pathlib import Path

import pytest
import trio
from roles_support import Desk, on_stepped_clock

from flock_chain.errors import Unavailable
from flock_peers.roles.board import Phase, RoundView
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.parent_watch import SEARCH_SECONDS, ParentWatch

NOWHERE = b"x" * 32


def watching(path: Path, nursery: trio.Nursery) -> tuple[Desk, ParentWatch]:
    desk = Desk(path, Jobs(nursery))
    desk.board.terms["commit_seconds"] = 20
    return desk, ParentWatch(desk.library, desk.board, desk.sender, desk.jobs)


async def look(watch: ParentWatch, view: RoundView, seconds: float) -> None:
    await watch.step(view)
    await trio.sleep(seconds)
    await watch.step(view)


@on_stepped_clock
async def test_a_parent_that_nobody_serves_is_said_to_be_missing_once_the_search_is_over(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk, watch = watching(tmp_path, nursery)
        view = desk.view(Phase.COMMIT, adapter=NOWHERE)
        await look(watch, view, SEARCH_SECONDS - 2)
        assert desk.sender.calls == []
        await look(watch, view, 4)
        assert desk.sender.calls == [("attest_missing", view.task, view.round)]
        assert desk.service.asked.count(NOWHERE) > 1  # tried again and again
        desk.sender.under_way.clear()  # it is final: nothing is under way
        await look(watch, view, 4)
        assert len(desk.sender.calls) == 1


@on_stepped_clock
async def test_a_provider_that_stalls_does_not_keep_it_from_saying_so(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk, watch = watching(tmp_path, nursery)
        desk.service.trouble[NOWHERE] = "stall"
        await look(watch, desk.view(Phase.COMMIT, adapter=NOWHERE), SEARCH_SECONDS + 1)
        assert [call[0] for call in desk.sender.calls] == ["attest_missing"]


@on_stepped_clock
@pytest.mark.parametrize("is_first", [True, False])
async def test_a_parent_that_is_here_or_comes_late_is_not_missing(tmp_path: Path, is_first: bool) -> None:
    async with trio.open_nursery() as nursery:
        desk, watch = watching(tmp_path, nursery)
        offer = desk.offer(0)
        adapter = desk.adapter if is_first else offer.delta_digest  # any file: its form is not looked at
        desk.service.trouble[adapter] = Unavailable("not yet")
        view = desk.view(Phase.COMMIT, adapter=adapter)
        await look(watch, view, 8)
        del desk.service.trouble[adapter]
        await look(watch, view, 30)
        assert desk.sender.calls == []


@on_stepped_clock
async def test_nothing_is_said_in_any_other_phase(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk, watch = watching(tmp_path, nursery)
        for phase in set(Phase) - {Phase.COMMIT}:
            await look(watch, desk.view(phase, adapter=NOWHERE), SEARCH_SECONDS + 5)
        assert desk.sender.calls == [] and desk.service.asked == []
