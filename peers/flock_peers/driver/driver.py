"""The only loop of a peer: feeds messages, timers and blocks to the consensus core and carries out its effects.

A batch of inputs makes a batch of effects; what persists is appended first, then one fsync, then the rest in order,
so nothing signed leaves before it is durable. Bodies are fetched, built, checked and committed beside the loop.
"""

import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from flock_chain.consensus.core import Core
from flock_chain.consensus.digest import ChainDomain, make_domain
from flock_chain.consensus.events import (
    BlockBuilt,
    BlockChecked,
    Broadcast,
    BuildBlock,
    CatchUp,
    CheckBlock,
    Decide,
    Dropped,
    Effect,
    Evidence,
    Input,
    Persist,
    PersistBody,
    PersistSigned,
    Received,
    Send,
    SetTimer,
    SignerRefused,
    StartHeight,
    Sync,
    Timer,
    TimerFired,
    Work,
)
from flock_chain.consensus.records import BodyRecord
from flock_chain.consensus.rules import CoreConfig
from flock_chain.consensus.signer import SignRecord
from flock_chain.consensus.types import Message, Proposal, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import decode_certificate, decode_message, encode_certificate, encode_message
from flock_chain.crypto import Account, Key
from flock_chain.errors import InvalidContent, InvalidRemote, Unavailable
from flock_chain.genesis import Genesis
from flock_chain.parameters import Parameters
from flock_chain.restart import Restart
from flock_peers.driver.attendance import VoteBook
from flock_peers.driver.bodies import Bodies
from flock_peers.driver.catch_up import Committer, Follower
from flock_peers.driver.journal import Journal, open_journal
from flock_peers.driver.level import Level
from flock_peers.driver.offences import Offences
from flock_peers.driver.own_votes import OwnVotes
from flock_peers.driver.ports import BlockVerdict, ConsensusNetworkPort, LedgerPort, SyncPort
from flock_peers.driver.progress import SyncStatus
from flock_peers.driver.sync import SyncServer, fetch_body

log = logging.getLogger(__name__)

INBOX_INPUTS = 1_024  # then the network's reader waits, and its queues drop
BATCH_INPUTS = 64  # inputs that share one fsync
MAX_EVIDENCE = 256  # pairs kept for later slashing; one of an offender is enough
INFINITE = float("inf")
RETRY_SECONDS = 0.25  # a body that is nowhere, a block that is too early, a build that failed
BODY_SECONDS = 0.3  # for an answer with a body; then another peer is asked beside
STATUS_MS_PER_HEARTBEAT_SECOND = 1_250  # while heartbeats come nobody needs to be told where we are; greetings remain
GREET_SECONDS = 0.5  # how soon a newly connected validator is told where we are


@dataclass(frozen=True)
class Packet:
    account: Account
    payload: bytes


@dataclass(frozen=True)
class Advanced:
    """The ledger's height changed."""


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


def make_config(parameters: Parameters) -> CoreConfig:
    return CoreConfig(
        view_timeout_ms=parameters.view_timeout,
        view_timeout_cap_ms=parameters.view_timeout_cap,
        retry_interval_ms=parameters.retry_interval,
        status_interval_ms=parameters.heartbeat * STATUS_MS_PER_HEARTBEAT_SECOND,
    )


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
        enlist: Callable[[int], Journal] | None = None,
    ) -> None:
        """`enlist`: opens the logs, at a final height, of who is no validator yet, once it is in a set."""
        self._me, self._ledger, self._network, self._sync, self._journal = me, ledger, network, sync, journal
        self._clock = clock
        self._core = Core(config, domain, me, journal.signer)
        self._bodies = Bodies()
        self._votes = VoteBook()
        self._enlist = enlist
        self._offences = Offences()
        self._inputs, self._inbox = trio.open_memory_channel[Input | Packet | Advanced](INBOX_INPUTS)
        self._timers: dict[Timer, tuple[float, TimerFired]] = {}
        self._height_changed = trio.Event()
        self._advanced = False
        self._validators: ValidatorSet | None = None
        self._bodies_sent: set[tuple[int, int]] = set()
        self._nursery: trio.Nursery | None = None
        self._committer = Committer(ledger, self._on_final, self._on_certificate)
        self._own = OwnVotes(domain, me, journal.signer)
        self._level_height: int | None = None  # the head when this process began to sign; None before
        self._follower = Follower(ledger, sync, domain, journal, self._committer)
        self._server = SyncServer(ledger, self._bodies, self._wait_for_final)
        self._refusal = ""  # of the signer, last time
        self.evidence: deque[Evidence] = deque(maxlen=MAX_EVIDENCE)

    # ---------------------------------------------------------------- what others may use

    async def answer_sync(self, account: Account, payload: bytes) -> bytes:
        """The handler of the protocol /flock/sync/1."""
        return await self._server.answer(account, payload)

    @property
    def status(self) -> DriverStatus:
        members = self._validators
        return DriverStatus(
            height=self._core.height,
            view=self._core.view,
            is_validator=self._is_member(),
            is_signing=self._core.is_voting,
            not_signing=self._explain_silence(),
            validators=len(members) if members else 0,
            evidence=len(self.evidence),
            sync=self._follower.status,
        )

    def _explain_silence(self) -> str:
        if not self._is_member() or self._core.is_voting:
            return ""
        if self._journal.signer is None:
            return self._journal.reason or "not started yet"
        if self._level_height is None:
            return "has not heard yet from validators with a quorum of weight how far they are"
        if self._journal.signer.stopped:
            return self._refusal
        if not self._journal.signer.may_sign(self._core.height):
            return f"waits for height {self._journal.signer.mark}: its signer's file was new or old"
        return self._refusal or "not started yet"

    def _is_member(self) -> bool:
        return self._validators is not None and self._me in self._validators

    def _takes_part(self) -> bool:
        """Whether blocks come to it by votes. A validator that waits asks for them: its messages may go to a copy."""
        if not self._core.height and self._level_height is None and self._journal.signer is not None:
            return self._is_member()  # what it lacks is fetched while it asks how far the others are
        return self._is_member() and self._core.is_voting

    # ---------------------------------------------------------------- the loop

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._validators = await self._ledger.validators()
            nursery.start_soon(self._follower.follow, self._takes_part)
            task_status.started()  # who starts at the same time asks this one how far it is
            await self._become_level()
            await self._execute(await self._start_height(self._journal))
            nursery.start_soon(self._read_network)
            nursery.start_soon(self._watch_work)
            nursery.start_soon(self._greet)
            while True:
                await self._execute(await self._handle_batch(await self._next_inputs()))

    async def _become_level(self) -> None:
        """A signer first learns how far the network is: it may not know what it signed there."""
        if self._journal.signer is not None and self._validators is not None and self._is_member():
            await self._reach_level()
        self._level_height = self._ledger.height()

    async def _reach_level(self, *, before_entering: bool = False) -> None:
        before = self._ledger.height()
        level = Level(self._ledger, self._sync, self._follower, self._me)
        await level.reach(before_entering=before_entering)
        if self._ledger.height() > before:
            await self._journal.caught_up(self._ledger.height())

    async def _next_inputs(self) -> list[Input | Packet | Advanced]:
        """What has arrived, and the timers that are due; waits for the first of either."""
        due = min((at for at, _ in self._timers.values()), default=INFINITE)
        found: list[Input | Packet | Advanced] = []
        with trio.move_on_at(due):
            found.append(await self._inbox.receive())
        while len(found) < BATCH_INPUTS:
            try:
                found.append(self._inbox.receive_nowait())
            except trio.WouldBlock:
                break
        return found + self._due_timers()

    def _due_timers(self) -> list[Input | Packet | Advanced]:
        now = trio.current_time()
        due = [name for name, (at, _) in self._timers.items() if at <= now]
        return [self._timers.pop(name)[1] for name in due]

    async def _handle_batch(self, inputs: list[Input | Packet | Advanced]) -> list[Effect]:
        effects: list[Effect] = []
        for item in inputs:
            if isinstance(item, Packet):
                effects += self._handle_packet(item)
            elif not isinstance(item, Advanced):
                effects += self._core.handle(item)
        if self._advanced:
            effects += await self._start_height()
        return effects

    def _handle_packet(self, packet: Packet) -> list[Effect]:
        """One peer's bad message is its own trouble: noted with its name, dropped."""
        if not self._offences.may_speak(packet.account):
            return []
        try:
            message, body = decode_message(packet.payload, packet.account)
            if body:
                self._keep_body(packet.account, message, body)
            if isinstance(message, Vote):
                self._votes.note(message, self._core.height, self._validators)
            if message.height == self._core.height:
                self._look_for_double(message, self._validators)
            return self._core.handle(Received(packet.account, message))
        except InvalidRemote as error:
            self._offences.note(packet.account, str(error))
            return []

    def _on_certificate(self, certificate: bytes, validators: ValidatorSet) -> None:
        """Of a block that becomes final here, verified; `validators`: of its height."""
        self._look_for_double(decode_certificate(certificate), validators)

    def _look_for_double(self, message: Message, validators: ValidatorSet | None) -> None:
        """A vote of this account that was not made here: our past, up to the height at which we began; else a copy."""
        vote = self._own.find_unknown(message, validators) if validators else None
        signer = self._journal.signer
        if vote is None or signer is None or signer.stopped:
            return
        what = f"a {vote.kind.name} vote of height {vote.height}, view {vote.view}, with this validator's key"
        if self._level_height is None or vote.height <= self._level_height + 1:
            if self._journal.doubt(max(vote.height, self._ledger.height())):
                log.warning("%s is not in the signer's file: the file is old, so it waits", what)
            return
        self._refusal = f"another process made {what}: stop the copy of this home, then start this one again"
        signer.stop(self._refusal)
        log.error("signing nothing more: %s; two signers of one key lose its stake", self._refusal)

    def _keep_body(self, account: Account, message: object, body: bytes) -> None:
        if not isinstance(message, Proposal) or not 0 <= message.height - self._core.height <= 1:
            return
        if self._validators is None or self._validators.leader(message.height, message.view) != account:
            return
        if self._ledger.block_id(body) != message.block_id:
            raise InvalidContent("proposal: the body beside it is another block")
        self._bodies.put(account, message.height, message.block_id, body)

    # ---------------------------------------------------------------- heights

    def _on_final(self) -> None:
        """The ledger grew, by consensus or by catching up. The loop is told without waiting."""
        self._advanced = True
        try:
            self._inputs.send_nowait(Advanced())
        except trio.WouldBlock:
            pass  # the loop is busy with a full inbox and looks at the flag after this batch

    async def _start_height(self, journal: Journal | None = None) -> list[Effect]:
        """`journal`: after a restart, what it holds of the height that was left in the middle."""
        self._advanced = False
        self._validators = await self._ledger.validators()
        height = self._ledger.height() + 1
        if height <= self._core.height:
            return []
        if self._enlist is not None and (self._is_member() or self._me in await self._ledger.next_validators()):
            self._become_validator(self._enlist, height)
        self._timers.clear()
        self._bodies_sent.clear()
        self._bodies.start_height(height)
        self._votes.start_height(height)
        for record in journal.bodies(height) if journal else ():
            self._bodies.pin(height, record.block_id, record.body)
        certificates = journal.certificates(height) if journal else ()
        if journal is None:
            await self._journal.start_height()
        self._height_changed.set()
        self._height_changed = trio.Event()
        return self._core.handle(StartHeight(height, self._validators, certificates))

    def _become_validator(self, enlist: Callable[[int], Journal], height: int) -> None:
        """An epoch ahead: new logs do not sign at once, and the set may need this vote in its first height."""
        self._enlist = None
        self._journal.take_over(enlist(height - 1))
        self._own.use_signer(self._journal.signer)
        self._level_height = None
        self._start(self._enter_level)
        log.info("height %d: this peer is a validator now, or will be in the next epoch", height)

    async def _enter_level(self) -> None:
        """As at a start: this key may have signed elsewhere, in blocks that are still to come here."""
        await self._reach_level(before_entering=True)
        self._level_height = self._ledger.height()
        self._core.use_signer(self._journal.signer)

    async def _wait_for_final(self, height: int) -> None:
        while self._ledger.height() < height:
            await self._height_changed.wait()

    def _is_open(self, height: int) -> bool:
        return self._core.height == height and self._ledger.height() < height

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
                    self._own.note(effect.record)
            case PersistBody():
                body = self._bodies.get(effect.height, effect.block_id)
                if body is not None:
                    self._bodies.pin(effect.height, effect.block_id, body)
                    self._journal.append(BodyRecord(effect.height, effect.block_id, body))

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Broadcast():
                self._broadcast(effect)
            case Send():
                self._network.send(effect.account, encode_message(effect.message))
            case SetTimer():
                fired = TimerFired(effect.timer, effect.height, effect.view)
                self._timers[effect.timer] = (trio.current_time() + effect.delay_ms / 1_000, fired)
            case BuildBlock():
                self._start(self._build, effect)
            case CheckBlock():
                self._start(self._check, effect)
            case Decide():
                self._start(self._decide, effect)
            case CatchUp():
                self._start(self._follower.catch_up, effect.account, effect.height)
            case _:
                self._report(effect)

    def _start(self, task: Callable[..., object], *arguments: object) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(task, *arguments)  # type: ignore[arg-type]

    def _broadcast(self, effect: Broadcast) -> None:
        """A proposal carries its body the first time; who missed it asks by id."""
        assert self._validators is not None
        body, message = b"", effect.message
        if isinstance(message, Vote):
            self._votes.note(message, self._core.height, self._validators)
        if isinstance(message, Proposal) and (message.height, message.view) not in self._bodies_sent:
            self._bodies_sent.add((message.height, message.view))
            body = self._bodies.get(message.height, message.block_id) or b""
        others = [account for account in self._validators.accounts if account != self._me]
        self._network.broadcast(encode_message(message, body), others)

    def _report(self, effect: Effect) -> None:
        if isinstance(effect, Evidence):
            self.evidence.append(effect)
            first, second = effect.first, effect.second
            log.warning(
                "0x%s signed against itself at height %d, view %d: %s and %s",
                *(first.signer.hex(), first.height, first.view, first.kind.name, second.kind.name),
            )
        elif isinstance(effect, SignerRefused):
            self._refusal = effect.reason
            log.error("not voting at height %d any more: %s", self._core.height, effect.reason)
        elif isinstance(effect, Dropped):
            self._offences.note(effect.sender, effect.reason)

    # ---------------------------------------------------------------- blocks, beside the loop

    async def _build(self, effect: BuildBlock) -> None:
        while self._is_open(effect.height) and self._core.view == effect.view:
            try:
                body = await self._ledger.build(
                    effect.height, effect.view, lambda: self._votes.votes(effect.height - 1)
                )
            except Unavailable as error:
                log.debug("no block for height %d, view %d yet: %s", effect.height, effect.view, error)
                await trio.sleep(RETRY_SECONDS)
                continue
            block_id = self._ledger.block_id(body)
            self._bodies.put(self._me, effect.height, block_id, body)
            await self._inputs.send(BlockBuilt(effect.height, effect.view, block_id))
            return

    async def _check(self, effect: CheckBlock) -> None:
        body = await self._find_body(effect.height, effect.block_id, effect.proposer)
        while body is not None and self._is_open(effect.height):
            verdict = await self._ledger.check(body, proposer=effect.proposer)
            if verdict != BlockVerdict.LATER:
                valid = verdict == BlockVerdict.VALID
                if valid:  # its proposer could flush it out before the vote, and then nobody would have it
                    self._bodies.pin(effect.height, effect.block_id, body)
                await self._inputs.send(BlockChecked(effect.height, effect.block_id, valid))
                return
            await trio.sleep(RETRY_SECONDS)

    async def _decide(self, effect: Decide) -> None:
        leader = self._validators.leader(effect.height, effect.certificate.view) if self._validators else self._me
        body = await self._find_body(effect.height, effect.block_id, leader)
        if body is not None:
            await self._committer.commit(effect.height, body, encode_certificate(effect.certificate))
            self._journal.settle()

    async def _find_body(self, height: int, block_id: bytes, first: Account) -> bytes | None:
        """Here, or from whoever has it; None once the height is final anyway."""
        while self._is_open(height):
            body = self._bodies.get(height, block_id)
            if body is not None:
                return body
            await self._ask_around(height, block_id, first)
            if self._bodies.get(height, block_id) is None:
                await trio.sleep(RETRY_SECONDS)
        return None

    async def _ask_around(self, height: int, block_id: bytes, first: Account) -> None:
        """`first`, and while there is no answer the others: a silent leader must not hold up who lacks its block."""
        async with trio.open_nursery() as nursery:

            async def ask(account: Account, answered: trio.Event) -> None:
                await self._ask_for_body(account, height, block_id)
                answered.set()
                if not self._lacks(height, block_id):
                    nursery.cancel_scope.cancel()

            for account in [first, *(other for other in self._sync.peers() if other != first)]:
                if account != self._me and self._lacks(height, block_id):
                    answered = trio.Event()
                    nursery.start_soon(ask, account, answered)
                    with trio.move_on_after(BODY_SECONDS):
                        await answered.wait()
            while nursery.child_tasks and self._lacks(height, block_id):
                await trio.sleep(RETRY_SECONDS)
            nursery.cancel_scope.cancel()

    def _lacks(self, height: int, block_id: bytes) -> bool:
        return self._is_open(height) and self._bodies.get(height, block_id) is None

    async def _ask_for_body(self, account: Account, height: int, block_id: bytes) -> None:
        try:
            body = await fetch_body(self._sync, account, height, block_id)
            if body is None:
                return
            if self._ledger.block_id(body) != block_id:
                raise InvalidContent("sync answer: another block than the one asked for")
            self._bodies.put(account, height, block_id, body)
        except Unavailable as error:
            log.debug("no body from 0x%s: %s", account.hex(), error)
        except InvalidRemote as error:
            self._offences.note(account, str(error))

    # ---------------------------------------------------------------- sources of inputs

    async def _read_network(self) -> None:
        async for account, payload in self._network.messages():
            await self._inputs.send(Packet(account, payload))

    async def _watch_work(self) -> None:
        """Tells the core once a height that a block is wanted."""
        told = 0
        while True:
            height, changed = self._core.height, self._height_changed
            wait = await self._ledger.work(self._clock()) if told != height else None
            if wait is not None and wait <= 0 and self._is_open(height):
                told = height
                await self._inputs.send(Work(height))
                continue
            async with trio.open_nursery() as nursery:
                nursery.cancel_scope.deadline = trio.current_time() + (
                    float("inf") if wait is None else max(wait, 0.01)
                )
                if told != height:
                    nursery.start_soon(self._wait_then_cancel, self._ledger.wait_work, nursery.cancel_scope)
                await changed.wait()
                nursery.cancel_scope.cancel()

    @staticmethod
    async def _wait_then_cancel(wait: Callable[[], object], scope: trio.CancelScope) -> None:
        await wait()  # type: ignore[misc]
        scope.cancel()

    async def _greet(self) -> None:
        """Whoever of the validators connects is told where we are: a laggard catches up at once, on either side."""
        greeted: set[Account] = set()
        while True:
            members = self._validators.accounts if self._validators and self._is_member() else ()
            connected = {account for account in self._sync.peers() if account in members and account != self._me}
            for account in sorted(connected - greeted):
                self._network.send(account, encode_message(self._core.status()))
            greeted = connected
            await trio.sleep(GREET_SECONDS)


@asynccontextmanager
async def open_driver(
    genesis: Genesis,
    key: Key,
    ledger: LedgerPort,
    network: ConsensusNetworkPort,
    sync: SyncPort,
    folder: Path,
    *,
    restarts: Sequence[Restart] = (),
) -> AsyncIterator[Driver]:
    """Run a driver for as long as the block lasts. `folder`: of the logs; nothing is written for a non-validator.

    Raises Refused while another process signs with this folder.
    """
    domain = make_domain(genesis, restarts)

    def enlist(final_height: int) -> Journal:
        folder.mkdir(parents=True, exist_ok=True)
        return open_journal(folder, key, domain, final_height=final_height)

    is_member = key.account in await ledger.validators()
    journal = enlist(ledger.height()) if is_member else Journal()
    try:
        driver = Driver(
            make_config(genesis.parameters), domain, key.account, ledger, network, sync, journal,
            enlist=None if is_member else enlist,
        )  # fmt: skip
        async with trio.open_nursery() as nursery:
            await nursery.start(driver.run)
            yield driver
            nursery.cancel_scope.cancel()
    finally:
        journal.close()
