"""The digest that a vote signs: keccak256(abi.encode(...)), so that a contract can check it with ecrecover."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from flock_chain.consensus.types import Kind
from flock_chain.crypto import Digest, keccak256
from flock_chain.errors import Misuse
from flock_chain.genesis import Genesis
from flock_chain.restart import Restart

DOMAIN = keccak256(b"flock-p2p consensus vote 1")  # no other message of this project or of Ethereum starts so


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")


@dataclass(frozen=True)
class ChainDomain:
    """Which chain a signature is for; a vote of one network is worth nothing on another.

    `restarts`: (last height of the old set, hash of the agreed document), ascending. Above such a height a vote is for
    that document, so that no vote from before the restart counts after it.
    """

    chain_id: int
    genesis_hash: bytes
    restarts: tuple[tuple[int, bytes], ...] = ()
    _prefixes: tuple[tuple[int, bytes], ...] = field(init=False, repr=False, compare=False)  # newest first

    def __post_init__(self) -> None:
        rows: Sequence[tuple[int, bytes]] = [(-1, self.genesis_hash), *self.restarts]
        if any(len(network) != 32 for _, network in rows):
            raise Misuse("chain domain: a genesis hash is 32 bytes")
        prefixes = ((height, DOMAIN + _word(self.chain_id) + network) for height, network in sorted(rows, reverse=True))
        object.__setattr__(self, "_prefixes", tuple(prefixes))

    def _prefix(self, height: int) -> bytes:
        return next(prefix for after, prefix in self._prefixes if after < height)

    def digest(self, kind: Kind, height: int, view: int, block_id: bytes, parent_view: int = 0) -> Digest:
        """abi.encode(DOMAIN, chainId, genesisHash, height, view, kind, blockId, parentView): eight 32-byte words."""
        if len(block_id) != 32:
            raise Misuse("vote digest: a block id is 32 bytes")
        return keccak256(self._prefix(height), _word(height), _word(view), _word(kind), block_id, _word(parent_view))


def make_domain(genesis: Genesis, restarts: Sequence[Restart] = ()) -> ChainDomain:
    rows = tuple(sorted((restart.height, bytes(restart.hash)) for restart in restarts))
    return ChainDomain(genesis.chain_id, genesis.hash, rows)
