"""Tokens a second of the trainer, beside transformers' Trainer with peft and a plain loop on the same rows.

    python benchmarks/training.py [--models base,100m,500m] [--rounds 3] [--steps N] [--json]
    python benchmarks/training.py --lag [--seconds 20]

The ways take turns in one process, with the same model, batches, rank, rate and one thread; the median of the rounds
counts, of the processor's time where there is no GPU. Models other than the shipped one have random weights. `--lag`
measures how late a trio loop is beside a trainer's process that trains all the time, and beside nothing.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
import trio
from choices import several

from flock_chain.aggregation import encode_global
from flock_peers.telemetry import compute_percentile
from flock_peers.training.backdoor import Attack
from flock_peers.training.client import BASE_FOLDER, Trainer, TrainerConfig
from flock_peers.training.document import Budget, TaskDocument, compute_initial_adapter, create_document
from flock_peers.training.engine import Descent, Engine
from flock_peers.training.model import AdaptedModel
from flock_peers.training.opening import load_base, lora_config
from flock_peers.training.rows import Split, builtin_rows
from flock_peers.training.streams import Windows

SHAPES: dict[str, dict[str, Any]] = {  # of Llama and Qwen 2.5: hidden, layers, heads and vocabulary
    "100m": {
        "vocab_size": 32_000, "hidden_size": 640, "intermediate_size": 1_728, "num_hidden_layers": 12,
        "num_attention_heads": 10, "num_key_value_heads": 10, "tie_word_embeddings": True,
    },
    "500m": {
        "vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4_864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
}  # fmt: skip
STEPS = {"base": 60, "100m": 4, "500m": 2}  # of each way in each round
BATCH, SEQ_LEN = 8, 96
TICK_SECONDS = 0.002  # between two looks at the clock of the loop

# Seconds of this process on the processor, where there is no GPU: one thread, and nothing else on the machine counts.
clock = time.perf_counter if torch.cuda.is_available() else time.process_time

Way = Callable[[int], float]  # trains that many steps; seconds


@dataclass
class Setting:
    folder: Path
    document: TaskDocument
    batches: list[Windows]

    @property
    def tokens(self) -> int:
        return sum(batch.tokens.size for batch in self.batches)


def make_base(name: str, scratch: Path) -> Path:
    if name == "base":
        return BASE_FOLDER
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    folder = scratch / name
    model = LlamaForCausalLM(LlamaConfig(**SHAPES[name], max_position_embeddings=2_048))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(BASE_FOLDER).save_pretrained(folder)
    return folder


class Ours:
    """The engine's own loop, given the same batches."""

    def __init__(self, setting: Setting) -> None:
        rows = builtin_rows("python", 0)
        model = AdaptedModel(setting.folder, setting.document)
        self.engine = Engine(model, setting.document, Split(rows[8:], rows[:8]), None)
        self.start = compute_initial_adapter(setting.document).to_float32()
        batches = setting.batches
        self.turn = 0

        def next_batch(chance: np.random.Generator, attack: Attack | None) -> Windows:  # noqa: ARG001
            self.turn += 1
            return batches[(self.turn - 1) % len(batches)]

        self.engine._next_batch = next_batch  # type: ignore[method-assign]

    def train(self, steps: int) -> float:
        began = clock()
        self.engine._descend(self.start, steps, 1, lambda _event: None, Descent(radius=1.4))
        return clock() - began


def make_peft(setting: Setting) -> Any:
    from peft import get_peft_model

    return get_peft_model(load_base(setting.folder), lora_config(setting.document.lora))


class Plain:
    """peft's model, the model's own loss with labels, AdamW."""

    def __init__(self, setting: Setting) -> None:
        self.model = make_peft(setting)
        self.batches = [torch.from_numpy(batch.tokens) for batch in setting.batches]

    def train(self, steps: int) -> float:
        model, parameters = self.model, [value for value in self.model.parameters() if value.requires_grad]
        model.train()
        optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0)
        began = clock()
        for step in range(steps):
            ids = self.batches[step % len(self.batches)]
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        return clock() - began


class HuggingFace:
    """transformers' Trainer with nothing to save, log or evaluate."""

    def __init__(self, setting: Setting) -> None:
        self.model = make_peft(setting)
        self.rows = [{"input_ids": row, "labels": row} for batch in setting.batches for row in batch.tokens.tolist()]

    def train(self, steps: int) -> float:
        from transformers import Trainer as Theirs
        from transformers import TrainingArguments, default_data_collator

        rows = (self.rows * (1 + steps * BATCH // len(self.rows)))[: steps * BATCH]
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder, per_device_train_batch_size=BATCH, max_steps=steps, learning_rate=1e-3, weight_decay=0.0,
                max_grad_norm=1.0, logging_strategy="no", save_strategy="no", report_to=[], disable_tqdm=True,
                use_cpu=not torch.cuda.is_available(), dataloader_num_workers=0,
            )  # fmt: skip
            trainer = Theirs(self.model, arguments, train_dataset=rows, data_collator=default_data_collator)
            began = clock()
            trainer.train()
            return clock() - began


def make_setting(name: str, scratch: Path) -> Setting:
    folder = make_base(name, scratch)
    budget = Budget(steps=1, batch=BATCH, seq_len=SEQ_LEN)
    document = create_document(name, folder, seed=bytes(32), budget=budget)
    chance = np.random.Generator(np.random.PCG64(5))
    model_rows = builtin_rows("python", 0)
    from flock_peers.training.opening import load_tokenizer
    from flock_peers.training.streams import build_stream, draw_windows

    stream = build_stream(model_rows, load_tokenizer(folder))
    drawn = [draw_windows(stream, chance, BATCH, SEQ_LEN) for _ in range(8)]
    # All tokens are targets and one row for all three: the others have no other way to say it.
    return Setting(folder, document, [Windows(each.tokens, np.ones_like(each.weights)) for each in drawn])


def measure_model(name: str, rounds: int, steps: int, scratch: Path) -> dict[str, Any]:
    setting = make_setting(name, scratch)
    kinds: dict[str, Callable[[Setting], Any]] = {"ours": Ours, "trainer": HuggingFace, "plain": Plain}
    ways = {kind: make(setting) for kind, make in kinds.items()}
    for way in ways.values():
        way.train(2)
    seconds: dict[str, list[float]] = {kind: [] for kind in ways}
    for turn in range(rounds):
        order = list(ways)[turn % 3 :] + list(ways)[: turn % 3]
        for kind in order:
            seconds[kind].append(ways[kind].train(steps))
    tokens = steps * BATCH * SEQ_LEN
    speed = {kind: tokens / statistics.median(times) for kind, times in seconds.items()}
    return {
        "model": name,
        "parameters": sum(value.numel() for value in ways["plain"].model.parameters()),
        "steps": steps,
        "rounds": rounds,
        **{f"{kind}_tokens_s": round(value, 1) for kind, value in speed.items()},
        "ratio_to_trainer": _ratio(seconds, "trainer"),
        "ratio_to_plain": _ratio(seconds, "plain"),
    }


def _ratio(seconds: dict[str, list[float]], other: str) -> float:
    """The median of the rounds' own ratios: what else the machine did in a round slowed both."""
    return round(statistics.median(b / a for a, b in zip(seconds["ours"], seconds[other], strict=True)), 3)


async def _measure_lag(seconds: float) -> list[float]:
    late = []
    end = trio.current_time() + seconds
    while (due := trio.current_time() + TICK_SECONDS) < end:
        await trio.sleep_until(due)
        late.append(trio.current_time() - due)
    return late


async def measure_lag(seconds: float) -> dict[str, Any]:
    document = create_document("lag", BASE_FOLDER, seed=bytes(32), budget=Budget(steps=100_000))
    rows: dict[str, Any] = {"seconds": seconds}
    with tempfile.TemporaryDirectory() as scratch:
        start = Path(scratch) / "global"
        start.write_bytes(encode_global(compute_initial_adapter(document)))
        config = TrainerConfig(document, Path(scratch) / "home", domain="arithmetic")
        reports: list[dict[str, Any]] = []
        async with await Trainer.open(config, reports.append) as trainer, trio.open_nursery() as nursery:
            rows["alone"] = _sum_up(await _measure_lag(seconds))
            out = Path(scratch) / "delta"
            nursery.start_soon(lambda: trainer.train(start, round=1, seed=1, out_path=out))
            await trio.sleep(2)
            before = reports[-1].get("step", 0)
            rows["while_training"] = _sum_up(await _measure_lag(seconds))
            rows["steps_meanwhile"] = reports[-1].get("step", 0) - before
            os.kill(trainer.pid, 9)
            nursery.cancel_scope.cancel()
    return rows


def _sum_up(late: list[float]) -> dict[str, float]:
    shares = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
    return {name: round(1e3 * (compute_percentile(late, share) or 0.0), 3) for name, share in shares.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", default="base,100m", type=several(STEPS), help="of base, 100m, 500m (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of each way in each round (default: by model)")
    parser.add_argument("--lag", action="store_true", help="instead: how late an event loop is beside a trainer")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each part of --lag")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.lag:
        result: dict[str, Any] = {"lag": trio.run(measure_lag, options.seconds)}
    else:
        with tempfile.TemporaryDirectory(prefix="flock-training-") as scratch:
            rows = [
                measure_model(name, options.rounds, options.steps or STEPS[name], Path(scratch))
                for name in options.models
            ]
        result = {"training": rows, "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}
    result["load"] = os.getloadavg()[0]
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
