"""One schedule: a seed, faults until GST, then a network that must finalize. One seed is one run, bit for bit."""

import heapq
from collections.abc import Callable, Collection
from dataclasses import dataclass
from hashlib import sha256

from flock_p2p.simulate.chance import Chance
from flock_p2p.simulate.exchange import Exchange
from flock_p2p.simulate.judge import IDLENESS, PROGRESS, Forked, Violation
from flock_p2p.simulate.machines import CONFIG
from flock_p2p.simulate.node import Node
from flock_p2p.simulate.scenario import Scenario
from flock_p2p.simulate.sins import FLOOD_INTERVAL_MS, FORGE_INTERVAL_MS
from flock_p2p.simulate.worlds import PRODUCT, Variant

REPARTITION_MS = 1_200  # on average
MEMORY_EVERY_EVENTS = 128
SIN_LASTS_MS = 4_000  # after GST, of floods and forgeries
TRANSACTIONS = 5  # of a schedule on demand
SPREAD_MS = 400  # until everybody has heard of a transaction
REST_MS = 15_000  # for an idle network to fall silent
HEARTBEATS = 3  # blocks that nobody asked for, as the product makes one a minute
IDLE_MS = 20_000  # and to stay it
WAKE_MS = 30_000  # from a transaction in an idle network to its block, everywhere


@dataclass(frozen=True)
class Outcome:
    """What a schedule that broke nothing did. `digest` is equal for equal runs."""

    heights: int
    crashes: int
    events: int
    accused: int
    convicted: int  # by a fork, where more than the bound colluded
    digest: str


class Simulator(Exchange):
    def __init__(
        self,
        scenario: Scenario,
        variant: Variant = PRODUCT,
        *,
        suppressed: Collection[int] = (),
        last_fault: int | None = None,
        record: bool = False,
    ) -> None:
        super().__init__(scenario, variant, Chance(scenario.seed, suppressed, last_fault), record=record)
        self.submitted: list[bytes] = []
        self._target: int | None = None
        self._started = False

    def start(self) -> None:
        """Everybody starts; `run` and `run_until` do it where it is not done."""
        if not self._started:
            self._started = True
            for node in self.nodes:
                self.boot(node)
            self._plan()

    # ---------------------------------------------------------------- what is planned ahead

    def _plan(self) -> None:
        scenario, r = self.scenario, self.random
        if scenario.colluders:
            self.network.divide([node.index for node in self.honest])
        if scenario.partition:
            self.at(0, self._repartition)
        if scenario.laggard and self.chance.allow():
            self.network.cut_off = r.choice(self.honest).index
            self._note("node %s is cut off", self.network.cut_off)
        for _ in range(scenario.crash_all):
            self.at(r.randrange(50, scenario.gst + 1_500), self._blackout)
        for node in self.nodes:
            if not node.honest:
                self._plan_sin(node)
        if scenario.on_demand or scenario.executor:
            for number in range(TRANSACTIONS):
                self.at(r.randrange(scenario.gst + 1_000), self.submit, number)
        self.at(scenario.gst, self._become_well)

    def _plan_sin(self, node: Node) -> None:
        sin = self.scenario.sin
        if sin == "silent" and self.chance.allow():
            self.at(self.random.randrange(self.scenario.gst), self.silence, node)
        elif sin in ("flood", "forge"):
            self.at(self.random.randrange(FLOOD_INTERVAL_MS), self._misbehave, node)

    def silence(self, node: Node) -> None:
        node.die()
        self._note("node %s falls silent", node)

    def _misbehave(self, node: Node) -> None:
        floods = self.scenario.sin == "flood"
        if self.now > self.scenario.gst + SIN_LASTS_MS:
            return
        if node.up and node.core is not None and self.chance.allow():
            forger, members = self.forger(node), self.validators(node.height)
            act = forger.flood if floods else forger.forge
            for message in act(node.height, node.core.view, members):
                for account in members.accounts:
                    if account != node.key.account:
                        self.transmit(node, account, message, None)
        self.at(FLOOD_INTERVAL_MS if floods else FORGE_INTERVAL_MS, self._misbehave, node)

    def _repartition(self) -> None:
        if not self.is_well:
            self.network.repartition()
            self.at(self.random.expovariate(1 / REPARTITION_MS), self._repartition)

    def _blackout(self) -> None:
        if self.chance.allow():
            self._note("everybody crashes")
            for node in self.honest:
                if node.up:
                    self.crash(node)

    def _become_well(self) -> None:
        self.is_well = True
        self.network.heal()
        self._target = max(len(node.chain) for node in self.honest) + self.scenario.heights
        self._note("the network is well from here on")

    def submit(self, number: int) -> None:
        """A transaction that everybody hears of, sooner or later; one that is down asks when it is back."""
        transaction = self.world.make_transaction(number)
        self.submitted.append(transaction)
        self._note("transaction %s", number)
        for node in self.nodes:
            self.at(self.random.randrange(SPREAD_MS), self._hear, node, transaction)

    def _hear(self, node: Node, transaction: bytes) -> None:
        if transaction not in node.ledger.included:
            node.transactions.append(transaction)
            if node.up:
                self._want_block(node)

    # ---------------------------------------------------------------- running

    def run(self) -> Outcome:
        """Until every honest node has decided what was wanted; raises Violation."""
        end = self.scenario.gst + self.scenario.after
        try:
            self._advance(end, self._is_done)
        except Forked:
            return self.outcome()
        if self.scenario.colluders:
            return self.outcome()  # without a fork either; to go on is nobody's promise then
        if not self._is_done():
            lengths = [len(node.chain) for node in self.honest]
            raise Violation(PROGRESS, f"heights {lengths} after {self.now / 1_000:.0f} s, wanted {self._target}")
        if self.scenario.on_demand:
            self._check_idle()
        return self.outcome()

    def run_until(self, end: int) -> "Simulator":
        self._advance(end, lambda: False)
        return self

    def _advance(self, end: int, is_done: Callable[[], bool]) -> None:
        """`is_done` is asked after every block that becomes final somewhere."""
        self.start()
        queue, committed = self._queue, -1
        while queue and queue[0][0] <= end:
            self.now, _, action, arguments = heapq.heappop(queue)
            self.events += 1
            action(*arguments)
            if self.committed != committed:
                committed = self.committed
                if is_done():
                    break
            if self.events % MEMORY_EVERY_EVENTS == 0:
                self._check_memory()
        self._check_memory()

    def _check_memory(self) -> None:
        for node in self.honest:
            self.judge.check_memory(node)

    def _is_done(self) -> bool:
        if self._target is None:
            return False
        if self.scenario.colluders:
            return self.now > self.scenario.gst + 5_000
        if self.scenario.on_demand:
            wanted = len(self.submitted) >= TRANSACTIONS
            return wanted and all(node.ledger.included.issuperset(self.submitted) for node in self.honest)
        return min(len(node.chain) for node in self.honest) >= self._target

    # ---------------------------------------------------------------- idle silence

    def _check_idle(self) -> None:
        """Nothing is wanted any more and nobody misbehaves: silence; then one transaction wakes everybody."""
        for node in self.nodes:
            if not node.honest:
                self.silence(node)
        for number in range(1, HEARTBEATS + 1):
            if self._comes_to_rest():
                break
            self.submit(TRANSACTIONS + number)  # who was woken by a lie alone sleeps again after the next heartbeat
        else:
            raise Violation(IDLENESS, f"no rest after {HEARTBEATS} heartbeats")
        before = self.sent.copy()
        self._pass(IDLE_MS)
        spoken = self.sent - before
        size = len(self.validators(self.honest[0].height))
        if set(spoken) - {"Status"} or spoken["Status"] > size * size * (2 + 2 * IDLE_MS // CONFIG.status_interval_ms):
            raise Violation(IDLENESS, f"sent in {IDLE_MS / 1_000:.0f} s: {dict(spoken)}")
        self.submit(TRANSACTIONS)
        self._advance(self.now + WAKE_MS, self._is_done)
        if not self._is_done():
            raise Violation(PROGRESS, "an idle network did not wake up for a transaction")

    def _comes_to_rest(self) -> bool:
        end = self.now + REST_MS
        self._pass(CONFIG.status_interval_ms)  # what the misbehaving said last is still under way
        while not self._is_at_rest() and self.now < end:
            self._pass(CONFIG.status_interval_ms)
        return self._is_at_rest()

    def _pass(self, duration: int) -> None:
        end = self.now + duration
        self._advance(end, lambda: False)
        self.now = end

    def _is_at_rest(self) -> bool:
        heights = {node.height for node in self.honest}
        return len(heights) == 1 and all(node.core is not None and node.core.is_idle for node in self.honest)

    # ---------------------------------------------------------------- the end

    def outcome(self) -> Outcome:
        run = (self.trace, sorted(self.sent.items()), self.events, self.chance.count, self.random.random())
        return Outcome(
            heights=max(len(node.chain) for node in self.honest),
            crashes=self.crashes,
            events=self.events,
            accused=len(self.judge.accused),
            convicted=self.judge.convicted,
            digest=sha256(repr(run).encode()).hexdigest()[:16],
        )
