"""Frames between the trainer process and its client: a length and JSON. Both ends are ours; knows no torch."""

import json
import struct
from typing import Any, BinaryIO

from flock_chain.errors import Unavailable

MAX_FRAME_BYTES = 4 << 20  # the largest is the opening request, with a task document of at most 1 MiB in hex
HEAD = struct.Struct(">I")


def encode_frame(value: dict[str, Any]) -> bytes:
    data = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    if len(data) > MAX_FRAME_BYTES:
        raise Unavailable(f"trainer: frame of {len(data)} bytes, at most {MAX_FRAME_BYTES}")
    return HEAD.pack(len(data)) + data


def read_frame(stream: BinaryIO) -> dict[str, Any] | None:
    """Blocks; None at the end of the stream."""
    head = stream.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    (length,) = HEAD.unpack(head)
    if length > MAX_FRAME_BYTES:
        return None
    data = stream.read(length)
    return json.loads(data) if len(data) == length else None
