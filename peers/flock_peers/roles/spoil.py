"""For trials of a network: a proposer that publishes something else than its adapter. Knows bytes; no votes.

Told by the hidden option `--attack spoil:KIND`, never kept for the next start. What each kind must meet at the others:

  oversized     the chunk list names more bytes than the task's delta has    refused before a chunk is fetched
  truncated     the last bytes are missing                                   refused by the exact size
  garbage       random bytes of the right size                               refused by the header
  nan           mantissas replaced by float32 NaNs                           refused by the dtype
  shapes        the first tensor's shape is turned round                     refused by the shape
  unavailable   the manifest is there, its delta is not                      VOID: there are no bytes to convict it
"""

import json
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from flock_chain.errors import Misuse

PREFIX = "spoil:"
OVERSIZE = 16  # times the honest file
CUT_BYTES = 100
_LENGTH = struct.Struct("<Q")

Spoil = Callable[[bytes], bytes | None]  # None: publish no delta at all


def _oversized(data: bytes) -> bytes:
    return data * OVERSIZE


def _truncated(data: bytes) -> bytes:
    return data[:-CUT_BYTES]


def _garbage(data: bytes) -> bytes:
    return random.Random(len(data)).randbytes(len(data))


def _nan(data: bytes) -> bytes:
    """One I8 tensor [blocks, 32] becomes F32 [blocks, 8] of NaNs: as many bytes, in a header as long."""
    entries, start = _read(data)
    name = next(name for name in sorted(entries) if entries[name]["dtype"] == "I8")
    blocks, width = entries[name]["shape"]
    entries[name] |= {"dtype": "F32", "shape": [blocks, width // 4]}
    begin, end = (start + offset for offset in entries[name]["data_offsets"])
    nans = np.full((end - begin) // 4, np.nan, "<f4").tobytes()
    return _write(entries, data[:begin] + nans + data[end:], start)


def _shapes(data: bytes) -> bytes:
    entries, start = _read(data)
    name = next(name for name in sorted(entries) if len(entries[name]["shape"]) == 2)
    entries[name]["shape"].reverse()
    return _write(entries, data, start)


def _unavailable(_data: bytes) -> None:
    return None


def _read(data: bytes) -> tuple[dict[str, dict[str, Any]], int]:
    (length,) = _LENGTH.unpack_from(data)
    return json.loads(data[_LENGTH.size : _LENGTH.size + length]), _LENGTH.size + length


def _write(entries: object, data: bytes, start: int) -> bytes:
    text = json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()
    return _LENGTH.pack(start - _LENGTH.size) + text.ljust(start - _LENGTH.size) + data[start:]


KINDS: dict[str, Spoil] = {
    "oversized": _oversized,
    "truncated": _truncated,
    "garbage": _garbage,
    "nan": _nan,
    "shapes": _shapes,
    "unavailable": _unavailable,
}


def split_attack(attack: str | None) -> tuple[str | None, Spoil | None]:
    """What the trainer is told, and what the proposer does to its file; raises Misuse for an unknown kind."""
    if attack is None or not attack.startswith(PREFIX):
        return attack, None
    kind = attack.removeprefix(PREFIX)
    if kind not in KINDS:
        raise Misuse(f"attack {attack!r}: the kinds are {', '.join(KINDS)}")
    return None, KINDS[kind]
