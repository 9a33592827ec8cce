"""The proposer's part of a round: train, publish, commit, reveal. Decides from the board alone, so it can resume."""

import logging
import secrets as chance
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import trio

from flock_chain.content import object_digest
from flock_chain.crypto import Account
from flock_chain.errors import FlockError, Refused
from flock_chain.proposal import SALT_BYTES, Manifest, compute_proposal_commitment
from flock_contracts.addresses import BOARD
from flock_peers.measurements import Measurements
from flock_peers.plural import plural
from flock_peers.roles.board import Phase, RoundView
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.library import Library, Objects, compute_file_digest
from flock_peers.roles.secrets import RoundSecrets
from flock_peers.roles.sender import Sender
from flock_peers.roles.spoil import Spoil
from flock_peers.training.client import TrainerDied

log = logging.getLogger(__name__)

MAX_FAILURES = 2  # of training in one round: what kills a trainer twice, or diverges twice, would do so a third time


class Training(Protocol):
    """What the proposer needs of a trainer."""

    async def train(self, global_path: Path, *, round: int, seed: int, out_path: Path) -> Any: ...


@dataclass(frozen=True)
class Identity:
    account: Account
    chain_id: int
    genesis_hash: bytes
    seed: int  # of local training; private, so that nobody else can predict the batches


class Proposer:
    """Acts in COMMIT and REVEAL of the rounds in which this account was drawn."""

    def __init__(
        self, identity: Identity, library: Library, store: Objects, trainer: Training, sender: Sender,
        secrets: RoundSecrets, jobs: Jobs, folder: Path, spoil: Spoil | None = None,
        measurements: Measurements | None = None,
    ) -> None:  # fmt: skip
        self._identity, self._library, self._store = identity, library, store
        self._trainer, self._sender, self._secrets, self._jobs = trainer, sender, secrets, jobs
        self._folder, self._spoil, self._measurements = folder, spoil, measurements or Measurements()
        self._failures = 0  # of training, in the round below
        self._failures_in: tuple[int, int] | None = None  # task and round

    async def step(self, view: RoundView) -> None:
        index = view.proposer_index(self._identity.account)
        if index is None:
            return
        if view.phase is Phase.COMMIT and not view.committed >> index & 1:
            await self._commit(view)
        elif view.phase is Phase.REVEAL and view.committed >> index & 1 and not view.revealed >> index & 1:
            await self._reveal(view)

    async def _commit(self, view: RoundView) -> None:
        record = self._secrets.load(view.task, view.round, "proposal")
        if record is None and self._is_skipped(view):
            return
        if record is None:
            key = ("train", view.task, view.round)
            record = self._jobs.ensure(key, lambda: self._train(view))
        if record is None:
            return
        commitment = compute_proposal_commitment(
            self._identity.chain_id,
            BOARD,
            view.task,
            view.round,
            self._identity.account,
            record["manifest"],
            record["salt"],
        )
        await self._sender.call(
            f"commit {view.task}/{view.round}", "TaskBoard", "commit", view.task, view.round, commitment
        )

    async def _train(self, view: RoundView) -> dict[str, Any] | None:
        """Train, put delta and manifest into the store, and write down what the commitment will open to. None where
        it failed so often that it is not tried again in this round."""
        if self._failures_in != (view.task, view.round):
            self._measurements.drop_skipped(view.task, view.round)
        parent = await self._library.global_path(view.adapter)
        out = self._folder / f"task{view.task}-round{view.round}.delta"
        log.info("round %d: drawn as proposer, training from %s", view.round, view.adapter.hex()[:12])
        try:
            result = await self._trainer.train(parent, round=view.round, seed=self._identity.seed, out_path=out)
        except (TrainerDied, Refused) as error:  # refused: nothing to propose, or no privacy left to pay with
            self._note_failure(view, error)
            if self._is_skipped(view):
                return None
            raise
        data = await trio.to_thread.run_sync(out.read_bytes)
        delta = await trio.to_thread.run_sync(self._publish, data)
        manifest = Manifest(
            chain=self._identity.genesis_hash,  # type: ignore[arg-type]
            task=view.task,
            round=view.round,
            account=self._identity.account,
            parent=view.adapter,  # type: ignore[arg-type]
            delta=delta,  # type: ignore[arg-type]
            delta_bytes=len(data),
            steps=result.steps,
            tokens=result.tokens,
        ).encode()
        self._store.put_object(manifest)
        out.unlink(missing_ok=True)
        record = {"manifest": object_digest(manifest), "salt": chance.token_bytes(SALT_BYTES)}
        self._secrets.save(view.task, view.round, "proposal", record)
        log.info(
            "round %d: trained %s in %.2f s, own loss %.4f -> %.4f",
            view.round, plural(result.steps, "step"), result.seconds, result.loss_before, result.loss_after,
        )  # fmt: skip
        self._measurements.note_loss(view.task, view.round, "proposer", result.loss_before, result.loss_after)
        if getattr(result, "epsilon", None) is not None:
            log.info("round %d: epsilon spent on this home's rows so far: %.2f", view.round, result.epsilon)
        return record

    def _is_skipped(self, view: RoundView) -> bool:
        return self._failures_in == (view.task, view.round) and self._failures >= MAX_FAILURES

    def _note_failure(self, view: RoundView, error: FlockError) -> None:
        self._failures = self._failures + 1 if self._failures_in == (view.task, view.round) else 1
        self._failures_in = (view.task, view.round)
        if self._is_skipped(view):
            why = " ".join(str(error).split())
            log.error("round %d: skipped, for training failed %d times in it: %s", view.round, self._failures, why)
            self._measurements.note_skipped(view.task, view.round, why)

    def _publish(self, data: bytes) -> bytes:
        """Into the store, from where others fetch it; the digest."""
        if self._spoil is None:
            return self._store.put_bytes(data)
        log.warning("publishing a spoiled delta, as told by --attack")
        spoiled = self._spoil(data)
        return compute_file_digest(data) if spoiled is None else self._store.put_bytes(spoiled)

    async def _reveal(self, view: RoundView) -> None:
        record = self._secrets.load(view.task, view.round, "proposal")
        if record is None:
            log.error("round %d: committed, but the record to open it with is gone; the bond will be cut", view.round)
            return
        await self._sender.call(
            f"reveal {view.task}/{view.round}", "TaskBoard", "reveal",
            view.task, view.round, record["manifest"], record["salt"],
        )  # fmt: skip
