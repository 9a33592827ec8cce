"""What few bits cost a federation, and what they save: losses against float32 in the same run, and bytes on the socket.

    python benchmarks/compression.py [--seeds 3] [--rounds 8] [--ways int8,int4_feedback] [--json]
    python benchmarks/compression.py --bytes-only

Six participants over five domains, three of them in turn propose in each round, the shipped base model. Each way
trains the same participants with the same seeds, clips to the lower median norm and adds the mean: float32 in plain
numbers, the others by the files, the feedback and the aggregation that peers run. The loss is of all domains' public
test splits.

Bytes: two hosts over loopback, one fetches a proposal (manifest, list of chunks, file) from the other; all that both
write to their sockets is counted, beside the same for a file of float32 tensors.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trio
from choices import several
from numpy.typing import NDArray

from flock_chain.aggregation import (
    Format,
    Layout,
    apply,
    encode_delta,
    encode_global,
    from_floats,
    quantise,
)
from flock_chain.crypto import Account, Digest, Key
from flock_chain.proposal import Manifest
from flock_peers.network import connection
from flock_peers.network.blob_wire import BLOBS
from flock_peers.network.blobs import BlobService
from flock_peers.network.host import open_host
from flock_peers.store.blob_store import BlobStore
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import TaskDocument, compute_initial_adapter, create_document
from flock_peers.training.domains import assign_domain
from flock_peers.training.engine import Engine
from flock_peers.training.feedback import Feedback
from flock_peers.training.laboratory import BUDGET
from flock_peers.training.model import AdaptedModel
from flock_peers.training.rows import Split, builtin_rows, split_by_seed

PARTICIPANTS, PROPOSERS = 6, 3
WAYS: dict[str, tuple[int, bool]] = {  # bits, and whether what rounding took comes later
    "int8": (8, False), "int8_feedback": (8, True), "int4": (4, False), "int4_feedback": (4, True),
}  # fmt: skip
LAYOUTS = {"shipped base": None, "540 k numbers": (60, 9_000)}  # tensors, and numbers of each
GENESIS_HASH = b"benchmark genesis hash, 32 bytes"
QUOTA = 1 << 30
Vector = NDArray[np.float32]


def quiet(_event: object) -> None:
    pass


# --- losses


class Federation:
    """`way`: None is float32."""

    def __init__(self, model: AdaptedModel, document: TaskDocument, seed: int, way: str | None, folder: Path) -> None:
        bits, feeds = WAYS[way] if way else (8, False)
        self._document = replace(document, format=Format.of_bits(bits))
        self._seed, self._way, self._folder = seed, way, folder
        self._engines = [
            Engine(model, self._document, split, None, feedback=self._feedback(number) if feeds else None)
            for number, split in enumerate(make_splits(seed))
        ]
        self.vector = compute_initial_adapter(self._document).to_float32()
        self._adapter = compute_initial_adapter(self._document)

    def _feedback(self, number: int) -> Feedback:
        home = self._folder / f"home-{number}"
        home.mkdir()
        return Feedback(home, self._document.encode(), self._document.layout.parameters)

    def run(self, rounds: int) -> float:
        for number in range(rounds):
            proposers = [(number * PROPOSERS + seat) % PARTICIPANTS for seat in range(PROPOSERS)]
            seeds = [self._seed * 10_000 + number * 100 + who for who in proposers]
            if self._way is None:
                changes = [self._change(who, seed) for who, seed in zip(proposers, seeds)]
                self.vector = self.vector + clip_and_average(changes)
            else:
                self._adapter = apply(self._adapter, [self._propose(who, seed) for who, seed in zip(proposers, seeds)])
                self.vector = self._adapter.to_float32()
        return self._loss()

    def _change(self, who: int, seed: int) -> Vector:
        return self._engines[who].compute_change(self.vector, seed, quiet, None)[0]

    def _propose(self, who: int, seed: int) -> Any:
        start, out = self._folder / "global", self._folder / "delta"
        start.write_bytes(encode_global(self._adapter))
        self._engines[who].train(start, seed, out, quiet)
        return self._engines[who].read_delta(out)

    def _loss(self) -> float:
        path = self._folder / "result"
        path.write_bytes(encode_global(from_floats(self.vector, self._document.layout, Format())))
        judge = self._engines[0]
        judge.document = replace(self._document, format=Format())
        return float(judge.evaluate(path, "test")["loss"])


def make_splits(seed: int) -> list[Split]:
    splits = []
    for number in range(PARTICIPANTS):
        domain, index = assign_domain(number)
        splits.append(split_by_seed(builtin_rows(domain, (index + 2 * seed) % 16), seed))
    return splits


def clip_and_average(changes: Sequence[Vector]) -> Vector:
    """The rule of `apply`, in plain numbers."""
    norms = [float(np.linalg.norm(change)) for change in changes]
    median = sorted(norms)[(len(norms) - 1) // 2]
    factors = [min(1.0, median / norm) for norm in norms]
    return np.asarray(sum(f * c.astype(np.float64) for f, c in zip(factors, changes)) / len(changes), np.float32)


def measure_losses(seeds: int, rounds: int, ways: Sequence[str]) -> dict[str, Any]:
    torch.set_num_threads(1)
    document = create_document("compression", BASE_FOLDER, seed=bytes(32), budget=BUDGET)
    model = AdaptedModel(BASE_FOLDER, document)
    losses: dict[str, list[float]] = {}
    for seed in range(seeds):
        for way in ("float32", *ways):
            with tempfile.TemporaryDirectory() as scratch:
                federation = Federation(model, document, seed, None if way == "float32" else way, Path(scratch))
                losses.setdefault(way, []).append(federation.run(rounds))
            print(f"seed {seed} {way:14} {losses[way][-1]:.4f} nats", file=sys.stderr, flush=True)
    plain = losses["float32"]
    over = {way: [loss - other for loss, other in zip(rows, plain)] for way, rows in losses.items()}
    return {
        "rounds": rounds,
        "losses": {way: [round(loss, 5) for loss in rows] for way, rows in losses.items()},
        "nats_over_float32": {
            way: {"mean": round(statistics.mean(rows), 5), "worst": round(max(rows), 5)} for way, rows in over.items()
        },
    }


# --- bytes


async def count_fetch(data: bytes, manifest: bytes, folder: Path) -> int:
    """Bytes that two hosts write to their sockets while one fetches a proposal from the other."""
    written = 0
    original = connection.BufferedConnection._send

    async def send(self: Any, data: bytearray | memoryview) -> None:
        nonlocal written
        written += len(data)
        await original(self, data)

    connection.BufferedConnection._send = send  # type: ignore[method-assign]
    try:
        async with (
            open_host(Key(b"\1" * 32), ("127.0.0.1", 0), GENESIS_HASH) as one,
            open_host(Key(b"\2" * 32), ("127.0.0.1", 0), GENESIS_HASH) as other,
        ):
            given = BlobService(one, BlobStore(folder / "given", QUOTA)).store
            (folder / "delta").write_bytes(data)
            digest, name = given.put_file(folder / "delta"), given.put_object(manifest)
            fetcher = BlobService(other, BlobStore(folder / "fetched", QUOTA))
            account = await other.connect(one.address)
            await (await other.open_stream(account, BLOBS, bulk=True)).close()  # a peer's connections outlive rounds
            await trio.sleep(1)
            before = written
            await fetcher.fetch_object(name, [account])
            await fetcher.fetch_file(digest, [account], len(data))
            return written - before
    finally:
        connection.BufferedConnection._send = original  # type: ignore[method-assign]


def encode_floats(vector: Vector, layout: Layout) -> bytes:
    """As peft saves an adapter."""
    from safetensors.numpy import save

    return bytes(save({name: np.ascontiguousarray(part) for name, part in layout.split(vector).items()}))


def make_layout(name: str) -> Layout:
    shape = LAYOUTS[name]
    if shape is None:
        return create_document("compression", BASE_FOLDER, seed=bytes(32)).layout
    tensors, size = shape
    return Layout.of({f"base_model.model.layers.{n}.lora_{'AB'[n % 2]}.weight": (8, size // 8) for n in range(tensors)})


def measure_bytes() -> list[dict[str, Any]]:
    rows = []
    for name in LAYOUTS:
        layout = make_layout(name)
        vector = (np.random.default_rng(1).normal(size=layout.parameters) * 1e-3).astype(np.float32)
        files = {"float32": encode_floats(vector, layout)}
        files |= {f"int{bits}": encode_delta(quantise(vector, layout, Format.of_bits(bits))) for bits in (8, 4)}
        row: dict[str, Any] = {"adapter": name, "numbers": layout.parameters}
        for way, data in files.items():
            parent, delta = Digest(bytes(32)), Digest(bytes(32))
            manifest = Manifest(
                Digest(GENESIS_HASH), 1, 1, Account(bytes(20)), parent, delta, len(data), 24, 18_432
            ).encode()
            with tempfile.TemporaryDirectory() as scratch:
                row[f"{way}_file_bytes"] = len(data)
                row[f"{way}_socket_bytes"] = trio.run(count_fetch, data, manifest, Path(scratch))
        for way in ("int8", "int4"):
            row[f"{way}_ratio_to_float32"] = round(row["float32_socket_bytes"] / row[f"{way}_socket_bytes"], 3)
        rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument(
        "--ways", default=",".join(WAYS), type=several(WAYS), help="beside float32 (default: %(default)s)"
    )
    parser.add_argument("--bytes-only", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result: dict[str, Any] = {"bytes": measure_bytes()}
    if not options.bytes_only:
        result["losses"] = measure_losses(options.seeds, options.rounds, options.ways)
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
