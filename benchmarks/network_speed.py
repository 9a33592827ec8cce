"""What the network costs on this machine: a program, not a test. One process per peer, over loopback.

    python benchmarks/network_speed.py [peers]

Prints the round trip of a small message, the time to a full mesh, the CPU of an idle peer, and MB/s of a 20 MB file.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

from flock_chain.crypto import Account, Key
from flock_peers.network.blobs import BlobService
from flock_peers.network.host import Host, open_host
from flock_peers.store.blob_store import BlobStore

GENESIS_HASH = b"benchmark genesis hash, 32 bytes"
FILE_BYTES = 20_000_000
ROUND_TRIPS = 2000
IDLE_SECONDS = 20


def _key(number: int) -> Key:
    return Key((1000 + number).to_bytes(32, "big"))


def _report(**values: object) -> None:
    print(json.dumps(values), flush=True)


async def _peer(number: int, count: int, bootstrap: str, folder: Path) -> None:
    """Waits for the mesh, idles, then serves until its input is closed."""
    started = time.time()
    known = [bootstrap] if bootstrap else []
    async with open_host(_key(number), ("127.0.0.1", 0), GENESIS_HASH, bootstrap=known) as host:
        blobs = BlobService(host, BlobStore(folder / str(number)))

        async def echo(account: Account, payload: bytes) -> None:
            host.send(account, "/pong/1", payload)

        async def take(_account: Account, _payload: bytes) -> None:
            return None

        host.on_message("/ping/1", echo)
        host.subscribe("idle", lambda _account, _payload: True, take)
        _report(address=host.address, open=round(time.time() - started, 2))
        await host.wait_for_peers(count - 1)
        _report(mesh=time.time())
        await trio.sleep(3)
        before = time.process_time()
        await trio.sleep(IDLE_SECONDS)
        _report(idle_cpu_percent=round(100 * (time.process_time() - before) / IDLE_SECONDS, 2))
        if number == 1:
            await _measure(host, blobs, folder)
        await trio.to_thread.run_sync(sys.stdin.read)


async def _measure(host: Host, blobs: BlobService, folder: Path) -> None:
    other = _key(0).account
    arrived = trio.Event()

    async def pong(_account: Account, _payload: bytes) -> None:
        arrived.set()

    host.on_message("/pong/1", pong)
    times = []
    for _ in range(ROUND_TRIPS):
        arrived = trio.Event()
        begun = time.perf_counter()
        host.send(other, "/ping/1", bytes(300))
        await arrived.wait()
        times.append(1000 * (time.perf_counter() - begun))
    times.sort()
    _report(round_trip_ms={"p50": round(times[len(times) // 2], 2), "p99": round(times[int(len(times) * 0.99)], 2)})
    digest = bytes.fromhex((folder / "digest").read_text())
    begun = time.perf_counter()
    await blobs.fetch_file(digest, [other])
    _report(megabytes_per_second=round(FILE_BYTES / 1e6 / (time.perf_counter() - begun), 1))


def _start(number: int, count: int, bootstrap: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "peer", str(number), str(count), bootstrap, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _next(process: subprocess.Popen[str], name: str) -> object:
    assert process.stdout is not None
    for line in process.stdout:
        values = json.loads(line)
        if name in values:
            return values[name]
    raise RuntimeError(f"the peer ended before it reported {name}")


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "source"
        source.write_bytes(os.urandom(FILE_BYTES))
        (folder / "digest").write_text(BlobStore(folder / "0").put_file(source).hex())
        processes = [_start(0, count, "", folder)]
        bootstrap = str(_next(processes[0], "address"))
        begun = time.time()
        processes += [_start(number, count, bootstrap, folder) for number in range(1, count)]
        meshed = [_next(process, "mesh") for process in processes]
        seconds = max(float(str(moment)) for moment in meshed) - begun
        print(f"{count} peers in a full mesh after {seconds:.1f} s, with process start")
        print("CPU of an idle peer, % of a core:", [_next(process, "idle_cpu_percent") for process in processes])
        print("round trip of 300 bytes, ms:", _next(processes[1], "round_trip_ms"))
        print("20 MB file, MB/s:", _next(processes[1], "megabytes_per_second"))
        for process in processes:
            process.communicate("")


if __name__ == "__main__":
    if sys.argv[1:2] == ["peer"]:
        trio.run(_peer, int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], Path(sys.argv[5]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 6)
