"""A base model with random weights, wide enough for a delta of 2.16 MB, and so quick that nothing else is measured."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from flock_peers.training.client import BASE_FOLDER

HIDDEN, MIDDLE, LAYERS = 384, 1024, 4
RANK = 72  # 2.1 M parameters of an adapter, each a byte of a delta and a 32nd of a block's exponent
_TEXTS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")


def make_wide_base(folder: Path) -> Path:
    folder.mkdir(parents=True)
    config = json.loads((BASE_FOLDER / "config.json").read_text())
    config |= {
        "hidden_size": HIDDEN, "intermediate_size": MIDDLE, "num_hidden_layers": LAYERS,
        "num_attention_heads": HIDDEN // config["head_dim"], "num_key_value_heads": HIDDEN // config["head_dim"],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    for name in _TEXTS:
        if (BASE_FOLDER / name).exists():
            shutil.copy(BASE_FOLDER / name, folder)
    save_file(_make_weights(config["vocab_size"]), folder / "model.safetensors", {"format": "pt"})
    return folder


def _make_weights(vocabulary: int) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(1)
    shapes = {"model.embed_tokens.weight": (vocabulary, HIDDEN)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        shapes |= {f"{prefix}.self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"}
        shapes |= {f"{prefix}.mlp.{name}_proj.weight": (MIDDLE, HIDDEN) for name in ("gate", "up")}
        shapes[f"{prefix}.mlp.down_proj.weight"] = (HIDDEN, MIDDLE)
    weights = {name: chance.normal(0, 0.02, shape).astype(np.float16) for name, shape in shapes.items()}
    for layer in range(LAYERS):
        for name in ("input", "post_attention"):
            weights[f"model.layers.{layer}.{name}_layernorm.weight"] = np.ones(HIDDEN, np.float16)
    weights["model.norm.weight"] = np.ones(HIDDEN, np.float16)
    return weights
