"""A deterministic simulator of the real core, signer and logs. One seed is one run, bit for bit.

Models delay with a long tail, reorder, drop, duplicates, partitions, faults of one kind of message in one view, timers
of different speed, a crash between any two effects with loss of the unsynced log, whole-cluster crashes, lost block
bodies; and validators that are twins, mutate what they send, lie about parents, propose invalid blocks or fall silent.
"""

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from consensus_support import DOMAIN, CheapKey, block_id, cheap_recover, cheap_set

from flock_chain.consensus.certificates import verify_finality
from flock_chain.consensus.core import Core
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
from flock_chain.consensus.evidence import is_slashable
from flock_chain.consensus.rules import CoreConfig
from flock_chain.consensus.signer import Signer, SignerRecord, SignRecord
from flock_chain.consensus.types import NO_BLOCK, Certificate, Kind, Message, Proposal, Status, Vote
from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote

CONFIG = CoreConfig(view_timeout_ms=250, view_timeout_cap_ms=4_000, retry_interval_ms=400, status_interval_ms=5_000)


class Violation(AssertionError):
    """A property that must hold did not."""


class ForgetfulSigner(Signer):
    """Signs whatever it is asked to: what a twin uses, and what shows whether the core alone is safe."""

    def _refuse_conflict(self, record: SignRecord) -> None:
        self.advance(record.height)


@dataclass(frozen=True)
class Scenario:
    seed: int
    n: int = 4
    weights: tuple[int, ...] | None = None
    byzantine: int = 1  # identities, as far as their weight stays within max_byzantine
    sin: str = "twins"  # twins | silent | mutate | liar | split
    gst: int = 8_000  # ms: from here on the network and the honest nodes are well
    drop: float = 0.0
    duplicate: float = 0.0
    tail: int = 20  # ms, mean of the exponential part of a delay before GST
    partition: float = 0.0
    kind_fault: float = 0.0
    crash: float = 0.0  # between any two effects
    crash_all: int = 0
    skew: float = 0.0
    work_delay: int = 50  # ms until a node notices that a block is wanted, at most
    heights: int = 2  # to be decided by everybody after GST
    after: int = 90_000


def draw_scenario(seed: int) -> Scenario:
    r = random.Random(f"scenario {seed}")
    n = r.choice((4, 4, 5, 6, 7))
    return Scenario(
        seed=seed,
        n=n,
        weights=tuple(r.randint(1, 5) for _ in range(n)) if r.random() < 0.25 else None,
        byzantine=r.choice((0, 1, 1, 2)),
        sin=r.choice(("twins", "twins", "silent", "mutate", "liar", "split")),
        gst=r.choice((2_000, 4_000)),
        drop=r.choice((0, 0.05, 0.2, 0.4)),
        duplicate=r.choice((0, 0.1)),
        tail=r.choice((5, 30, 150)),
        partition=r.choice((0, 0.5, 0.8)),
        kind_fault=r.choice((0, 0, 0.3)),
        crash=r.choice((0, 0.004, 0.02)),
        crash_all=r.choice((0, 0, 2)),
        skew=r.choice((0, 0.2)),
        work_delay=r.choice((20, 50, 3_000)),
    )


class Node:
    """A core with its disk: what survives a crash is `log[:synced]` (and some of the rest), `signed` and `chain`."""

    def __init__(self, index: int, twin: int, key: CheapKey, honest: bool, rate: float) -> None:
        self.index, self.twin, self.key, self.honest, self.rate = index, twin, key, honest, rate
        self.core: Core | None = None
        self.log: list[Certificate | tuple[int, bytes]] = []
        self.synced = 0
        self.pending: list[SignerRecord] = []
        self.signed: list[SignerRecord] = []
        self.chain: list[tuple[bytes, Certificate]] = []
        self.bodies: set[bytes] = set()
        self.timers: dict[Timer, int] = {}
        self.life = 0
        self.up = False
        self.fetching = False


class LyingCore(Core):
    """A leader that ignores the notarized parent, and votes for its own lie."""

    lie = "fresh"

    def _find_parent(self, view: int) -> tuple[int, bytes] | None:
        if view > 1 and self.lie == "fake":
            return view - 1, block_id(("fake", self.height, view))
        return 0, NO_BLOCK

    def _gap_is_nullified(self, _proposal: Proposal) -> bool:
        return True

    def _parent_is_notarized(self, _proposal: Proposal) -> bool:
        return True

    def _is_checked(self, _proposal: Proposal) -> bool:
        return True


class FakingCore(LyingCore):
    lie = "fake"


class Simulator:
    def __init__(
        self,
        scenario: Scenario,
        core: type[Core] = Core,
        signer: type[Signer] = Signer,
        *,
        lossy_disk: bool = False,
        quorum: Callable[[int], int] | None = None,
    ) -> None:
        self.scenario, self.core_class, self.signer_class, self.lossy_disk = scenario, core, signer, lossy_disk
        self.random = random.Random(scenario.seed)
        self.keys, self.validators = cheap_set(scenario.n, scenario.weights)
        if quorum:  # a wrong rule: of the total weight
            object.__setattr__(self.validators, "quorum", quorum(self.validators.total))
        self.by_account = {key.account: index for index, key in enumerate(self.keys)}
        self.byzantine = self._choose_byzantine()
        self.now = 0
        self.sequence = 0
        self.queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self.valid: dict[bytes, tuple[int, bool]] = {}
        self.agreed: dict[int, bytes] = {}
        self.said: dict[Account, dict[tuple[int, int], list[Vote]]] = defaultdict(lambda: defaultdict(list))
        self.accused: set[Account] = set()
        self.sent: Counter[str] = Counter()
        self.crashes = 0
        self.events = 0
        self.trace: list[str] = []
        self.groups: list[int] | None = None
        self.masks: dict[Any, frozenset[int]] = {}
        self.sides: dict[int, list[int]] = {}
        self.nodes = [self._make_node(index, twin) for index in range(scenario.n) for twin in self._twins(index)]
        self.honest = [node for node in self.nodes if node.honest]
        for node in self.nodes:
            self._boot(node)
        self._plan_faults()

    # ------------------------------------------------------------ set-up

    def _choose_byzantine(self) -> set[int]:
        chosen: set[int] = set()
        weight = 0
        for index in self.random.sample(range(self.scenario.n), self.scenario.n):
            weight += self.validators.rows[index][1]
            if len(chosen) == self.scenario.byzantine or weight > self.validators.max_byzantine:
                break
            chosen.add(index)
        return chosen

    def _twins(self, index: int) -> tuple[int, ...]:
        return (0, 1) if index in self.byzantine and self.scenario.sin in ("twins", "split") else (0,)

    def _make_node(self, index: int, twin: int) -> Node:
        rate = 1 + self.scenario.skew * self.random.uniform(-1, 1)
        return Node(index, twin, self.keys[index], index not in self.byzantine, rate)

    def _plan_faults(self) -> None:
        if self.scenario.partition:
            self._at(0, self._repartition)
        for _ in range(self.scenario.crash_all):
            self._at(self.random.randrange(50, self.scenario.gst), self._crash_everybody)
        if self.scenario.sin == "silent":
            for node in self.nodes:
                if not node.honest:
                    self._at(self.random.randrange(self.scenario.gst), self._silence, node)

    def _at(self, delay: float, action: Callable[..., None], *arguments: Any) -> None:
        self.sequence += 1
        heapq.heappush(self.queue, (self.now + max(0, int(delay)), self.sequence, action, arguments))

    def _core_for(self, node: Node) -> type[Core]:
        if node.honest:
            return self.core_class
        if self.scenario.sin == "liar":
            return LyingCore if node.index % 2 else FakingCore
        return Core

    def _boot(self, node: Node) -> None:
        node.up = True
        node.life += 1
        node.timers.clear()
        node.fetching = False
        node.pending.clear()
        signer_class = self.signer_class if node.honest else ForgetfulSigner
        signer = signer_class(node.key, DOMAIN, node.signed)
        node.core = self._core_for(node)(CONFIG, DOMAIN, node.key.account, signer, recover_signer=cheap_recover)
        node.bodies = {record[1] for record in node.log if isinstance(record, tuple)}
        self._start_height(node, tuple(record for record in node.log if isinstance(record, Certificate)))

    def _start_height(self, node: Node, certificates: tuple[Certificate, ...] = ()) -> None:
        height = len(node.chain) + 1
        self._input(node, StartHeight(height, self.validators, certificates))
        self._at(self.random.randrange(self.scenario.work_delay + 1), self._work, node, node.life, height)

    # ------------------------------------------------------------ faults

    def _repartition(self) -> None:
        split = self.random.random() < self.scenario.partition
        self.groups = [self.random.randrange(2) for _ in self.keys] if split else None
        if self.now < self.scenario.gst:
            self._at(self.random.expovariate(1 / 1_200), self._repartition)
        else:
            self.groups = None

    def _crash_everybody(self) -> None:
        for node in self.honest:
            if node.up:
                self._crash(node)

    def _silence(self, node: Node) -> None:
        node.up = False
        node.life += 1

    def _crash(self, node: Node) -> None:
        self.crashes += 1
        del node.log[self.random.randint(node.synced, len(node.log)) :]
        node.synced = len(node.log)
        if self.lossy_disk:
            node.log.clear()
            node.signed.clear()
            node.synced = 0
        node.up = False
        node.life += 1
        self._at(self.random.uniform(10, 1_500), self._revive, node, node.life)

    def _revive(self, node: Node, life: int) -> None:
        if node.life == life:
            self._boot(node)

    def _is_blocked(self, source: Node, target: Node, message: Message) -> bool:
        if self.now >= self.scenario.gst:
            return False
        groups, colluding = self.groups, self.scenario.sin == "split"
        if (
            groups
            and groups[source.index] != groups[target.index]
            and not (colluding and (not source.honest or not target.honest))
        ):
            return True
        if self.scenario.kind_fault and source.honest and self._is_kind_blocked(target, message):
            return True
        if not source.honest and not self._serves(source, target, message):
            return True
        if not target.honest and source.honest and colluding and isinstance(message, Status):
            return True
        return self.random.random() < self.scenario.drop

    def _is_kind_blocked(self, target: Node, message: Message) -> bool:
        key = ("kind", message.height, message.view, type(message).__name__, getattr(message, "kind", None))
        if key not in self.masks:
            hit = self.random.random() < self.scenario.kind_fault
            self.masks[key] = self._random_subset(0.5) if hit else frozenset()
        return target.index in self.masks[key]

    def _random_subset(self, share: float) -> frozenset[int]:
        return frozenset(index for index in range(self.scenario.n) if self.random.random() < share)

    def _serves(self, source: Node, target: Node, message: Message) -> bool:
        """Before GST a misbehaving node speaks to some only; the twins of "split" each to their side of every view."""
        if self.scenario.sin == "split":
            if isinstance(message, Status):
                return False
            key = ("split", message.height, message.view)
            if key not in self.masks:
                self.masks[key] = self._random_subset(0.5)
            return not target.honest or (target.index in self.masks[key]) == bool(source.twin)
        mask = ("mask", source.index, source.twin, message.height, message.view)
        if mask not in self.masks:
            self.masks[mask] = self._random_subset(0.55)
        return target.index in self.masks[mask]

    def _mutate(self, node: Node, message: Message) -> Message:
        r = self.random
        if self.scenario.sin != "mutate" or node.honest or r.random() > 0.3:
            return message
        forged = ForgetfulSigner(node.key, DOMAIN)
        if isinstance(message, Vote):
            kind = r.choice((Kind.NOTARIZE, Kind.NULLIFY, Kind.FINALIZE))
            view = max(1, message.view + r.choice((-1, 0, 0, 1)))
            evil = block_id(("evil", message.height, r.randrange(2)))
            block = r.choice((evil, message.block_id if message.block_id != NO_BLOCK else evil))
            return forged.sign(kind, message.height, view, NO_BLOCK if kind == Kind.NULLIFY else block)[0]
        if isinstance(message, Proposal):
            evil = block_id(("evil", message.height, r.randrange(2)))
            parent = max(0, min(message.view - 1, message.parent_view + r.choice((-1, 0, 1))))
            block = r.choice((evil, message.block_id))
            return replace(message, vote=forged.sign(Kind.PROPOSE, message.height, message.view, block, parent)[0])
        return message

    # ------------------------------------------------------------ a node and its effects

    def _input(self, node: Node, event: Input) -> None:
        assert node.core is not None
        try:
            effects = node.core.handle(event)
        except InvalidRemote as error:
            self._judge_refusal(event, error)
            return
        self._carry_out(node, effects)

    def _judge_refusal(self, event: Input, error: InvalidRemote) -> None:
        if isinstance(event, Received) and self.by_account[event.sender] not in self.byzantine:
            raise Violation(f"an honest message was refused: {error}: {event}")

    def _carry_out(self, node: Node, effects: list[Effect]) -> None:
        life = node.life
        risky = self.scenario.crash and node.honest and self.now < self.scenario.gst
        for effect in effects:
            if risky and self.random.random() < self.scenario.crash:
                self._crash(node)
                return
            self._effect(node, effect)
            if node.life != life:
                return

    def _effect(self, node: Node, effect: Effect) -> None:
        match effect:
            case Persist():
                node.log.append(effect.certificate)
            case PersistBody():
                if effect.block_id in node.bodies:
                    node.log.append((effect.height, effect.block_id))
            case PersistSigned():
                node.pending.append(effect.record)
            case Sync():
                node.synced = len(node.log)
                node.signed += node.pending
                node.pending.clear()
            case Broadcast():
                for target in self.nodes:
                    if target.index != node.index:
                        self._transmit(node, target, effect.message)
            case Send():
                for target in self.nodes:
                    if target.key.account == effect.account:
                        self._transmit(node, target, effect.message)
            case SetTimer():
                self._set_timer(node, effect)
            case BuildBlock():
                self._at(self.random.randrange(30), self._built, node, node.life, effect)
            case CheckBlock():
                self._at(self.random.randrange(30), self._checked, node, node.life, effect)
            case Decide():
                self._decided(node, effect)
            case CatchUp():
                self._catch_up(node, effect)
            case Evidence():
                self._judge_evidence(effect)
            case Dropped():
                if self.by_account[effect.sender] not in self.byzantine:
                    raise Violation(f"an honest message was dropped: {effect}")
            case SignerRefused():
                if node.honest:
                    raise Violation(f"the core wanted something slashable signed: {effect.reason}")

    def _set_timer(self, node: Node, effect: SetTimer) -> None:
        self.sequence += 1
        node.timers[effect.timer] = self.sequence
        self._at(effect.delay_ms * node.rate, self._fire, node, node.life, effect, self.sequence)

    def _fire(self, node: Node, life: int, effect: SetTimer, token: int) -> None:
        if node.life == life and node.timers.get(effect.timer) == token:
            self._input(node, TimerFired(effect.timer, effect.height, effect.view))

    def _work(self, node: Node, life: int, height: int) -> None:
        if node.life == life and node.core is not None and node.core.height == height:
            self._input(node, Work(height))

    def _built(self, node: Node, life: int, effect: BuildBlock) -> None:
        if node.life != life:
            return
        bad = not node.honest and self.random.random() < 0.2
        name = block_id((effect.height, effect.view, node.index, node.twin, self.random.randrange(1 << 30)))
        self.valid[name] = (effect.height, not bad)
        node.bodies.add(name)
        self._input(node, BlockBuilt(effect.height, effect.view, name))

    def _checked(self, node: Node, life: int, effect: CheckBlock) -> None:
        if node.life != life or node.core is None or node.core.height != effect.height:
            return
        if not self._find_body(node, effect.block_id):
            self._at(500, self._checked, node, life, effect)
            return
        height, good = self.valid[effect.block_id]
        self._input(node, BlockChecked(effect.height, effect.block_id, good and height == effect.height))

    def _find_body(self, node: Node, name: bytes) -> bool:
        """Here, or for the asking from an honest peer that runs (a misbehaving one would not answer)."""
        if any(name in other.bodies for other in self.nodes if other.up and (other.honest or other is node)):
            node.bodies.add(name)
        return name in node.bodies

    # ------------------------------------------------------------ the network

    def _transmit(self, source: Node, target: Node, message: Message) -> None:
        message = self._mutate(source, message)
        if source.honest:
            self._judge_sent(source, message)
        self.sent[type(message).__name__] += 1
        copies = 2 if self.scenario.duplicate and self.random.random() < self.scenario.duplicate else 1
        for _ in range(copies):
            if self._is_blocked(source, target, message):
                continue
            tail = self.random.expovariate(1 / self.scenario.tail) if self.now < self.scenario.gst else 0
            self._at(20 * self.random.random() + tail, self._deliver, source, target, message)

    def _deliver(self, source: Node, target: Node, message: Message) -> None:
        if not target.up:
            return
        if isinstance(message, Proposal) and message.block_id in self.valid:
            target.bodies.add(message.block_id)
        self._input(target, Received(source.key.account, message))

    # ------------------------------------------------------------ deciding

    def _decided(self, node: Node, effect: Decide) -> None:
        self._judge_decision(node, effect.height, effect.block_id)
        self._at(self.random.randrange(20), self._commit, node, node.life, effect)

    def _commit(self, node: Node, life: int, effect: Decide) -> None:
        if node.life != life or len(node.chain) != effect.height - 1:
            return
        if not self._find_body(node, effect.block_id) and not self._is_final_somewhere(effect.height):
            self._at(300, self._commit, node, life, effect)
            return
        node.chain.append((effect.block_id, effect.certificate))
        self._forget_height(node)
        self._start_height(node)

    def _is_final_somewhere(self, height: int) -> bool:
        return any(len(other.chain) >= height for other in self.honest if other.up)

    def _forget_height(self, node: Node) -> None:
        node.log.clear()
        node.synced = 0
        node.bodies = set(list(node.bodies)[-8:]) if len(node.bodies) > 64 else node.bodies

    def _catch_up(self, node: Node, effect: CatchUp) -> None:
        source = self.nodes[[other.key.account for other in self.nodes].index(effect.account)]
        if not node.fetching and source.honest and not self._is_blocked(source, node, Status(effect.height, 1)):
            node.fetching = True
            self._at(40, self._caught_up, node, node.life, source)

    def _caught_up(self, node: Node, life: int, source: Node) -> None:
        if node.life != life:
            return
        node.fetching = False
        missing = source.chain[len(node.chain) :]
        for name, certificate in missing:
            height = len(node.chain) + 1
            verify_finality(
                certificate,
                height=height,
                block_id=name,
                validators=self.validators,
                domain=DOMAIN,
                recover_signer=cheap_recover,
            )
            self._judge_decision(node, height, name)
            node.chain.append((name, certificate))
        if missing:
            self._forget_height(node)
            self._start_height(node)

    # ------------------------------------------------------------ the properties

    def _judge_decision(self, node: Node, height: int, name: bytes) -> None:
        if node.honest and self.agreed.setdefault(height, name) != name:
            raise Violation(f"two blocks are final at height {height}")
        if node.honest and self.valid.get(name) != (height, True):
            raise Violation(f"a block that no honest validator checked is final at height {height}")
        self.trace.append(f"{self.now} {node.index}.{node.twin} {height} {name.hex()[:8]}")

    def _judge_sent(self, node: Node, message: Message) -> None:
        vote = message.vote if isinstance(message, Proposal) else message
        if not isinstance(vote, Vote):
            return
        record = SignRecord(vote.kind, vote.height, vote.view, vote.block_id, vote.parent_view)
        if not self.lossy_disk and record in node.pending:
            raise Violation(f"sent before it was durable: {record}")
        earlier = self.said[vote.signer][(vote.height, vote.view)]
        if vote in earlier:
            return
        if any(is_slashable(other, vote) for other in earlier):
            raise Violation(f"an honest validator signed a slashable pair: {record}")
        earlier.append(vote)

    def _judge_evidence(self, effect: Evidence) -> None:
        if not is_slashable(effect.first, effect.second):
            raise Violation("evidence that convicts nobody")
        if self.by_account[effect.first.signer] not in self.byzantine:
            raise Violation(f"an honest validator was accused: {effect}")
        self.accused.add(effect.first.signer)

    # ------------------------------------------------------------ running

    def run(self) -> "Simulator":
        """Until every honest node has decided `heights` more than anybody had at GST; raises Violation."""
        target: int | None = None
        end = self.scenario.gst + self.scenario.after
        while self.queue:
            time, _, action, arguments = heapq.heappop(self.queue)
            if time > end:
                break
            if target is None and time >= self.scenario.gst:
                target = max(len(node.chain) for node in self.honest) + self.scenario.heights
            self.now, self.events = time, self.events + 1
            action(*arguments)
            if target is not None and min(len(node.chain) for node in self.honest) >= target:
                return self
        lengths = [len(node.chain) for node in self.honest]
        raise Violation(f"no progress: heights {lengths}, wanted {target}, after {self.events} events")

    def run_until(self, end: int) -> "Simulator":
        while self.queue and self.queue[0][0] <= end:
            self.now, _, action, arguments = heapq.heappop(self.queue)
            self.events += 1
            action(*arguments)
        return self
