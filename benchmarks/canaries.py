"""What a published adapter tells of private rows: canaries, how exposed they are, and whether they come out again.

    python benchmarks/canaries.py [--seeds 2] [--rounds 3] [--noise 1.0] [--json]

After Carlini et al., "The Secret Sharer" (arXiv:1802.08232). A canary is a row with a name and a random code of eight
digits. It is put 1, 4 and 16 times among a participant's rows; the rank of its loss among those of 1,023 other codes,
each less what the base model finds it, is its exposure: log2(1,024 / rank) bits of 10, 1 on average where nothing is
told. It is extracted where the likeliest digits after the name are the code. Measured of what is on chain: the base
plus a first proposal; base plus the participant's proposals of all rounds; the global adapter after as many rounds
with five others of other domains, three of the six in each; the first two with --privacy, too. Shipped base, default
budget of a task.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flock_chain.aggregation import GlobalAdapter, add_contribution, apply, encode_global
from flock_chain.aggregation.measure import ONE
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import TaskDocument, compute_initial_adapter, create_document
from flock_peers.training.domains import assign_domain
from flock_peers.training.engine import Engine
from flock_peers.training.model import AdaptedModel
from flock_peers.training.privacy import Privacy, PrivacyLedger
from flock_peers.training.rows import Row, Split, builtin_rows, split_by_seed

TIMES = (1, 4, 16)  # a canary is among the rows
OF_EACH = 2  # canaries, in one training
OTHERS = 1_023  # codes that it is ranked among
DIGITS = 8
BATCH = 256  # of candidates
NAMES = ("Ann", "Bob", "Mia", "Tom", "Lea", "Sam", "Eve", "Max")
OTHER_PARTICIPANTS, PROPOSERS = 5, 3


@dataclass(frozen=True)
class Canary:
    name: str
    code: str
    times: int

    @property
    def head(self) -> str:
        return f"The secret access code of {self.name} is "

    def row(self) -> Row:
        return Row("", f"{self.head}{self.code}.")


def make_canaries(chance: np.random.Generator, times: Sequence[int] = TIMES, of_each: int = OF_EACH) -> list[Canary]:
    names = iter(NAMES)
    return [Canary(next(names), draw_code(chance), count) for count in times for _ in range(of_each)]


def draw_code(chance: np.random.Generator) -> str:
    return "".join(map(str, chance.integers(0, 10, DIGITS)))


# --- measuring


def measure_losses(model: AdaptedModel, head: str, codes: Sequence[str]) -> NDArray[np.float64]:
    """Nats of each code after the head, by the weights that are set now."""
    start = [model.tokenizer.bos_token_id, *model.tokenizer.encode(head, add_special_tokens=False)]
    digits = np.array([model.tokenizer.encode(code, add_special_tokens=False) for code in codes], np.int64)
    losses = []
    with model.frozen():
        for first in range(0, len(codes), BATCH):
            part = digits[first : first + BATCH]
            tokens = np.concatenate([np.tile(np.array(start, np.int64), (len(part), 1)), part], axis=1)
            logits = model.logits(tokens)[:, len(start) - 1 : -1].log_softmax(-1)
            said = logits.gather(2, torch.from_numpy(part)[:, :, None].to(logits.device)).squeeze(2)
            losses.append(-said.sum(dim=1).double().cpu().numpy())
    return np.concatenate(losses)


def extract(model: AdaptedModel, head: str) -> str:
    """The likeliest digits, one after the other."""
    known = {model.tokenizer.encode(str(digit), add_special_tokens=False)[0]: str(digit) for digit in range(10)}
    order, code = sorted(known), ""
    for _ in range(DIGITS):
        tokens = [model.tokenizer.bos_token_id, *model.tokenizer.encode(head + code, add_special_tokens=False)]
        with model.frozen():
            logits = model.logits(np.array([tokens], np.int64))[0, -1, order]
        code += known[order[int(logits.argmax())]]
    return code


def measure_canary(
    model: AdaptedModel, canary: Canary, vector: NDArray[np.float32], others: Sequence[str],
    base: NDArray[np.float64] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """`base`: what the base model itself finds the canary's code and the others."""
    codes = [canary.code, *others]
    base = measure_base(model, canary, others) if base is None else base
    model.set_vector(vector)
    change = measure_losses(model, canary.head, codes) - base
    rank = 1 + float((change[1:] < change[0]).sum()) + float((change[1:] == change[0]).sum()) / 2
    return {
        "times": canary.times,
        "exposure": math.log2(len(codes) / rank),
        "is_extracted": extract(model, canary.head) == canary.code,
    }


def measure_base(model: AdaptedModel, canary: Canary, others: Sequence[str]) -> NDArray[np.float64]:
    model.set_vector(np.zeros(model.layout.parameters, np.float32))
    return measure_losses(model, canary.head, [canary.code, *others])


# --- what is published


class Victim:
    """A participant with canaries among its rows; `privacy`: as it was told."""

    def __init__(
        self, model: AdaptedModel, document: TaskDocument, canaries: Sequence[Canary], seed: int, folder: Path,
        privacy: Privacy | None = None,
    ) -> None:  # fmt: skip
        split = split_by_seed(builtin_rows("records", seed % 16), seed)
        rows = split.train + [canary.row() for canary in canaries for _ in range(canary.times)]
        ledger = (privacy, PrivacyLedger(folder / "privacy.json", privacy)) if privacy else None
        self.rows = len(rows)
        self.engine = Engine(model, document, Split(rows, split.hold_out), None, privacy=ledger)
        self.epsilons: list[float] = []  # after each proposal
        self.losses: list[tuple[float, float]] = []

    def propose(self, adapter: GlobalAdapter, seed: int, folder: Path) -> Any:
        start, out = folder / "global", folder / "delta"
        start.write_bytes(encode_global(adapter))
        result = self.engine.train(start, seed, out, lambda _event: None)
        self.epsilons += [result.epsilon] if result.epsilon is not None else []
        self.losses.append((round(result.loss_before, 4), round(result.loss_after, 4)))
        return self.engine.read_delta(out)


def publish_alone(victim: Victim, document: TaskDocument, rounds: int, folder: Path) -> list[NDArray[np.float32]]:
    """After each round, what the proposals of this one participant make of the base."""
    adapter, found = compute_initial_adapter(document), []
    for number in range(rounds):
        adapter = add_contribution(adapter, victim.propose(adapter, number, folder), ONE, 1)
        found.append(adapter.to_float32())
    return found


def publish_together(
    victim: Victim, model: AdaptedModel, document: TaskDocument, rounds: int, seed: int, folder: Path
) -> NDArray[np.float32]:
    """The global adapter of six participants; the victim proposes in every round, two others by turns."""
    others = []
    for number in range(OTHER_PARTICIPANTS):
        domain, index = assign_domain(number + 1)
        split = split_by_seed(builtin_rows(domain, (index + seed + 3) % 16), seed)
        others.append(Engine(model, document, split, None))
    adapter = compute_initial_adapter(document)
    for number in range(rounds):
        deltas = [victim.propose(adapter, 100 + number, folder)]
        for seat in range(PROPOSERS - 1):
            who = others[(number * (PROPOSERS - 1) + seat) % OTHER_PARTICIPANTS]
            who.train(folder / "global", 1_000 + 10 * number + seat, folder / "other", lambda _event: None)
            deltas.append(who.read_delta(folder / "other"))
        adapter = apply(adapter, deltas)
    return adapter.to_float32()


def run_seed(model: AdaptedModel, document: TaskDocument, seed: int, rounds: int, noise: float) -> list[dict[str, Any]]:
    chance = np.random.Generator(np.random.PCG64(seed))
    canaries, others = make_canaries(chance), [draw_code(chance) for _ in range(OTHERS)]
    bases = [measure_base(model, canary, others) for canary in canaries]
    rows: list[dict[str, Any]] = []

    def judge(what: str, vector: NDArray[np.float32], epsilon: float | None = None) -> None:
        for canary, base in zip(canaries, bases):
            measured = measure_canary(model, canary, vector, others, base)
            rows.append({"published": what, "seed": seed, "epsilon": epsilon, **measured})
        print(f"seed {seed} {what}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        judge("round-0 adapter", compute_initial_adapter(document).to_float32())
        plain = Victim(model, document, canaries, seed, folder)
        vectors = publish_alone(plain, document, rounds, folder)
        judge("one proposal", vectors[0])
        judge(f"{rounds} proposals", vectors[-1])
        judge(f"global of 6, {rounds} rounds", publish_together(plain, model, document, rounds, seed, folder))
        private = Victim(model, document, canaries, seed, folder, Privacy(noise, 1e6))
        vectors = publish_alone(private, document, rounds, folder)
        judge("one proposal, private", vectors[0], private.epsilons[0])
        judge(f"{rounds} proposals, private", vectors[-1], private.epsilons[-1])
        for victim, what in ((plain, "plain"), (private, "private")):
            print(f"seed {seed} {what}: own hold-out {victim.losses}, {victim.rows} rows", file=sys.stderr, flush=True)
    return rows


def sum_up(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = list(dict.fromkeys((row["published"], row["times"]) for row in rows))
    table = []
    for what, times in keys:
        part = [row for row in rows if (row["published"], row["times"]) == (what, times)]
        epsilons = [row["epsilon"] for row in part if row["epsilon"] is not None]
        table.append(
            {
                "published": what,
                "times": times,
                "canaries": len(part),
                "exposure_mean": round(statistics.mean(row["exposure"] for row in part), 2),
                "exposure_most": round(max(row["exposure"] for row in part), 2),
                "extracted": sum(row["is_extracted"] for row in part),
                "epsilon": round(epsilons[0], 2) if epsilons else None,
            }
        )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--noise", type=float, default=1.0, help="of the private trainings, in clips")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    document = create_document("canaries", BASE_FOLDER, seed=bytes(32))
    model = AdaptedModel(BASE_FOLDER, document)
    rows = [
        row for seed in range(options.seeds) for row in run_seed(model, document, seed, options.rounds, options.noise)
    ]
    result = {"canaries": sum_up(rows), "cpu_seconds": round(time.process_time() - began, 1)}
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
