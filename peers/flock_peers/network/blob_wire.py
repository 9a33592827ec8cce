"""The blob protocol's bytes, its limits and its byte counters. One stream, many requests, answers in order."""

import struct
from collections import Counter
from dataclasses import dataclass, field

from flock_chain.content import MAX_OBJECT_BYTES
from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote, Unavailable
from flock_peers.network.link import Stream

BLOBS = "/flock/blobs/1"
REQUEST = struct.Struct(">B32sII")  # kind, digest, first chunk, number of chunks
LENGTH = struct.Struct(">I")
OBJECT, CHUNKS = 0, 1
NOT_HERE = 0xFFFFFFFF  # in place of a length: not here; it ends the answer
MAX_RANGE = 64


@dataclass(frozen=True)
class BlobLimits:
    server_slots: int = 64  # chunks and objects that are sent at once, each in memory
    server_streams_per_peer: int = 8
    sure_seconds: float = 20.0  # for one of them where others wait: 50 KB/s
    turns_per_provider: int = 4  # streams of ours with one peer for files, and as many for objects: what it allows
    server_idle_seconds: float = 30.0
    range_chunks: int = 8
    ranges_in_flight: int = 2  # per provider
    chunk_seconds: float = 60.0  # 17 KB/s: below that another provider is better, and a reader loses its slot
    providers_at_once: int = 8  # of one file
    overtake_seconds: float = 1.0  # that a chunk is owed before another provider is asked for it, too
    fetch_streams: int = 12  # of all files together: with three chunks and a window of 4 MiB each, 84 MiB at worst
    bulk_bytes: int = 4 << 20  # from here on a file comes over a connection of its own; a handshake is not free
    flush_bytes: int = 64 << 20  # written and not yet on disk
    report_seconds: float = 5.0  # between two lines in the log about one file
    object_seconds: float = 15.0
    hedge_seconds: float = 1.0  # ask the next provider for an object when the first is silent
    tries_per_provider: int = 3
    retry_seconds: float = 0.2
    ban_seconds: float = 600.0  # who sent bytes that do not match


@dataclass
class Traffic:
    """Payload bytes of blobs."""

    sent: Counter[Account] = field(default_factory=Counter)
    received: Counter[Account] = field(default_factory=Counter)

    @property
    def bytes_sent(self) -> int:
        return self.sent.total()

    @property
    def bytes_received(self) -> int:
        return self.received.total()


async def read_length(stream: Stream, most: int) -> int | None:
    """None: not here. Raises InvalidRemote for a length above `most`."""
    (length,) = LENGTH.unpack(await stream.read_exactly(LENGTH.size))
    if length == NOT_HERE:
        return None
    if length > most:
        raise InvalidRemote(f"blob: {length} bytes announced, at most {most} expected")
    return int(length)


async def read_pieces(stream: Stream, count: int) -> list[bytes]:
    """Exactly `count` bytes as they came: who hashes and writes them in a thread joins them there."""
    pieces: list[bytes] = []
    while count:
        data = await stream.read_some(count)
        if not data:
            raise Unavailable(f"stream ended {count} bytes early")
        pieces.append(data)
        count -= len(data)
    return pieces


async def ask_object(stream: Stream, digest: bytes) -> bytes | None:
    await stream.write(REQUEST.pack(OBJECT, digest, 0, 0))
    length = await read_length(stream, MAX_OBJECT_BYTES)
    return None if length is None else await stream.read_exactly(length)
