"""What the defence sees of honest and of poisoned proposals, measured once, so that agents can be drawn from it.

    python benchmarks/detection.py --out benchmarks/detection.json

Rounds of a real federation (trainer, aggregation and losses themselves; no network, no chain). In each round everybody
trains from the same global adapter: honest participants of every domain, and poisoners whose backdoor is boosted
fourfold or kept at an honest norm. Then other participants, as voters, measure on their own hold-outs every proposal
alone (a quarter step, as the board's rule asks) and, for each number of poisoners among five, some plain averages of
five (as the vote on the aggregate asks). The next round starts from the honest ones. Kept: squared norms, every
voter's scores by proposal, and every voter's loss before and after each average. benchmarks/token_dynamics.py draws
the rounds of its agents from this file.
"""

import argparse
import json
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import torch

from flock_chain.aggregation import Delta, GlobalAdapter, apply, encode_delta, encode_global, quantise, squared_norm
from flock_peers.training.backdoor import DEFAULT_BOOST
from flock_peers.training.baseline import average_plainly
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import TaskDocument, compute_initial_adapter, create_document
from flock_peers.training.domains import DOMAINS, assign_domain
from flock_peers.training.engine import Engine
from flock_peers.training.model import AdaptedModel
from flock_peers.training.rows import builtin_rows, split_rows

PROPOSERS = 5
HONEST, POISONERS, VOTERS = 8, 5, 5  # participants that train, that poison, and that measure; all of different rows
KINDS = ("boosted", "matched")


class Measurement:
    def __init__(self, model: AdaptedModel, document: TaskDocument, folder: Path, seed: int) -> None:
        self.document, self.folder, self.chance = document, folder, Random(seed)
        names = range(HONEST + POISONERS + VOTERS)
        engines = [self._engine(model, n, HONEST <= n < HONEST + POISONERS) for n in names]
        self.honest, self.poisoners = engines[:HONEST], engines[HONEST : HONEST + POISONERS]
        self.voters = engines[HONEST + POISONERS :]
        self.adapter = compute_initial_adapter(document)

    def _engine(self, model: AdaptedModel, number: int, poisons: bool) -> Engine:
        domain, index = assign_domain(number)
        seed_file = self.folder / f"split-{number}.json"
        seed_file.write_text(json.dumps({"seed": number}))
        split = split_rows(builtin_rows(domain, index), seed_file)
        return Engine(model, self.document, split, "backdoor" if poisons else None)

    def _file(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def round(self, number: int, averages: int) -> dict[str, Any]:
        start = self._file(f"global-{number}", encode_global(self.adapter))
        honest = [self._train(engine, start, number, f"honest-{i}") for i, engine in enumerate(self.honest)]
        boosted = [self._train(engine, start, number, f"boosted-{i}") for i, engine in enumerate(self.poisoners)]
        matched = [self._shrink(delta) for delta in boosted]
        pools = {"honest": honest, "boosted": boosted, "matched": matched}
        row: dict[str, Any] = {"round": number, "pools": {}, "averages": {}}
        for name, deltas in pools.items():
            paths = [self._file(f"{name}-{i}", encode_delta(delta)) for i, delta in enumerate(deltas)]
            scores = [engine.score(start, paths) for engine in self.voters]
            norms = [squared_norm(delta) for delta in deltas]
            row["pools"][name] = {"squared_norms": norms, "scores_by_voter": scores}
        row["losses_before"] = self._losses(start)
        for kind in KINDS:
            row["averages"][kind] = self._averages(honest, pools[kind], averages, kind == KINDS[0])
        self.adapter = apply(self.adapter, honest[: len(DOMAINS)])
        return row

    def _train(self, engine: Engine, start: Path, number: int, name: str) -> Delta:
        path = self.folder / f"delta-{name}"
        seed = int.from_bytes(sha256(f"{number}:{name}".encode()).digest()[:6], "big")
        engine.train(start, seed, path, lambda _: None)
        return engine.read_delta(path)

    def _shrink(self, delta: Delta) -> Delta:
        """The same poison without its boost."""
        return quantise(delta.to_float32() / DEFAULT_BOOST, self.document.layout, self.document.format)

    def _averages(self, honest: list[Delta], poison: list[Delta], count: int, with_none: bool) -> dict[str, Any]:
        """By the number of poisoners among five: which ones, and every voter's loss after their plain average."""
        found = {}
        for bad in range(0 if with_none else 1, PROPOSERS + 1):
            found[str(bad)] = [self._average(honest, poison, bad) for _ in range(count if bad < PROPOSERS else 1)]
        return found

    def _average(self, honest: list[Delta], poison: list[Delta], bad: int) -> dict[str, Any]:
        good = sorted(self.chance.sample(range(len(honest)), PROPOSERS - bad))
        wrong = sorted(self.chance.sample(range(len(poison)), bad))
        mean: GlobalAdapter = average_plainly(self.adapter, [honest[i] for i in good] + [poison[i] for i in wrong])
        losses = self._losses(self._file("average", encode_global(mean)))
        return {"honest": good, "poisoners": wrong, "losses": losses}

    def _losses(self, path: Path) -> list[float]:
        return [round(float(engine.evaluate(path, "hold_out")["loss"]), 6) for engine in self.voters]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--averages", type=int, default=4, help="for each number of poisoners (default 4)")
    parser.add_argument("--base", type=Path, default=BASE_FOLDER, help="folder of the base model")
    parser.add_argument("--out", type=Path, help="JSON file to write after each round")
    options = parser.parse_args()
    torch.set_num_threads(1)
    document = create_document("detection", options.base, seed=sha256(b"detection").digest())
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        measurement = Measurement(AdaptedModel(options.base, document), document, Path(folder), seed=1)
        for number in range(options.rounds):
            began = time.monotonic()
            rounds.append(measurement.round(number, options.averages))
            print(f"round {number}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            if options.out:
                budget = {"norm_thousandths": document.budget.norm_thousandths, "elo": document.format.elo}
                options.out.write_text(json.dumps({"budget": budget, "rounds": rounds}) + "\n")
    if not options.out:
        print(json.dumps(rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
