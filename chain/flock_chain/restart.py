"""The restart document: what the operators that are left agree on, outside of the chain, when it has halted for good.

Canonical JSON, whose keccak pins it. From the block after `height` on, the kept members of the set decide alone, and
votes are signed for the document's hash instead of the genesis hash, so that no older vote counts. Pure.
"""

from dataclasses import dataclass
from itertools import pairwise

from flock_chain import canonical_json
from flock_chain.canonical_json import parse_hex
from flock_chain.crypto import Account, Digest, keccak256
from flock_chain.errors import InvalidEncoding

MAX_RESTARTS = 16  # of one network; the staking contract keeps no more
MAX_DOCUMENT_BYTES = 16 << 10  # 150 accounts take 7 KB
MAX_KEPT = 150
_FORMAT = 1
_KEYS = {"format", "genesis", "height", "block", "keep"}


@dataclass(frozen=True)
class Restart:
    genesis_hash: bytes
    height: int  # of the last final block
    block_id: bytes
    keep: tuple[Account, ...]  # sorted; members of the set that was to decide about the next height

    def encode(self) -> bytes:
        document = {
            "format": _FORMAT,
            "genesis": self.genesis_hash.hex(),
            "height": self.height,
            "block": self.block_id.hex(),
            "keep": [account.hex() for account in self.keep],
        }
        return canonical_json.encode(document)

    @property
    def hash(self) -> Digest:
        return keccak256(self.encode())


def decode_restart(data: bytes) -> Restart:
    """Parse the canonical form; raises InvalidEncoding for anything else."""
    document = canonical_json.decode(data, "restart document", max_bytes=MAX_DOCUMENT_BYTES, depth=2)
    if not isinstance(document, dict) or set(document) != _KEYS or document["format"] != _FORMAT:
        raise InvalidEncoding(f"restart document: not of format {_FORMAT}")
    height, keep = document["height"], document["keep"]
    if not isinstance(height, int) or isinstance(height, bool) or not 0 <= height < 1 << 53:
        raise InvalidEncoding("restart document: no height")
    if not isinstance(keep, list) or not 0 < len(keep) <= MAX_KEPT:
        raise InvalidEncoding(f"restart document: keep is no list of 1 to {MAX_KEPT} accounts")
    accounts = tuple(Account(parse_hex(account, 20, "restart document: a kept account")) for account in keep)
    restart = Restart(
        parse_hex(document["genesis"], 32, "restart document: genesis"),
        height,
        parse_hex(document["block"], 32, "restart document: block"),
        accounts,
    )
    if any(a >= b for a, b in pairwise(accounts)):
        raise InvalidEncoding("restart document: the kept accounts must be sorted and unique")
    canonical_json.check_form(data, restart.encode(), "restart document")
    return restart
