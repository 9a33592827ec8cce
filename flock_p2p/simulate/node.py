"""One simulated machine: a core, its disk, its chain, and what it has heard. Holds state; the simulator moves it."""

from collections import deque
from dataclasses import dataclass

from flock_chain.consensus.core import Core
from flock_chain.consensus.events import Input, Timer
from flock_chain.consensus.signer import SignerRecord, SigningKey
from flock_chain.consensus.types import Certificate
from flock_p2p.simulate.disk import Disk
from flock_p2p.simulate.ledgers import SimulatedLedger
from flock_peers.driver.bodies import Bodies


@dataclass(frozen=True, slots=True)
class Final:
    """A block of the chain, as it is stored and served."""

    block_id: bytes
    certificate: Certificate
    body: bytes
    root: bytes


class Node:
    def __init__(
        self, index: int, twin: int, key: SigningKey, honest: bool, rate: float, disk: Disk, ledger: SimulatedLedger
    ) -> None:
        self.index, self.twin, self.key, self.honest, self.rate = index, twin, key, honest, rate
        self.name = f"{index}{'ab'[twin] if not honest else ''}"
        self.disk, self.ledger = disk, ledger
        self.core: Core | None = None
        self.chain: list[Final] = []
        self.bodies = Bodies()
        self.pending: list[SignerRecord] = []  # appended to the signer file at the next sync
        self.unsynced_bodies: set[bytes] = set()
        self.timers: dict[Timer, int] = {}
        self.waiting: deque[Input] | None = None  # inputs that arrive during a slow sync
        self.transactions: list[bytes] = []  # that wait for a block, in the order in which they were heard
        self.life = 0
        self.up = False
        self.fetching = False

    @property
    def height(self) -> int:
        return len(self.chain) + 1

    def die(self) -> None:
        self.up = False
        self.life += 1

    def wake(self) -> None:
        """What a process starts with: nothing but what is on disk."""
        self.up = True
        self.life += 1
        self.timers.clear()
        self.pending.clear()
        self.unsynced_bodies.clear()
        self.bodies = Bodies()
        self.waiting = None
        self.fetching = False
        self.ledger.restart()
