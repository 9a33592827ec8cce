"""RPCs of gossip on a stream: read from a buffer, looked through before they are parsed, queued. Knows no topics."""

import math
from collections import deque
from typing import Any

import trio
from google.protobuf.message import DecodeError
from libp2p.pubsub.pb import rpc_pb2
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.utils import encode_varint_prefixed

from flock_chain.errors import InvalidRemote
from flock_peers.network.frame_room import Claim

_READ = 64 << 10
_BATCH_BYTES, _BATCH = 128 << 10, 64  # RPCs that wait together leave together
_QUEUE, _QUEUE_BYTES = 1024, 8 << 20  # what waits for one slow peer, as in its other protocols
FAIR_QUEUE_BYTES = 256 << 10  # that everybody has, however much waits for others
ALL_QUEUES_BYTES = 32 << 20  # of all peers together
_MAX_VARINT = 5  # bytes of a length below 2^35
# A parsed part is up to thirty times as large as its bytes: 1 MiB of empty messages is 63 MiB and 50 ms.
MAX_PARTS = 4096  # fields of one RPC, each a message or a subscription; ours have one, stock may answer with dozens
MAX_CONTROL_BYTES = 512 << 10  # control messages of one RPC: twice 5,000 ids of 47 bytes, which is most of stock
_CONTROL = 3  # number of the field
_VARINT, _WITH_LENGTH, _FIXED = 0, 2, {1: 8, 5: 4}  # wire types of protobuf


def encode_rpc(rpc: Any) -> bytes:
    return bytes(encode_varint_prefixed(rpc.SerializeToString()))


class RpcReader:
    """Stock reads a length one byte at a time, each with two locks. `claim`: the room of an RPC until the next read.

    `seconds`: for the rest of an RPC that was begun, or its room would be held for as long as the sender likes.
    """

    def __init__(self, stream: Any, most: int, claim: Claim, seconds: float) -> None:
        self._stream, self._most, self._claim, self._seconds = stream, most, claim, seconds
        self._deadline = math.inf
        self._buffer = bytearray()
        self._start = 0
        self._length: int | None = None  # that are still to come of the RPC that is half read

    async def read(self) -> bytes | None:
        """The next RPC's bytes, None when the stream ends. Raises InvalidRemote for one that is too large, or too slow.

        One that has no room, or loses it, is read past, and empty: `claim.refused` says so.
        """
        self._claim.release()
        while True:
            found = self._next()
            if found is not None:
                return found
            if self._start:
                del self._buffer[: self._start]
                self._start = 0
            try:
                data = await (self._stream.read(_READ) if self._length is None else self._read_more())
            except MuxedStreamError:  # the end, a reset, a lost connection: nothing is owed
                return None
            self._buffer += data

    async def _read_more(self) -> bytes:
        """Of one that was begun. Between two of them nothing is held, and nobody waits."""
        data = b""
        try:
            with trio.fail_at(self._deadline), self._claim.reading():
                data = await self._stream.read(_READ)
        except trio.TooSlowError as error:
            raise InvalidRemote(f"an RPC not complete after {self._seconds:g} s") from error
        return data

    def _next(self) -> bytes | None:
        if self._length is None and not self._begin():
            return None
        assert self._length is not None
        if self._claim.refused:
            count = min(self._length, len(self._buffer) - self._start)
            self._start += count
            self._length -= count
            return None if self._length else self._end(b"")
        if len(self._buffer) - self._start < self._length:
            return None
        self._start += self._length
        data = bytes(self._buffer[self._start - self._length : self._start])
        if self._start > _READ:  # a large one waits for its rate once, not twice
            del self._buffer[: self._start]
            self._start = 0
        return self._end(data)

    def _begin(self) -> bool:
        found = _read_varint(self._buffer, self._start)
        if found is None:
            return False
        length, position = found
        if length > self._most:
            raise InvalidRemote(f"an RPC of {length} bytes, at most {self._most} allowed")
        self._claim.take(length)
        self._length, self._start = length, position
        self._deadline = trio.current_time() + self._seconds
        return True

    def _end(self, data: bytes) -> bytes:
        self._length, self._deadline = None, math.inf
        return data


def _read_varint(data: bytes | bytearray, position: int) -> tuple[int, int] | None:
    """The number, and where it ends; None where more bytes are needed. Raises InvalidRemote."""
    number = 0
    for shift in range(0, 7 * _MAX_VARINT, 7):
        if position >= len(data):
            return None
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise InvalidRemote("an RPC with a length of more than five bytes")


class OutQueue:
    """What waits for one peer, encoded. Stock holds 32 messages of any size, each a copy of its own."""

    max_message_size = 1 << 20  # asked for by stock code

    def __init__(self, most_messages: int = _QUEUE, most_bytes: int = _QUEUE_BYTES) -> None:
        self._most_messages, self._most_bytes = most_messages, most_bytes
        self._urgent: deque[bytes] = deque()
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._wake = trio.Event()
        self.closed = False

    def __len__(self) -> int:
        return len(self._urgent) + len(self._queue)

    @property
    def waiting_bytes(self) -> int:
        return self._bytes

    def push(self, rpc: Any, priority: bool = False) -> bool:
        """Encoded already, or an RPC. False when the queue is full or closed: then it is lost."""
        data = rpc if isinstance(rpc, bytes) else encode_rpc(rpc)
        if self.closed or len(self) >= self._most_messages or self._bytes + len(data) > self._most_bytes:
            return False
        (self._urgent if priority else self._queue).append(data)
        self._bytes += len(data)
        self._wake.set()
        return True

    def split_rpc(self, rpc: Any) -> list[Any]:
        """Nothing of ours is larger than one message may be."""
        return [rpc]

    async def pop(self) -> tuple[bytes, int] | None:
        """What waits, as much as leaves at once, and how many RPCs that is; None when the queue was closed."""
        while not (self._urgent or self._queue):
            if self.closed:
                return None
            self._wake = trio.Event()
            await self._wake.wait()
        batch: list[bytes] = []
        size = 0
        while (self._urgent or self._queue) and size < _BATCH_BYTES and len(batch) < _BATCH:
            batch.append((self._urgent or self._queue).popleft())
            size += len(batch[-1])
        self._bytes -= size
        return b"".join(batch), len(batch)

    def close(self) -> None:
        self.closed = True
        self._wake.set()


def parse_rpc(data: bytes) -> Any:
    """Raises InvalidRemote."""
    _check_parts(data)
    rpc = rpc_pb2.RPC()
    try:
        rpc.ParseFromString(data)
    except DecodeError as error:
        raise InvalidRemote(f"an RPC that is no protobuf: {error}") from error
    return rpc


def _check_parts(data: bytes) -> None:
    """How much parsing would make of it. Whatever ends too early is left to the parser, which says so."""
    position = parts = control = 0
    while position < len(data):
        tag = _read_varint(data, position)
        if tag is None:
            return
        field, kind = divmod(tag[0], 8)
        end = _find_end(data, kind, tag[1])
        if end is None:
            return
        parts += 1
        control += end - tag[1] if field == _CONTROL else 0
        position = end
        if parts > MAX_PARTS:
            raise InvalidRemote(f"an RPC of more than {MAX_PARTS} messages and subscriptions")
        if control > MAX_CONTROL_BYTES:
            raise InvalidRemote(f"an RPC with {control} bytes of control messages, at most {MAX_CONTROL_BYTES} allowed")


def _find_end(data: bytes, kind: int, position: int) -> int | None:
    """Where the value of a field ends that begins here; None where that is not in these bytes."""
    if kind in _FIXED:
        return position + _FIXED[kind]
    if kind not in (_VARINT, _WITH_LENGTH):
        raise InvalidRemote(f"an RPC with a field of wire type {kind}")
    found = _read_varint(data, position)
    if found is None or kind == _VARINT:
        return found and found[1]
    return found[0] + found[1]
