"""What the transfer of a file costs, against the same work over raw TLS, in the same run. Linux only.

    python benchmarks/blobs.py [--sizes 256,1000] [--linked 40] [--repeats 5] [--json]

Each peer is a process: a file is read, sent, verified, written and synced, from one provider; the alternative does the
same over a TLS socket, in turn with ours. Then from one and from three providers whose uplinks are limited. Memory is
the peak above what the process had before the transfer. Votes are messages of 300 bytes, there and back, one each
10 ms; pings are libp2p's.
"""

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from statistics import median
from typing import Any

from choices import numbers
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from flock_peers.store.blob_store import BlobStore
from flock_peers.telemetry import compute_percentile

MB = 1_000_000
QUOTA = 8 << 30
LINK_MB = 4  # per second: an uplink of 34 Mbit/s; three of them are little work for one machine
IDLE_SECONDS = 3
PEERS = Path(__file__).with_name("blob_peers.py")


class Child:
    """A process that obeys one order at a time."""

    def __init__(self, stack: ExitStack, *arguments: object) -> None:
        command = [sys.executable, str(PEERS), *map(str, arguments)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(self._end)
        self.first = self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process ended: {self._process.args!r}")
        return dict(json.loads(line))

    def begin(self, do: str, **more: object) -> None:
        """An order whose answer `end` reads."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        return self._read()

    def order(self, do: str, **more: object) -> dict[str, Any]:
        self.begin(do, **more)
        return self.end()

    def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def make_certificate(path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1)).add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + certificate.public_bytes(pem))


def make_file(folder: Path, size: int) -> tuple[Path, bytes]:
    """A store of random bytes; its folder and the file's digest."""
    source = folder / "source"
    with source.open("wb") as file:
        for start in range(0, size, MB):
            file.write(os.urandom(min(MB, size - start)))
    digest = BlobStore(folder / "given", QUOTA).put_file(source)
    source.unlink()
    return folder / "given", digest


def measure_one(folder: Path, size: int, repeats: int) -> dict[str, Any]:
    """One provider against raw TLS, by turns; the first turn of each is not counted."""
    with ExitStack() as stack:
        store, digest = make_file(folder, size)
        file, certificate = store / "files" / digest.hex(), folder / "certificate"
        make_certificate(certificate)
        tls_server = Child(stack, "serve-tls", file, certificate)
        tls = Child(stack, "fetch-tls", tls_server.first["port"], file, folder / "tls", certificate)
        provider = Child(stack, "provide", 0, store, 0)
        fetcher = Child(stack, "fetch", 1, folder / "fetched")
        fetcher.order("connect", addresses=[provider.first["address"]])
        idle = fetcher.order("idle", seconds=IDLE_SECONDS)
        rows: list[dict[str, float]] = []
        loud: dict[str, list[float]] = {"votes": [], "pings": []}
        beside: dict[str, list[float]] = {"votes": [], "pings": []}
        loops: dict[str, list[float]] = {"client": [], "server": []}
        for turn in range(repeats + 1):
            before = tls_server.order("cpu")["cpu"]
            other = tls.order("fetch")
            other["server_cpu"] = tls_server.order("cpu")["cpu"] - before
            provider.order("begin")
            ours = fetcher.order("fetch", digest=digest.hex(), measure=False)
            served = provider.order("end")
            provider.order("begin")
            told = fetcher.order("fetch", digest=digest.hex(), measure=True)
            tls.begin("fetch")  # the same work beside the two, in other processes: what the machine's load alone does
            other_told = fetcher.order("idle", seconds=other["seconds"])
            tls.end()
            if turn:
                loops["client"] += ours["loop"]
                loops["server"] += served["loop"]
                rows.append({"tls": other["seconds"], "ours": ours["seconds"], "loud": told["seconds"],
                             "ratio": other["seconds"] / ours["seconds"], "client": ours["memory"],
                             "server": served["memory"], "client_cpu": ours["cpu"], "server_cpu": served["cpu"],
                             "tls_client_cpu": other["cpu"], "tls_server_cpu": other["server_cpu"]})  # fmt: skip
                for name, found in loud.items():
                    found += told[name]
                    beside[name] += other_told[name]
    shutil.rmtree(folder / "given")
    shutil.rmtree(folder / "fetched")
    return {
        "megabytes": size // MB,
        "mb_per_second": round(size / MB / median(row["ours"] for row in rows)),
        "tls_mb_per_second": round(size / MB / median(row["tls"] for row in rows)),
        "ratio_to_raw_tls": round(median(row["ratio"] for row in rows), 3),
        "ratios": [round(row["ratio"], 3) for row in rows],
        "memory_mb": {name: round(max(row[name] for row in rows), 1) for name in ("client", "server")},
        "cpu_seconds_per_gb": {name: round(1000 * MB / size * median(row[f"{name}_cpu"] for row in rows), 2)
                               for name in ("client", "server", "tls_client", "tls_server")},
        "latency_ms": {name: _sum_up(found) for name, found in loud.items()},
        "latency_beside_tls_ms": {name: _sum_up(found) for name, found in beside.items()},
        "idle_latency_ms": {name: _sum_up(idle[name]) for name in loud},
        "loop_cpu_ms": {name: _sum_up(found) for name, found in loops.items()},
    }  # fmt: skip


def measure_links(folder: Path, megabytes: int, repeats: int) -> dict[str, Any]:
    """The same file from one and from three providers, each of whom sends at most LINK_MB a second."""
    store, digest = make_file(folder, megabytes * MB)
    one, three = ([_fetch_linked(folder, store, digest, count) for _ in range(repeats)] for count in (1, 3))
    ratios = [alone["seconds"] / shared["seconds"] for alone, shared in zip(one, three, strict=True)]
    return {
        "megabytes": megabytes,
        "link_mb_per_second": LINK_MB,
        "one_provider_mb_per_second": round(megabytes / median(row["seconds"] for row in one), 1),
        "three_providers_mb_per_second": round(megabytes / median(row["seconds"] for row in three), 1),
        "ratio_to_one_provider": round(median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "fetched_twice": round(max(sum(row["given"].values()) for row in three) / (megabytes * MB) - 1, 4),
    }


def _fetch_linked(folder: Path, store: Path, digest: bytes, count: int) -> dict[str, Any]:
    """A network of its own each time: peers tell each other of peers, and whoever has the file is asked for it."""
    with ExitStack() as stack:
        providers = [Child(stack, "provide", number, store, LINK_MB * MB) for number in range(count)]
        fetcher = Child(stack, "fetch", 10, folder / "fetched")
        fetcher.order("connect", addresses=[provider.first["address"] for provider in providers])
        return fetcher.order("fetch", digest=digest.hex(), measure=False)


def _sum_up(samples: list[float]) -> dict[str, float | int | None]:
    found = {name: compute_percentile(samples, share) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}
    return {**{name: None if x is None else round(x, 2) for name, x in found.items()}, "samples": len(samples)}


def show(result: dict[str, Any]) -> None:
    print(f"load of the machine at the start: {result['load']}")
    for row in result["one_provider"]:
        print(f"\n{row['megabytes']} MB from one provider: {row['mb_per_second']} MB/s; raw TLS with the same work: "
              f"{row['tls_mb_per_second']} MB/s; ratio {row['ratio_to_raw_tls']} of {row['ratios']}")  # fmt: skip
        print(f"  peak memory above rest, MB: {row['memory_mb']}; CPU s/GB: {row['cpu_seconds_per_gb']}")
        for name in ("votes", "pings"):
            print(f"  {name}, ms there and back: {row['latency_ms'][name]}; while others transfer by TLS: "
                  f"{row['latency_beside_tls_ms'][name]}; idle: {row['idle_latency_ms'][name]}")  # fmt: skip
        print(f"  CPU of one turn of the loop, ms: {row['loop_cpu_ms']}")
    links = result["limited_links"]
    one, three = (links[f"{name}_mb_per_second"] for name in ("one_provider", "three_providers"))
    print(f"\n{links['megabytes']} MB over links of {links['link_mb_per_second']} MB/s: {one} MB/s from one provider, "
          f"{three} from three: ratio {links['ratio_to_one_provider']}; "
          f"fetched twice: {100 * links['fetched_twice']:.1f} %")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="256,1000", type=numbers, help="megabytes")
    parser.add_argument(
        "--linked", type=int, default=40, help="megabytes, of the file over limited links (default: 40)"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: the system's temporary folder")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sizes = [size * MB for size in arguments.sizes]
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="flock-blobs-") as name:
        free, needed = shutil.disk_usage(name).free, 4 * max([*sizes, arguments.linked * MB])
        if free < needed:
            sys.exit(f"{name}: {free // MB} MB are free, {needed // MB} MB needed; choose another --folder")
        result = {
            "benchmark": "blobs",
            "load": round(os.getloadavg()[0], 1),
            "one_provider": [measure_one(Path(name), size, arguments.repeats) for size in sizes],
            "limited_links": measure_links(Path(name), arguments.linked, min(3, arguments.repeats)),
        }
    if arguments.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
