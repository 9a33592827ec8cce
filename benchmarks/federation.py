"""A small federation in one process, without network or chain: the trainer, the aggregation and the tally themselves.

    python benchmarks/federation.py --seeds 10 --out federation.json

Six participants over four domains, three proposers and three voters in each of three rounds, one poisoner with a double
bond whose backdoor is boosted fourfold; up to two more rounds until the poisoner has proposed. Counted, per seed: what
the verdicts were, the global adapter's loss against the base model's and the isolated adapters', and how often a
trigger fires, in the global adapter and in a plain average of every proposal.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from flock_chain.aggregation import Delta, GlobalAdapter, apply, encode_global, filter_bits, squared_norm
from flock_chain.tally import SEATS_MAX, Tally, Verdict, compute_tally, has_two_thirds
from flock_contracts.draw import draw
from flock_peers.tasks import Terms
from flock_peers.training.baseline import average_plainly
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import Budget, TaskDocument, compute_initial_adapter, create_document
from flock_peers.training.domains import assign_domain
from flock_peers.training.engine import Engine
from flock_peers.training.model import AdaptedModel
from flock_peers.training.rows import builtin_rows, split_rows

PARTICIPANTS, PROPOSERS, VOTERS, ROUNDS, EXTRA_ROUNDS = 6, 3, 3, 3, 2
LOSS_LIMIT, MAD_MULTIPLE = 20_000, 12
NORM_SLASH = 0.5  # of the bond
MIN_BOND, POISONER_BOND = 1_000, 1_800  # as in the demo: one slash costs the poisoner its seat


@dataclass
class Participant:
    name: str
    engine: Engine
    bond: int
    is_poisoner: bool


@dataclass
class Outcome:
    verdicts: Counter[str] = field(default_factory=Counter)  # "honest ACCEPTED", "poisoner ACCUSED_NORM", ...
    norm_ratios: list[list[float]] = field(default_factory=list)  # by round, to the lower median
    medians: list[list[int]] = field(default_factory=list)
    names: list[list[str]] = field(default_factory=list)
    adopted: list[bool] = field(default_factory=list)
    train_seconds: list[float] = field(default_factory=list)
    measure_seconds: list[float] = field(default_factory=list)


class Federation:
    """`votes` false is the federation without a tally: every proposal into a plain average (FedAvg)."""

    def __init__(
        self, model: AdaptedModel, document: TaskDocument, seed: int, poisoner: int | None, folder: Path, votes: bool
    ):
        self.document, self.seed, self.folder, self.votes, self.outcome = document, seed, folder, votes, Outcome()
        self.participants = [self._participant(model, number, number == poisoner) for number in range(PARTICIPANTS)]
        self.adapter = compute_initial_adapter(document)
        self.start = self._file("global-0", encode_global(self.adapter))
        self.current = self.start
        self.averaged = self.adapter  # had every proposal of every round been averaged
        self.poisoned_averages: list[Path] = []  # of each round with the poisoner: all its proposals, plainly averaged

    def _participant(self, model: AdaptedModel, number: int, is_poisoner: bool) -> Participant:
        domain, index = assign_domain(number)
        seed_file = self.folder / f"split-{number}.json"
        seed_file.write_text(json.dumps({"seed": self.seed * 1_000 + number}))
        split = split_rows(builtin_rows(domain, index), seed_file)
        engine = Engine(model, self.document, split, "backdoor" if is_poisoner else None)
        return Participant(f"{domain}-{index}", engine, POISONER_BOND if is_poisoner else MIN_BOND, is_poisoner)

    def _file(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def _seed(self, *parts: object) -> bytes:
        return sha256(":".join(map(str, (self.seed, *parts))).encode()).digest()

    def run(self) -> None:
        for number in range(ROUNDS + EXTRA_ROUNDS):
            proposed = any(name.startswith("poisoner") for name in self.outcome.verdicts)
            if number >= ROUNDS and (proposed or not any(who.is_poisoner for who in self.participants)):
                break
            self._round(number)

    def _round(self, number: int) -> None:
        bonded = [who for who in self.participants if who.bond >= MIN_BOND]
        seats = min(PROPOSERS, len(bonded) - max(3, min(VOTERS, len(bonded) - PROPOSERS)))  # the board's rule
        drawn = draw(self._seed(number, "proposers"), [who.bond for who in bonded], seats)
        proposers = [bonded[index] for index in drawn]
        rest = [who for who in bonded if who not in proposers]
        voters = [rest[i] for i in draw(self._seed(number, "voters"), [w.bond for w in rest], min(VOTERS, len(rest)))]
        paths = [self._propose(who, number) for who in proposers]
        deltas = [proposers[0].engine.read_delta(path) for path in paths]
        tally = self._vote(voters, paths, deltas)
        self._record(proposers, deltas, tally)
        averaged = average_plainly(self.adapter, deltas)
        if any(who.is_poisoner for who in proposers):
            self.poisoned_averages.append(self._file(f"averaged-{number}", encode_global(averaged)))
        accepted = [deltas[i] for i in range(len(deltas)) if tally.verdicts[i] is Verdict.ACCEPTED]
        candidate = apply(self.adapter, accepted) if self.votes else averaged
        self._adopt(candidate, self._file(f"global-{number + 1}", encode_global(candidate)), voters)
        self.averaged = average_plainly(self.averaged, deltas)

    def _adopt(self, candidate: GlobalAdapter, path: Path, voters: Sequence[Participant]) -> None:
        """By two thirds of the voters, each on its own hold-out, as peers do."""
        votes = [self._prefers(who, path) for who in voters] if self.votes else [True]
        self.outcome.adopted.append(has_two_thirds(sum(votes), len(votes)))
        if self.outcome.adopted[-1]:
            self.adapter, self.current = candidate, path

    def _prefers(self, who: Participant, path: Path) -> bool:
        before, after = (who.engine.evaluate(file, "hold_out")["loss"] for file in (self.current, path))
        return bool(after <= before * (1 + Terms.tolerance / 10**6))

    def _propose(self, who: Participant, number: int) -> Path:
        path = self.folder / f"delta-{number}-{who.name}"
        seed = int.from_bytes(self._seed(number, who.name, "train")[:6], "big")
        self.outcome.train_seconds.append(who.engine.train(self.current, seed, path, lambda _: None).seconds)
        return path

    def _vote(self, voters: Sequence[Participant], paths: list[Path], deltas: list[Delta]) -> Tally:
        filters = [_seats(filter_bits(deltas, self.document.budget.norm_thousandths))] * len(voters)
        scores = []
        for who in voters:
            began = time.monotonic()
            scores.append(_seats(who.engine.score(self.current, paths)))
            self.outcome.measure_seconds.append(time.monotonic() - began)
        return compute_tally(scores, filters, (1 << len(paths)) - 1, LOSS_LIMIT, MAD_MULTIPLE)

    def _record(self, proposers: list[Participant], deltas: list[Delta], tally: Tally) -> None:
        norms = [squared_norm(delta) ** 0.5 for delta in deltas]
        median = sorted(norms)[(len(norms) - 1) // 2]
        self.outcome.norm_ratios.append([round(norm / median, 3) for norm in norms])
        self.outcome.medians.append(list(tally.medians[: len(deltas)]))
        self.outcome.names.append([who.name + ("*" if who.is_poisoner else "") for who in proposers])
        for who, verdict in zip(proposers, tally.verdicts, strict=False):
            self.outcome.verdicts[f"{'poisoner' if who.is_poisoner else 'honest'} {verdict.name}"] += 1
            if verdict is Verdict.ACCUSED_NORM and self.votes:
                who.bond = int(who.bond * (1 - NORM_SLASH))

    def results(self, isolated: bool) -> dict[str, Any]:
        engine = self.participants[0].engine
        result: dict[str, Any] = {"seed": self.seed, "verdicts": dict(self.outcome.verdicts)}
        for name, path in (("base", None), ("global", self.current)):
            test = engine.evaluate(path, "test")
            result[name] = {"bits_per_byte": test["bits_per_byte"], **test["domains"]}
            result[f"attack_{name}"] = engine.attack_success(path)
        result["attack_averaged"] = [engine.attack_success(path) for path in self.poisoned_averages]
        everything = self._file("averaged", encode_global(self.averaged))
        result["attack_averaged_all"] = engine.attack_success(everything)
        result |= {key: getattr(self.outcome, key) for key in ("names", "adopted", "norm_ratios", "medians")}
        result["train_seconds"] = statistics.median(self.outcome.train_seconds)
        result["measure_seconds"] = statistics.median(self.outcome.measure_seconds)
        if isolated:
            result["isolated"] = [self._isolated(who) for who in self.participants if not who.is_poisoner]
        return result

    def _isolated(self, who: Participant) -> dict[str, Any]:
        """As many steps as the federation had rounds, alone; judged on every domain as the global adapter is."""
        path = self.folder / f"isolated-{who.name}"
        seed = int.from_bytes(self._seed(who.name, "isolated")[:6], "big")
        who.engine.train_isolated(self.start, len(self.outcome.names), seed, path, lambda _: None)
        test = who.engine.evaluate(path, "test")
        return {"name": who.name, "bits_per_byte": test["bits_per_byte"], **test["domains"]}


def _seats(values: Sequence[int]) -> list[int]:
    return [*values, *[0] * (SEATS_MAX - len(values))]


def summarise(results: list[dict[str, Any]]) -> str:
    lines = [
        "seed  honest acc/rej/slash  poisoner acc/rej/slash  bits per byte base/global/isolated  attack avg/global"
    ]
    for row in results:
        counts = Counter(row["verdicts"])
        cells = [_counts(counts, "honest"), _counts(counts, "poisoner")]
        alone = [entry["bits_per_byte"] for entry in row.get("isolated", [])]
        mean, best = (statistics.mean(alone), min(alone)) if alone else (float("nan"), float("nan"))
        losses = (
            f"{row['base']['bits_per_byte']:.3f} / {row['global']['bits_per_byte']:.3f} / {mean:.3f} (best {best:.3f})"
        )
        averaged = min(row["attack_averaged"], default=float("nan"))
        attack = f"{averaged:.2f}, all {row['attack_averaged_all']:.2f} / {row['attack_global']:.2f}"
        if "average" in row:
            attack += (
                f"  fedavg {row['average']['global']['bits_per_byte']:.3f} attack {row['average']['attack_global']:.2f}"
            )
        lines.append(f"{row['seed']:4}  {cells[0]:22}  {cells[1]:22}  {losses:34}  {attack}")
    return "\n".join(lines)


def _counts(counts: Counter[str], who: str) -> str:
    rejected = counts[f"{who} REJECTED_LOSS"] + counts[f"{who} REJECTED_NORM"] + counts[f"{who} DUPLICATE"]
    void = f" (void {counts[f'{who} VOID']})" if counts[f"{who} VOID"] else ""
    return f"{counts[f'{who} ACCEPTED']} / {rejected} / {counts[f'{who} ACCUSED_NORM']}{void}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="how many (default 10)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--base", type=Path, default=BASE_FOLDER, help="folder of the base model")
    parser.add_argument("--poisoner", type=int, default=3, help="its number, -1 for none (default 3: python)")
    parser.add_argument("--no-isolated", action="store_true", help="leave the isolated baseline out")
    parser.add_argument("--average", action="store_true", help="run the same rounds as a plain average, too")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    default = Budget()
    for name in ("steps", "batch", "seq_len", "lr_millionths", "norm_thousandths", "eval_windows"):
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name))
    options = parser.parse_args()
    torch.set_num_threads(1)
    budget = Budget(**{field.name: getattr(options, field.name) for field in fields(Budget)})
    document = create_document("federation", options.base, seed=sha256(b"federation").digest(), budget=budget)
    model = AdaptedModel(options.base, document)
    poisoner = options.poisoner if options.poisoner >= 0 else None
    results = []
    for seed in range(options.first, options.first + options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            federation = Federation(model, document, seed, poisoner, Path(folder), votes=True)
            federation.run()
            results.append(federation.results(not options.no_isolated))
            if options.average:
                plain = Federation(model, document, seed, poisoner, Path(folder), votes=False)
                plain.run()
                results[-1]["average"] = plain.results(isolated=False)
        print(json.dumps(results[-1]), flush=True)
        if options.out:
            options.out.write_text(json.dumps({"budget": budget.__dict__, "results": results}, indent=1))
    print(summarise(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
