"""The only loop of a peer: feeds messages, timers and blocks to the consensus core and carries out its effects.

A batch of inputs makes a batch of effects; what persists is appended first, then one fsync, then the rest in order,
so nothing signed leaves before it is durable. Bodies are fetched, built, checked and committed beside the loop.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

from flock_chain.consensus.core import Core
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.events import (
    Broadcast,
    BuildBlock,
    CatchUp,
    CheckBlock,
    Decide,
    Dropped,
    Effect,
    Evidence,
    Persist,
    PersistBody,
    PersistSigned,
    Send,
    SetTimer,
    SignerRefused,
    StartHeight,
    Sync,
)
from flock_chain.consensus.records import BodyRecord
from flock_chain.consensus.rules import CoreConfig
from flock_chain.consensus.signer import SignRecord
from flock_chain.consensus.types import Message, Vote
from flock_chain.consensus.wire import encode_message
from flock_chain.crypto import Account
from flock_peers.driver.attendance import VoteBook
from flock_peers.driver.block_work import BlockWork
from flock_peers.driver.bodies import Bodies
from flock_peers.driver.catch_up import Committer, Follower
from flock_peers.driver.convictions import Convictions
from flock_peers.driver.current import Current
from flock_peers.driver.inbox import Advanced, Inbox, Item, Packet
from flock_peers.driver.journal import Journal
from flock_peers.driver.level import Level
from flock_peers.driver.offences import Offences
from flock_peers.driver.ports import ConsensusNetworkPort, LedgerPort, SyncPort
from flock_peers.driver.progress import SyncStatus
from flock_peers.driver.reception import Reception
from flock_peers.driver.signing import Enlist, Signing
from flock_peers.driver.sources import greet, read_network, watch_work
from flock_peers.driver.sync import SyncServer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DriverStatus:
    height: int  # that is being decided
    view: int
    is_validator: bool
    is_signing: bool
    not_signing: str  # why a validator does not; empty while it signs, and for who is no validator
    validators: int
    evidence: int
    sync: SyncStatus | None = None  # while catching up with the network


class Driver:
    """Made by `open_driver`, or by hand for tests; `run` until cancelled."""

    def __init__(
        self,
        config: CoreConfig,
        domain: ChainDomain,
        me: Account,
        ledger: LedgerPort,
        network: ConsensusNetworkPort,
        sync: SyncPort,
        journal: Journal,
        *,
        clock: Callable[[], float] = time.time,
        enlist: Enlist | None = None,
    ) -> None:
        """`enlist`: opens the logs, at a final height, of who is no validator yet, once it is in a set."""
        self._ledger, self._network, self._sync, self._journal = ledger, network, sync, journal
        self._clock = clock
        self._core = Core(config, domain, me, journal.signer)
        current = self._current = Current(self._core, ledger, me)
        self._inbox, self._bodies, self._votes = Inbox(), Bodies(), VoteBook()
        self._offences = Offences()
        self._advanced = False
        self._nursery: trio.Nursery | None = None
        self._signing = Signing(current, domain, journal, lambda: Level(ledger, sync, self._follower, me), enlist)
        committer = Committer(ledger, self._on_final, self._signing.look_into)
        self._follower = Follower(ledger, sync, domain, journal, committer)
        self._server = SyncServer(ledger, self._bodies, current.wait_for_final, self._offences.mention)
        self._work = BlockWork(current, self._bodies, self._votes, self._offences, sync, committer, self._inbox.put)
        self._reception = Reception(current, self._bodies, self._votes, self._offences, self._signing)
        self.evidence = Convictions()

    # ---------------------------------------------------------------- what others may use

    async def answer_sync(self, account: Account, payload: bytes) -> bytes:
        """The handler of the protocol /flock/sync/1."""
        return await self._server.answer(account, payload)

    @property
    def status(self) -> DriverStatus:
        members = self._current.validators
        return DriverStatus(
            height=self._core.height,
            view=self._core.view,
            is_validator=self._current.is_member,
            is_signing=self._core.is_voting,
            not_signing=self._signing.explain_silence(),
            validators=len(members) if members else 0,
            evidence=len(self.evidence),
            sync=self._follower.status,
        )

    # ---------------------------------------------------------------- the loop

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._current.validators = await self._ledger.validators()
            nursery.start_soon(self._follower.follow, self._signing.takes_part, lambda: self._current.others)
            task_status.started()  # who starts at the same time asks this one how far it is
            await self._signing.become_level()
            await self._execute(await self._start_height(self._journal))
            nursery.start_soon(read_network, self._network, self._inbox, self._current)
            nursery.start_soon(watch_work, self._current, self._inbox, self._clock, self._votes)
            nursery.start_soon(greet, self._current, self._network, self._sync)
            while True:
                await self._execute(await self._handle_batch(await self._inbox.next_batch()))

    async def _handle_batch(self, batch: list[Item]) -> list[Effect]:
        effects: list[Effect] = []
        for item in batch:
            if isinstance(item, Packet):
                effects += self._reception.handle(item)
            elif not isinstance(item, Advanced):
                effects += self._core.handle(item)
        if self._advanced:
            effects += await self._start_height()
        return effects

    # ---------------------------------------------------------------- heights

    def _on_final(self) -> None:
        """The ledger grew, by consensus or by catching up. The loop is told without waiting."""
        self._advanced = True
        self._inbox.put_if_room(Advanced())  # a busy loop with a full inbox looks at the flag after its batch

    async def _start_height(self, journal: Journal | None = None) -> list[Effect]:
        """`journal`: after a restart, what it holds of the height that was left in the middle."""
        self._advanced = False
        current = self._current
        current.validators = await self._ledger.validators()
        height = self._ledger.height() + 1
        if height <= self._core.height:
            return []
        if await self._signing.enters_soon():
            self._signing.open_logs(height)
            self._start(self._signing.enter)
        self._inbox.clear_timers()
        self._bodies.start_height(height)
        self._votes.start_height(height)
        for record in journal.bodies(height) if journal else ():
            self._bodies.pin(height, record.block_id, record.body)
        certificates = journal.certificates(height) if journal else ()
        if journal is None:
            await self._journal.start_height()
        current.tell_change()
        return self._core.handle(StartHeight(height, current.validators, certificates))

    # ---------------------------------------------------------------- effects

    async def _execute(self, effects: list[Effect]) -> None:
        for effect in effects:
            self._append(effect)
        if any(isinstance(effect, Sync) for effect in effects):
            await self._journal.sync()
        for effect in effects:
            self._carry_out(effect)

    def _append(self, effect: Effect) -> None:
        match effect:
            case Persist():
                self._journal.append(effect.certificate)
            case PersistSigned():
                self._journal.append_signed(effect.record)
                if isinstance(effect.record, SignRecord):
                    self._signing.note_signed(effect.record)
            case PersistBody():
                body = self._bodies.get(effect.height, effect.block_id)
                if body is not None:
                    self._bodies.pin(effect.height, effect.block_id, body)
                    self._journal.append(BodyRecord(effect.height, effect.block_id, body))

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Broadcast():
                self._broadcast(effect.message)
            case Send():
                self._network.send(effect.account, encode_message(effect.message))
            case SetTimer():
                self._inbox.set_timer(effect)
            case BuildBlock():
                self._start(self._work.build, effect)
            case CheckBlock():
                self._start(self._work.check, effect)
            case Decide():
                self._start(self._decide, effect)
            case CatchUp():
                self._start(self._follower.catch_up, effect.account, effect.height)
            case _:
                self._report(effect)

    def _start(self, task: Callable[..., Awaitable[None]], *arguments: object) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(task, *arguments)

    async def _decide(self, effect: Decide) -> None:
        if await self._work.decide(effect):
            self._journal.settle()

    def _broadcast(self, message: Message) -> None:
        if isinstance(message, Vote):
            self._votes.note(message, self._core.height, self._current.validators)
        self._network.broadcast(encode_message(message, self._bodies.get_beside(message)), self._current.others)

    def _report(self, effect: Effect) -> None:
        if isinstance(effect, Evidence):
            self.evidence.note(effect)
            first, second = effect.first, effect.second
            log.warning(
                "0x%s signed against itself at height %d, view %d: %s and %s",
                *(first.signer.hex(), first.height, first.view, first.kind.name, second.kind.name),
            )
        elif isinstance(effect, SignerRefused):
            self._signing.note_refusal(effect.reason)
        elif isinstance(effect, Dropped):
            self._offences.note(effect.sender, effect.reason)
