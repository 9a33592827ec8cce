"""A proposal's manifest and the two commitments of a round. Pure; knows neither the adapter's bytes nor the contract.

The packing equals Vyper's `keccak256(abi_encode(...))` of static types: one 32-byte word each, arrays inline.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from flock_chain import codec
from flock_chain.crypto import Account, Digest, keccak256
from flock_chain.errors import InvalidEncoding, Misuse
from flock_chain.tally import SEATS_MAX

MANIFEST_FORMAT = 1
MAX_MANIFEST_BYTES = 1_024  # all fields at their largest take about 400
MAX_ID = 1 << 32  # tasks and rounds
MAX_DELTA_BYTES = 16 << 30  # the largest file
MAX_COUNT = 1 << 48  # steps and tokens: a proposer's own word, bounded so that sums stay exact anywhere
SALT_BYTES = 32
_WORD = 1 << 256


@dataclass(frozen=True)
class Manifest:
    """What a proposer commits to and reveals by its object digest."""

    chain: Digest  # the network's genesis hash
    task: int
    round: int
    account: Account  # the proposer
    parent: Digest  # the global adapter that it trained from: its chunk list
    delta: Digest  # the delta file: its chunk list
    delta_bytes: int
    steps: int  # optimiser steps, as the proposer says
    tokens: int  # trained tokens, as the proposer says

    def __post_init__(self) -> None:
        for name, length in (("chain", 32), ("account", 20), ("parent", 32), ("delta", 32)):
            value = getattr(self, name)
            if not isinstance(value, bytes) or len(value) != length:
                raise InvalidEncoding(f"manifest: {name} is not {length} bytes")
        for name, low, high in (
            ("task", 1, MAX_ID),
            ("round", 0, MAX_ID),
            ("delta_bytes", 1, MAX_DELTA_BYTES),
            ("steps", 1, MAX_COUNT),
            ("tokens", 1, MAX_COUNT),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise InvalidEncoding(f"manifest: {name} is no integer between {low} and {high}")

    def encode(self) -> bytes:
        return codec.encode({"format": MANIFEST_FORMAT, **{name: getattr(self, name) for name in _NAMES}})


_NAMES = tuple(field.name for field in fields(Manifest))


def decode_manifest(data: bytes) -> Manifest:
    """Parse a stranger's manifest; raises InvalidEncoding naming the check."""
    document: Any = codec.decode(data, limit=MAX_MANIFEST_BYTES)
    number = document.get("format") if isinstance(document, dict) else None
    if type(number) is not int or number != MANIFEST_FORMAT:
        raise InvalidEncoding(f"manifest: format {number!r:.20}, this release reads format {MANIFEST_FORMAT}")
    if set(document) != {"format", *_NAMES}:
        raise InvalidEncoding(f"manifest: fields differ: {str(sorted(set(document) ^ {'format', *_NAMES}))[:80]}")
    return Manifest(**{name: document[name] for name in _NAMES})


def compute_proposal_commitment(
    chain_id: int, board: bytes, task: int, round: int, account: bytes, manifest: bytes, salt: bytes
) -> Digest:
    """`manifest`: the object digest of the manifest. Bound to the account, so nobody can commit a copy."""
    head = _pack_head(chain_id, board, task, round, account)
    return keccak256(head, _pack_bytes32(manifest, "manifest"), _pack_bytes32(salt, "salt"))


def compute_vote_commitment(
    chain_id: int, board: bytes, task: int, round: int, account: bytes, adapter: bytes, salt: bytes
) -> Digest:
    """By the paper's rule. `adapter`: the chunk-list digest of the global adapter that the voter wants next.

    The same words as a proposal's: in one round nobody has both roles, so neither opens as the other.
    """
    return compute_proposal_commitment(chain_id, board, task, round, account, adapter, salt)


def compute_score_commitment(
    chain_id: int,
    board: bytes,
    task: int,
    round: int,
    account: bytes,
    scores: Sequence[int],
    filters: Sequence[int],
    salt: bytes,
) -> Digest:
    """`scores`: int256[16] in millionths, by proposer index; `filters`: uint256[16] of filter bits."""
    if len(scores) != SEATS_MAX or len(filters) != SEATS_MAX:
        raise Misuse(f"commitment: scores and filters have {SEATS_MAX} entries, unused ones 0")
    words = [_pack_signed(score) for score in scores] + [_pack_unsigned(bits) for bits in filters]
    return keccak256(_pack_head(chain_id, board, task, round, account), *words, _pack_bytes32(salt, "salt"))


def _pack_head(chain_id: int, board: bytes, task: int, round: int, account: bytes) -> bytes:
    return b"".join(
        (
            _pack_unsigned(chain_id),
            _pack_address(board, "board"),
            _pack_unsigned(task),
            _pack_unsigned(round),
            _pack_address(account, "account"),
        )
    )


def _pack_unsigned(value: int) -> bytes:
    if not 0 <= value < _WORD:
        raise Misuse("commitment: integer outside uint256")
    return value.to_bytes(32, "big")


def _pack_signed(value: int) -> bytes:
    if not -(_WORD >> 1) <= value < _WORD >> 1:
        raise Misuse("commitment: integer outside int256")
    return value.to_bytes(32, "big", signed=True)


def _pack_address(value: bytes, what: str) -> bytes:
    if len(value) != 20:
        raise Misuse(f"commitment: {what} is not 20 bytes")
    return bytes(12) + value


def _pack_bytes32(value: bytes, what: str) -> bytes:
    if len(value) != 32:
        raise Misuse(f"commitment: {what} is not 32 bytes")
    return value
