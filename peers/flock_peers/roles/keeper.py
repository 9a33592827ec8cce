"""What a participant does beside its seats: collect its rewards, and keep every proposal of the task.

A home that keeps the proposals can be verified later and can serve those who come late. Decides no verdict.
"""

import logging

from flock_chain.crypto import Account
from flock_chain.errors import FlockError, InvalidRemote, Unavailable
from flock_chain.tally import Verdict
from flock_peers.coins import count_coins
from flock_peers.measurements import Measurements
from flock_peers.roles.board import PAID_FROM, Phase, RoundResult, RoundView, Views, read_result
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.library import Library, Proposal
from flock_peers.roles.removal import Removal
from flock_peers.roles.sender import Sender

log = logging.getLogger(__name__)

LOOKS_AT_ONCE = 32  # rounds in one step: after a restart in a long task the seats come first
MAX_ATTEMPTS = 5  # per proposal of a finished round; who served it may be gone for good


class Keeper:
    """`step` once per head; works through finished rounds in order."""

    def __init__(
        self, account: Account, library: Library, views: Views, sender: Sender, jobs: Jobs, removal: Removal,
        measurements: Measurements | None = None,
    ) -> None:  # fmt: skip
        self._account, self._library, self._views, self._removal = account, library, views, removal
        self._sender, self._jobs, self._measurements = sender, jobs, measurements or Measurements()
        self._seats: dict[int, tuple[str, bool]] = {}  # round -> this account's role, and whether it pays; seen running
        self._paid_round = 0  # the last one that was seen to owe something
        self.claimed_until = 1  # all rounds below are claimed, or give nothing
        self._attempts: dict[tuple[int, int], int] = {}
        self.kept_until = 1  # of all rounds below every proposal is here, or could not be had

    async def step(self, current_round: int, is_ended: bool) -> None:
        """Rounds count from 1; all below the running one are settled, and it too once the task has ended."""
        settled = current_round + (1 if is_ended else 0)
        await self._claim(settled)
        if self.kept_until < settled and self._keep_round(self.kept_until):
            self.kept_until += 1
            self._attempts.clear()  # of this round: one is worked on at a time

    def note_seat(self, view: RoundView) -> None:
        """So that its owner is told also of a seat that earned nothing."""
        if view.round < self.claimed_until or view.round == self._paid_round:
            return  # it is told already: an ended task goes on showing its last round
        if self._account in view.proposers:
            self._seats[view.round] = ("proposer", view.is_paid)
        elif view.voter_index(self._account) is not None:
            self._seats[view.round] = ("voter", view.is_paid)

    def prepare(self, view: RoundView) -> None:
        """While the voters judge: the candidate, where this account is none of them. The next round mostly begins with
        it, and a moment too late it would be fetched, many times as large as what it is made of."""
        if view.phase is Phase.ADOPT and view.voter_index(self._account) is None and view.accepted():
            self._jobs.ensure(("prepare", view.task, view.round), lambda: self._prepare(view))

    async def _prepare(self, view: RoundView) -> bool:
        try:
            proposals = [
                await self._library.fetch_proposal(
                    view.round, index, view.proposers[index], view.manifests[index], view.adapter
                )
                for index in view.accepted()
            ]
            base = await self._removal.compute_base(view.round, view.adapter)
            await self._library.compute_candidate(base, [row.delta for row in proposals])
        except (FlockError, OSError) as error:  # tried again once the round is settled
            log.debug("round %d: the candidate is not here yet: %s", view.round, error)
        return True

    async def _claim(self, settled: int) -> None:
        for number in range(self.claimed_until, min(settled, self.claimed_until + LOOKS_AT_ONCE)):
            label = f"claim {self._library.task}/{number}"
            if self._sender.is_pending(label):  # asked first: the view may be older
                return
            due = await self._views.view("TaskBoard", "claimable", self._library.task, number, self._account)
            if due > 0:
                self._on_due(number, due)
                await self._sender.call(label, "TaskBoard", "claim", self._library.task, number)
                return
            self._measurements.note_claimed(self._library.task, number)
            if number in self._seats:
                await self._on_nothing(number)
            self.claimed_until = number + 1

    def _on_due(self, number: int, due: int) -> None:
        """Once a round, however often the claim has to be sent."""
        if number == self._paid_round:
            return
        self._paid_round, (role, _) = number, self._seats.pop(number, (None, True))
        seat = f"as a {role}" if role else "by a seat"
        log.info("task %d: round %d: earned %s %s", self._library.task, number, count_coins(due), seat)
        self._measurements.note_pay(self._library.task, number, due)

    async def _on_nothing(self, number: int) -> None:
        result = await read_result(self._views, self._library.task, number)
        (role, is_paid), text = self._seats.pop(number), ""
        if self._account in result.proposers and result.proposers.index(self._account) < len(result.verdicts):
            text = f": {self._describe_verdict(result, result.proposers.index(self._account))}"
        if not is_paid:
            text += f"; with fewer than {PAID_FROM} participants a round pays nobody"
        log.info("task %d: round %d: earned nothing as a %s%s", self._library.task, number, role, text)

    def _describe_verdict(self, result: RoundResult, index: int) -> str:
        verdict = result.verdicts[index]
        if verdict is not Verdict.NONE:
            return verdict.name.lower()
        if (skipped := self._measurements.skipped_of(self._library.task, result.round)) is not None:
            return f"it was skipped: {skipped['why']}"
        is_opened = any(any(manifest) for manifest in result.manifests[index : index + 1])
        return "the round ended without a verdict" if is_opened else "nothing was proposed"

    def _keep_round(self, number: int) -> bool:
        """Whether every proposal of a settled round is here, or was tried often enough."""
        key = ("result", self._library.task, number)
        result = self._jobs.ensure(key, lambda: read_result(self._views, self._library.task, number))
        if result is None:
            return False
        if not result.proposers:
            return True  # the task ended before this round began
        revealed = [index for index, manifest in enumerate(result.manifests) if any(manifest)]
        if not all([self._keep_one(result, index) for index in revealed]):
            return False
        return (
            self._jobs.ensure(("adapter", self._library.task, number), lambda: self._keep_adapter(result)) is not None
        )

    async def _keep_adapter(self, result: RoundResult) -> bool:
        """The global adapter after the round: a voter has it; else computed here if all accepted proposals are here, or
        fetched."""
        if self._library.keep_if_here(result.adapter_after):
            return True
        accepted = result.accepted()
        try:
            proposals = [await self._proposal(result, index) for index in accepted]
            if result.adapter_after != result.adapter_before:
                base = await self._removal.compute_base(result.round, result.adapter_before)
                await self._library.compute_candidate(base, [row.delta for row in proposals])
            await self._library.global_path(result.adapter_after)
        except (FlockError, OSError) as error:  # a full disk or quota, too, must not hold up the rounds that follow
            self._attempts[result.round, -1] = self._attempts.get((result.round, -1), 0) + 1
            if self._attempts[result.round, -1] < MAX_ATTEMPTS:
                raise Unavailable(f"round {result.round}: global adapter not here yet: {error}") from error
            log.warning("round %d: the global adapter could not be had: %s", result.round, error)
        return True

    def _keep_one(self, result: RoundResult, index: int) -> bool:
        name = (result.round, index)
        if self._attempts.get(name, 0) >= MAX_ATTEMPTS:
            return True
        return self._jobs.ensure(("keep", self._library.task, *name), lambda: self._fetch(result, index)) is not None

    async def _fetch(self, result: RoundResult, index: int) -> bool:
        name = (result.round, index)
        self._attempts[name] = self._attempts.get(name, 0) + 1
        account = result.proposers[index]
        try:
            await self._proposal(result, index)
        except InvalidRemote as error:
            log.info("round %d: not keeping the proposal of 0x%s: %s", result.round, account.hex(), error)
        except (FlockError, OSError) as error:
            if self._attempts[name] >= MAX_ATTEMPTS:
                log.warning("round %d: the proposal of 0x%s could not be had", result.round, account.hex())
            raise Unavailable(f"round {result.round}: proposal of 0x{account.hex()}: {error}") from error
        return True

    async def _proposal(self, result: RoundResult, index: int) -> Proposal:
        return await self._library.fetch_proposal(
            result.round, index, result.proposers[index], result.manifests[index], result.adapter_before
        )
