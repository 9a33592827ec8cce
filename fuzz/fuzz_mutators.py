"""Mutations that keep an encoding valid and change what it says: of msgpack, RLP, JSON and safetensors.

A canonical encoding refuses nearly every flipped bit at its first check; what lies behind is reached from the tree.
"""

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

import msgpack

from flock_chain import canonical_json
from flock_chain.errors import FlockError
from flock_chain.execution import strict_rlp

_INTEGERS = (-(1 << 63), -1, 0, 1, 2, 31, 32, 33, 127, 128, 255, 256, 65_535, 1 << 16, 1 << 32, 1 << 53, (1 << 63) - 1)
_LENGTHS = (0, 1, 19, 20, 21, 31, 32, 33, 64, 65, 66, 130)
_MAX_NODES = 200  # of a tree that are candidates


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """Flip, cut, repeat, insert: for runs without an engine that does it better."""
    row = bytearray(data)
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(row) + 1)
        match random.randrange(5):
            case 0 if row:
                row[place % len(row)] ^= 1 << random.randrange(8)
            case 1:
                del row[place : place + random.choice((1, 2, 8, 64))]
            case 2:
                row[place:place] = row[place : place + random.choice((1, 4, 32))]
            case 3:
                row[place:place] = random.randbytes(random.choice((1, 2, 4)))
            case _:
                row[place : place + 1] = random.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"["))
    return bytes(row)


def mutate_msgpack(data: bytes, random: Random) -> bytes:
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=False)
        return bytes(msgpack.packb(_sort(_mutate_tree(value, random)), use_bin_type=True))
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.UnpackException):
        return mutate_bytes(data, random)


def mutate_rlp(data: bytes, random: Random) -> bytes:
    head = data[:1] if data[:1] and data[0] < 0x80 else b""  # the type of a transaction
    try:
        tree = _mutate_tree(strict_rlp.decode(data[len(head) :]), random)
        return head + strict_rlp.encode(_only_bytes(tree))
    except FlockError:
        return mutate_bytes(data, random)


def mutate_json(data: bytes, random: Random) -> bytes:
    try:
        return canonical_json.encode(_mutate_tree(json.loads(data), random))
    except (ValueError, TypeError, RecursionError):
        return mutate_bytes(data, random)


def mutate_safetensors(data: bytes, random: Random) -> bytes:
    if len(data) < 8 or random.random() < 0.5:
        return mutate_bytes(data, random)
    (length,) = struct.unpack_from("<Q", data)
    if length > len(data):
        return mutate_bytes(data, random)
    header = mutate_json(data[8 : 8 + length].rstrip(b" "), random)
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def behind(count: int, mutate: Callable[[bytes, Random], bytes]) -> Callable[[bytes, Random], bytes]:
    """For targets whose first bytes are choices of the target."""

    def run(data: bytes, random: Random) -> bytes:
        head = data[:count]
        return (mutate_bytes(head, random)[:count] if random.random() < 0.1 else head) + mutate(data[count:], random)

    return run


def _mutate_tree(value: Any, random: Random) -> Any:
    """One node replaced, removed, doubled, wrapped or exchanged for another."""
    places: list[tuple[Any, Any]] = []
    _collect(value, places)
    if not places:
        return _new_leaf(value, random)
    parent, key = random.choice(places)
    old = parent[key]
    match random.randrange(7):
        case 0 | 1 | 2:
            parent[key] = _new_leaf(old, random)
        case 3:
            other, where = random.choice(places)
            parent[key] = other[where] if not isinstance(other[where], list | dict) else [old]
        case 4:
            del parent[key]
        case 5 if isinstance(parent, list):
            parent[key:key] = [old] * random.choice((1, 1, 2, 16, 300))
        case 5:
            parent[str(key) + random.choice(("", "x"))] = old
        case _:
            parent[key] = [old] if random.random() < 0.5 else {"x": old}
    return value


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for key, item in items:
        if len(places) < _MAX_NODES:
            places.append((value, key))
            _collect(item, places)


def _new_leaf(old: Any, random: Random) -> Any:
    if isinstance(old, bytes) and random.random() < 0.7:
        return mutate_bytes(old, random) if random.random() < 0.6 else random.randbytes(random.choice(_LENGTHS))
    if isinstance(old, str) and random.random() < 0.7:
        return mutate_bytes(old.encode(errors="replace"), random).decode(errors="replace")
    if isinstance(old, int) and random.random() < 0.7:
        return random.choice(_INTEGERS) if random.random() < 0.5 else old + random.choice((-1, 1, 256))
    return random.choice(
        (None, True, False, 0, 1, -1, "", "x", b"", b"\0", [], {}, "\ud800" * 0 + "é", [[[]]], 1 << 62)
    )


def _sort(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sort(value[key]) for key in sorted(value, key=str)}
    return [_sort(item) for item in value] if isinstance(value, list) else value


def _only_bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_only_bytes(item) for item in value]
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool | int):
        return abs(int(value))
    return str(value).encode()
