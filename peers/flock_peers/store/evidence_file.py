"""Evidence of double signing that is not on the chain yet: one pair of statements for each signer, in one small file.

Bytes of this peer's own; verified by whoever convicts. Knows no contract.
"""

import logging
from pathlib import Path
from typing import Any

from flock_chain.codec import decode, encode
from flock_chain.consensus.types import Kind, Vote
from flock_chain.crypto import SIGNATURE_BYTES, Account
from flock_chain.errors import InvalidEncoding
from flock_peers.home import write_private
from flock_peers.store.disk import disk_trouble

log = logging.getLogger(__name__)

VERSION = 1
KINDS = frozenset(int(kind) for kind in Kind)
MAX_PAIRS = 256  # offenders at one time: more than a full set of 150 holds
MAX_BYTES = 256 << 10  # a pair takes under 300
Pair = tuple[Vote, Vote]


class EvidenceFile:
    """`add` and `remove` block until it is on disk. A file that cannot be read is left behind, with a warning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pairs: dict[Account, Pair] = {pair[0].signer: pair for pair in self._load()}

    @property
    def pairs(self) -> list[Pair]:
        return list(self._pairs.values())

    def add(self, pair: Pair) -> None:
        """The first pair of a signer stays: one convicts. Nothing above MAX_PAIRS."""
        if pair[0].signer not in self._pairs and len(self._pairs) < MAX_PAIRS:
            self._store({**self._pairs, pair[0].signer: pair})

    def remove(self, signer: Account) -> None:
        if signer in self._pairs:
            self._store({account: pair for account, pair in self._pairs.items() if account != signer})

    def _store(self, pairs: dict[Account, Pair]) -> None:
        write_private(self._path, encode_pairs(list(pairs.values())))
        self._pairs = pairs

    def _load(self) -> list[Pair]:
        if not self._path.exists():
            return []
        try:
            with disk_trouble(self._path), self._path.open("rb") as file:
                return decode_pairs(file.read(MAX_BYTES + 1))
        except InvalidEncoding as error:
            log.warning("%s cannot be read: what was detected before is not sent: %s", self._path, error)
            return []


def encode_pairs(pairs: list[Pair]) -> bytes:
    return encode([VERSION, [[_fields(vote) for vote in pair] for pair in pairs]])


def decode_pairs(data: bytes) -> list[Pair]:
    """Raises InvalidEncoding for another version, and for what is no list of pairs."""
    match decode(data, limit=MAX_BYTES):
        case [int(version), list(rows)] if version == VERSION and len(rows) <= MAX_PAIRS:
            return [_parse_pair(row) for row in rows]
        case [int(version), *_] if version != VERSION:
            raise InvalidEncoding(f"evidence: version {version}, this release reads {VERSION}")
    raise InvalidEncoding(f"evidence: not a list of at most {MAX_PAIRS} pairs")


def _fields(vote: Vote) -> list[Any]:
    return [int(vote.kind), vote.height, vote.view, vote.block_id, vote.parent_view, vote.signer, vote.signature]


def _parse_pair(row: Any) -> Pair:
    match row:
        case [first, second]:
            pair = _parse_vote(first), _parse_vote(second)
            if pair[0].signer == pair[1].signer:
                return pair
    raise InvalidEncoding("evidence: not two statements of one signer")


def _parse_vote(row: Any) -> Vote:
    match row:
        case [int(kind), int(height), int(view), bytes(block_id), int(parent), bytes(signer), bytes(signature)]:
            if kind in KINDS and (len(block_id), len(signer), len(signature)) == (32, 20, SIGNATURE_BYTES):
                return Vote(Kind(kind), height, view, block_id, parent, Account(signer), signature)
    raise InvalidEncoding("evidence: not the seven fields of a statement")
