"""The digest that a vote signs: keccak256(abi.encode(...)), so that a contract can check it with ecrecover."""

from dataclasses import dataclass, field

from flock_chain.consensus.types import Kind
from flock_chain.crypto import Digest, keccak256
from flock_chain.errors import Misuse

DOMAIN = keccak256(b"flock-p2p consensus vote 1")  # no other message of this project or of Ethereum starts so


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")


@dataclass(frozen=True)
class ChainDomain:
    """Which chain a signature is for; a vote of one network is worth nothing on another."""

    chain_id: int
    genesis_hash: bytes
    _prefix: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.genesis_hash) != 32:
            raise Misuse("chain domain: a genesis hash is 32 bytes")
        object.__setattr__(self, "_prefix", DOMAIN + _word(self.chain_id) + self.genesis_hash)

    def digest(self, kind: Kind, height: int, view: int, block_id: bytes, parent_view: int = 0) -> Digest:
        """abi.encode(DOMAIN, chainId, genesisHash, height, view, kind, blockId, parentView): eight 32-byte words."""
        if len(block_id) != 32:
            raise Misuse("vote digest: a block id is 32 bytes")
        return keccak256(self._prefix, _word(height), _word(view), _word(kind), block_id, _word(parent_view))
