"""The restart document: what the operators that are left agree on, outside of the chain, when it has halted for good.

Canonical JSON, whose keccak pins it. From the block after `height` on, the kept members of the set decide alone, and
votes are signed for the document's hash instead of the genesis hash, so that no older vote counts. Pure.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from flock_chain.bounded_json import loads
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
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()

    @property
    def hash(self) -> Digest:
        return keccak256(self.encode())


def decode_restart(data: bytes) -> Restart:
    """Parse the canonical form; raises InvalidEncoding for anything else."""
    if len(data) > MAX_DOCUMENT_BYTES:
        raise InvalidEncoding(f"restart document: larger than {MAX_DOCUMENT_BYTES} bytes")
    try:
        document = loads(data, depth=2)
    except ValueError as error:
        raise InvalidEncoding("restart document: not JSON") from error
    if not isinstance(document, dict) or set(document) != _KEYS or document["format"] != _FORMAT:
        raise InvalidEncoding(f"restart document: not of format {_FORMAT}")
    height, keep = document["height"], document["keep"]
    if not isinstance(height, int) or isinstance(height, bool) or not 0 <= height < 1 << 53:
        raise InvalidEncoding("restart document: no height")
    if not isinstance(keep, list) or not 0 < len(keep) <= MAX_KEPT:
        raise InvalidEncoding(f"restart document: keep is no list of 1 to {MAX_KEPT} accounts")
    accounts = tuple(Account(_bytes(account, 20)) for account in keep)
    restart = Restart(_bytes(document["genesis"], 32), height, _bytes(document["block"], 32), accounts)
    if any(a >= b for a, b in pairwise(accounts)):
        raise InvalidEncoding("restart document: the kept accounts must be sorted and unique")
    if restart.encode() != data:
        raise InvalidEncoding("restart document: not the canonical form (order, spaces, case)")
    return restart


def _bytes(text: Any, length: int) -> bytes:
    try:
        value = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        value = b""
    if len(value) != length:
        raise InvalidEncoding(f"restart document: {text!r} is not {length} bytes in hex")
    return value
