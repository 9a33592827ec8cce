"""One account's part in one task, from the document to the last claim. Level-triggered: each head is read afresh.

So a peer that was killed resumes by reading the board; nothing is remembered but what it committed to.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import trio

from flock_chain.errors import FlockError
from flock_peers.roles.board import Phase, RoundView, Views, as_account, read_round
from flock_peers.roles.jobs import JobKey, Jobs
from flock_peers.roles.keeper import Keeper
from flock_peers.roles.library import Fetcher, Library, Objects, open_library
from flock_peers.roles.proposer import Identity, Proposer
from flock_peers.roles.secrets import RoundSecrets
from flock_peers.roles.sender import Sender
from flock_peers.roles.voter import Voter

log = logging.getLogger(__name__)

STEP_SECONDS = 1.0  # a step without a new head: finished jobs are picked up, lost transactions repeated


class Heads(Views, Protocol):
    """A ledger that can be waited on."""

    async def wait_new_head(self, height: int) -> int: ...


class TrainerFactory(Protocol):
    """Opens the one trainer of this peer for a task's document."""

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


class Participant:
    """Bonds to a task and takes its seats in every round."""

    def __init__(self, task: int, around: Surroundings) -> None:
        self.task, self._around = task, around
        self.view: RoundView | None = None
        self.library: Library | None = None
        self.trainer: Any = None
        self.is_ended = False
        self.keeper: Keeper | None = None

    async def run(self) -> None:
        """Lives until cancelled: an ended task is still served from here."""
        around = self._around
        self.library = await self._open_library()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._bond_until_joined)
            async with around.open_trainer(self.library) as trainer:
                self.trainer = trainer
                around.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                await self._take_part(self.library, trainer, Jobs(nursery))

    async def _take_part(self, library: Library, trainer: Any, jobs: Jobs) -> None:
        around = self._around
        secrets = RoundSecrets(around.folder / "secrets")
        proposer = Proposer(
            around.identity, library, around.store, trainer, around.sender, secrets, jobs, around.folder
        )
        voter = Voter(around.identity, library, around.ledger, trainer, around.sender, secrets, jobs)
        self.keeper = Keeper(around.identity.account, library, around.ledger, around.sender, jobs)
        await self._loop(jobs, proposer, voter, self.keeper)

    async def _open_library(self) -> Library:
        """Until the task's document is here: its creator may be late, or behind a restart."""
        around = self._around
        while True:
            try:
                row = await around.ledger.view("TaskBoard", "task_view", self.task)
                return await open_library(
                    self.task,
                    bytes(row["document"]),
                    bytes(row["adapter0"]),
                    around.identity.genesis_hash,
                    around.store,
                    around.fetcher,
                )
            except FlockError as error:
                log.warning("task %d cannot be joined yet: %s", self.task, error)
                await trio.sleep(STEP_SECONDS)

    async def _bond_until_joined(self) -> None:
        """Until the bond is seen on chain: before that the account may not even have the coins."""
        while not await self.is_joined():
            try:
                await self._around.sender.call(
                    f"join {self.task}", "TaskBoard", "join_task", self.task, self._around.domain,
                    value=self._around.bond,
                )  # fmt: skip
            except FlockError as error:
                log.info("task %d: cannot bond yet: %s", self.task, error)
            await trio.sleep(STEP_SECONDS)
        log.info("task %d: bonded", self.task)

    async def is_joined(self) -> bool:
        rows = await self._around.ledger.view("TaskBoard", "participants", self.task)
        return any(as_account(row["account"]) == self._around.identity.account for row in rows)

    async def _loop(self, jobs: Jobs, proposer: Proposer, voter: Voter, keeper: Keeper) -> None:
        height = -1
        while True:
            with trio.move_on_after(STEP_SECONDS):
                height = await self._around.ledger.wait_new_head(height)
            view = await read_round(self._around.ledger, self.task)
            self._note(view)
            self.view = view
            jobs.cancel_all_but(partial(_still_matters, view))
            try:
                await self._step(view, proposer, voter, keeper)
            except FlockError as error:
                log.warning("task %d, round %d, %s: %s", self.task, view.round, view.phase.name, error)

    async def _step(self, view: RoundView, proposer: Proposer, voter: Voter, keeper: Keeper) -> None:
        self.is_ended = view.phase is Phase.ENDED
        if not self.is_ended:
            await proposer.step(view)
            await voter.step(view)
        await keeper.step(view.round, self.is_ended)
        await self._around.sender.resend()

    def _note(self, view: RoundView) -> None:
        before = self.view
        if before is None or (before.round, before.phase) != (view.round, view.phase):
            log.info("task %d: round %d, %s", self.task, view.round, view.phase.name)
            self._around.on_round(view.round)


def _still_matters(view: RoundView, key: JobKey) -> bool:
    """Training for a round that has passed its commit phase only takes the processor from the next one."""
    kind = key[0]
    if kind == "train":
        return key[2] == view.round and view.phase <= Phase.COMMIT
    if kind in ("hold", "score", "adopt"):
        return bool(key[2] == view.round)
    return True
