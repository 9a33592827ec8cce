"""What training on a base model will take of memory, computed from its files before any of it is spent. Needs no torch.

The activations are counted by what autograd keeps of a decoder layer with frozen weights, in the manner of Korthikanti
et al., "Reducing Activation Recomputation in Large Transformer Models" (arXiv:2205.05198), section 4: there 34 s b h
bytes a layer, with the gradients of all weights; here 9 h + 4 i numbers a token, for hidden size h and MLP width i.
"""

import math
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flock_chain.aggregation import Layout
from flock_chain.errors import Unavailable
from flock_peers.training.base_check import check_base_folder
from flock_peers.training.document import Budget, TaskDocument, read_weight_shapes
from flock_peers.training.precision import Precision

RUNTIME_BYTES = 400 << 20  # interpreter, torch, transformers and peft after their import: 390 MiB measured, CPU wheel
CUDA_BYTES = 600 << 20  # context and kernels
VECTORS = 10  # of the adapter's length, float32: value, gradient, two of Adam, centre, change, global, delta, files
HEAD_ELEMENTS = 1 << 24  # of logits at a time, as in fused; three copies of them exist
KEPT_ELEMENTS, MERGES_FROM = 1 << 24, 2  # of a merged weight that is kept, and what it has to save, as in fused
KEPT_HIDDEN, KEPT_WIDTH = 9, 4  # numbers a token and layer that autograd keeps, in hidden sizes and MLP widths


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes, by what they are for."""

    runtime: int
    weights: int
    adapter: int
    merged: int  # weights with LoRA in them, kept for the backward pass
    activations: int
    head: int

    @property
    def total(self) -> int:
        return self.runtime + self.weights + self.adapter + self.merged + self.activations + self.head

    def __str__(self) -> str:
        rows = ", ".join(f"{name} {value / 1e9:.2f}" for name, value in self.__dict__.items())
        return f"{self.total / 1e9:.2f} GB ({rows})"


def plan_memory(
    folder: Path, layout: Layout, budget: Budget, precision: Precision, *, checkpoints: bool = False, gpus: int = 0
) -> MemoryPlan:
    """With several GPUs: of each of them, with the base's layers in equal parts and the batch shared out."""
    config = check_base_folder(folder)
    sizes = {name: math.prod(shape) for name, shape in read_weight_shapes(folder).items()}
    outside = sum(size for name, size in sizes.items() if not any(part.isdigit() for part in name.split(".")))
    return plan_shape(
        config, sum(sizes.values()), layout, budget, precision, checkpoints=checkpoints, gpus=gpus, outside=outside
    )


def plan_shape(
    config: dict[str, Any], parameters: int, layout: Layout, budget: Budget, precision: Precision,
    *, checkpoints: bool = False, gpus: int = 0, outside: int | None = None,
) -> MemoryPlan:  # fmt: skip
    """`outside`: parameters of no layer (embeddings, last norm, head), which each GPU holds whole; computed if None."""
    shape = config.get("text_config") or config
    hidden = _number(shape, "hidden_size", "n_embd")
    layers = _number(shape, "num_hidden_layers", "n_layer")
    width = _number(shape, "intermediate_size", "n_inner", "ffn_dim", default=4 * hidden)
    vocabulary = _number(shape, "vocab_size")
    experts = _number(shape, "num_experts_per_tok", default=1)
    share = max(1, gpus)
    tokens = math.ceil(budget.batch / share) * budget.seq_len
    number = 4 if precision.name == "float32" else 2
    layer = tokens * (KEPT_HIDDEN * hidden + KEPT_WIDTH * width * experts) * number
    kept = layers * tokens * hidden * number + layer if checkpoints else layers * layer
    if outside is None:
        outside = hidden + vocabulary * hidden * (1 if config.get("tie_word_embeddings") else 2)
    inside = max(0, parameters - outside)
    gathered = 2 * inside / max(1, layers) if gpus > 1 else 0
    return MemoryPlan(
        runtime=CUDA_BYTES if gpus else RUNTIME_BYTES,
        weights=int((parameters - inside + inside / share + gathered) * precision.bytes_per_weight),
        adapter=VECTORS * 4 * layout.parameters,
        merged=0 if precision.name != "float32" or checkpoints else _merged_bytes(layout, tokens),
        activations=int(kept),
        head=3 * 4 * max(vocabulary, min(HEAD_ELEMENTS, tokens * vocabulary)) + 6 * number * tokens * hidden,
    )


def _merged_bytes(layout: Layout, tokens: int) -> int:
    shapes = dict(layout.tensors)
    total = 0
    for name, shape in layout.tensors:
        if name.endswith("lora_A.weight"):
            inputs, outputs = shape[1], shapes[name.replace("lora_A", "lora_B")][0]
            saves = tokens * (inputs + outputs) > MERGES_FROM * inputs * outputs
            is_merged = saves and inputs * outputs <= KEPT_ELEMENTS
            total += 4 * inputs * outputs * is_merged
    return total


def _number(config: dict[str, Any], *names: str, default: int = 0) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return default


def read_free_memory() -> int:
    """Bytes that the kernel can give without swapping, or what this control group may still take."""
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 1 << 62  # not Linux: the system itself will say
    return min(free, read_group_room(Path("/sys/fs/cgroup")))


def read_group_room(group: Path) -> int:
    """What a control group may still take: files that it read and nobody maps now count as used, and are given back."""
    try:
        most, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        rows = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return 1 << 62 if most == "max" else max(0, int(most) - used + int(rows["inactive_file"]))
    except (OSError, KeyError, ValueError):
        return 1 << 62


def read_free_gpus() -> list[int]:
    """Free bytes of each GPU, as the driver's own tool says; empty where there is none."""
    command = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        return [int(line) << 20 for line in found.split()]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []


def check_memory(plan: MemoryPlan, free: int) -> None:
    """Raises Unavailable: another moment, or another machine, may have it."""
    if plan.total > free:
        raise Unavailable(
            f"memory: training needs about {plan}, {free / 1e9:.2f} GB are free; close something, or choose a smaller "
            "task or base, --checkpointing, or --precision bfloat16 or int4"
        )


def plan_document(
    folder: Path, document: TaskDocument, precision: Precision, checkpoints: bool, gpus: int = 0
) -> MemoryPlan:
    return plan_memory(folder, document.layout, document.budget, precision, checkpoints=checkpoints, gpus=gpus)
