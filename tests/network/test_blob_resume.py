"""A fetching process that is killed in the middle: no chunk that it had verified is sent again."""

import os
import signal
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path

import trio
from network_support import GENESIS_HASH, LOOPBACK, PATIENCE, QUICK, in_trio, key, open_hosts

from flock_chain.content import CHUNK_BYTES, ChunkList
from flock_peers.network.blobs import BlobService
from flock_peers.network.host import open_host
from flock_peers.store.blob_store import BlobStore

CHUNKS = 48


async def _fetch(address: str, folder: Path, digest: bytes) -> None:
    async with open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK) as host:
        await host.connect(address)
        print(await BlobService(host, BlobStore(folder)).fetch_file(digest), flush=True)


def _start(address: str, folder: Path, digest: bytes) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, address, str(folder), digest.hex()]
    paths = os.pathsep.join(sys.path)  # the suite's own, with tests/support
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths})


def _verified(part: Path, chunks: ChunkList) -> int:
    data = part.read_bytes()
    pieces = (data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES))
    return sum(sha256(piece).digest() == digest for piece, digest in zip(pieces, chunks.digests, strict=False))


@in_trio()
async def test_after_kill_minus_9_only_what_was_missing_is_sent(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(CHUNKS * CHUNK_BYTES))
    async with open_hosts(1) as (host,):
        store = BlobStore(tmp_path / "given")
        service = BlobService(host, store)
        digest = await service.add_file(source)
        chunks = store.chunk_list(digest)
        assert chunks is not None
        real, killed = store.read_chunk, threading.Event()

        def read(digest: bytes, index: int) -> bytes | None:
            if index >= CHUNKS // 2:
                killed.wait(60)
            return real(digest, index)

        store.read_chunk = read  # type: ignore[method-assign]
        child = _start(host.address, tmp_path / "fetched", digest)
        part = tmp_path / "fetched" / "parts" / digest.hex()
        try:
            while not part.exists() or await trio.to_thread.run_sync(_verified, part, chunks) < CHUNKS // 4:
                await trio.sleep(0.05)
            child.send_signal(signal.SIGKILL)
        finally:
            child.kill()
            child.wait()
            killed.set()
        with trio.fail_after(PATIENCE):
            while host.connected():  # what was under way to the dead one is counted now
                await trio.sleep(0.05)
        had, before = _verified(part, chunks), service.bytes_sent
        assert CHUNKS // 4 <= had <= CHUNKS // 2
        again = _start(host.address, tmp_path / "fetched", digest)
        path = Path((await trio.to_thread.run_sync(again.communicate))[0].strip())
        assert again.returncode == 0 and path.read_bytes() == source.read_bytes()
        listing = len(chunks.encode())
        assert service.bytes_sent - before == (CHUNKS - had) * CHUNK_BYTES + listing


if __name__ == "__main__":
    trio.run(_fetch, sys.argv[1], Path(sys.argv[2]), bytes.fromhex(sys.argv[3]))
