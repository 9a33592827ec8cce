"""The deltas of a task's earlier rounds, by content id: who proposes one of them again has trained nothing.

Counts what two thirds of a round's voters held, so that every voter means the same ones. Decides no verdict.
"""

import logging

import trio

from flock_chain.errors import FlockError, InvalidRemote
from flock_peers.roles.board import RoundResult, Views, bits, read_result
from flock_peers.roles.library import Library

log = logging.getLogger(__name__)

LOOKUP_SECONDS = (
    3.0  # for one proposal: what was held is here as a rule, and one that is gone must not take all the time
)
LOOKUPS_AT_ONCE = 4  # each parses a delta; a task of many rounds must not fill the memory after a restart


class EarlierDeltas:
    """Learns each proposal once per run, the newest rounds first."""

    def __init__(self, library: Library, views: Views) -> None:
        self._library, self._views = library, views
        self._known: dict[tuple[int, int], bytes] = {}  # by round and proposer index
        self._complete: set[int] = set()  # rounds
        self._limit = trio.CapacityLimiter(LOOKUPS_AT_ONCE)

    def has(self, delta: bytes, before: int) -> bool:
        """Whether a round below `before` held it."""
        return any(known == delta for (number, _), known in self._known.items() if number < before)

    async def learn(self, before: int, seconds: float) -> None:
        """What the rounds below `before` held, as far as it can be had in time; never raises for what cannot."""
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for number in range(before - 1, 0, -1):
                    if number not in self._complete:
                        await self._learn_round(number, nursery)

    async def _learn_round(self, number: int, nursery: trio.Nursery) -> None:
        try:
            result = await read_result(self._views, self._library.task, number)
        except FlockError as error:
            log.warning("round %d: its result cannot be read: %s", number, error)
            return
        missing = [index for index in bits(result.held_set) if (number, index) not in self._known]
        if not missing:
            self._complete.add(number)
        for index in missing:
            nursery.start_soon(self._look_up, result, index)

    async def _look_up(self, result: RoundResult, index: int) -> None:
        name = (result.round, index)
        async with self._limit:
            try:
                with trio.move_on_after(LOOKUP_SECONDS):
                    proposal = await self._library.fetch_proposal(
                        result.round, index, result.proposers[index], result.manifests[index], result.adapter_before
                    )
                    self._known[name] = proposal.manifest.delta
            except InvalidRemote:
                self._known[name] = b""  # nothing that could be proposed again
            except (FlockError, OSError, MemoryError) as error:
                log.info("round %d: proposal %d cannot be compared with later ones: %s", *name, error)
