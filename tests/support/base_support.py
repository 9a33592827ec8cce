"""Folders that hold a base model as far as anything but torch can tell, made in a millisecond."""

import json
import struct
from pathlib import Path
from typing import Any

from flock_peers.training.base_manifest import BaseFile, BaseManifest
from flock_peers.training.document import Budget, TaskDocument, create_document

HIDDEN = 8
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "num_hidden_layers": 1,
    "intermediate_size": 16, "vocab_size": 64, "dtype": "float32",
}  # fmt: skip


def make_base(folder: Path, *, rows: int = 64, seed: int = 1, config: dict[str, Any] | None = None) -> Path:
    """`rows` of an embedding of 32 bytes each, beside one projection."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    shapes = {"model.layers.0.self_attn.q_proj.weight": (HIDDEN, HIDDEN), "model.embed_tokens.weight": (rows, HIDDEN)}
    (folder / "model.safetensors").write_bytes(encode_weights(shapes, seed))
    return folder


def encode_weights(shapes: dict[str, tuple[int, int]], seed: int = 1) -> bytes:
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 4 * shape[0] * shape[1]
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    data = bytearray(offset)
    data[: 4 * HIDDEN] = struct.pack("<8f", *(float(seed + index) for index in range(8)))
    for start in range(0, offset, 1 << 16):  # no two chunks alike
        data[start : start + 4] = start.to_bytes(4, "little")
    return len(text).to_bytes(8, "little") + text + bytes(data)


def make_document(folder: Path, **values: Any) -> TaskDocument:
    return create_document(
        "a task", folder, seed=b"\7" * 32, rank=2, alpha=4, budget=Budget(steps=2, batch=1, seq_len=8), **values
    )


def with_file(document: TaskDocument, changed: BaseFile) -> BaseManifest:
    """One file of its manifest replaced."""
    return BaseManifest(tuple(changed if file.name == changed.name else file for file in document.base_files))
