"""What a schedule is made of besides faults: keys and blocks. The cheap ones; `evm_world` has the real ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from flock_chain.consensus.certificates import Recover
from flock_chain.consensus.core import Core
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.signer import Signer, SigningKey
from flock_chain.consensus.validators import ValidatorSet
from flock_p2p.simulate.cheap_keys import DOMAIN, CheapKey, cheap_recover
from flock_p2p.simulate.disk import Disk
from flock_p2p.simulate.ledgers import HashLedger, SimulatedLedger


class World(Protocol):
    keys: Sequence[SigningKey]
    domain: ChainDomain
    recover: Recover

    def make_ledger(self, index: int) -> SimulatedLedger: ...

    def make_transaction(self, number: int) -> bytes: ...


class CheapWorld:
    """Signatures without a curve, blocks without an EVM."""

    def __init__(self, identities: int, ledger: type[HashLedger] = HashLedger) -> None:
        self.keys: Sequence[SigningKey] = [CheapKey(index) for index in range(identities)]
        self.domain = DOMAIN
        self.recover: Recover = cheap_recover
        self._ledger = ledger

    def make_ledger(self, index: int) -> SimulatedLedger:
        return self._ledger(self.keys[index].account)

    def make_transaction(self, number: int) -> bytes:
        return number.to_bytes(8, "big")


@dataclass(frozen=True)
class Variant:
    """What the honest validators run. The default is the product; anything else is wrong in one place."""

    core: type[Core] = Core
    signer: type[Signer] = Signer
    disk: type[Disk] = Disk
    ledger: type[HashLedger] = HashLedger
    pins: bool = True  # whether the body of a block that was found valid is held until the height is final
    members: Callable[[ValidatorSet], ValidatorSet] | None = field(default=None)  # as everybody sees the set


PRODUCT = Variant()
