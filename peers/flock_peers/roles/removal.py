"""The adapter that a round builds on: the last one, less what audits have found guilty since it was adopted.

Everything follows from the chain and the proposals, so every peer takes out the same bytes; what a round adopts is
decided by its voters, as ever. Measures nothing.
"""

import logging
from collections.abc import Mapping, Sequence

import trio

from flock_chain.aggregation import Delta
from flock_chain.audit_rule import Adopted, ClosedAudit, plan_removal, read_closed_audit
from flock_chain.crypto import Account
from flock_peers.roles.board import RoundResult, Views, read_asked, read_named, read_result
from flock_peers.roles.library import Library
from flock_peers.roles.paper_voter import is_paper

log = logging.getLogger(__name__)


class Removal:
    """Reads a finished round and a closed audit once: neither changes any more."""

    def __init__(self, library: Library, views: Views) -> None:
        self._library, self._views = library, views
        self._results: dict[int, RoundResult] = {}
        self._audits: list[ClosedAudit] = []
        self._lineage: list[tuple[Adopted, bytes]] = []  # with the adapter that each gave
        self._next = 1  # all rounds below are in the lineage
        self._turn = trio.Lock()  # the voter and the keeper walk together

    async def compute_base(self, number: int, adapter: bytes) -> bytes:
        """What round `number`, which began with `adapter`, adds its contributions to; in the store, by content id.

        Raises FlockError where a proposal that has to come out cannot be had.
        """
        async with self._turn:
            await self._read_audits()
            if not self._audits or is_paper(await self._terms()):
                return adapter  # the paper's rule votes on whole aggregates, and takes nothing out
            while self._next < number:
                await self._follow(await self._result(self._next))
                self._next += 1
            return await self._take_out(number, [row for row, _ in self._lineage if row.round < number], adapter)

    async def _terms(self) -> Mapping[str, int]:
        terms: Mapping[str, int] = (await self._views.view("TaskBoard", "task_view", self._library.task))["terms"]
        return terms

    async def _read_audits(self) -> None:
        task = self._library.task
        closed = int((await self._views.view("TaskBoard", "audit_view", task))["number"]) - 1
        for audit in range(len(self._audits) + 1, closed + 1):
            asked = await read_asked(self._views, task, audit)
            accounts = await self._accepted_until(asked[1])
            blamed = {account: await read_named(self._views, task, audit, account) for account in accounts}
            self._audits.append(read_closed_audit(asked, blamed))

    async def _accepted_until(self, number: int) -> list[Account]:
        """Of nobody else is there anything to take out."""
        found = set()
        for finished in range(1, number + 1):
            result = await self._result(finished)
            found |= {result.proposers[index] for index in result.accepted()}
        return sorted(found)

    async def _follow(self, result: RoundResult) -> None:
        if result.adapter_after == result.adapter_before:
            return
        accepted = result.accepted()
        if not accepted:  # two thirds of the stake gave up an adapter that nobody served
            while self._lineage and self._lineage[-1][1] != result.adapter_after:
                self._lineage.pop()
            return
        base = await self._take_out(result.round, [row for row, _ in self._lineage], result.adapter_before)
        added = () if base == result.adapter_after else tuple((i, result.proposers[i]) for i in accepted)
        self._lineage.append((Adopted(result.round, added), result.adapter_after))

    async def _take_out(self, number: int, lineage: Sequence[Adopted], adapter: bytes) -> bytes:
        plan = plan_removal(lineage, self._audits, number)
        if not plan:
            return adapter
        log.info("round %d: taking out the contributions that audits found guilty: %s", number, plan)
        rounds = []
        for row in plan:
            result = await self._result(row.round)
            rounds.append(([await self._delta(result, index) for index in row.present], row.places))
        return await self._library.compute_without(adapter, rounds)

    async def _delta(self, result: RoundResult, index: int) -> Delta:
        """Of all that the adapter has of the round: what each added depends on the others' norms, and on how many."""
        proposal = await self._library.fetch_proposal(
            result.round, index, result.proposers[index], result.manifests[index], result.adapter_before
        )
        return proposal.delta

    async def _result(self, number: int) -> RoundResult:
        if number not in self._results:
            self._results[number] = await read_result(self._views, self._library.task, number)
        return self._results[number]
