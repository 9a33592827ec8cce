"""Finality and CPU per block of real validator processes on loopback, and what an idle network sends.

    python benchmarks/consensus.py [--validators 4,7,13,25] [--rates 1,10,50] [--seconds 15] [--json]
    python benchmarks/consensus.py --idle [--validators 4] [--seconds 600] [--json]

Each validator is the ordinary `join` in a process of its own, without a trainer. Transfers are submitted over the
control sockets, to every validator in turn. Finality is measured by the peers: from accepting a transaction, from its
sender or by gossip, to its block being stored there. CPU is of all validator processes together. Linux only.
"""

import argparse
import json
import mmap
import os
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import crash_network
from crash_network import MAX_PEERS, CrashNetwork, CrashPeer, Heard
from percentiles import sum_up

from flock_chain.consensus.types import Proposal
from flock_chain.consensus.wire import decode_message
from flock_chain.crypto import keccak256
from flock_chain.errors import Unavailable
from flock_chain.execution import records
from flock_chain.execution.transactions import SYSTEM_TYPE, sign_call
from flock_peers.network.connection import BufferedConnection
from flock_peers.store.chain_store import ChainStore

CLIENTS = 16
WARM_SECONDS = 4.0  # at most
DRAIN_SECONDS = 30.0  # for what was submitted last to become final
MESH_SECONDS = 120.0  # 300 connections of 25 peers take half a minute on two cores
BURST_GAP_SECONDS = 5.0  # consensus messages further apart than this do not belong to one block
IDLE_WARM_SECONDS = 20.0
TICKS = os.sysconf("SC_CLK_TCK")
_SENT = mmap.mmap(-1, 8 * MAX_PEERS)  # bytes each peer's connections took, shared with the forked processes
_real_send = BufferedConnection._send


async def _counted_send(connection: BufferedConnection, data: bytearray | memoryview) -> None:
    at = 8 * crash_network._number
    struct.pack_into("Q", _SENT, at, struct.unpack_from("Q", _SENT, at)[0] + len(data))
    await _real_send(connection, data)


setattr(BufferedConnection, "_send", _counted_send)  # noqa: B010 - mypy binds it anew; before the first fork


def sent_bytes(count: int) -> int:
    return sum(struct.unpack_from(f"{count}Q", _SENT, 0))


def cpu_seconds(peers: list[CrashPeer]) -> float:
    total = 0
    for peer in peers:
        fields = Path(f"/proc/{peer.pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


class Bench:
    """A running network, and clients with their nonces."""

    def __init__(self, folder: Path, validators: int, interval_ms: int, *, taped: bool) -> None:
        self.network = CrashNetwork(
            folder, 1, validators, CLIENTS, taped=taped, block_interval=interval_ms, heartbeat=60
        )
        self.peers = self.network.peers
        self._nonces = [0] * CLIENTS
        self._next = 0

    def start(self) -> float:
        """Seconds until everybody is connected to everybody."""
        started = time.monotonic()
        for peer in self.peers:
            self.network.start(peer)
        for peer in self.peers:
            self.network.wait_answer(peer)
        while time.monotonic() - started < MESH_SECONDS:
            if all(len(self.network.ask(peer, "status")["peers"]) == len(self.peers) - 1 for peer in self.peers):
                return time.monotonic() - started
            time.sleep(0.5)
        raise Unavailable(f"no full mesh of {len(self.peers)} within {MESH_SECONDS:.0f} s")

    def submit(self) -> None:
        client = self._next % CLIENTS
        peer = self.peers[self._next % len(self.peers)]
        key = self.network.clients[client]
        raw = sign_call(
            key, chain_id=self.network.genesis.chain_id, nonce=self._nonces[client], to=key.account, value=1,
            gas=21_000, fee=2,
        )  # fmt: skip
        self.network.ask(peer, "submit", transaction=raw.hex())
        self._nonces[client] += 1
        self._next += 1

    def submit_for(self, rate: float, seconds: float) -> int:
        """At fixed times, so that a slow answer delays no later transaction; how many were sent."""
        started, sent = time.monotonic(), 0
        while sent < int(rate * seconds):
            wait = started + sent / rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            self.submit()
            sent += 1
        return sent

    def samples(self) -> dict[int, list[float]]:
        return {peer.number: self.network.ask(peer, "status")["finality_samples"] for peer in self.peers}

    def heights(self) -> list[int]:
        return [self.network.ask(peer, "status")["height"] for peer in self.peers]

    def wait_final(self) -> float:
        """Until every client's last transaction is final at every peer; seconds waited."""
        started = time.monotonic()
        raws = [
            sign_call(
                key, chain_id=self.network.genesis.chain_id, nonce=nonce - 1, to=key.account, value=1, gas=21_000, fee=2
            )
            for key, nonce in zip(self.network.clients, self._nonces, strict=True)
            if nonce
        ]
        hashes = [keccak256(raw).hex() for raw in raws]
        while time.monotonic() - started < DRAIN_SECONDS:
            answers = [self.network.ask(self.peers[0], "receipt", hash=digest)["height"] for digest in hashes]
            if None not in answers and min(self.heights()) >= max(answers):
                return time.monotonic() - started
            time.sleep(0.2)
        raise Unavailable(f"not everything was final {DRAIN_SECONDS:.0f} s after the last transaction")


def new_samples(before: list[float], after: list[float]) -> list[float]:
    """The peers keep the last 1,000: what came after the last one known."""
    return after[after.index(before[-1]) + 1 :] if before and before[-1] in after else after


def measure_rate(bench: Bench, rate: float, seconds: float) -> dict[str, Any]:
    bench.submit_for(rate, min(WARM_SECONDS, seconds))
    bench.wait_final()
    before, first = bench.samples(), max(bench.heights())
    cpu, sent, started = cpu_seconds(bench.peers), sent_bytes(len(bench.peers)), time.monotonic()
    submitted = bench.submit_for(rate, seconds)
    submitting = time.monotonic() - started
    bench.wait_final()
    took, last = time.monotonic() - started, max(bench.heights())
    cpu, sent = cpu_seconds(bench.peers) - cpu, sent_bytes(len(bench.peers)) - sent
    after = bench.samples()
    samples = [value for number, rows in after.items() for value in new_samples(before[number], rows)]
    blocks = last - first
    return {
        "rate": rate,
        "submitted": submitted,
        "submitted_per_s": round(submitted / submitting, 1),
        "blocks": blocks,
        "first_height": first + 1,
        "last_height": last,
        "finality_s": sum_up(samples, 3),
        "samples": len(samples),
        "cpu_ms_per_block": round(1_000 * cpu / blocks, 1),
        "cpu_ms_per_block_and_peer": round(1_000 * cpu / blocks / len(bench.peers), 2),
        "cores_used": round(cpu / took, 2),
        "kib_per_block": round(sent / blocks / 1024, 1),
    }


def count_final(home: Path, rows: list[dict[str, Any]]) -> None:
    """From the stored chain: the clients' transactions in the blocks of each measurement."""
    with ChainStore(home / "chain", read_only=True) as store:
        for row in rows:
            blocks = [records.read_block(store, h) for h in range(row["first_height"], row["last_height"] + 1)]
            row["final"] = sum(raw[0] != SYSTEM_TYPE for block in blocks for raw in block.transactions)


def measure_size(validators: int, rates: list[float], seconds: float, interval_ms: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="flock-consensus-") as folder:
        bench = Bench(Path(folder), validators, interval_ms, taped=False)
        try:
            mesh = bench.start()
            say(f"{validators} validators: full mesh after {mesh:.1f} s")
            rows = []
            for rate in rates:
                rows.append(measure_rate(bench, rate, seconds))
                say(f"{validators} validators: {rows[-1]}")
        finally:
            bench.network.stop_all()
        count_final(bench.peers[0].home, rows)
        return {"validators": validators, "mesh_s": round(mesh, 1), "load": os.getloadavg()[0], "rates": rows}


def compare(sizes: list[dict[str, Any]]) -> None:
    """How cost and latency grow with n: the ratio to the smallest network, at the same rate in the same run."""
    base = {row["rate"]: row for row in sizes[0]["rates"]}
    name = f"ratio_to_{sizes[0]['validators']}_validators"
    for size in sizes:
        for row in size["rates"]:
            first = base[row["rate"]]
            row[name] = {
                "cpu_ms_per_block": round(row["cpu_ms_per_block"] / first["cpu_ms_per_block"], 2),
                "kib_per_block": round(row["kib_per_block"] / first["kib_per_block"], 2),
                "p95": round(row["finality_s"]["p95"] / first["finality_s"]["p95"], 2),
            }


# ---- idle


def measure_idle(validators: int, seconds: float, interval_ms: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="flock-consensus-") as folder:
        bench = Bench(Path(folder), validators, interval_ms, taped=True)
        try:
            bench.start()
            time.sleep(IDLE_WARM_SECONDS)
            for peer in bench.peers:
                list(peer.hear())
            height, cpu, sent = max(bench.heights()), cpu_seconds(bench.peers), sent_bytes(validators)
            started = time.monotonic()
            while (left := started + seconds - time.monotonic()) > 0:
                time.sleep(min(30.0, left))
                say(f"idle for {time.monotonic() - started:.0f} s")
            took = time.monotonic() - started
            cpu, sent = cpu_seconds(bench.peers) - cpu, sent_bytes(validators) - sent
            heard = [row for peer in bench.peers for row in peer.hear()]
            blocks = max(bench.heights()) - height
        finally:
            bench.network.stop_all()
    return {
        "validators": validators,
        "seconds": round(took, 1),
        "heartbeat_blocks": blocks,
        **judge_idle(heard),
        "bytes_sent": sent,
        "bytes_per_s_and_peer": round(sent / took / validators, 1),
        "cpu_s": round(cpu, 2),
        "cpu_percent_of_a_core_per_peer": round(100 * cpu / took / validators, 2),
    }


def judge_idle(heard: list[Heard]) -> dict[str, Any]:
    """Messages in bursts; one in which no block is proposed belongs to no heartbeat."""
    kinds: Counter[str] = Counter()
    bursts: list[list[Any]] = []
    last = -BURST_GAP_SECONDS
    for row in sorted(heard, key=lambda row: row.at):
        message, _ = decode_message(row.payload, row.sender)
        kinds[type(message).__name__.lower()] += 1
        if row.at - last > BURST_GAP_SECONDS:
            bursts.append([])
        bursts[-1].append(message)
        last = row.at
    stray = [burst for burst in bursts if not any(isinstance(message, Proposal) for message in burst)]
    return {
        "consensus_messages": sum(kinds.values()),
        "by_kind": dict(sorted(kinds.items())),
        "bursts": len(bursts),
        "messages_outside_heartbeats": sum(map(len, stray)),
    }


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def print_table(result: dict[str, Any]) -> None:
    if result["mode"] == "idle":
        for name, value in result.items():
            print(f"{name.replace('_', ' '):<34}{value}")
        return
    print(f"{'n':>3} {'tx/s':>5} {'blocks':>6} {'final':>6} {'p50 s':>6} {'p95 s':>6} {'CPU ms/block':>12} "
          f"{'per peer':>8} {'cores':>5} {'KiB/block':>9}")  # fmt: skip
    for size in result["sizes"]:
        for row in size["rates"]:
            finality = row["finality_s"]
            print(
                f"{size['validators']:>3} {row['rate']:>5g} {row['blocks']:>6} {row['final']:>6} {finality['p50']:>6} "
                f"{finality['p95']:>6} {row['cpu_ms_per_block']:>12} {row['cpu_ms_per_block_and_peer']:>8} "
                f"{row['cores_used']:>5} {row['kib_per_block']:>9}"
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--validators", default="", help="numbers of processes (default: 4,7,13,25; idle: 4)")
    parser.add_argument("--rates", default="1,10,50", help="transactions per second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="of each measurement (default: 15; idle: 600)")
    parser.add_argument("--interval-ms", type=int, default=1_000, help="of blocks (default: the parameters' 1000)")
    parser.add_argument("--idle", action="store_true", help="send nothing, and count what the network sends")
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    options = parser.parse_args()
    counts = [int(text) for text in (options.validators or ("4" if options.idle else "4,7,13,25")).split(",")]
    result: dict[str, Any] = {"mode": "idle" if options.idle else "load", "interval_ms": options.interval_ms}
    result |= {"cpus": os.cpu_count(), "load_before": round(os.getloadavg()[0], 2)}
    if options.idle:
        result |= measure_idle(counts[0], options.seconds or 600.0, options.interval_ms)
    else:
        rates = [float(text) for text in options.rates.split(",")]
        sizes = [measure_size(count, rates, options.seconds or 15.0, options.interval_ms) for count in counts]
        compare(sizes)
        result["sizes"] = sizes
    print(json.dumps(result)) if options.json else print_table(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
