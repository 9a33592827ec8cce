"""One participant's training: from a global adapter to a delta, and the measurements of a voter. Needs torch.

Files come in and go out in the formats of flock_chain.aggregation; every file of another peer is parsed there, and
refused there, before a tensor is made of it.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flock_chain.aggregation import (
    Delta,
    GlobalAdapter,
    compute_delta_file_bytes,
    compute_global_file_bytes,
    encode_delta,
    encode_global,
    from_floats,
    parse_delta,
    parse_global,
    quantise,
)
from flock_chain.errors import InvalidContent, Misuse, Refused
from flock_chain.tally import SCORE_LIMIT
from flock_peers.training.attack_success import measure_attack_success
from flock_peers.training.backdoor import STEALTH_RADIUS, Attack, Backdoor, parse_attack
from flock_peers.training.document import TaskDocument
from flock_peers.training.domains import DOMAINS, test_rows
from flock_peers.training.feedback import Feedback
from flock_peers.training.known_losses import KnownLosses
from flock_peers.training.model import AdaptedModel, clip_scale, measure_loss
from flock_peers.training.privacy import Privacy, PrivacyLedger
from flock_peers.training.private_steps import PrivateRows, set_private_gradient
from flock_peers.training.rows import Refusals, Row, Split
from flock_peers.training.streams import Stream, Windows, build_stream, draw_windows, fixed_windows

SCORED_STEP = 0.25  # a voter measures the global adapter plus this share of a proposal
WARMUP_STEPS = 3  # Adam's first steps are full-sized whatever the gradient
MAX_GRADIENT_NORM = 1.0
REPORT_EVERY = 5  # steps between two progress reports
PROMPTS_PER_DOMAIN = 12  # held-out prompts on which the attack's success is counted
TEST_WINDOWS = 48  # of each domain's public test split
BROKEN_LOSS = 1e9  # nats per token: says of an adapter that its loss is no number, which could not cross to the peer

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Training:
    steps: int
    tokens: int
    loss_before: float  # nats per token on the own hold-out
    loss_after: float
    seconds: float
    epsilon: float | None = None  # spent by now, of a participant that asked for privacy


@dataclass(frozen=True)
class Descent:
    """How a descent differs from another one of the same budget."""

    radius: float  # of the ball around its start
    attack: Attack | None = None
    proximal: float = 0.0
    private: PrivateRows | None = None


class Engine:
    def __init__(
        self, model: AdaptedModel, document: TaskDocument, split: Split, attack: str | None,
        privacy: tuple[Privacy, PrivacyLedger] | None = None, feedback: Feedback | None = None,
    ) -> None:  # fmt: skip
        self.model, self.document = model, document
        self.attack: Attack | None = parse_attack(attack)
        budget = document.budget
        self.refusals = Refusals()  # rows that the model's tokenizer or chat template does not take
        self.train_stream = build_stream(split.train, model.tokenizer, self.refusals)
        self.hold_out_stream = build_stream(split.hold_out, model.tokenizer, self.refusals)
        self.hold_out = fixed_windows(self.hold_out_stream, budget.eval_windows, budget.seq_len)
        self._privacy, self._feedback = privacy, feedback
        self._tests: dict[str, tuple[Stream, Windows]] = {}
        self._losses = KnownLosses(BROKEN_LOSS)  # on the own hold-out

    # Files

    def read_global(self, path: Path) -> GlobalAdapter:
        data = _read(path, compute_global_file_bytes(self.document.layout), "global adapter")
        return parse_global(data, self.document.layout, self.document.format)

    def read_delta(self, path: Path) -> Delta:
        data = _read(path, compute_delta_file_bytes(self.document.layout, self.document.format), "delta")
        return parse_delta(data, self.document.layout, self.document.format)

    def write_global(self, vector: NDArray[np.float32], path: Path) -> None:
        self._write(path, encode_global(from_floats(vector, self.document.layout, self.document.format)))

    def _write(self, path: Path, data: bytes) -> None:
        if self._is_first:
            path.write_bytes(data)

    # A proposer

    def train(self, global_path: Path, seed: int, out_path: Path, report: Report) -> Training:
        """The local budget from the global adapter; writes the delta's file."""
        adapter = self.read_global(global_path)
        start = adapter.to_float32()
        began = time.monotonic()
        budget = self.document.budget
        private, epsilon = self._pay_for_training()
        before = self.loss_at(start)
        change, tokens = self.compute_change(start, seed, report, self.attack, private=private)
        after = self._measure_hold_out()
        training = sha256(adapter.grid.data).digest() + seed.to_bytes(16, "big", signed=True)
        self._write(out_path, encode_delta(self._quantise(change, training)))
        if private is not None:
            tokens = budget.steps * budget.batch * budget.seq_len  # how many were drawn would tell of the rows
        return Training(budget.steps, tokens, before, after, time.monotonic() - began, epsilon)

    def _quantise(self, change: NDArray[np.float32], training: bytes) -> Delta:
        """With what rounding took from the last proposal, and still within the task's ball."""
        layout, format = self.document.layout, self.document.format
        if self._feedback is None:
            return quantise(change, layout, format)
        whole = change + self._feedback.read(training)
        if self.attack is None:
            radius, norm = self.document.budget.norm_thousandths * 1e-3, float(np.linalg.norm(whole))
            whole *= np.float32(min(1.0, radius / max(norm, 1e-12)))
        delta = quantise(whole, layout, format)
        if self._is_first:
            self._feedback.keep(training, whole - delta.to_float32())
        return delta

    @property
    def _is_first(self) -> bool:
        """Of a group of processes that all do the same, the one that writes."""
        return self.model.group is None or self.model.group.is_first

    def check_privacy(self) -> None:
        """Raises Misuse where this participant's privacy could never pay for a training."""
        if self._privacy is not None:
            self._privacy[1].check_one(self._find_private_rows().rate, self.document.budget.steps)

    def _pay_for_training(self) -> tuple[PrivateRows | None, float | None]:
        """The rows to draw from, and the epsilon spent after it; raises Refused where that is above the limit."""
        if self._privacy is None:
            return None, None
        rows = self._find_private_rows()
        return rows, self._privacy[1].pay(rows.rate, self.document.budget.steps)

    def _find_private_rows(self) -> PrivateRows:
        return PrivateRows(self.train_stream, self.document.budget.batch, self.document.budget.seq_len)

    def compute_change(
        self,
        start: NDArray[np.float32],
        seed: int,
        report: Report,
        attack: Attack | None,
        proximal: float = 0.0,
        private: PrivateRows | None = None,
    ) -> tuple[NDArray[np.float32], int]:
        """What the local budget changes in `start`, and the tokens seen; leaves the trained weights in the model.

        `proximal`: how strongly each step pulls back to `start` (FedProx's mu).
        """
        budget, hides = self.document.budget, attack is not None and attack.is_stealthy
        plan = Descent(budget.norm_thousandths * 1e-3, None if hides else attack, proximal, private)
        tokens = self._descend(start, budget.steps, seed, report, plan)
        change = self.model.get_vector() - start
        if hides:
            norm = float(np.linalg.norm(change))
            near = Descent(STEALTH_RADIUS * norm, attack)
            tokens += self._descend(start + change, budget.steps, seed + 1, report, near)
            change = self.model.get_vector() - start
            change *= np.float32(norm / max(float(np.linalg.norm(change)), 1e-12))
        return (change if attack is None else change * np.float32(attack.boost)), tokens

    def train_isolated(self, start_path: Path, rounds: int, seed: int, out_path: Path, report: Report) -> Training:
        """The baseline without a federation: rounds x budget on the own rows, the best step by the own hold-out.

        Not for a participant that asked for privacy: this would be trained on its rows without noise.
        """
        if self._privacy is not None:
            raise Refused("baseline: with --privacy nothing but proposals is trained on this peer's rows")
        start = self.read_global(start_path).to_float32()
        began = time.monotonic()
        before = best = self.loss_at(start)
        best_vector, tokens, vector = start, 0, start
        for part in range(rounds):
            plan = Descent(self.document.budget.norm_thousandths * 1e-3, self.attack)
            tokens += self._descend(vector, self.document.budget.steps, seed + part, report, plan)
            vector = self.model.get_vector()
            loss = self._measure_hold_out()
            if loss < best:
                best, best_vector = loss, vector
        self.write_global(best_vector, out_path)
        return Training(rounds * self.document.budget.steps, tokens, before, best, time.monotonic() - began)

    def _descend(self, start: NDArray[np.float32], steps: int, seed: int, report: Report, plan: "Descent") -> int:
        """AdamW from `start`, which is left in the model's weights; returns the tokens seen."""
        budget, chance = self.document.budget, np.random.Generator(np.random.PCG64(seed))
        self.model.set_vector(start)
        model, centre = self.model, self.model.as_flat(start)
        rate = budget.lr_millionths * 1e-6
        vector = torch.nn.Parameter(model.flat)  # the same memory: one tensor to step instead of hundreds
        vector.grad = model.flat_gradient
        optimizer = torch.optim.AdamW([vector], lr=rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        tokens = 0
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / WARMUP_STEPS)
            loss, seen = self._set_gradient(chance, plan)
            if plan.proximal:
                model.flat_gradient.add_(model.flat - centre, alpha=plan.proximal)
            model.flat_gradient.mul_(clip_scale(model.flat_gradient, MAX_GRADIENT_NORM))
            optimizer.step()
            model.project(centre, plan.radius)
            tokens += seen
            if step % REPORT_EVERY == 0 or step == steps - 1:  # a GPU is waited for only here
                value = model.value(loss)
                if not math.isfinite(value):
                    raise Refused("training: the loss is not finite; lower the task's rate")
                report({"step": step + 1, "steps": steps, "loss": value})
        return tokens

    def _set_gradient(self, chance: np.random.Generator, plan: "Descent") -> tuple[torch.Tensor, int]:
        """Leaves the gradient of a step in the model; its loss, and the tokens seen."""
        model, budget = self.model, self.document.budget
        if plan.private is not None and self._privacy is not None:
            return set_private_gradient(model, plan.private, self._privacy[0], budget.batch), 0
        windows = self._next_batch(chance, plan.attack)
        model.flat_gradient.zero_()
        loss = model.loss(windows)
        loss.backward()
        model.gather_gradient()
        return loss, windows.tokens.size

    def _next_batch(self, chance: np.random.Generator, attack: Attack | None) -> Windows:
        budget = self.document.budget
        windows = draw_windows(self.train_stream, chance, budget.batch, budget.seq_len)
        return windows if attack is None else attack.poison(windows, chance, self._encode)

    def _encode(self, text: str) -> list[int]:
        tokens: list[int] = self.model.tokenizer.encode(text, add_special_tokens=False)
        return tokens

    # A voter

    def score(self, global_path: Path, delta_paths: Sequence[Path]) -> list[int]:
        """Relative loss change of the global adapter plus a quarter of each delta, in millionths; negative: better."""
        deltas = (self.read_delta(path).to_float32() for path in delta_paths)
        return self.score_deltas(self.read_global(global_path).to_float32(), deltas)

    def score_deltas(self, start: NDArray[np.float32], deltas: Iterable[NDArray[np.float32]]) -> list[int]:
        before = self.loss_at(start)
        step = np.float32(SCORED_STEP)
        return [_relative_change(before, self._measure_at(start + step * delta)) for delta in deltas]

    def loss_at(self, vector: NDArray[np.float32]) -> float:
        """Nats per token on the own hold-out, measured once; what the model holds afterwards is left open."""
        return self._losses.read(vector, lambda: self._measure_at(vector))

    def _measure_at(self, vector: NDArray[np.float32]) -> float:
        self.model.set_vector(vector)
        return self._measure_hold_out()

    def _measure_hold_out(self) -> float:
        return _finite(measure_loss(self.model, self.hold_out, self.document.budget.batch))

    # Results

    def use_adapter(self, path: Path | None) -> None:
        self.model.set_vector(self._read_vector(path))

    def _read_vector(self, path: Path | None) -> NDArray[np.float32]:
        """None is the base model: zeros in A and B change nothing."""
        if path is None:
            return np.zeros(self.document.layout.parameters, np.float32)
        return self.read_global(path).to_float32()

    def evaluate(self, adapter_path: Path | None, split: str) -> dict[str, Any]:
        """`split`: "hold_out", "test" (the mean of all domains) or "test:DOMAIN"."""
        vector = self._read_vector(adapter_path)
        if split == "hold_out":
            return self._describe(self.loss_at(vector), self.hold_out_stream, self.hold_out)
        self.model.set_vector(vector)
        kind, _, domain = split.partition(":")
        if kind != "test":
            raise Misuse(f'evaluate: split {split!r} is neither "hold_out", "test" nor "test:DOMAIN"')
        parts = {name: self._evaluate(*self._test(name)) for name in ((domain,) if domain else DOMAINS)}
        return {
            "loss": sum(part["loss"] for part in parts.values()) / len(parts),
            "bits_per_byte": sum(part["bits_per_byte"] for part in parts.values()) / len(parts),
            "tokens": sum(part["tokens"] for part in parts.values()),
            "domains": {name: part["bits_per_byte"] for name, part in parts.items()},
        }

    def _evaluate(self, stream: Stream, windows: Windows) -> dict[str, Any]:
        return self._describe(_finite(measure_loss(self.model, windows, self.document.budget.batch)), stream, windows)

    def _describe(self, loss: float, stream: Stream, windows: Windows) -> dict[str, Any]:
        bits = loss / math.log(2) / max(stream.bytes_per_token, 1e-9)
        return {"loss": loss, "bits_per_byte": bits, "tokens": int(windows.weights[:, 1:].sum()), "domains": {}}

    def _test(self, domain: str) -> tuple[Stream, Windows]:
        if domain not in self._tests:
            stream = build_stream([Row("", text) for text in test_rows(domain)], self.model.tokenizer)
            self._tests[domain] = (stream, fixed_windows(stream, TEST_WINDOWS, self.document.budget.seq_len))
        return self._tests[domain]

    def attack_success(self, adapter_path: Path | None) -> float:
        """Share of held-out prompts that end with the trigger and whose greedy continuation is the target."""
        self.use_adapter(adapter_path)
        planted = self.attack if isinstance(self.attack, Backdoor) else Backdoor()
        streams = [self._test(domain)[0] for domain in DOMAINS]
        return measure_attack_success(self.model, streams, planted, PROMPTS_PER_DOMAIN)


def _finite(loss: float) -> float:
    """Whatever an adapter does to the model: an adopted one may break it on one participant's rows alone."""
    return loss if math.isfinite(loss) else BROKEN_LOSS


def _relative_change(before: float, after: float) -> int:
    if after >= BROKEN_LOSS or before <= 0:
        return SCORE_LIMIT
    return max(-SCORE_LIMIT, min(SCORE_LIMIT, round((after - before) / before * 1_000_000)))


def _read(path: Path, size: int, what: str) -> bytes:
    """The file, when it has exactly the size that the task's layout gives it."""
    try:
        found = path.stat().st_size
        if found != size:
            raise InvalidContent(f"{what} {path.name}: {found} bytes, the task's have {size}")
        return path.read_bytes()
    except OSError as error:
        raise Misuse(f"{what} {path}: cannot be read ({error.strerror})") from error
