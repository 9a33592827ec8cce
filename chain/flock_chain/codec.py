"""Canonical msgpack: one value, one encoding. Knows nothing of what it carries.

Allowed: None, bool, int (64 bits), bytes, str, list, and dict with str keys in sorted order. No floats, no
extension types, no sets. `decode` re-encodes and compares, so a second encoding of the same value is refused.
"""

from typing import Any

import msgpack

from flock_chain.errors import InvalidEncoding, Misuse

MAX_DEPTH = 16  # deeper than any message of ours; msgpack's own limit is 511
MAX_DECODED_BYTES = 1 << 20  # the largest message on any protocol but bulk transfer
MAX_VALUES = 1 << 16  # in one message; a task document with 4,096 tensors has 40,000. A million take seconds to look at
_PLAIN = frozenset({type(None), bool, int, bytes, str})  # by exact class, which nearly all are: looked up twice as fast


class _Walk:
    """One value made canonical, and counted on the way."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def sort(self, value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise Misuse(f"codec: nesting deeper than {MAX_DEPTH}")
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is list or isinstance(value, list | tuple):
            self._count(len(value))
            return [self.sort(item, depth + 1) for item in value] if value else []
        if isinstance(value, dict):
            self._count(2 * len(value))
            if not all(isinstance(key, str) for key in value):
                raise Misuse("codec: dict keys must be str")
            return {key: self.sort(value[key], depth + 1) for key in sorted(value)}
        if isinstance(value, bool | int | bytes | str):  # of a class of its own
            return value
        raise Misuse(f"codec: {type(value).__name__} has no canonical encoding")

    def _count(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise Misuse(f"codec: more than {MAX_VALUES} values")


def encode(value: Any) -> bytes:
    """Encode a value of the allowed types; raises Misuse for any other."""
    try:
        packed: bytes = msgpack.packb(_Walk().sort(value, 0), use_bin_type=True)
    except OverflowError as error:
        raise Misuse("codec: integer outside 64 bits") from error
    except UnicodeEncodeError as error:
        raise Misuse("codec: a string with a lone surrogate has no encoding") from error
    return packed


def decode(data: bytes, *, limit: int = MAX_DECODED_BYTES) -> Any:
    """Decode bytes from anywhere; raises InvalidEncoding unless they are canonical and at most `limit` long."""
    if len(data) > limit:
        raise InvalidEncoding(f"codec: {len(data)} bytes, at most {limit} allowed")
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=True, max_ext_len=0)
        canonical = encode(value)
    except (ValueError, TypeError, RecursionError, Misuse, msgpack.exceptions.UnpackException) as error:
        raise InvalidEncoding(f"codec: {error}") from error
    if canonical != data:
        raise InvalidEncoding("codec: not the canonical encoding")
    return value
