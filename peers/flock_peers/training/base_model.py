"""Builds the small base model that the project ships, from the standard library's own text. Needs torch.

`python -m flock_peers.training.base_model --out FOLDER [--miniature | --second]`. The same seed on the same machine
gives the same model; another processor gives other floats, so the shipped folder is what a network pins, not this
program's output.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from flock_peers.training.stdlib_text import cut_source, iterate_files, read_source

END_OF_TEXT = "<|end|>"


@dataclass(frozen=True)
class Recipe:
    """Everything that shapes the base model."""

    vocabulary: int = 1_024
    hidden: int = 128
    layers: int = 3
    heads: int = 4
    intermediate: int = 352
    positions: int = 512
    steps: int = 4_600
    batch: int = 12
    seq_len: int = 128
    lr: float = 3e-3
    warmup: int = 60
    max_chars: int = 12_000_000
    seed: int = 20_250
    family: str = "llama"  # or "gpt2": learned positions, LayerNorm with biases, GELU, transposed weights


DEFAULT = Recipe()
MINIATURE = Recipe(vocabulary=320, hidden=32, layers=1, heads=2, intermediate=64, positions=256, steps=60, batch=8,
                   seq_len=48, lr=1e-2, warmup=5, max_chars=200_000)  # fmt: skip
# On which nothing is chosen, to see whether what was chosen on the first one holds: as little as possible is the same.
SECOND = Recipe(vocabulary=2_048, hidden=112, layers=4, intermediate=448, seed=7, family="gpt2")


def base_texts(max_chars: int) -> Iterator[str]:
    """Pieces of the files that no domain uses."""
    total = 0
    for path in iterate_files("base"):
        for piece in cut_source(read_source(path)):
            yield piece
            total += len(piece)
            if total >= max_chars:
                return


def build_tokenizer(texts: list[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with single digits; every byte string has tokens, so there is no unknown token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    )


def encode_stream(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    end = tokenizer.eos_token_id
    ids: list[int] = []
    for encoded in tokenizer.backend_tokenizer.encode_batch(texts):
        ids.extend(encoded.ids)
        ids.append(end)
    return np.asarray(ids, dtype=np.int64)


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    if recipe.family == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=len(tokenizer),
                n_positions=recipe.positions,
                n_embd=recipe.hidden,
                n_layer=recipe.layers,
                n_head=recipe.heads,
                n_inner=recipe.intermediate,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.positions,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def learning_rate(step: int, recipe: Recipe) -> float:
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def train_base(recipe: Recipe, report: bool = True) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, list[float]]:
    """Returns the model, its tokenizer and the loss of every step in nats per token."""
    torch.manual_seed(recipe.seed)
    texts = list(base_texts(recipe.max_chars))
    tokenizer = build_tokenizer(texts[:: max(1, len(texts) // 4_000)], recipe.vocabulary)
    stream = encode_stream(tokenizer, texts)
    model = build_model(recipe, tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.05)
    chance = np.random.Generator(np.random.PCG64(recipe.seed))
    losses, started = [], time.monotonic()
    for step in range(recipe.steps):
        starts = chance.integers(0, len(stream) - recipe.seq_len, recipe.batch)
        ids = torch.from_numpy(stream[starts[:, None] + np.arange(recipe.seq_len)])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe)
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if report and step % 50 == 0:
            mean = sum(losses[-50:]) / len(losses[-50:])
            print(f"step {step}/{recipe.steps} loss {mean:.3f} {time.monotonic() - started:.0f} s", flush=True)
    return model, tokenizer, losses


def save_base(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """An ordinary transformers folder, weights in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m flock_peers.training.base_model", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--miniature", action="store_true", help="a few seconds' model, for tests")
    kind.add_argument(
        "--second", action="store_true", help="of another family, vocabulary and seed; minutes, for `experiment --base`"
    )
    parser.add_argument("--steps", type=int, help="instead of the recipe's number")
    parser.add_argument("--vocabulary", type=int, help="tokens, instead of the recipe's number")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    recipe = MINIATURE if options.miniature else SECOND if options.second else DEFAULT
    if options.steps:
        recipe = replace(recipe, steps=options.steps)
    if options.vocabulary:
        recipe = replace(recipe, vocabulary=options.vocabulary)
    model, tokenizer, losses = train_base(recipe)
    save_base(model, tokenizer, options.out)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, last loss {sum(losses[-50:]) / 50:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
