"""One peer: what was opened for it, wired together and run until cancelled. Decides nothing itself."""

import logging
import time
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

from flock_chain import ecvrf
from flock_chain.consensus.types import Vote
from flock_chain.crypto import Account, Key
from flock_chain.errors import FlockError
from flock_chain.execution.transactions import MAX_TRANSACTION_BYTES, sign_call
from flock_chain.genesis import Genesis
from flock_peers.arrival import Arrival
from flock_peers.base_giver import BaseGiver
from flock_peers.baseline import Baseline
from flock_peers.bases import Bases, BaseTerms, FoundBase
from flock_peers.clock_offset import ClockOffset
from flock_peers.contents import Contents
from flock_peers.control import serve_control
from flock_peers.courier import Courier
from flock_peers.driver.driver import Driver
from flock_peers.driver.ports import SyncPort
from flock_peers.given_up import GivenUp
from flock_peers.home import Home
from flock_peers.ledger import Ledger
from flock_peers.ledger.ledger import decode_once
from flock_peers.left_behind import LeftBehind
from flock_peers.loop_lag import LoopLag
from flock_peers.measurements import Measurements
from flock_peers.network.blobs import BlobService
from flock_peers.network.dht import announce_forever
from flock_peers.network.host import Host
from flock_peers.peer_control import PeerControl
from flock_peers.retention import Retention
from flock_peers.roles.board import RoundView
from flock_peers.roles.faucet import ACCEPTED, FAUCET_PROTOCOL, FaucetHelper
from flock_peers.roles.library import Library
from flock_peers.roles.participant import Participant, Surroundings
from flock_peers.roles.proposer import Identity
from flock_peers.roles.rule_orders import RuleOrders
from flock_peers.roles.sender import Sender
from flock_peers.roles.spoil import split_attack
from flock_peers.roles.staking import Staking
from flock_peers.roles.task_loop import Choice, TaskLoop, Ways, find_flock_error
from flock_peers.roles.task_orders import TaskOrders
from flock_peers.settings import PeerSettings
from flock_peers.snapshots import Snapshots
from flock_peers.store.evidence_file import EvidenceFile
from flock_peers.store.kept_marks import task_owner
from flock_peers.task_facts import TaskFacts
from flock_peers.task_list import warn_of_bond
from flock_peers.tasks import opening_label
from flock_peers.telemetry import RoundBytes, TrainingProgress
from flock_peers.training.client import BASE_FOLDER, Trainer, TrainerConfig, check_data, check_format
from flock_peers.training.document import TaskDocument
from flock_peers.training.supervised import supervise

log = logging.getLogger(__name__)

FAUCET_ANSWER_SECONDS = 10.0  # for a helper to submit a drip
FAVOUR_SECONDS = 60.0  # a set changes once an epoch
LEVEL_AGAIN_SECONDS = 10.0  # until a peer that looks on asks again how far the others are
PARTICIPATE_AGAIN_SECONDS = 60.0  # after a failure on this side, such as a data file that is gone


class Peer:
    """Open with `peer_opening.open_peer`; `run_roles` then lives until cancelled."""

    def __init__(
        self, settings: PeerSettings, home: Home, key: Key, genesis: Genesis, host: Host, ledger: Ledger,
        driver: Driver, sync: SyncPort, contents: Contents, blobs: BlobService, snapshots: Snapshots,
    ) -> None:  # fmt: skip
        self.settings, self.home, self.key, self.genesis = settings, home, key, genesis
        self.host, self.ledger, self.driver, self.contents, self._blobs = host, ledger, driver, contents, blobs
        self.snapshots = snapshots
        self.account: Account = key.account
        self.started_at = time.time()
        self._courier = Courier(
            host, genesis.hash, submit=ledger.submit, validators=self._validators,
            is_plausible=lambda payload: is_transaction(payload, genesis.chain_id),
        )  # fmt: skip
        self.sender = Sender(key, genesis.chain_id, genesis.parameters.base_fee, ledger, sign_call, self._courier.send)
        self._baseline = Baseline(home, settings.seed)
        self._bases = Bases(home.folder("bases"), contents, make_base_terms(settings))
        self._giver = BaseGiver(contents)
        self._arrival = Arrival(ledger, sync, self._ask_faucet)
        self.measurements = Measurements(home.folder("rounds") / "measured.json")
        self._given_up = open_given_up(home, settings.takes_up)
        self._tasks = self._make_task_loop()
        self._retention = Retention(
            blobs.store, ledger, key.account, lambda: self.participant.task if self.participant else None,
            is_opening=lambda document: self.sender.is_pending(opening_label(document)),
        )  # fmt: skip
        self._staking = Staking(
            key.account, ecvrf.public_key(ecvrf.derive_seed(key)), ledger, self.sender,
            EvidenceFile(home.folder("consensus") / "evidence"),
        )  # fmt: skip
        self.progress = TrainingProgress()
        self._told = set[str]()  # by its trainers, of data and models: once in its life
        self.page: str | None = None  # its address, once an application serves one
        self.round_bytes = RoundBytes(lambda: blobs.bytes_sent + blobs.bytes_received)
        self.stop = trio.Event()
        self._left_behind = LeftBehind(key.account, ledger)
        self._clock = ClockOffset(ledger, lambda: driver.status.sync is not None)
        self._loop_lag = LoopLag()
        self.control = self._make_control()
        faucet = FaucetHelper(self.sender, ledger, genesis.parameters.faucet_deposit)
        host.on_request(FAUCET_PROTOCOL, faucet.on_request, most=0)

    async def _ask_faucet(self, helper: Account) -> None:
        await self.host.request(helper, FAUCET_PROTOCOL, b"", FAUCET_ANSWER_SECONDS, len(ACCEPTED))

    async def _validators(self) -> tuple[Account, ...]:
        return (await self.ledger.validators()).accounts

    def count_bytes(self) -> tuple[int, int]:
        """Of files, sent and received."""
        return self._blobs.bytes_sent, self._blobs.bytes_received

    def _make_control(self) -> PeerControl:
        return PeerControl(
            account=self.account,
            genesis=self.genesis,
            started_at=self.started_at,
            host=self.host,
            ledger=self.ledger,
            driver=self.driver,
            snapshots=self.snapshots,
            contents=self.contents,
            blobs=self._blobs,
            sender=self.sender,
            courier=self._courier,
            staking=self._staking,
            task_orders=TaskOrders(self.account, self.ledger, self.sender, self._tasks.give_up),
            rule_orders=RuleOrders(self.account, self.ledger, self.sender),
            baseline=self._baseline,
            base=self.settings.data.base,
            bases=self._bases,
            giver=self._giver,
            facts=TaskFacts(self.contents, self._blobs, self._bases),
            explain_tasks=self._tasks.explain,
            progress=self.progress,
            measurements=self.measurements,
            left_behind=self._left_behind,
            round_bytes=self.round_bytes,
            clock=self._clock,
            loop_lag=self._loop_lag,
            stop=self.stop,
            find_participant=lambda: self.participant,
            find_page=lambda: self.page,
        )

    # Roles

    @property
    def participant(self) -> Participant | None:
        """The part in the last task; it is served until the next one begins."""
        return self._tasks.participant

    async def run_roles(self) -> None:
        async with trio.open_nursery() as nursery:
            self._baseline.run_in(nursery)
            self._giver.run_in(nursery)
            await nursery.start(serve_control, self.home.control_path, self.control.methods())
            nursery.start_soon(self.sender.run)
            nursery.start_soon(self.snapshots.run)
            nursery.start_soon(self._retention.run)
            nursery.start_soon(self._left_behind.run)
            nursery.start_soon(self._staking.report_forever, self._find_evidence)
            nursery.start_soon(self._favour_validators)
            nursery.start_soon(self._clock.run)
            nursery.start_soon(self._loop_lag.run)
            if self.settings.dht:
                nursery.start_soon(announce_forever, self._blobs.store.list_kept, self.host.provide)
            if self.settings.participate:
                nursery.start_soon(self._participate)
            else:
                nursery.start_soon(self._look_on)
            await self.stop.wait()
            nursery.cancel_scope.cancel()

    async def _favour_validators(self) -> None:
        """Places among the outgoing connections are kept for them, whoever else there is to dial."""
        while True:
            try:
                self.host.book.favour(await self._validators())
            except FlockError as error:
                log.debug("validators: %s", error)
            await trio.sleep(FAVOUR_SECONDS)

    async def _participate(self) -> None:
        """A role's failure never ends the validator."""
        data = self.settings.data
        while True:
            try:
                domain = None if data.rows else data.domain
                await trio.to_thread.run_sync(check_data, domain, data.index, data.rows, split_attack(data.attack)[0])
                await self._tasks.run()
            except Exception as error:  # a task's edge
                known = find_flock_error(error)
                log.error("not taking part: %s", known or repr(error), exc_info=None if known else error)
            await trio.sleep(PARTICIPATE_AGAIN_SECONDS)

    async def _look_on(self) -> None:
        """An old state shows bonds that were taken back long ago."""
        try:
            while not await self._arrival.is_level():
                await trio.sleep(LEVEL_AGAIN_SECONDS)
            await warn_of_bond(self.ledger, self.account)
        except FlockError as error:
            log.info("whether this account is bonded in a task cannot be read now: %s", error)

    def _find_evidence(self) -> list[tuple[Vote, Vote]]:
        return [(row.first, row.second) for row in self.driver.evidence]

    def _make_task_loop(self) -> TaskLoop:
        parameters = self.genesis.parameters
        return TaskLoop(
            Ways(
                account=self.account,
                ledger=self.ledger,
                sender=self.sender,
                make=self._make_participant,
                is_level=self._arrival.is_level,
                ask_for_coins=self._arrival.ask_for_coins,
                bond=self.settings.bond,
                task=self.settings.task,
                faucet_amount=parameters.faucet_amount,
                fee=parameters.base_fee,
                is_busy=lambda: self._baseline.is_running,
                measurements=self.measurements,
                given_up=self._given_up,
            )
        )

    def _make_participant(self, choice: Choice, bonds_early: bool) -> Participant:
        log.info("task %d: %s", choice.task, "going on" if choice.is_bonded else "joining")
        return Participant(
            choice.task,
            Surroundings(
                identity=Identity(self.account, self.genesis.chain_id, bytes(self.genesis.hash), self.settings.seed),
                ledger=self.ledger,
                store=self.contents.of(task_owner(choice.task)),
                fetcher=self.contents,
                sender=self.sender,
                open_trainer=self._open_trainer,
                folder=self.home.folder("rounds"),
                bond=choice.bond,
                domain=self.settings.data.label,
                spoil=split_attack(self.settings.data.attack)[1],
                on_round=self.round_bytes.on_round,
                on_view=self._expect,
                measurements=self.measurements,
                bonds_early=bonds_early,
                find_base=self._find_base,
                check_format=lambda wanted: check_format(self.settings.data.domain, self.settings.data.rows, wanted),
            ),
        )

    def _expect(self, view: RoundView) -> None:
        enough = view.enough()
        if enough is not None:
            self.ledger.expect(view.task, (view.round, view.phase), view.awaited(), enough)

    async def _find_base(self, task: int, document: TaskDocument) -> FoundBase:
        found = await self._bases.find(task, document)
        if found.folder == self.settings.data.base:
            self._giver.share(task, found.folder)
        return found

    def _open_trainer(self, library: Library) -> AbstractAsyncContextManager[Any]:
        data = self.settings.data
        config = TrainerConfig(
            document=library.document,
            home=self.home.folder("training"),
            domain=None if data.rows else data.domain,
            index=data.index,
            rows=data.rows,
            base=library.base.folder,
            precision=data.precision,
            checkpointing=data.checkpointing,
            processes=data.gpus,
            privacy=data.privacy,
            seed=self.settings.seed,
            attack=split_attack(data.attack)[0],
        )
        tell = self.progress.on_progress
        return supervise(lambda: Trainer.open(config, tell, told=self._told), tell)


def open_given_up(home: Home, takes_up: int | None) -> GivenUp:
    """`takes_up`: the task that its owner names at this start."""
    given_up = GivenUp(home.folder("rounds") / "left.json")
    if takes_up is not None:
        given_up.discard(takes_up)
    return given_up


def make_base_terms(settings: PeerSettings) -> BaseTerms:
    data = settings.data
    folders = (BASE_FOLDER,) if data.base is None else (data.base, BASE_FOLDER)
    return BaseTerms(folders, settings.max_base_bytes, data.precision, data.checkpointing)


def is_transaction(payload: bytes, chain_id: int) -> bool:
    """What may be passed on: anything else would cost every peer of the network its upload."""
    if not 0 < len(payload) <= MAX_TRANSACTION_BYTES:
        return False
    try:
        decode_once(payload, chain_id)
    except FlockError:
        return False
    return True
