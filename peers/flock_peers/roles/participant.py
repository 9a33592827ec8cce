"""One account's part in one task, from the document to the last claim. Level-triggered: each head is read afresh.

So a peer that was killed resumes by reading the board; nothing is remembered but what it committed to.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import trio

from flock_chain.errors import FlockError, Misuse
from flock_peers.bases import BaseFinder, find_shipped
from flock_peers.measurements import Measurements
from flock_peers.roles.auditor import Auditor
from flock_peers.roles.board import Phase, RoundView, Views, read_round
from flock_peers.roles.jobs import JobKey, Jobs
from flock_peers.roles.jury import Jury
from flock_peers.roles.keeper import Keeper
from flock_peers.roles.library import Fetcher, Library, Objects, open_library
from flock_peers.roles.membership import Membership
from flock_peers.roles.parent_watch import ParentWatch
from flock_peers.roles.proposer import Identity, Proposer
from flock_peers.roles.removal import Removal
from flock_peers.roles.secrets import RoundSecrets
from flock_peers.roles.sender import Sender
from flock_peers.roles.spoil import Spoil
from flock_peers.roles.voter import Voter

log = logging.getLogger(__name__)

OPEN_SECONDS = 600.0  # for a trainer, before a bond is paid: rows are made tokens; a tokenizer may be made never to end
OPEN_BYTES_PER_SECOND = 80_000_000  # beside that, of the base model: 70B are read from a slow disk in half an hour
STEP_SECONDS = 1.0  # a step without a new head or a finished job: what failed may be tried again, trainers open


class Heads(Views, Protocol):
    """A ledger that can be waited on."""

    async def wait_new_head(self, height: int) -> int: ...


class TrainerFactory(Protocol):
    """Opens the one trainer of this peer for a task's document: given at once, open a while later (see supervised)."""

    def __call__(self, library: Library) -> AbstractAsyncContextManager[Any]: ...


@dataclass(frozen=True)
class Surroundings:
    """What a participant is given by its peer."""

    identity: Identity
    ledger: Heads
    store: Objects
    fetcher: Fetcher
    sender: Sender
    open_trainer: TrainerFactory
    folder: Path  # of this account's rounds
    bond: int  # wei
    domain: bytes  # 32 bytes, padded text
    on_round: Callable[[int], None]  # a round has begun
    on_view: Callable[[RoundView], None] = lambda _view: None  # after every block
    find_base: BaseFinder = find_shipped
    check_format: Callable[[str], None] = lambda _format: None  # raises where a task's data format is not the rows' own
    spoil: Spoil | None = None  # trials of a network only: what to publish instead of the own delta
    measurements: Measurements = field(default_factory=Measurements)  # for people
    bonds_early: bool = True  # before the trainer is open; not where the last trainer could not be opened


class Participant:
    """Bonds to a task and takes its seats in every round."""

    def __init__(self, task: int, around: Surroundings) -> None:
        self.task, self._around = task, around
        self.view: RoundView | None = None
        self.library: Library | None = None
        self.trainer: Any = None
        self._unusable: Misuse | None = None  # why there is no trainer, where none will be opened soon
        self.is_ended = False
        self.keeper: Keeper | None = None
        self.jury: Jury | None = None
        self._parent_watch: ParentWatch | None = None
        self._auditor: Auditor | None = None
        self.membership = Membership(
            task, around.identity.account, around.ledger, around.sender, domain=around.domain, bond=around.bond
        )

    @property
    def is_leaving(self) -> bool:
        """Its trainer cannot be opened, or it asked to leave before."""
        return self.membership.is_leaving

    def read_pay(self) -> dict[str, Any] | None:
        """What its seats here have earned, as far as this home has seen."""
        return self._around.measurements.pay_of(self.task)

    def leave(self) -> None:
        """As soon as the board lets it go; until then its seats are served."""
        self.membership.is_leaving = True

    async def is_joined(self) -> bool:
        return await self.membership.is_joined()

    @property
    def is_settled(self) -> bool:
        """The task has ended, everything due is claimed, every accusation is judged that could be, and every proposal
        that could be had is kept."""
        if not self.is_ended or self.view is None or self.keeper is None or self.jury is None:
            return False
        return min(self.keeper.claimed_until, self.keeper.kept_until, self.jury.judged_until) > self.view.round

    def release(self) -> None:
        """What was kept of an ended task may make room for the next one's."""
        if self.is_ended and self.library is not None and self.view is not None:
            self.library.release(self.view.adapter)

    async def run(self) -> None:
        """Lives until cancelled: an ended task is still served from here.

        Returns early where the task has ended without this account, or where this account has left it; raises
        FlockError where the task cannot be joined. All that can be checked cheaply is checked before the bond is paid.
        """
        around = self._around
        if (await read_round(around.ledger, self.task)).phase is Phase.ENDED and not await self.is_joined():
            return
        await self.membership.check_not_expelled()
        self.library = await self._open_library()
        around.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            await self._run_in(self.library)
        finally:
            if not self.membership.was_joined:
                self.library.base.release()  # a base that was fetched for nothing holds no room

    async def _run_in(self, library: Library) -> None:
        around = self._around
        async with around.open_trainer(library) as trainer:
            self.trainer = trainer
            is_tried = around.bonds_early and not library.base.is_fetched
            if not is_tried and not await self.is_joined():
                await self._wait_open(trainer, OPEN_SECONDS + library.document.base.size / OPEN_BYTES_PER_SECOND)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.membership.bond_until_joined, lambda: not self.is_ended)
                nursery.start_soon(self._watch_trainer, trainer)
                await self._take_part(library, trainer, Jobs(nursery))
                nursery.cancel_scope.cancel()
        if self._unusable is not None:
            raise self._unusable  # now that the bond is out: whoever chooses tasks must know why, and `status` says it

    async def _wait_open(self, trainer: Any, seconds: float) -> None:
        """A stranger's model may be one that never opens; nothing is paid for it, and it is not tried again soon."""
        try:
            with trio.fail_after(seconds):
                await trainer.wait_open()
        except trio.TooSlowError as error:
            raise Misuse(f"its trainer is not open after {seconds:.0f} s: too much for this machine") from error

    async def _take_part(self, library: Library, trainer: Any, jobs: Jobs) -> None:
        around = self._around
        secrets = RoundSecrets(around.folder / "secrets")
        proposer = Proposer(
            around.identity, library, around.store, trainer, around.sender, secrets, jobs, around.folder, around.spoil,
            around.measurements,
        )  # fmt: skip
        removal = Removal(library, around.ledger)
        voter = Voter(
            around.identity, library, around.ledger, trainer, around.sender, secrets, jobs, removal,
            around.measurements,
        )  # fmt: skip
        self.keeper = Keeper(
            around.identity.account, library, around.ledger, around.sender, jobs, removal, around.measurements
        )
        self.jury = Jury(around.identity.account, library, around.ledger, around.sender, jobs)
        self._parent_watch = ParentWatch(library, around.ledger, around.sender, jobs)
        self._auditor = Auditor(
            around.identity.account, library, around.ledger, trainer, around.sender, secrets, jobs, around.measurements
        )  # fmt: skip
        await self._loop(jobs, proposer, voter, self.keeper)

    async def _open_library(self) -> Library:
        around = self._around
        row = await around.ledger.view("TaskBoard", "task_view", self.task)
        self.membership.min_bond = row["terms"]["min_bond"]
        return await open_library(
            self.task,
            bytes(row["document"]),
            bytes(row["adapter0"]),
            around.identity.genesis_hash,
            around.store,
            around.fetcher,
            around.find_base,
            around.check_format,
        )

    async def _watch_trainer(self, trainer: Any) -> None:
        """Without a trainer there is nothing to propose and nothing to measure: the bond is taken back."""
        error = await trainer.wait_failed()
        log.error("task %d: no trainer: %s; leaving the task", self.task, error)
        self._unusable = error if isinstance(error, Misuse) else None
        self.membership.is_leaving = True

    async def _loop(self, jobs: Jobs, proposer: Proposer, voter: Voter, keeper: Keeper) -> None:
        """Until there is nothing left to do here, which for a task that was taken part in is never."""
        height = -1
        while True:
            try:
                height = await self._wait_for_news(height, jobs)
                view = await read_round(self._around.ledger, self.task)
                self._note(view)
                self.view = view
                self._around.on_view(view)
                jobs.cancel_all_but(partial(_still_matters, view))
                await self._step(view, proposer, voter, keeper)
                if await self._is_over(view, keeper):
                    return
            except Exception as error:  # a step's edge: a flood of views or a full disk must not end the peer
                where = f"round {self.view.round}, {self.view.phase.name}" if self.view else "no round seen yet"
                is_known = isinstance(error, FlockError)
                log.warning("task %d, %s: %r", self.task, where, error, exc_info=None if is_known else error)
                await trio.sleep(STEP_SECONDS)

    async def _wait_for_news(self, height: int, jobs: Jobs) -> int:
        """A new head, a piece of work that has ended, or neither for a while; the height of the head."""
        with trio.move_on_after(STEP_SECONDS):
            async with trio.open_nursery() as nursery:

                async def wait_for_head() -> None:
                    nonlocal height
                    height = await self._around.ledger.wait_new_head(height)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(wait_for_head)
                await jobs.wait_news()
                nursery.cancel_scope.cancel()
        return height

    async def _step(self, view: RoundView, proposer: Proposer, voter: Voter, keeper: Keeper) -> None:
        self.is_ended = view.phase is Phase.ENDED
        if not self.is_ended:
            await proposer.step(view)
            await voter.step(view)
            if self._parent_watch is not None and self.membership.was_joined:
                await self._parent_watch.step(view)
            if self._auditor is not None and self.membership.was_joined:
                await self._auditor.step(view)
            await self.membership.look(view)
        if self.membership.was_joined:
            if not (self.is_leaving or self.membership.is_lost):  # of later rounds they have no seat
                voter.prepare(view)
            keeper.note_seat(view)
            keeper.prepare(view)
        await keeper.step(view.round, self.is_ended)
        if self.jury is not None:
            await self.jury.step(view.round, self.is_ended)
        if self.is_leaving:
            await self.membership.leave(view)

    async def _is_over(self, view: RoundView, keeper: Keeper) -> bool:
        """Left or evicted, with everything claimed; or ended before the bond was taken."""
        member = self.membership
        is_out = member.is_leaving or member.is_lost
        if not is_out and (member.was_joined or not self.is_ended):
            return False
        if await member.is_bonding():
            return False
        return self.is_ended or keeper.claimed_until >= view.round

    def _note(self, view: RoundView) -> None:
        before = self.view
        if before is None or (before.round, before.phase) != (view.round, view.phase):
            log.info("task %d: round %d, %s", self.task, view.round, view.phase.name)
            self._around.on_round(view.round)


def _still_matters(view: RoundView, key: JobKey) -> bool:
    """Training for a round that has passed its commit phase only takes the processor from the next one."""
    kind = key[0]
    if kind in ("train", "parent", "weigh"):
        return key[2] == view.round and view.phase <= Phase.COMMIT
    if kind in ("bring", "hold", "score", "foresee", "adopt"):
        return bool(key[2] == view.round)
    if kind == "prepare":  # is what the next round begins with
        return bool(key[2] >= view.round - 1)
    if kind == "audit":
        return view.phase is Phase.AUDIT
    return True
