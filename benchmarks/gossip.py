"""Latency, losses and CPU of gossip among processes, against stock GossipSub in the same run.

    python benchmarks/gossip.py [--hosts 8,16,32] [--sizes 1024,65536] [--seconds 10] [--rate N] [--no-stock] [--json]

Up to eight processes; eight hosts are one each, 16 and 32 share them. Every host publishes in turn, all together `rate`
messages a second; each message should reach every other host, and its latency is from publishing to its handler there.
CPU is of all processes, while messages are under way, divided by deliveries. Unless --rate says so, larger networks and
messages get fewer messages a second: every host is sent each message by most of its neighbours.
"""

import argparse
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import trio

from flock_chain.crypto import Key
from flock_chain.errors import Unavailable
from flock_peers.telemetry import compute_percentile

GENESIS_HASH = b"benchmark genesis hash, 32 bytes"
TOPIC = "benchmark"
STAMP = struct.Struct(">dII")  # when, which host, which message
PROCESSES = 8
SETTLE_SECONDS = 5.0  # after the last message, at most
READY_SECONDS = 180.0
RATES = {(8, 1024): 80, (8, 65536): 20, (16, 1024): 40, (16, 65536): 10, (32, 1024): 20, (32, 65536): 5}


@dataclass(frozen=True)
class Scenario:
    kind: str
    hosts: int
    size: int
    rate: float
    seconds: float

    @property
    def processes(self) -> int:
        return min(self.hosts, PROCESSES)

    def hosts_of(self, process: int) -> range:
        return range(process, self.hosts, self.processes)


@dataclass
class Member:
    """One host: where it listens, how it publishes, and what it heard as (seconds, host, message)."""

    number: int
    address: str
    connect: Callable[[list[str]], Awaitable[None]]
    publish: Callable[[bytes], Awaitable[None]]
    heard: list[tuple[float, int, int]]

    def on_message(self, payload: bytes) -> None:
        when, host, message = STAMP.unpack_from(payload)
        if host != self.number:
            self.heard.append((time.perf_counter() - when, host, message))


@asynccontextmanager
async def _open_ours(number: int, count: int) -> AsyncIterator[Member]:
    from flock_peers.network.host import open_host  # not at the top: it replaces parts of libp2p's pubsub for good

    async with open_host(Key((2000 + number).to_bytes(32, "big")), ("127.0.0.1", 0), GENESIS_HASH) as host:

        async def take(_account: bytes, payload: bytes) -> None:
            member.on_message(payload)

        async def publish(payload: bytes) -> None:
            host.publish(TOPIC, payload)

        async def connect(addresses: list[str]) -> None:
            while number and not host.connected():
                try:
                    await host.connect(addresses[0])  # the others follow by peer exchange
                except Unavailable:  # it takes sixteen handshakes of one address at once
                    await trio.sleep(0.5)
            while len(host.topic_peers(TOPIC)) < count - 1:
                await trio.sleep(0.1)

        member = Member(number, host.address, connect, publish, [])
        host.subscribe(TOPIC, lambda _account, _payload: True, take)
        yield member


@asynccontextmanager
async def _open_stock(number: int, count: int) -> AsyncIterator[Member]:
    from libp2p import create_yamux_muxer_option, new_host
    from libp2p.crypto.secp256k1 import create_new_key_pair
    from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
    from libp2p.peer.peerinfo import info_from_p2p_addr
    from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
    from libp2p.pubsub.pubsub import Pubsub
    from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
    from libp2p.security.noise.transport import Transport as StockNoise
    from libp2p.tools.anyio_service import background_trio_service
    from multiaddr import Multiaddr

    pair = create_new_key_pair((3000 + number).to_bytes(32, "big"))
    noise = StockNoise(pair, noise_privkey=create_x25519_key_pair().private_key)
    host = new_host(key_pair=pair, sec_opt={NOISE: noise}, muxer_opt=create_yamux_muxer_option())
    router = GossipSub([PROTOCOL_ID_V11], 6, 4, 12, heartbeat_interval=1)
    pubsub = Pubsub(host, router, strict_signing=True)

    async def connect(addresses: list[str]) -> None:
        for address in addresses[:number]:
            await host.connect(info_from_p2p_addr(Multiaddr(address)))
        while len(pubsub.peer_topics.get(TOPIC, ())) < count - 1:
            await trio.sleep(0.1)

    async def publish(payload: bytes) -> None:
        await pubsub.publish(TOPIC, payload)

    async def listen(subscription: Any) -> None:
        while True:
            member.on_message((await subscription.get()).data)

    async with (
        host.run(listen_addrs=[Multiaddr("/ip4/127.0.0.1/tcp/0")]),
        background_trio_service(pubsub),
        background_trio_service(router),
        trio.open_nursery() as nursery,
    ):
        await pubsub.wait_until_ready()
        member = Member(number, str(host.get_addrs()[0]), connect, publish, [])
        nursery.start_soon(listen, await pubsub.subscribe(TOPIC))
        yield member
        nursery.cancel_scope.cancel()


# --- one process


async def _node(scenario: Scenario, process: int) -> None:
    opener = _open_ours if scenario.kind == "ours" else _open_stock
    async with AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(opener(number, scenario.hosts)) for number in scenario.hosts_of(process)
        ]
        _say([member.address for member in members])
        addresses = json.loads(await _hear())
        with trio.fail_after(READY_SECONDS):
            async with trio.open_nursery() as nursery:
                for member in members:
                    nursery.start_soon(member.connect, addresses)
        _say("ready")
        started = float(json.loads(await _hear()))
        await trio.sleep(max(0.0, started - time.perf_counter()))
        cpu = time.process_time()
        async with trio.open_nursery() as nursery:
            for member in members:
                nursery.start_soon(_publish, member, scenario, started)
        await trio.sleep(min(SETTLE_SECONDS, scenario.seconds))
        cpu = time.process_time() - cpu
        heard = [latency for member in members for latency, _, _ in member.heard]
        unique = sum(len({row[1:] for row in member.heard}) for member in members)
        _say({"heard": heard, "unique": unique, "cpu": cpu})
        await _hear()


async def _publish(member: Member, scenario: Scenario, started: float) -> None:
    """Host i sends message k at (k * hosts + i) / rate seconds."""
    for message in range(_messages_of(scenario, member.number)):
        due = started + (message * scenario.hosts + member.number) / scenario.rate
        await trio.sleep(max(0.0, due - time.perf_counter()))
        stamp = STAMP.pack(time.perf_counter(), member.number, message)
        await member.publish(stamp + os.urandom(scenario.size - STAMP.size))


def _messages_of(scenario: Scenario, number: int) -> int:
    return (int(scenario.rate * scenario.seconds) + scenario.hosts - 1 - number) // scenario.hosts


def _say(value: object) -> None:
    print(json.dumps(value), flush=True)


async def _hear() -> str:
    return await trio.to_thread.run_sync(sys.stdin.readline)


# --- all of them


def _run(scenario: Scenario) -> dict[str, Any]:
    processes = [_start(scenario, number) for number in range(scenario.processes)]
    try:
        addresses = [""] * scenario.hosts
        for number, process in enumerate(processes):
            for host, address in zip(scenario.hosts_of(number), _read(process), strict=True):
                addresses[host] = address
        _tell(processes, addresses)
        for process in processes:
            _read(process)
        _tell(processes, time.perf_counter() + 3)  # grafted, and quiet
        reports = [_read(process) for process in processes]
        _tell(processes, "done")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return _sum_up(scenario, reports)


def _start(scenario: Scenario, number: int) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--node", json.dumps(asdict(scenario)), str(number)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, text=True, **pipes)


def _read(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a process ended before its time")
    return json.loads(line)


def _tell(processes: list[subprocess.Popen[str]], value: object) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(json.dumps(value) + "\n")
        process.stdin.flush()


def _sum_up(scenario: Scenario, reports: list[dict[str, Any]]) -> dict[str, Any]:
    sent = sum(_messages_of(scenario, number) for number in range(scenario.hosts))
    expected = sent * (scenario.hosts - 1)
    latencies = sorted(1000 * value for report in reports for value in report["heard"])
    unique = sum(report["unique"] for report in reports)
    cpu = sum(report["cpu"] for report in reports)
    return {
        **asdict(scenario), "processes": scenario.processes, "sent": sent, "expected": expected, "delivered": unique,
        "lost_percent": round(100 * (1 - unique / expected), 3), "twice": len(latencies) - unique,
        "p50_ms": round(compute_percentile(latencies, 0.5) or 0.0, 1),
        "p99_ms": round(compute_percentile(latencies, 0.99) or 0.0, 1),
        "cpu_ms_per_delivery": round(1000 * cpu / max(1, unique), 3),
        "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def _ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Ours to stock, where both ran the same."""
    found = {}
    stock = {(row["hosts"], row["size"], row["rate"]): row for row in rows if row["kind"] == "stock"}
    for row in rows:
        other = stock.get((row["hosts"], row["size"], row["rate"]))
        if row["kind"] == "ours" and other and other["delivered"]:
            name = f"{row['hosts']}_hosts_{row['size']}_bytes"
            for key in ("p50_ms", "p99_ms", "cpu_ms_per_delivery", "delivered"):
                found[f"{name}_{key}_ratio_to_stock"] = round(row[key] / max(other[key], 1e-9), 3)
    return found


def _print(rows: list[dict[str, Any]], ratios: dict[str, float]) -> None:
    names = [
        "kind", "hosts", "processes", "size", "rate", "sent", "lost_percent", "p50_ms", "p99_ms", "cpu_ms_per_delivery",
        "load",
    ]  # fmt: skip
    print(" | ".join(names))
    for row in rows:
        print(" | ".join(str(row[name]) for name in names))
    for name, value in ratios.items():
        print(f"{name}: {value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", default="8,16,32")
    parser.add_argument("--sizes", default="1024,65536")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, help="messages a second, all hosts together")
    parser.add_argument("--no-stock", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--node", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.node:
        trio.run(_node, Scenario(**json.loads(arguments.node[0])), int(arguments.node[1]))
        return
    rows = []
    for hosts in map(int, arguments.hosts.split(",")):
        for size in map(int, arguments.sizes.split(",")):
            rate = arguments.rate or RATES.get((hosts, size), 20)
            for kind in ("ours",) if arguments.no_stock or hosts > PROCESSES or size > 1024 else ("ours", "stock"):
                rows.append(_run(Scenario(kind, hosts, size, rate, arguments.seconds)))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)  # a long run that is ended has said something
    ratios = _ratios(rows)
    print(json.dumps({"rows": rows, **ratios})) if arguments.json else _print(rows, ratios)


if __name__ == "__main__":
    main()
