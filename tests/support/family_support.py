"""Folders of random-weight models of several families, made on the spot, for tests of what is not the shipped base."""

import json
import shutil
from pathlib import Path
from typing import Any

from training_support import miniature

from flock_peers.training.client import BASE_FOLDER

# hidden, layers, heads: as small as the families allow; the tokenizer is the miniature's
_COMMON: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128,
}  # fmt: skip
_GPT2: dict[str, Any] = {
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
}

ATTENTION = ("k_proj", "o_proj", "q_proj", "v_proj")
MLP = ("down_proj", "gate_proj", "up_proj")
FAMILIES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {  # configuration class, values, targets to be found
    "llama": ("LlamaConfig", _COMMON, tuple(sorted(ATTENTION + MLP))),
    "qwen2": ("Qwen2Config", {**_COMMON, "tie_word_embeddings": True}, tuple(sorted(ATTENTION + MLP))),
    "qwen3": ("Qwen3Config", _COMMON, tuple(sorted(ATTENTION + MLP))),
    "gemma2": ("Gemma2Config", {**_COMMON, "sliding_window": 16}, tuple(sorted(ATTENTION + MLP))),
    "gemma3": ("Gemma3TextConfig", {**_COMMON, "sliding_window": 16}, tuple(sorted(ATTENTION + MLP))),
    "gpt2": ("GPT2Config", _GPT2, ("c_attn", "c_fc", "c_proj")),
    "gpt_neo": (
        "GPTNeoConfig",
        {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
         "max_position_embeddings": 512, "bos_token_id": 0, "eos_token_id": 0},
        ("c_fc", "c_proj", "k_proj", "out_proj", "q_proj", "v_proj"),
    ),
    "mixtral": ("MixtralConfig", {**_COMMON, "num_local_experts": 4}, ATTENTION),
    "bloom": (
        "BloomConfig", {"hidden_size": 32, "n_layer": 2, "n_head": 4},
        ("dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value"),
    ),
}  # fmt: skip


def make_family(name: str, folder: Path, **values: Any) -> Path:
    """A folder as its makers would publish it: configuration, safetensors, tokenizer."""
    import torch
    import transformers

    torch.manual_seed(7)
    kind, defaults, _ = FAMILIES[name]
    config = getattr(transformers, kind)(**{"vocab_size": 384, **defaults, **values})
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(miniature()[0]).save_pretrained(folder)
    return folder


def make_unknown(folder: Path) -> Path:
    """The package's own model, of a type that no library knows; made without torch."""
    shutil.copytree(BASE_FOLDER, folder)
    change_config(folder, model_type="nosuchmodel")
    return folder


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def drop_a_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.1.self_attn.q_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def spoil_a_weight(folder: Path) -> None:
    """Every tensor is there and of its shape; one number in one of them is none."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def make_part(folder: Path) -> Path:
    """The text's part of a model that sees: its configuration is that of the whole, with a part for each."""
    import torch
    import transformers

    torch.manual_seed(7)
    layers = {"linear_num_key_heads": 2, "linear_num_value_heads": 2, "layer_types": ["full_attention"] * 2}
    config = transformers.Qwen3_5Config(text_config={"vocab_size": 384, **_COMMON, **layers})
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    config.architectures = model.config.architectures
    config.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(miniature()[0]).save_pretrained(folder)
    return folder
