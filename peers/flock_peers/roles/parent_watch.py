"""Whether the adapter with which a round begins can be had; says so on chain where it cannot. Trains and votes nothing.

Every participant looks, seated or not: an adoption that nobody serves is undone by two thirds of the stake alone.
"""

import logging

import trio

from flock_chain.errors import FlockError
from flock_peers.roles.board import Phase, RoundView, Views
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.library import Library
from flock_peers.roles.sender import Sender

log = logging.getLogger(__name__)

SEARCH_SHARE = 1 / 2  # of the time for training: late enough for a slow provider, and early enough to be counted
SEARCH_SECONDS = 20.0  # at least
RETRY_SECONDS = 3.0


class ParentWatch:
    """`step` once per head; acts in COMMIT alone."""

    def __init__(self, library: Library, views: Views, sender: Sender, jobs: Jobs) -> None:
        self._library, self._views, self._sender, self._jobs = library, views, sender, jobs
        self._said = 0  # the last round; said once more after a restart, it fails and costs its gas

    async def step(self, view: RoundView) -> None:
        if view.phase is not Phase.COMMIT or view.adapter == self._library.initial_digest:
            return  # the first adapter follows from the document
        key = ("parent", view.task, view.round)
        if self._jobs.ensure(key, lambda: self._search(view)) is False and self._said != view.round:
            label = f"attest_missing {view.task}/{view.round}"
            if await self._sender.call(label, "TaskBoard", "attest_missing", view.task, view.round):
                self._said = view.round

    async def _search(self, view: RoundView) -> bool:
        terms = (await self._views.view("TaskBoard", "task_view", view.task))["terms"]
        seconds = max(SEARCH_SECONDS, SEARCH_SHARE * terms["commit_seconds"])
        with trio.move_on_after(seconds):
            while True:
                try:
                    await self._library.global_path(view.adapter)
                    return True
                except (FlockError, OSError) as error:
                    log.info("round %d: its parent is not here yet: %s", view.round, error)
                await trio.sleep(RETRY_SECONDS)
        log.warning("round %d: its parent %s cannot be had: saying so", view.round, view.adapter.hex()[:12])
        return False
