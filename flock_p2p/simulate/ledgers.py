"""What a simulated validator executes: blocks that are five fields, and a state that is a hash over all of them."""

from dataclasses import dataclass
from typing import Protocol

from flock_chain.codec import decode, encode
from flock_chain.crypto import keccak256

GENESIS = bytes(32)
BAD_BLOCK = encode([0, 0, GENESIS, b"", 0, False, []])  # of the fast ledger: valid nowhere


@dataclass(frozen=True, slots=True)
class Body:
    id: bytes
    data: bytes


class SimulatedLedger(Protocol):
    """One validator's executed chain; survives a crash of the process."""

    height: int
    head: bytes
    included: set[bytes]  # transactions that are final here

    def build(self, view: int, salt: int, good: bool, transactions: list[bytes], now: int) -> Body: ...

    def check(self, data: bytes) -> bool:
        """Whether a block is valid on the head."""

    def commit(self, data: bytes) -> bytes:
        """Execute, store; the state root."""

    def restart(self) -> None: ...


class HashLedger:
    """The fast one. A block is [height, view, parent, maker, salt, good, transactions]."""

    def __init__(self, maker: bytes) -> None:
        self._maker = maker
        self.height = 0
        self.head = GENESIS
        self.included: set[bytes] = set()
        self._root = GENESIS

    def build(self, view: int, salt: int, good: bool, transactions: list[bytes], _now: int) -> Body:
        data = encode([self.height + 1, view, self.head, self._maker, salt, good, transactions])
        return Body(keccak256(data), data)

    def check(self, data: bytes) -> bool:
        height, _, parent, _, _, good, _ = decode(data)
        return bool(good) and height == self.height + 1 and parent == self.head

    def commit(self, data: bytes) -> bytes:
        self.height += 1
        self.head = keccak256(data)
        self.included.update(decode(data)[6])
        self._root = keccak256(self._root, data)
        return self._root

    def restart(self) -> None:
        """Its store is what it is."""


class MoodyLedger(HashLedger):
    """Wrong: what it computes depends on the machine."""

    def commit(self, data: bytes) -> bytes:
        return keccak256(super().commit(data), self._maker)
