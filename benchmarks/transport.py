"""MB/s and CPU of our transport against raw TCP, raw TLS 1.3 and the stock libp2p stack: two processes, one run.

    python benchmarks/transport.py [--megabytes 256] [--repeats 5] [--streams 1,8] [--json]

Every repeat measures each way in turn, and the ratios are medians of the ratios within a repeat: what else runs on the
machine slows all of them. CPU is of both processes. "Ping": round trips of 300 bytes on one connection while a stream
of it downloads, for the two that have streams.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from transport_kinds import (
    Connect,
    dial_ours,
    dial_raw,
    dial_stock,
    fetch,
    make_certificate,
    serve_ours,
    serve_raw,
    serve_stock,
)

from flock_peers.telemetry import compute_percentile

KINDS = ("raw_tcp", "raw_tls", "stock", "ours")
STOCK_SHARE = 4  # it moves so much less, or its turn would take most of the time
PING_BYTES = 300
CHUNK_PAUSE = 0.01  # between pings


@asynccontextmanager
async def _serve_all(folder: Path) -> AsyncIterator[dict[str, str]]:
    async with AsyncExitStack() as stack:
        yield {
            "raw_tcp": await stack.enter_async_context(serve_raw(None)),
            "raw_tls": await stack.enter_async_context(serve_raw(make_certificate(folder))),
            "stock": await stack.enter_async_context(serve_stock()),
            "ours": await stack.enter_async_context(serve_ours()),
        }


async def _server(folder: Path) -> None:
    """Says where it listens, then its CPU seconds for every line that comes in, until there are no more."""
    async with _serve_all(folder) as addresses:
        print(json.dumps(addresses), flush=True)
        while await trio.to_thread.run_sync(sys.stdin.readline):
            print(time.process_time(), flush=True)


class _Server:
    def __init__(self, folder: Path) -> None:
        command = [sys.executable, __file__, "--serve", str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addresses: dict[str, str] = json.loads(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the server ended")
        return line

    def cpu(self) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._read())

    def stop(self) -> None:
        self._process.communicate("")


async def _measure(connect: Connect, server: _Server, streams: int, count: int) -> dict[str, float]:
    async with connect(streams) as channels:
        for channel in channels:
            await fetch(channel, 1 << 20)  # windows and congestion control have opened
        cpu = time.process_time() + server.cpu()
        begun = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for channel in channels:
                nursery.start_soon(fetch, channel, count // streams)
        seconds = time.perf_counter() - begun
        cpu = time.process_time() + server.cpu() - cpu
    return {"mb_per_second": count / 1e6 / seconds, "cpu_seconds_per_gb": cpu * 1e9 / count}


async def _measure_pings(connect: Connect, count: int) -> list[float]:
    """Milliseconds."""
    times: list[float] = []
    async with connect(2) as (bulk, small), trio.open_nursery() as nursery:

        async def download() -> None:
            await fetch(bulk, count)
            nursery.cancel_scope.cancel()

        nursery.start_soon(download)
        while True:
            begun = time.perf_counter()
            await fetch(small, PING_BYTES)
            times.append(1000 * (time.perf_counter() - begun))
            await trio.sleep(CHUNK_PAUSE)
    return times


async def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    streams_list = [int(text) for text in arguments.streams.split(",")]
    rounds: list[dict[tuple[str, int], dict[str, float]]] = []
    pings: dict[str, list[float]] = {"stock": [], "ours": []}
    with tempfile.TemporaryDirectory() as name:
        server = _Server(Path(name))
        try:
            async with AsyncExitStack() as stack:
                dialed = await _dial_all(stack, server.addresses)
                for _ in range(arguments.repeats):
                    row = {}
                    for streams in streams_list:
                        for kind in KINDS:
                            size = arguments.megabytes * 1_000_000 // (STOCK_SHARE if kind == "stock" else 1)
                            row[kind, streams] = await _measure(dialed[kind], server, streams, size)
                    rounds.append(row)
                    for kind in pings:
                        size = arguments.megabytes * 1_000_000 // (STOCK_SHARE if kind == "stock" else 1)
                        pings[kind] += await _measure_pings(dialed[kind], size)
        finally:
            server.stop()
    return _sum_up(rounds, pings, streams_list)


async def _dial_all(stack: AsyncExitStack, addresses: dict[str, str]) -> dict[str, Connect]:
    return {
        "raw_tcp": await stack.enter_async_context(dial_raw(addresses["raw_tcp"], is_tls=False)),
        "raw_tls": await stack.enter_async_context(dial_raw(addresses["raw_tls"], is_tls=True)),
        "stock": await stack.enter_async_context(dial_stock(addresses["stock"])),
        "ours": await stack.enter_async_context(dial_ours(addresses["ours"])),
    }


def _sum_up(
    rounds: list[dict[tuple[str, int], dict[str, float]]], pings: dict[str, list[float]], streams_list: list[int]
) -> dict[str, Any]:
    result: dict[str, Any] = {"repeats": len(rounds), "load": [round(value, 1) for value in os.getloadavg()]}
    for streams in streams_list:
        table = {
            kind: {
                name: round(statistics.median(row[kind, streams][name] for row in rounds), 2)
                for name in ("mb_per_second", "cpu_seconds_per_gb")
            }
            for kind in KINDS
        }
        for other in KINDS[:-1]:
            table["ours"][f"ratio_to_{other}"] = round(_ratio(rounds, streams, other, "mb_per_second"), 2)
            table["ours"][f"cpu_ratio_to_{other}"] = round(_ratio(rounds, streams, other, "cpu_seconds_per_gb"), 2)
        result[f"streams_{streams}"] = table
    result["ping_under_load_ms"] = {
        kind: {name: round(compute_percentile(times, share) or 0.0, 2) for name, share in (("p50", 0.5), ("p99", 0.99))}
        for kind, times in pings.items()
    }
    return result


def _ratio(rounds: list[dict[tuple[str, int], dict[str, float]]], streams: int, other: str, name: str) -> float:
    return statistics.median(row["ours", streams][name] / row[other, streams][name] for row in rounds)


def _print(result: dict[str, Any]) -> None:
    print(f"load {result['load']}, median of {result['repeats']}")
    for title, table in result.items():
        if not title.startswith("streams_"):
            continue
        print(f"\n{title.removeprefix('streams_')} at once      MB/s   CPU s/GB   ours is   ours' CPU is")
        for kind, row in table.items():
            ratio = table["ours"].get(f"ratio_to_{kind}", 1.0)
            cpu_ratio = table["ours"].get(f"cpu_ratio_to_{kind}", 1.0)
            rate, cpu = row["mb_per_second"], row["cpu_seconds_per_gb"]
            print(f"{kind:12} {rate:10.0f} {cpu:10.2f} {ratio:9.2f} {cpu_ratio:14.2f}")
    print("\nping on the same connection, ms:", result["ping_under_load_ms"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--streams", default="1,8")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        trio.run(_server, Path(arguments.serve))
        return
    result = trio.run(_run, arguments)
    print(json.dumps(result)) if arguments.json else _print(result)


if __name__ == "__main__":
    main()
