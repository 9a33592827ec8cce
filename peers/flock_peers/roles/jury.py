"""What this account says of accusations: it recomputes them from the proposals that it keeps. Trains nothing.

A round's committee only accuses, for a minority of the stake can capture it; more than half of all stake convicts.
Every participant says what it found, seated or not; who lacks a byte that it would need stays silent.
"""

import logging
from collections.abc import Mapping
from typing import Any

import trio

from flock_chain.aggregation import filter_bits
from flock_chain.crypto import Account
from flock_chain.errors import FlockError, InvalidRemote
from flock_chain.tally import FILTER_NORM_SLASH, Verdict
from flock_peers.roles.board import RoundResult, Views, bits, read_result
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.library import Library, Proposal
from flock_peers.roles.sender import Sender

log = logging.getLogger(__name__)

LOOKS_AT_ONCE = 32  # rounds in one step: after a restart in a long task the seats come first
RETRY_SECONDS = 5.0  # between two attempts to get what an accusation is about


class Jury:
    """`step` once per head, also after the task's end; the board is the only memory of what was said."""

    def __init__(self, account: Account, library: Library, views: Views, sender: Sender, jobs: Jobs) -> None:
        self._account, self._library, self._views = account, library, views
        self._sender, self._jobs = sender, jobs
        self._next = 1  # all rounds below have ended, and were looked at
        self._open: set[int] = set()  # of those, where something is left to say, or to take back

    @property
    def judged_until(self) -> int:
        """In all rounds below, nothing is left for this account to say or to take back."""
        return min(self._open, default=self._next)

    async def step(self, current_round: int, is_ended: bool) -> None:
        """A running round's accusations are judged at once, but it is looked at again until it has ended."""
        for number in sorted(self._open):
            if await self._look(number):
                self._open.discard(number)
        for number in range(self._next, min(current_round + 1, self._next + LOOKS_AT_ONCE)):
            is_done = await self._look(number)
            if number < current_round or is_ended:
                self._next = number + 1
                if not is_done:
                    self._open.add(number)

    async def _look(self, number: int) -> bool:
        """Whether nothing is left to do here."""
        task = self._library.task
        case = await self._views.view("TaskBoard", "case_view", task, number)
        if case["open"] == 0:
            return True
        result = await read_result(self._views, task, number)
        mine = sum(1 << index for index, account in enumerate(result.proposers) if account == self._account)
        left = case["until"] - await self._views.view("Beacon", "chain_time")
        if left < 0:
            if case["open"] & mine:
                log.info("round %d: what this account was accused of was not confirmed: taking its bond back", number)
                await self._sender.call(f"lift {task}/{number}", "TaskBoard", "lift", task, number)
            return not case["open"] & mine
        share, said = await self._views.view("TaskBoard", "say_of", task, number, self._account)
        wanted = case["open"] & ~said & ~mine  # nobody judges itself
        if share > 0 and wanted:
            await self._say(result, wanted, left)
        return not case["open"] & mine and (share == 0 or not wanted)

    async def _say(self, result: RoundResult, wanted: int, seconds: float) -> None:
        guilty = innocent = 0
        for index in bits(wanted):
            found = self._find(result, index, seconds)
            if found is not None:
                guilty |= found << index
                innocent |= (not found) << index
        label = f"confirm {result.task}/{result.round} {guilty} {innocent}"
        call = ("TaskBoard", "confirm", result.task, result.round, guilty, innocent)
        if guilty | innocent and await self._sender.call(label, *call):
            log.info("round %d: accusations found true: %s, false: %s", result.round, bits(guilty), bits(innocent))

    def _find(self, result: RoundResult, index: int, seconds: float) -> bool | None:
        """Whether the accusation is true; None: not known yet, or nothing this account could judge."""
        if result.verdicts[index] is Verdict.INVALID:
            key = ("judge", result.task, result.round, index)
            found: bool | None = self._jobs.ensure(key, lambda: self._is_malformed(result, index, seconds))
            return found
        norms: Mapping[int, bool] | None = self._jobs.ensure(
            ("judge", result.task, result.round), lambda: self._find_large_norms(result, seconds)
        )
        return None if norms is None else norms.get(index)

    async def _is_malformed(self, result: RoundResult, index: int, seconds: float) -> bool | None:
        """The bytes behind a content id are the same for everybody, so one look is enough."""
        with trio.move_on_after(seconds):
            return isinstance(await self._fetch(result, index), InvalidRemote)
        return None

    async def _find_large_norms(self, result: RoundResult, seconds: float) -> Mapping[int, bool] | None:
        """By index: medians over a part would be other medians, so nothing without the whole input set."""
        order, proposals = bits(result.held_set), list[Proposal]()
        with trio.move_on_after(seconds):
            for index in order:
                found = await self._fetch(result, index)
                if isinstance(found, InvalidRemote):
                    log.warning("round %d: its input set holds what is no proposal: %s", result.round, found)
                    return {}
                proposals.append(found)
        if len(proposals) < len(order):
            return None
        ball = self._library.document.budget.norm_thousandths
        results: Any = await trio.to_thread.run_sync(filter_bits, [row.delta for row in proposals], ball)
        return {index: bool(bits_ & FILTER_NORM_SLASH) for index, bits_ in zip(order, results, strict=True)}

    async def _fetch(self, result: RoundResult, index: int) -> Proposal | InvalidRemote:
        """However long it takes; whoever waits for it has a limit."""
        account = result.proposers[index]
        while True:
            try:
                return await self._library.fetch_proposal(
                    result.round, index, account, result.manifests[index], result.adapter_before
                )
            except InvalidRemote as error:
                return error
            except (FlockError, OSError, MemoryError) as error:
                log.info("round %d: an accusation cannot be judged yet: 0x%s: %s", result.round, account.hex(), error)
            await trio.sleep(RETRY_SECONDS)
