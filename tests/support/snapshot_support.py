"""A chain with real blocks and certificates, peers that serve snapshots of it well or badly, and one that joins."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import trio
from execution_support import CHAIN_ID, USERS, VALIDATORS, Chain

from flock_chain.codec import decode, encode
from flock_chain.consensus.certificates import make_certificate
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.types import Kind
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import encode_certificate
from flock_chain.crypto import Account
from flock_chain.errors import Unavailable
from flock_chain.execution import records
from flock_chain.execution.machine import KeyValues
from flock_chain.execution.records import Pin
from flock_peers.checkpoint import CheckpointStart
from flock_peers.snapshots import Snapshots, open_index
from flock_peers.store.blob_store import BlobStore

BLOCKS = 14
EPOCH = 4  # in place of 64, so that snapshots are of 8 and 12


class CertifiedChain(Chain):
    """Every block with a transaction, and final by a certificate of the genesis validators."""

    def __init__(self, blocks: int = BLOCKS, *, word: bytes = b"") -> None:
        super().__init__()
        self.domain = ChainDomain(CHAIN_ID, self.genesis.hash)
        rows = self.genesis.validators
        self.validators = ValidatorSet(tuple((row.account, row.stake) for row in rows))
        self.keys = sorted(VALIDATORS, key=lambda key: key.account)
        for _ in range(blocks):
            self.grow(word)

    def grow(self, word: bytes = b"") -> None:
        target = (word + bytes([self.executor.head.height + 1]) * 20)[:20]
        self.add(self.call(USERS[0], target, value=1))
        head = self.executor.head
        self.store.rows[records.certificate_key(head.height)] = self.certify(head.height, head.id)

    def certify(self, height: int, block_id: bytes, keys: Sequence[Any] = ()) -> bytes:
        digest = self.domain.digest(Kind.FINALIZE, height, 1, block_id, 0)
        signatures = {key.account: key.sign(digest) for key in keys or self.keys[:3]}
        return encode_certificate(make_certificate(Kind.FINALIZE, height, 1, block_id, signatures, self.validators))

    def pin(self, height: int) -> Pin:
        return Pin(height, records.read_block(self.store, height).id)

    def row(self, height: int) -> tuple[bytes, bytes]:
        certificate = self.store.rows[records.certificate_key(height)]
        return records.read_block(self.store, height).encoded, certificate


class Server:
    """A peer that has the whole chain and makes snapshots of it; tests replace its answers."""

    def __init__(self, chain: CertifiedChain, folder: Path, *heights: int) -> None:
        self.chain = chain
        self.blobs = BlobStore(folder / "blobs")
        (folder / "snapshots").mkdir()
        self.snapshots = Snapshots(self, self.blobs, folder / "snapshots", EPOCH)
        for height in heights:
            self.snapshots.make(height)
        self.asked: list[Any] = []

    # what Snapshots needs of a ledger
    @property
    def reader(self) -> KeyValues:
        return self.chain.store

    def height(self) -> int:
        return self.chain.executor.head.height

    async def wait_for_height(self, height: int) -> None:
        while self.height() < height:
            await trio.sleep(0.1)

    # what it answers
    async def answer(self, payload: bytes) -> bytes:
        self.asked.append(decode(payload))
        return await self.snapshots.answer(Account(bytes(20)), payload)

    async def answer_range(self, payload: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        _, first, _, _ = decode(payload)
        return encode([self.chain.row(first)] if first <= self.height() else [])

    def file(self, digest: bytes) -> Path | None:
        return self.blobs.file_path(digest)


class FakePort:
    """SnapshotPort, and with `.sync` a SyncPort, whose other ends are servers. Blobs go by content id."""

    def __init__(self, servers: dict[Account, Server], blobs: BlobStore) -> None:
        self.servers, self.blobs = servers, blobs
        self.sync = _SyncSide(self)

    def peers(self) -> Collection[Account]:
        return list(self.servers)

    async def request(self, account: Account, payload: bytes, timeout: float, most: int) -> bytes:
        with trio.move_on_after(timeout):
            answer = await self.servers[account].answer(payload)
            assert len(answer) <= most
            return answer
        raise Unavailable("request: no answer in time")

    async def fetch_file(self, digest: bytes, providers: Sequence[Account] | None, _max_bytes: int) -> Path:
        await trio.lowlevel.checkpoint()
        for account in providers or ():
            path = self.servers[account].file(digest)
            if path is not None:
                assert self.blobs.put_file(path) == digest
                found = self.blobs.file_path(digest)
                assert found is not None
                return found
        raise Unavailable("file: nobody has it")


class _SyncSide:
    def __init__(self, port: FakePort) -> None:
        self._port = port

    def peers(self) -> Collection[Account]:
        return self._port.peers()

    async def request(self, account: Account, payload: bytes, timeout: float, _most: int) -> bytes:
        with trio.move_on_after(timeout):
            return await self._port.servers[account].answer_range(payload)
        raise Unavailable("request: no answer in time")


def account(number: int) -> Account:
    return Account(bytes([number]) * 20)


class Joiner:
    """A home without a chain, before its first start."""

    def __init__(self, folder: Path, *servers: Server) -> None:
        self.home = folder
        self.servers = list(servers)
        self.blobs = BlobStore(folder / "blobs")
        (folder / "snapshots").mkdir(exist_ok=True)
        self.port = FakePort({account(number + 1): server for number, server in enumerate(servers)}, self.blobs)

    async def start(self, checkpoint: Pin) -> int:
        """The height that the home's chain begins with."""
        index = open_index(self.home / "snapshots", self.blobs)
        genesis = self.servers[0].chain.genesis
        start = CheckpointStart(checkpoint, genesis, self.home, self.port, self.port.sync, self.blobs, index)
        return (await start.run()).height
