"""What the defence sees of honest and of poisoned proposals, measured once, so that agents can be drawn from it.

    python benchmarks/detection.py --out FILE                    # norms, scores, averages
    python benchmarks/detection.py --audits 21,22,23 --out FILE  # audits, of these seeds
    python benchmarks/detection.py --rows rows.jsonl --out FILE  # audits of the experiment's runs

Rounds of a real federation (trainer, aggregation and losses themselves; no network, no chain). In each round everybody
trains from the same global adapter: honest participants of every domain, and poisoners whose backdoor is boosted
fourfold or kept at an honest norm. Then other participants, as voters, measure on their own hold-outs every proposal
alone (a quarter step, as the board's rule asks) and, for each number of poisoners among five, some plain averages of
five (as the vote on the aggregate asks). The next round starts from the honest ones. Kept: squared norms, every
voter's scores by proposal, and every voter's loss before and after each average. What auditors see of single proposals
is measured by detection_audits.py; each part of the file names the command and the commit that it is from.
benchmarks/token_dynamics.py draws the rounds of its agents from such a file: detection_reference.json, of runs whose
task has a public reference, or detection_without_reference.json. Their rounds are the same.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import torch
from detection_audits import count_rates, measure, read_rows

from flock_chain.aggregation import Delta, GlobalAdapter, apply, encode_delta, encode_global, quantise, squared_norm
from flock_chain.audit_rule import GUILTY_FROM
from flock_peers.training.backdoor import DEFAULT_BOOST
from flock_peers.training.baseline import average_plainly
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import Budget, TaskDocument, compute_initial_adapter, create_document
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


def measure_rounds(options: argparse.Namespace, table: dict[str, Any]) -> None:
    budget = Budget(steps=options.steps, eval_windows=options.windows)
    document = create_document("detection", options.base, seed=sha256(b"detection").digest(), budget=budget)
    table["budget"] = {"norm_thousandths": document.budget.norm_thousandths, "elo": document.format.elo}
    table["rounds"] = []
    with tempfile.TemporaryDirectory() as folder:
        measurement = Measurement(AdaptedModel(options.base, document), document, Path(folder), seed=1)
        for number in range(options.rounds):
            began = time.monotonic()
            table["rounds"].append(measurement.round(number, options.averages))
            print(f"round {number}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            write(table, options.out)


def measure_audits(options: argparse.Namespace, table: dict[str, Any]) -> None:
    """Adds to what is there; a group that was measured is not measured again."""
    for seed in map(int, options.audits.split(",")):
        for number in map(int, options.audit_rounds.split(",")):
            run = f"measured {seed}"
            known = {(row["run"], row["round"]) for row in table.get("audits", {}).get("proposals", ())}
            for group in measure([seed], [number]) if (run, number) not in known else ():
                add_audits(options, table, group, f"detection.py --audits {seed} --audit-rounds {number}")


def add_audits(options: argparse.Namespace, table: dict[str, Any], proposals: list[dict[str, Any]], name: str) -> None:
    audits = table.setdefault("audits", {"guilty_from": GUILTY_FROM, "sources": {}, "proposals": []})
    runs = {row["run"] for row in proposals}
    audits["sources"] |= dict.fromkeys(sorted(runs), f"{name}, commit {options.commit or describe()}")
    audits["proposals"] += proposals
    audits["rates"] = count_rates(audits["proposals"])
    write(table, options.out)


def add_rows(options: argparse.Namespace, table: dict[str, Any]) -> None:
    """In the place of what was read of the same runs before."""
    seeds = [int(seed) for seed in options.seeds.split(",") if seed]
    proposals = [row for path in options.rows for row in read_rows(path, seeds)]
    if not proposals:
        raise SystemExit("--rows: no row there has audits of an attack")
    audits, runs = table.get("audits"), {row["run"] for row in proposals}
    if audits:
        audits["proposals"] = [row for row in audits["proposals"] if row["run"] not in runs]
    add_audits(options, table, proposals, "detection.py --rows rows.jsonl, a run of the experiment")


def describe() -> str:
    """The commit that is measured, with a mark where the tree differs from it."""
    found = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"], capture_output=True, text=True
    )
    return found.stdout.strip() or "unknown"


def write(table: dict[str, Any], path: Path | None) -> None:
    if path:
        path.write_text(json.dumps(table) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--averages", type=int, default=4, help="for each number of poisoners (default 4)")
    parser.add_argument(
        "--steps", type=int, default=Budget.steps, help="of one training (default: a task's, %(default)s)"
    )
    parser.add_argument(
        "--windows", type=int, default=Budget.eval_windows,
        help="of a hold-out, on which losses are measured (default: a task's, %(default)s)",
    )  # fmt: skip
    parser.add_argument("--base", type=Path, default=BASE_FOLDER, help="folder of the base model")
    parser.add_argument("--audits", help="seeds of the experiment; measures what auditors see, and nothing else")
    parser.add_argument("--audit-rounds", default="0,2,4", help="after how many honest rounds (default 0,2,4)")
    parser.add_argument("--rows", type=Path, nargs="+", help="rows.jsonl of the experiment: what its auditors saw")
    parser.add_argument("--seeds", default="", help="with --rows: of these seeds alone")
    parser.add_argument("--commit", help="that the rows are from, or that is measured (default: the checked out one)")
    parser.add_argument("--out", type=Path, help="JSON file; what is in it and not measured now stays")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = json.loads(options.out.read_text("utf-8")) if options.out and options.out.exists() else {}
    if options.rows:
        add_rows(options, table)
    if options.audits:
        measure_audits(options, table)
    if not options.rows and not options.audits:
        measure_rounds(options, table)
    if not options.out:
        print(json.dumps(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
