"""Content ids. Computes them; fetches nothing.

A small object (at most 1 MiB: a manifest, a task document, a chunk list) is named by CIDv1(raw, sha2-256) of its
bytes. A large file is named by the id of its *chunk list*: magic, size, chunk size and the sha2-256 of every chunk.
On chain and on the wire an id travels as the bare 32-byte digest; the text form is what IPFS tools print.
"""

import base64
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from flock_chain.errors import InvalidContent, InvalidEncoding, Misuse

CHUNK_BYTES = 1 << 20
MAX_OBJECT_BYTES = 1 << 20  # a small object is verified in one piece, in memory
MAX_FILE_BYTES = 16 << 30  # the chunk list of the largest file stays below MAX_OBJECT_BYTES
CID_PREFIX = bytes([0x01, 0x55, 0x12, 0x20])  # CIDv1, raw codec, sha2-256, 32 bytes
_MAGIC = b"flock-chunks-1\n"
_HEAD = struct.Struct(">QI")


@dataclass(frozen=True)
class ChunkList:
    size: int  # bytes of the file
    chunk_bytes: int
    digests: tuple[bytes, ...]  # sha2-256 of each chunk, in order

    def encode(self) -> bytes:
        return _MAGIC + _HEAD.pack(self.size, self.chunk_bytes) + b"".join(self.digests)

    @property
    def digest(self) -> bytes:
        return sha256(self.encode()).digest()

    def bounds(self, index: int) -> tuple[int, int]:
        """Offset and length of a chunk."""
        if not 0 <= index < len(self.digests):
            raise Misuse(f"chunk {index} of {len(self.digests)}")
        start = index * self.chunk_bytes
        return start, min(self.chunk_bytes, self.size - start)


def compute_chunk_list(chunks: Iterable[bytes]) -> ChunkList:
    """The chunk list of a file that is given in pieces of CHUNK_BYTES (the last one may be shorter)."""
    digests, size = [], 0
    for chunk in chunks:
        if size % CHUNK_BYTES or not 0 < len(chunk) <= CHUNK_BYTES:
            raise Misuse("chunk list: pieces must be full, but for the last")
        digests.append(sha256(chunk).digest())
        size += len(chunk)
    return ChunkList(size, CHUNK_BYTES, tuple(digests))


def split_chunks(data: bytes) -> Iterable[bytes]:
    return (data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES))


def decode_chunk_list(data: bytes, *, digest: bytes, max_file_bytes: int = MAX_FILE_BYTES) -> ChunkList:
    """Verify, then parse. Raises InvalidContent for a wrong digest, InvalidEncoding for anything not canonical."""
    if len(data) > MAX_OBJECT_BYTES:
        raise InvalidEncoding("chunk list: larger than an object may be")
    if sha256(data).digest() != digest:
        raise InvalidContent("chunk list: does not match its content id")
    head = len(_MAGIC) + _HEAD.size
    if len(data) < head or not data.startswith(_MAGIC) or (len(data) - head) % 32:
        raise InvalidEncoding("chunk list: wrong magic or length")
    size, chunk_bytes = _HEAD.unpack_from(data, len(_MAGIC))
    if chunk_bytes != CHUNK_BYTES or size > max_file_bytes:
        raise InvalidEncoding(f"chunk list: file of {size} bytes in chunks of {chunk_bytes} not allowed")
    digests = tuple(data[start : start + 32] for start in range(head, len(data), 32))
    if len(digests) != -(-size // chunk_bytes):
        raise InvalidEncoding("chunk list: number of chunks does not fit the size")
    return ChunkList(size, chunk_bytes, digests)


def object_digest(data: bytes) -> bytes:
    if len(data) > MAX_OBJECT_BYTES:
        raise Misuse(f"object: {len(data)} bytes, at most {MAX_OBJECT_BYTES}")
    return sha256(data).digest()


def format_cid(digest: bytes) -> str:
    """The text form: CIDv1, base32 lower case."""
    if len(digest) != 32:
        raise Misuse("content id: a digest is 32 bytes")
    return "b" + base64.b32encode(CID_PREFIX + digest).decode().lower().rstrip("=")


def parse_cid(text: str) -> bytes:
    """The digest of a CIDv1(raw, sha2-256) in base32; raises InvalidEncoding for any other text."""
    try:
        raw = base64.b32decode(text[1:].upper() + "=" * (-(len(text) - 1) % 8)) if text[:1] == "b" else b""
    except ValueError as error:
        raise InvalidEncoding("content id: not base32") from error
    if len(raw) != 36 or raw[:4] != CID_PREFIX or format_cid(raw[4:]) != text:
        raise InvalidEncoding("content id: not a CIDv1 of raw bytes by sha2-256 in lower-case base32")
    return raw[4:]
