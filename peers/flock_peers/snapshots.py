"""State snapshots of this peer: made at the ends of epochs, kept as blobs (the newest two), told to whoever asks.

The file follows from the block alone, so all peers have the same blob under the same content id. Judges nothing.

Protocol /flock/snapshots/1: ["list"] is answered by rows of [height, block id, content id, bytes], and
["headers", first height, most] by encoded headers.
"""

import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import trio

from flock_chain.bounded_json import loads
from flock_chain.codec import decode, encode
from flock_chain.consensus.types import MAX_HEIGHT
from flock_chain.content import CHUNK_BYTES, compute_chunk_list
from flock_chain.crypto import Account
from flock_chain.errors import FlockError, InvalidEncoding, Refused, Unavailable
from flock_chain.execution import records
from flock_chain.execution.machine import KeyValues
from flock_chain.execution.snapshot import MAX_SNAPSHOT_BYTES, write_snapshot
from flock_peers.home import write_private
from flock_peers.store.blob_store import BlobStore
from flock_peers.store.kept_marks import SNAPSHOTS

log = logging.getLogger(__name__)

SNAPSHOT_PROTOCOL = "/flock/snapshots/1"
# A young chain has a snapshot for each epoch's length, an old one less often: a newcomer executes at most 2/16 of the
# chain after its snapshot, and a checkpoint stays of use for at least a 16th of the chain.
SHARE_OF_CHAIN = 16
KEPT_SNAPSHOTS = 2  # the newest; the second serves who began to fetch it before the first was there
MAX_HEADERS = 1_024  # in one answer: about 600 KB
HEADERS_AT_ONCE = 16  # then consensus, in the same loop, has its turn: each is a block to read, 0.5 ms and more
HEADERS_PAUSE = 0.005  # seconds; who asks on and on gets half of the loop at most, all askers together
MAX_LISTED = 8  # rows of an answer that are read
MAX_LIST_BYTES = 4_096  # of such an answer: eight rows take 700
MAX_REQUEST_BYTES = 256
SHARE_OF_QUOTA = 4  # of the blob store's disk snapshots take a quarter at most: the rest is for adapters
REST_FACTOR = 20  # making snapshots takes at most a twentieth of one core
REST_SECONDS = 1.0
INDEX_BYTES = 4_096


@dataclass(frozen=True)
class Snapshot:
    height: int
    block_id: bytes
    digest: bytes  # content id of the file
    size: int


class Chain(Protocol):
    """What is needed of the ledger."""

    @property
    def reader(self) -> KeyValues: ...
    def height(self) -> int: ...
    async def wait_for_height(self, height: int) -> None: ...


def compute_spacing(height: int, epoch_blocks: int) -> int:
    """Blocks between snapshots around this height: an epoch's, doubled while that stays below the chain's share."""
    spacing = epoch_blocks
    while 2 * spacing * SHARE_OF_CHAIN <= height:
        spacing *= 2
    return spacing


def compute_due(height: int, epoch_blocks: int) -> int:
    """The last height up to this one of which there is to be a snapshot, for every peer the same; 0: none yet.

    By height alone: an epoch that waits for its time ends later than its blocks say, and the state has the sets anyway.
    """
    return height - height % compute_spacing(height, epoch_blocks)


def open_index(folder: Path, blobs: BlobStore) -> "SnapshotIndex":
    return SnapshotIndex(folder / "index.json", blobs)


class SnapshotIndex:
    """Which blobs are snapshots: one small file, replaced whole. A blob is in it before it is in the store."""

    def __init__(self, path: Path, blobs: BlobStore) -> None:
        self._path, self._blobs = path, blobs
        self._rows = self._load()

    def _load(self) -> list[Snapshot]:
        try:
            data = self._path.read_bytes()[:INDEX_BYTES]
            rows = [Snapshot(r["height"], bytes.fromhex(r["block_id"]), bytes.fromhex(r["digest"]), r["size"])
                    for r in loads(data, depth=3)]  # fmt: skip
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError):
            log.warning("%s is damaged: the snapshots are made anew", self._path)
            return []
        return rows

    @property
    def rows(self) -> list[Snapshot]:
        """Oldest first; those that are really there."""
        return [row for row in self._rows if self._blobs.file_path(row.digest) is not None]

    def announce(self, snapshot: Snapshot) -> None:
        """Before its blob is put: a crash in between leaves no blob that nobody drops."""
        self._store([row for row in self._rows if row.digest != snapshot.digest] + [snapshot])

    def prune(self) -> None:
        """Keep the newest, drop the blobs of the others: also those that a damaged index does not name any more."""
        present = sorted(self.rows, key=lambda row: row.height)
        lost = self._blobs.kept_by(SNAPSHOTS) - {row.digest for row in present}
        for digest in [row.digest for row in present[:-KEPT_SNAPSHOTS]] + sorted(lost):
            self._blobs.drop(digest)
        self._store(present[-KEPT_SNAPSHOTS:])

    def _store(self, rows: list[Snapshot]) -> None:
        self._rows = rows
        texts = [{**asdict(row), "block_id": row.block_id.hex(), "digest": row.digest.hex()} for row in rows]
        write_private(self._path, json.dumps(texts).encode())


class Snapshots:
    def __init__(self, chain: Chain, blobs: BlobStore, folder: Path, epoch_blocks: int) -> None:
        self._chain, self._blobs, self._folder, self._epoch_blocks = chain, blobs, folder, epoch_blocks
        self._index = open_index(folder, blobs)
        self._turn = trio.Lock()  # one answer of headers at a time

    @property
    def rows(self) -> list[Snapshot]:
        return self._index.rows

    # ---- making

    async def run(self) -> None:
        """Until cancelled. A failure costs the network one offer of a snapshot, and this peer nothing."""
        for leftover in self._folder.glob("*.part"):
            leftover.unlink()
        await trio.to_thread.run_sync(self._index.prune)
        tried = max((row.height for row in self.rows), default=0)
        while True:
            height = self._chain.height()
            due = compute_due(height, self._epoch_blocks)
            if due <= tried:
                await self._chain.wait_for_height(due + compute_spacing(height, self._epoch_blocks))
                continue
            tried = due
            seconds = await self._try(due)
            await trio.sleep(max(REST_SECONDS, REST_FACTOR * seconds))

    async def _try(self, height: int) -> float:
        began = time.perf_counter()
        try:
            snapshot = await trio.to_thread.run_sync(self.make, height)
            log.info("snapshot of block %d: %d bytes, %s", height, snapshot.size, snapshot.digest.hex())
        except (FlockError, OSError) as error:
            log.warning("no snapshot of block %d: %s", height, error)
        return time.perf_counter() - began

    def make(self, height: int) -> Snapshot:
        """Blocking, for a thread. Raises Refused above the size or the quota, Unavailable where the block is not."""
        part = self._folder / f"{height}.part"
        try:
            block_id = self._chain.reader.get(records.height_key(height))
            if block_id is None:
                raise Unavailable(f"block {height} is not here")
            with part.open("wb") as file:
                chunks = compute_chunk_list(self._write(file, height))
            if chunks.size * KEPT_SNAPSHOTS * SHARE_OF_QUOTA > self._blobs.quota:
                raise Refused(f"it takes {chunks.size} bytes, too many for a quota of {self._blobs.quota}")
            snapshot = Snapshot(height, block_id, chunks.digest, chunks.size)
            self._index.announce(snapshot)
            self._blobs.put_file(part, owner=SNAPSHOTS)
            self._index.prune()
        finally:
            part.unlink(missing_ok=True)
        return snapshot

    def _write(self, file: Any, height: int) -> Iterator[bytes]:
        """The chunks, each written before it is handed on."""
        pending, size = bytearray(), 0
        for piece in write_snapshot(self._chain.reader, height):
            pending += piece
            if len(pending) >= CHUNK_BYTES:
                chunk = bytes(pending[:CHUNK_BYTES])
                del pending[:CHUNK_BYTES]
                size += len(chunk)
                if size > MAX_SNAPSHOT_BYTES:
                    raise Refused(f"the state is larger than {MAX_SNAPSHOT_BYTES} bytes")
                file.write(chunk)
                yield chunk
                os.sched_yield()  # consensus shares this process
        file.write(pending)
        yield bytes(pending)

    # ---- serving

    async def answer(self, _account: Account, payload: bytes) -> bytes:
        """Raises InvalidEncoding for a malformed request."""
        await trio.lowlevel.checkpoint()
        match decode(payload, limit=MAX_REQUEST_BYTES):
            case ["list"]:
                return encode([[row.height, row.block_id, row.digest, row.size] for row in self.rows])
            case ["headers", int(first), int(count)] if 1 <= first < MAX_HEIGHT and count >= 1:
                return encode(await self._headers(first, min(count, MAX_HEADERS)))
        raise InvalidEncoding("snapshot request: neither a list nor headers")

    async def _headers(self, first: int, count: int) -> list[bytes]:
        rows: list[bytes] = []
        async with self._turn:
            for height in range(first, min(first + count - 1, self._chain.height()) + 1):
                try:
                    rows.append(records.read_header(self._chain.reader, height).encoded)
                except Unavailable:
                    return []
                if len(rows) % HEADERS_AT_ONCE == 0:
                    await trio.sleep(HEADERS_PAUSE)
        return rows


def decode_list(data: bytes) -> list[Snapshot]:
    """What a peer offers, nothing proved; raises InvalidEncoding."""
    rows = decode(data, limit=MAX_LIST_BYTES)
    if not isinstance(rows, list) or len(rows) > MAX_LISTED:
        raise InvalidEncoding(f"snapshot answer: not a list of at most {MAX_LISTED}")
    found = []
    for row in rows:
        match row:
            case [int(height), bytes(block_id), bytes(digest), int(size)] if (
                1 <= height < MAX_HEIGHT and len(block_id) == len(digest) == 32 and 0 < size <= MAX_SNAPSHOT_BYTES
            ):
                found.append(Snapshot(height, block_id, digest, size))
            case _:
                raise InvalidEncoding("snapshot answer: not rows of height, block, content id and size")
    return found


def decode_headers(data: bytes, most: int) -> list[bytes]:
    rows = decode(data)
    if not isinstance(rows, list) or len(rows) > most or not all(isinstance(row, bytes) for row in rows):
        raise InvalidEncoding(f"snapshot answer: not a list of at most {most} headers")
    return rows
