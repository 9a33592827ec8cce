"""Canonical safetensors: one set of tensors, one file. Knows dtypes and shapes, not what the numbers mean.

The library orders tensors by dtype and writes a transposed array wrongly in silence, and its reader accepts many files
for the same tensors; so both directions are our own. Since names, dtypes and shapes are known beforehand (the task
fixes them), the header is too: a file is accepted when its header is that header, byte for byte, and its size is exact.
Only when it differs is the stranger's JSON looked at, to say what is wrong.
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from flock_chain.bounded_json import loads
from flock_chain.errors import InvalidContent, Misuse

MAX_HEADER_BYTES = 4 << 20  # 4,096 tensors in two parts with the longest names take 2.5 MB
KNOWN_HEADERS = 4  # kept: deltas and adapters of the task that runs, and of the one before
MAX_HEADER_DEPTH = 3  # names, their fields, and the numbers of a shape
_LENGTH = struct.Struct("<Q")
_DTYPES: dict[str, np.dtype[Any]] = {"I8": np.dtype("i1"), "U8": np.dtype("u1"), "I64": np.dtype("<i8")}


@dataclass(frozen=True)
class TensorSpec:
    name: str
    dtype: str  # safetensors' name: I8, U8 or I64
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * _DTYPES[self.dtype].itemsize


def _entries(specs: Sequence[TensorSpec]) -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    start = 0
    for spec in specs:
        entries[spec.name] = {
            "data_offsets": [start, start + spec.size],
            "dtype": spec.dtype,
            "shape": list(spec.shape),
        }
        start += spec.size
    return entries


@lru_cache(maxsize=KNOWN_HEADERS)
def _header(specs: tuple[TensorSpec, ...]) -> bytes:
    """Length and JSON, padded with spaces so that the tensors start at a multiple of 8. A round asks a dozen times for
    the same two."""
    text = json.dumps(_entries(specs), sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise Misuse(f"tensor file: header of {len(text)} bytes, at most {MAX_HEADER_BYTES}")
    return _LENGTH.pack(len(text)) + text


def sort_specs(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    return tuple(sorted(specs, key=lambda spec: spec.name))


def compute_file_bytes(specs: Sequence[TensorSpec]) -> int:
    """The exact size of the file of these tensors."""
    return len(_header(sort_specs(specs))) + sum(spec.size for spec in specs)


def encode_tensors(tensors: Mapping[str, NDArray[Any]], specs: Sequence[TensorSpec]) -> bytes:
    """The canonical file; raises Misuse where an array is not of its spec's dtype and shape."""
    ordered = sort_specs(specs)
    parts = [_header(ordered)]
    for spec in ordered:
        array = tensors[spec.name]
        if array.dtype != _DTYPES[spec.dtype] or array.shape != spec.shape:
            raise Misuse(f"tensor file: {spec.name} must be {spec.dtype} of shape {spec.shape}")
        parts.append(np.ascontiguousarray(array, _DTYPES[spec.dtype]).tobytes())
    return b"".join(parts)


def parse_tensors(data: bytes, specs: Sequence[TensorSpec], what: str) -> dict[str, NDArray[Any]]:
    """Read-only views into `data`, by name; raises InvalidContent naming the check (`what` begins the message)."""
    ordered = sort_specs(specs)
    expected = _header(ordered)
    if not data.startswith(expected):
        _explain(data, ordered, what)
    payload = sum(spec.size for spec in ordered)
    if len(data) != len(expected) + payload:
        raise InvalidContent(f"{what}: {len(data) - len(expected)} bytes of tensors, exactly {payload} expected")
    arrays, offset = {}, len(expected)
    for spec in ordered:
        array = np.frombuffer(data, _DTYPES[spec.dtype], math.prod(spec.shape), offset)
        array.setflags(write=False)  # a bytearray would give a writable view
        arrays[spec.name] = array.reshape(spec.shape)
        offset += spec.size
    return arrays


def _explain(data: bytes, specs: Sequence[TensorSpec], what: str) -> NoReturn:
    """Say which check a header fails that is not the expected one."""
    entries = _read_header(data, what)
    expected = _entries(specs)
    if "__metadata__" in entries:
        raise InvalidContent(f"{what}: header carries metadata, none is allowed")
    if set(entries) != set(expected):
        difference = sorted(set(entries) ^ set(expected))
        raise InvalidContent(f"{what}: tensor names differ from the layout's: {_short(difference[:3])}")
    for name, wanted in expected.items():
        entry = entries[name]
        if not isinstance(entry, dict) or set(entry) != set(wanted):
            raise InvalidContent(f"{what}: header entry of {name} must have data_offsets, dtype and shape alone")
        for field in ("dtype", "shape", "data_offsets"):
            if entry[field] != wanted[field]:
                raise InvalidContent(f"{what}: {field} of {name} is {_short(entry[field])}, not {wanted[field]}")
    raise InvalidContent(f"{what}: header is not canonical (order, spacing, number form or padding)")


def _read_header(data: bytes, what: str) -> dict[str, Any]:
    if len(data) < _LENGTH.size:
        raise InvalidContent(f"{what}: shorter than a header length")
    (length,) = _LENGTH.unpack_from(data)
    if length > MAX_HEADER_BYTES:
        raise InvalidContent(f"{what}: header of {length} bytes, at most {MAX_HEADER_BYTES} allowed")
    if _LENGTH.size + length > len(data):
        raise InvalidContent(f"{what}: header runs past the end of the file")
    try:
        entries = loads(data[_LENGTH.size : _LENGTH.size + length], depth=MAX_HEADER_DEPTH, pairs=_unique)
    except ValueError as error:
        raise InvalidContent(f"{what}: header is no JSON, or names something twice") from error
    if not isinstance(entries, dict):
        raise InvalidContent(f"{what}: header is no JSON object")
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("duplicate name")
    return dict(pairs)


def _short(value: object) -> str:
    """A stranger's value in a message: never long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
