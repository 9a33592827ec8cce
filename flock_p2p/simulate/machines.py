"""The validators of a schedule: how they start, run, write and die. Knows no messages, no blocks; plans no faults."""

import heapq
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from flock_chain.consensus.core import Core
from flock_chain.consensus.events import (
    Dropped,
    Effect,
    Evidence,
    Input,
    Persist,
    PersistBody,
    PersistSigned,
    Received,
    SetTimer,
    SignerRefused,
    StartHeight,
    Sync,
    TimerFired,
    Work,
)
from flock_chain.consensus.records import BodyRecord
from flock_chain.consensus.rules import CoreConfig
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote
from flock_p2p.simulate.chance import Chance
from flock_p2p.simulate.disk import Disk
from flock_p2p.simulate.judge import INNOCENCE, Judge, Violation, show
from flock_p2p.simulate.members import RESERVE, Members
from flock_p2p.simulate.network import Network
from flock_p2p.simulate.node import Node
from flock_p2p.simulate.scenario import Scenario
from flock_p2p.simulate.sins import FakingCore, ForgetfulSigner, LyingCore
from flock_p2p.simulate.worlds import CheapWorld, Variant, World
from flock_peers.driver.inbox import INBOX_INPUTS

CONFIG = CoreConfig(view_timeout_ms=250, view_timeout_cap_ms=4_000, retry_interval_ms=400, status_interval_ms=5_000)


class Machines:
    def __init__(self, scenario: Scenario, variant: Variant, chance: Chance, *, record: bool) -> None:
        self.scenario, self.variant, self.chance, self.random = scenario, variant, chance, chance.random
        identities = scenario.n + (RESERVE if scenario.set_change else 0)
        self.world = self._make_world(identities)
        self.accounts: list[Account] = [key.account for key in self.world.keys]
        self.members = Members(scenario, self.accounts)
        self.now = 0
        self.is_well = False  # GST has passed
        self.log: list[tuple[int, str]] | None = [] if record else None
        self.trace: list[tuple[int, str, int, bytes]] = []  # every decision
        self.sent: Counter[str] = Counter()  # by honest nodes, to each receiver
        self.crashes = self.events = self.committed = 0
        self._sequence = 0
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sets: dict[int, ValidatorSet] = {}
        self.network = Network(scenario, chance, identities, self._note)
        self.nodes = [self._make_node(index, twin) for index in range(identities) for twin in self._twins(index)]
        self.honest = [node for node in self.nodes if node.honest]
        self.judge = Judge(self.members, self.accounts, self.nodes[0].ledger.head, colluders=scenario.colluders)
        self._by_account: dict[Account, list[Node]] = {account: [] for account in self.accounts}
        for node in self.nodes:
            self._by_account[node.key.account].append(node)
        self._handlers: dict[type, Callable[[Node, Any], None]] = {
            Persist: self._on_persist, PersistBody: self._on_persist_body, PersistSigned: self._on_persist_signed,
            Sync: self._on_sync, SetTimer: self._on_set_timer,
            Evidence: self._on_evidence, Dropped: self._on_dropped, SignerRefused: self._on_signer_refused,
        }  # fmt: skip

    # ---------------------------------------------------------------- set-up

    def _make_world(self, identities: int) -> World:
        if not self.scenario.executor:
            return CheapWorld(identities, self.variant.ledger)
        from flock_p2p.simulate.evm_world import EvmWorld  # the EVM takes a second to load

        return EvmWorld(identities)

    def _twins(self, index: int) -> tuple[int, ...]:
        return (0, 1) if index in self.members.byzantine and self.scenario.sin in ("twins", "split") else (0,)

    def _make_node(self, index: int, twin: int) -> Node:
        honest = index not in self.members.byzantine
        disk = self.variant.disk(self.variant.signer) if honest else Disk(ForgetfulSigner)
        if index in self.members.unlucky:
            disk.signer_log = None  # a key from a copy: its signer does not know whether it signed before
        rate = 1 + self.scenario.skew * self.random.uniform(-1, 1)
        return Node(index, twin, self.world.keys[index], honest, rate, disk, self.world.make_ledger(index))

    def _core_class(self, node: Node) -> type[Core]:
        if node.honest:
            return self.variant.core
        if self.scenario.sin == "liar":
            return LyingCore if node.index % 2 else FakingCore
        return Core

    def validators(self, height: int) -> ValidatorSet:
        """As every node sees them; a wrong variant sees them wrongly."""
        known = self._sets.get(height)
        if known is None:
            known = self.members.at(height)
            known = self._sets[height] = self.variant.members(known) if self.variant.members else known
        return known

    # ---------------------------------------------------------------- time and the log

    def at(self, delay: float, action: Callable[..., None], *arguments: Any) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (self.now + max(0, int(delay)), self._sequence, action, arguments))

    def _note(self, text: str, *values: Any) -> None:
        if self.log is not None:
            self.log.append((self.now, text % tuple(map(_readable, values))))

    # ---------------------------------------------------------------- a machine starts and dies

    def boot(self, node: Node) -> None:
        node.wake()
        node.disk.open(node.key, self.world.domain, len(node.chain))
        signer = None if node.disk.is_damaged or node.disk.signer is None else node.disk.signer.signer
        node.core = self._core_class(node)(
            CONFIG, self.world.domain, node.key.account, signer, recover_signer=self.world.recover
        )
        self._note("node %s starts%s", node, " and only follows: its logs are damaged" if node.disk.is_damaged else "")
        wal = node.disk.wal
        for record in wal.bodies(node.height) if wal else ():
            node.bodies.pin(node.height, record.block_id, record.body)
        self._start_height(node, restarted=True)

    def _start_height(self, node: Node, *, restarted: bool = False) -> None:
        height, wal = node.height, node.disk.wal
        if not restarted:
            node.timers.clear()
            node.bodies.start_height(height)
            if wal:
                wal.start_height()
        certificates = wal.certificates(height) if wal and restarted else ()
        self.input(node, StartHeight(height, self.validators(height), certificates))
        self._want_block(node)

    def _want_block(self, node: Node) -> None:
        """On demand only where a transaction waits; otherwise always, after a while."""
        if not self.scenario.on_demand or node.transactions:
            self.at(self.random.randrange(self.scenario.work_delay + 1), self._work, node, node.life, node.height)

    def _work(self, node: Node, life: int, height: int) -> None:
        if node.life == life and node.height == height:
            self.input(node, Work(height))

    def crash(self, node: Node) -> None:
        self.crashes += 1
        node.disk.crash(self.random)
        node.die()
        self._note("node %s crashes", node)
        if node.index in self.members.unlucky:
            self._strike(node)
        self.at(self.random.uniform(10, 1_500), self._revive, node, node.life)

    def _strike(self, node: Node) -> None:
        """What an unlucky node finds when it comes back. At height 1 there would be no chain to warn it."""
        if self.chance.fault(self.scenario.corrupt) and node.disk.signer_log:
            log = self.random.choice((node.disk.wal_log, node.disk.signer_log))
            log.flip_bit(self.random)
            self._note("a bit flips in a log of node %s", node)
        if node.chain and self.chance.fault(self.scenario.lost_signer):
            node.disk.signer_log = None
            self._note("the signer file of node %s is lost", node)

    def _revive(self, node: Node, life: int) -> None:
        if node.life != life:
            return
        self.boot(node)
        if node.disk.is_damaged:
            self.at(self.random.uniform(500, 2_500), self._repair, node, node.life)

    def _repair(self, node: Node, life: int) -> None:
        """Somebody looks after a node that only follows. Without any chain yet, it waits for one to be safe."""
        if node.life != life:
            return
        if not node.chain and node.disk.signer is None:
            self.at(500, self._repair, node, life)
            return
        node.die()
        node.disk.repair()
        self._note("the damaged logs of node %s are moved away", node)
        self.boot(node)

    # ---------------------------------------------------------------- inputs and effects

    def input(self, node: Node, event: Input) -> None:
        if node.waiting is not None:
            if len(node.waiting) < INBOX_INPUTS:
                node.waiting.append(event)
            return
        assert node.core is not None
        try:
            effects = node.core.handle(event)
        except InvalidRemote as error:
            if isinstance(event, Received) and node.honest:
                self.judge.on_refused(event.sender, str(error))
            return
        if effects:
            self._carry_out(node, effects)

    def _carry_out(self, node: Node, effects: list[Effect]) -> None:
        life, handlers = node.life, self._handlers
        risky = self._is_risky(node)
        slow = node.honest and not self.is_well and self.scenario.slow_disk
        for position, effect in enumerate(effects):
            if risky and self.chance.fault(self.scenario.crash):
                self.crash(node)
                return
            if slow and type(effect) is Sync:
                node.waiting = deque()
                delay = self.random.expovariate(1 / self.scenario.slow_disk)
                self.at(delay, self._synced, node, life, effects[position:])
                return
            handlers[type(effect)](node, effect)
            if node.life != life:
                return

    def _is_risky(self, node: Node) -> bool:
        return bool(self.scenario.crash) and node.honest and not self.is_well

    def _synced(self, node: Node, life: int, effects: list[Effect]) -> None:
        if node.life != life:
            return
        waiting, node.waiting = node.waiting or deque(), None
        self._on_sync(node, effects[0])
        if node.life == life:
            self._carry_out(node, effects[1:])
        for event in waiting:
            if node.life == life:
                self.input(node, event)

    def _on_persist(self, node: Node, effect: Persist) -> None:
        if node.disk.wal:
            node.disk.wal.append(effect.certificate)

    def _on_persist_body(self, node: Node, effect: PersistBody) -> None:
        body = node.bodies.get(effect.height, effect.block_id)
        if body is not None and node.disk.wal:
            node.bodies.pin(effect.height, effect.block_id, body)
            node.disk.wal.append(BodyRecord(effect.height, effect.block_id, body))
            node.unsynced_bodies.add(effect.block_id)

    def _on_persist_signed(self, node: Node, effect: PersistSigned) -> None:
        node.pending.append(effect.record)

    def _on_sync(self, node: Node, _effect: Effect) -> None:
        """The order of the driver's journal: first the write-ahead log, then signatures. A crash may fall between."""
        risky = self._is_risky(node)
        if node.disk.wal:
            node.disk.wal.sync()
            node.unsynced_bodies.clear()
        if risky and self.chance.fault(self.scenario.crash):
            self.crash(node)
            return
        self._write_signed(node)
        if risky and self.chance.fault(self.scenario.crash):
            self.crash(node)
            return
        if node.disk.signer:
            node.disk.signer.sync(node.disk.signer.signer.records())
        node.pending.clear()

    def _write_signed(self, node: Node) -> None:
        if node.disk.signer:
            for record in node.pending:
                node.disk.signer.append(record)

    # ---------------------------------------------------------------- timers

    def _on_set_timer(self, node: Node, effect: SetTimer) -> None:
        self._sequence += 1
        node.timers[effect.timer] = self._sequence
        self.at(effect.delay_ms * node.rate, self._fire, node, node.life, effect, self._sequence)

    def _fire(self, node: Node, life: int, effect: SetTimer, token: int) -> None:
        if node.life == life and node.timers.get(effect.timer) == token:
            self.input(node, TimerFired(effect.timer, effect.height, effect.view))

    # ---------------------------------------------------------------- what the judge hears

    def _on_evidence(self, node: Node, effect: Evidence) -> None:
        if node.honest:
            self._note("node %s convicts by %s and %s", node, effect.first, effect.second)
            self.judge.on_evidence(effect)

    def _on_dropped(self, node: Node, effect: Dropped) -> None:
        if node.honest:
            self.judge.on_refused(effect.sender, effect.reason)

    def _on_signer_refused(self, node: Node, effect: SignerRefused) -> None:
        if node.honest:
            raise Violation(INNOCENCE, f"the core of node {node.name} wanted it: {effect.reason}")


def _readable(value: Any) -> Any:
    if isinstance(value, Node):
        return value.name
    if isinstance(value, bytes):
        return value.hex()[:6]
    if isinstance(value, str | int | list) or value is None:
        return value
    return show(value)
