"""The processes of benchmarks/blobs.py: who serves a file, who fetches it, and the same work over raw TLS.

Each child reads one JSON order per line from its stdin and answers with one line; it ends with its input.
"""

import json
import os
import resource
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import trio

from flock_chain.content import CHUNK_BYTES, compute_chunk_list
from flock_chain.crypto import Account, Key
from flock_peers.network import connection
from flock_peers.network.blob_wire import BLOBS
from flock_peers.network.blobs import BlobService
from flock_peers.network.host import Host, open_host
from flock_peers.network.limits import TokenBucket
from flock_peers.store.blob_store import BlobStore

GENESIS_HASH = b"benchmark genesis hash, 32 bytes"
VOTE, ECHO, PING = "/vote/1", "/echo/1", "/ipfs/ping/1.0.0"
VOTE_BYTES = 300
BEAT = 0.01  # seconds between two votes, and between two pings
QUOTA = 8 << 30
Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def key(number: int) -> Key:
    return Key((1000 + number).to_bytes(32, "big"))


async def _obey(answer: Answer) -> None:
    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        print(json.dumps(await answer(json.loads(line))), flush=True)


# --- memory and CPU of this process


def _memory(name: str) -> float:
    """MB; VmRSS now or VmHWM, the peak since `_forget_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1e3
    raise RuntimeError(f"no {name}")


def _forget_peak() -> float:
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class LoopLoad(trio.abc.Instrument):
    """CPU that each turn of the loop takes: so long everything else in it waits, whatever the machine's load."""

    def __init__(self) -> None:
        self._began = time.thread_time()
        self.turns: list[float] = []

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - trio's signature
        self._began = time.thread_time()

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        self.turns.append(1000 * (time.thread_time() - self._began))

    def take(self) -> list[float]:
        turns, self.turns = self.turns, []
        return turns


# --- ours


def _limit_links(bytes_per_second: float) -> None:
    """Everything that this process sends, of all its connections together: the uplink of a household."""
    bucket: list[TokenBucket] = []

    async def send(self: Any, data: bytearray | memoryview) -> None:
        if not bucket:
            bucket.append(TokenBucket(bytes_per_second, 64 << 10, trio.current_time))
        for start in range(0, len(data), 16 << 10):
            piece = data[start : start + (16 << 10)]
            await trio.sleep(bucket[0].debit(len(piece)))
            await self._stream.send_all(piece)

    connection.BufferedConnection._send = send  # type: ignore[method-assign]


async def provide(number: int, store: Path, bytes_per_second: float) -> None:
    if bytes_per_second:
        _limit_links(bytes_per_second)
    async with open_host(key(number), ("127.0.0.1", 0), GENESIS_HASH) as host:
        BlobService(host, BlobStore(store, QUOTA))

        async def echo(account: Account, payload: bytes) -> None:
            host.send(account, ECHO, payload)

        host.on_message(VOTE, echo)
        print(json.dumps({"address": host.address}), flush=True)
        rest = cpu = 0.0
        load = LoopLoad()
        trio.lowlevel.add_instrument(load)

        async def answer(order: dict[str, Any]) -> dict[str, Any]:
            nonlocal rest, cpu
            if order["do"] == "begin":
                rest, cpu = rest or _forget_peak(), _cpu()
                load.take()
                return {}
            return {"memory": _memory("VmHWM") - rest, "cpu": _cpu() - cpu, "loop": load.take()}

        await _obey(answer)


class Latency:
    """Round trips of messages and of libp2p's ping, while something else runs."""

    def __init__(self, host: Host, other: Account) -> None:
        self._host, self._other = host, other
        self._sent: dict[int, float] = {}
        self._number = 0
        self.votes: list[float] = []
        self.pings: list[float] = []
        host.on_message(ECHO, self._on_echo)

    async def _on_echo(self, _account: Account, payload: bytes) -> None:
        sent = self._sent.pop(int.from_bytes(payload[:8], "big"), None)
        if sent is not None:  # else of the time before
            self.votes.append(1000 * (time.perf_counter() - sent))

    async def send_votes(self) -> None:
        while True:
            self._number += 1
            self._sent[self._number] = time.perf_counter()
            self._host.send(self._other, VOTE, self._number.to_bytes(8, "big") + bytes(VOTE_BYTES - 8))
            await trio.sleep(BEAT)

    async def ping(self) -> None:
        stream = await self._host.open_stream(self._other, PING)
        try:
            while True:
                begun = time.perf_counter()
                await stream.write(os.urandom(32))
                await stream.read_exactly(32)
                self.pings.append(1000 * (time.perf_counter() - begun))
                await trio.sleep(BEAT)
        finally:
            await stream.reset()

    def take(self) -> dict[str, list[float]]:
        taken = {"votes": self.votes, "pings": self.pings}
        self.votes, self.pings, self._sent = [], [], {}
        return taken


async def fetch(number: int, store: Path) -> None:
    """Orders: {"do": "connect", addresses}, {"do": "fetch", digest, measure}, {"do": "idle", seconds}."""
    async with open_host(key(number), ("127.0.0.1", 0), GENESIS_HASH) as host:
        service = BlobService(host, BlobStore(store, QUOTA))
        latencies: list[Latency] = []
        rest: list[float] = []  # memory before each transfer: the first is the process at rest
        load = LoopLoad()
        trio.lowlevel.add_instrument(load)

        async def while_measured(what: Callable[[], Awaitable[Any]], measured: bool) -> dict[str, Any]:
            async with trio.open_nursery() as nursery:
                if measured:
                    nursery.start_soon(latencies[0].send_votes)
                    nursery.start_soon(latencies[0].ping)
                await what()
                nursery.cancel_scope.cancel()
            return latencies[0].take()

        async def answer(order: dict[str, Any]) -> dict[str, Any]:
            if order["do"] == "connect":
                others = [await host.connect(address) for address in order["addresses"]]
                latencies.append(Latency(host, others[0]))
                for other in others:  # the dial of the second connection is not part of a transfer
                    await (await host.open_stream(other, BLOBS, bulk=True)).close()
                return {}
            if order["do"] == "idle":
                return await while_measured(lambda: trio.sleep(order["seconds"]), True)
            digest = bytes.fromhex(order["digest"])
            service.store.drop(digest)
            rest.append(_forget_peak())
            cpu = _cpu()
            load.take()
            begun = time.perf_counter()
            found = await while_measured(lambda: service.fetch_file(digest, host.connected()), order["measure"])
            seconds = time.perf_counter() - begun
            given = {account.hex(): count for account, count in service.traffic.received.items()}
            service.traffic.received.clear()
            used = {"memory": _memory("VmHWM") - rest[0], "cpu": _cpu() - cpu}
            service.store.drop(digest)
            return {"seconds": seconds, "given": given, "loop": load.take(), **used, **found}

        print(json.dumps({"ready": True}), flush=True)
        await _obey(answer)


# --- the alternative


async def serve_tls(source: Path, certificate: Path) -> None:
    """The file in pieces of a chunk, each read in a thread, to whoever connects."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def serve(stream: trio.abc.Stream) -> None:
        with source.open("rb") as file:
            while data := await trio.to_thread.run_sync(file.read, CHUNK_BYTES):
                await stream.send_all(data)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1", https_compatible=True)
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        listener: Any = listeners[0].transport_listener
        print(json.dumps({"port": listener.socket.getsockname()[1]}), flush=True)
        await _obey(_report_cpu)


async def _report_cpu(_order: dict[str, Any]) -> dict[str, Any]:
    return {"cpu": _cpu()}


async def _receive_chunk(stream: trio.abc.Stream) -> bytes:
    """The next chunk; shorter at the end of the file."""
    pieces, missing = [], CHUNK_BYTES
    while missing and (data := await stream.receive_some(min(missing, 256 << 10))):
        pieces.append(bytes(data))
        missing -= len(data)
    return b"".join(pieces)


async def fetch_tls(port: int, source: Path, target: Path, certificate: Path) -> None:
    """Read, verified, written and synced: a chunk at a time, hashed and written in a thread."""
    with source.open("rb") as file:
        digests = compute_chunk_list(iter(lambda: file.read(CHUNK_BYTES), b"")).digests
    context = ssl.create_default_context(cafile=str(certificate))
    print(json.dumps({"ready": True}), flush=True)

    async def answer(_order: dict[str, Any]) -> dict[str, Any]:
        file = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)

        def put(index: int, data: bytes) -> None:
            if sha256(data).digest() != digests[index]:
                raise RuntimeError("the file is not the one that was sent")
            os.pwrite(file, data, index * CHUNK_BYTES)

        begun, cpu = time.perf_counter(), _cpu()
        tcp = await trio.open_tcp_stream("127.0.0.1", port)
        stream = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
        for index in range(len(digests)):
            await trio.to_thread.run_sync(put, index, await _receive_chunk(stream))
        await trio.to_thread.run_sync(os.fsync, file)
        seconds = time.perf_counter() - begun
        os.close(file)
        await stream.aclose()
        target.unlink()
        return {"seconds": seconds, "cpu": _cpu() - cpu}

    await _obey(answer)


def main(arguments: list[str]) -> None:
    match arguments:
        case ["provide", number, store, rate]:
            trio.run(provide, int(number), Path(store), float(rate))
        case ["fetch", number, store]:
            trio.run(fetch, int(number), Path(store))
        case ["serve-tls", source, certificate]:
            trio.run(serve_tls, Path(source), Path(certificate))
        case ["fetch-tls", port, source, target, certificate]:
            trio.run(fetch_tls, int(port), Path(source), Path(target), Path(certificate))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
