"""The task document: what everybody trains, and how. Bytes in, bytes out; needs no torch and knows no chain.

It holds the manifest of the base model, which names every file by content id, what rows a participant brings, the LoRA
configuration, the local budget, the number format, the layout of the adapter and the seed of the round-0 adapter, so
that each peer computes the round-0 bytes itself and compares them with the id on chain.
"""

import math
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flock_chain.aggregation import Format, GlobalAdapter, Layout, from_floats
from flock_chain.bounded_json import loads
from flock_chain.codec import decode, encode
from flock_chain.content import MAX_OBJECT_BYTES
from flock_chain.errors import InvalidContent, InvalidEncoding, Misuse
from flock_peers.training.base_check import check_base_folder
from flock_peers.training.base_manifest import (
    MAX_NAME_CHARACTERS,
    BaseFile,
    BaseManifest,
    check_files,
    describe_base,
    list_weights,
    parse_base,
)
from flock_peers.training.data_format import ANY, DATA_FORMATS

DOCUMENT_FORMAT = 2
REFERENCE_FORMAT = 3  # of a document with a reference: others are what they were
# Some hundred rows of each of a few domains; what follows what is counted for every proposal that an audit looks at.
MAX_REFERENCE_BYTES = 64 << 10
MAX_TARGETS = 32  # kinds of linear layer in a model; Llama has 7
MAX_RANK, MAX_ALPHA = 512, 4_096
MAX_BATCH_TOKENS = 1 << 17  # batch x seq_len: one sequence of the longest context, or 32 of 4,096; bounds activations
MAX_EVAL_TOKENS = 1 << 22  # eval_windows x seq_len: a hold-out in memory takes 64 MiB
MAX_HEADER_BYTES = 16 << 20  # safetensors' own limit is 100 MB; the largest published headers have about 10
MAX_HEADER_DEPTH = 4  # names, their fields, and the numbers of a shape
MAX_DIMENSIONS, MAX_SIDE = 8, 1 << 40  # of a weight: products of these stay small numbers
_NOT_ADAPTED = ("embed", "lm_head", "wte", "wpe", "norm")  # parts of names of 2-D weights that are no projections
_ROUTED = ("experts", "gate", "router", "shared_expert_gate")  # parts of a mixture that transformers holds otherwise
_TRANSPOSED_MODELS = ("gpt2", "openai-gpt")  # keep their weights as [inputs, outputs]


@dataclass(frozen=True)
class LoraSettings:
    rank: int = 8
    alpha: int = 64  # large, so that A moves little while B grows: then deltas add up almost linearly
    targets: tuple[str, ...] = ()  # last parts of module names, sorted


@dataclass(frozen=True)
class Budget:
    """What one local training costs at most, and how its loss is measured. Defaults: benchmarks/federation.py."""

    steps: int = 24
    batch: int = 8  # sequences
    seq_len: int = 96  # tokens
    lr_millionths: int = 1_000  # AdamW's rate
    norm_thousandths: int = 1_400  # of the delta at most: training projects onto this ball, so honest norms are alike
    eval_windows: int = 32  # sequences of seq_len tokens on which a hold-out is measured, at most


@dataclass(frozen=True)
class TaskDocument:
    name: str
    base_files: tuple[BaseFile, ...]  # sorted by name
    layout: Layout
    seed: bytes  # 32 bytes, of the round-0 adapter
    lora: LoraSettings
    budget: Budget = field(default_factory=Budget)
    format: Format = field(default_factory=Format)
    data: str = ANY  # which rows a participant brings (data_format)
    reference: str = ""  # public text: what the task's domains say by themselves, which audits blame nobody for

    @property
    def base(self) -> BaseManifest:
        return BaseManifest(self.base_files)

    def encode(self) -> bytes:
        reference = {"reference": self.reference} if self.reference else {}
        data = encode(
            {
                "format": REFERENCE_FORMAT if self.reference else DOCUMENT_FORMAT,
                "name": self.name,
                "base": self.base.to_value(),
                "data": self.data,
                "lora": {"rank": self.lora.rank, "alpha": self.lora.alpha, "targets": list(self.lora.targets)},
                "budget": asdict(self.budget),
                "numbers": self.format.to_dict(),
                "layout": self.layout.to_dict(),
                "seed": self.seed,
                **reference,
            }
        )
        if len(data) > MAX_OBJECT_BYTES:
            shorter = ", or a shorter reference" if self.reference else ""
            raise Misuse(
                f"task document: {len(data)} bytes, at most {MAX_OBJECT_BYTES}; choose fewer target modules{shorter}"
            )
        return data


_BOUNDS = {  # of a budget: least and greatest value
    "steps": (1, 100_000),
    "batch": (1, 4_096),
    "seq_len": (8, 131_072),
    "lr_millionths": (1, 1_000_000),
    "norm_thousandths": (1, 1_000_000_000),
    "eval_windows": (1, 4_096),
}


def decode_document(data: bytes) -> TaskDocument:
    """Parse a stranger's document; raises InvalidEncoding naming the check."""
    value = decode(data)
    keys = {"format", "name", "base", "data", "lora", "budget", "numbers", "layout", "seed"}
    number = value.get("format") if isinstance(value, dict) else None
    if type(number) is not int or number not in (DOCUMENT_FORMAT, REFERENCE_FORMAT):
        raise InvalidEncoding(
            f"task document: format {number!r:.20}, this release reads formats {DOCUMENT_FORMAT} and {REFERENCE_FORMAT}"
        )
    keys |= {"reference"} if number == REFERENCE_FORMAT else set()
    if "metric" in value:
        raise InvalidEncoding(
            f"task document: metric {value['metric']!r:.40}: scores here are of a loss alone, which falls where things "
            "improve; a document names no metric"
        )
    if set(value) != keys:
        raise InvalidEncoding(f"task document: fields differ: {str(sorted(set(value) ^ keys))[:80]}")
    if not isinstance(value["name"], str) or not 0 < len(value["name"]) <= MAX_NAME_CHARACTERS:
        raise InvalidEncoding(f"task document: a name has 1 to {MAX_NAME_CHARACTERS} characters")
    if not isinstance(value["seed"], bytes) or len(value["seed"]) != 32:
        raise InvalidEncoding("task document: a seed is 32 bytes")
    if not isinstance(value["data"], str) or value["data"] not in DATA_FORMATS:
        raise InvalidEncoding(f"task document: data is one of {', '.join(DATA_FORMATS)}")
    document = TaskDocument(
        name=value["name"],
        base_files=parse_base(value["base"]).files,
        layout=Layout.from_dict(value["layout"]),
        seed=value["seed"],
        lora=_parse_lora(value["lora"]),
        budget=_parse_budget(value["budget"]),
        format=Format.from_dict(value["numbers"]),
        data=value["data"],
        reference=_parse_reference(value["reference"]) if number == REFERENCE_FORMAT else "",
    )
    _check_layout(document)
    return document


def _parse_reference(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value.encode()) <= MAX_REFERENCE_BYTES:
        raise InvalidEncoding(f"task document: a reference has 1 to {MAX_REFERENCE_BYTES} bytes of text")
    return value


def _is_count(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _parse_lora(value: Any) -> LoraSettings:
    if not isinstance(value, dict) or set(value) != {"rank", "alpha", "targets"}:
        raise InvalidEncoding("task document: lora must name rank, alpha and targets")
    if not _is_count(value["rank"], 1, MAX_RANK) or not _is_count(value["alpha"], 1, MAX_ALPHA):
        raise InvalidEncoding(f"task document: rank up to {MAX_RANK}, alpha up to {MAX_ALPHA}")
    targets = value["targets"]
    if not isinstance(targets, list) or not all(isinstance(name, str) and name.isidentifier() for name in targets):
        raise InvalidEncoding("task document: targets must be names of modules")
    if not 0 < len(targets) <= MAX_TARGETS or targets != sorted(set(targets)):
        raise InvalidEncoding(f"task document: 1 to {MAX_TARGETS} targets, sorted and unique")
    return LoraSettings(value["rank"], value["alpha"], tuple(targets))


def _parse_budget(value: Any) -> Budget:
    if not isinstance(value, dict) or set(value) != set(_BOUNDS):
        raise InvalidEncoding(f"task document: budget must name {', '.join(_BOUNDS)}")
    for name, (low, high) in _BOUNDS.items():
        if not _is_count(value[name], low, high):
            raise InvalidEncoding(f"task document: {name} is not between {low} and {high}")
    if value["batch"] * value["seq_len"] > MAX_BATCH_TOKENS:
        raise InvalidEncoding(f"task document: batch x seq_len above {MAX_BATCH_TOKENS} tokens")
    if value["eval_windows"] * value["seq_len"] > MAX_EVAL_TOKENS:
        raise InvalidEncoding(f"task document: eval_windows x seq_len above {MAX_EVAL_TOKENS} tokens")
    return Budget(**value)


def _check_layout(document: TaskDocument) -> None:
    """Every tensor is the A or the B of a targeted projection, in the configured rank."""
    names = {name for name, _ in document.layout.tensors}
    for name, shape in document.layout.tensors:
        module, _, kind = name.removesuffix(".weight").rpartition(".")
        rank = {"lora_A": shape[0], "lora_B": shape[-1]}.get(kind)
        if not name.endswith(".weight") or len(shape) != 2 or rank != document.lora.rank:
            raise InvalidEncoding(f"task document: {name} of shape {shape} is no LoRA tensor of this rank")
        other = f"{module}.{'lora_B' if kind == 'lora_A' else 'lora_A'}.weight"
        if module.rpartition(".")[2] not in document.lora.targets or other not in names:
            raise InvalidEncoding(f"task document: {name} has no target or no counterpart")


def check_base(folder: Path, document: TaskDocument) -> None:
    """Raises InvalidContent naming the first file that is missing or differs from the task's."""
    check_files(folder, document.base)


def check_fit(folder: Path, document: TaskDocument) -> None:
    """Raises InvalidContent unless the task is on this base model and its layout is that of the base's projections.

    Before anything is allocated by a stranger's layout: afterwards it is bounded by the model that is here.
    """
    check_base(folder, document)
    check_layout(folder, document)


def check_layout(folder: Path, document: TaskDocument) -> None:
    """The same for a folder whose files are the task's already."""
    try:
        layout, _ = compute_layout(folder, document.lora.rank, document.lora.targets)
    except Misuse as error:
        raise InvalidContent(f"task document: {error}") from error
    if layout != document.layout:
        raise InvalidContent("task document: its layout is not that of its targets on the base model")


def read_weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by name from the headers of the safetensors files. Raises Misuse, as all that looks at a folder does."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in list_weights(folder):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > MAX_HEADER_BYTES:
                raise Misuse(f"base model {folder}: {path.name} is no safetensors file: a header of {length} bytes")
            try:
                header = loads(file.read(length), depth=MAX_HEADER_DEPTH)
                header.pop("__metadata__", None)
                shapes |= {name: _read_shape(row) for name, row in header.items()}
                size = 8 + length + max((_read_end(row) for row in header.values()), default=0)
            except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
                what = "is cut off, or no safetensors file"
                raise Misuse(f"base model {folder}: {path.name} {what}; fetch it again") from error
            if (found := path.stat().st_size) != size:
                what = f"has {found} bytes, and {size} by its own header"
                raise Misuse(f"base model {folder}: {path.name} {what}; fetch it again")
    return shapes


def _read_shape(row: dict[str, Any]) -> tuple[int, ...]:
    shape = tuple(row["shape"])
    if len(shape) > MAX_DIMENSIONS or not all(_is_count(side, 0, MAX_SIDE) for side in shape):
        raise ValueError("no shape")
    return shape


def _read_end(row: dict[str, Any]) -> int:
    """Where its bytes end, counted from the header's end."""
    end: int = row["data_offsets"][1]
    if not _is_count(end, 0, MAX_SIDE):
        raise ValueError("no offset")
    return end


def compute_layout(folder: Path, rank: int, targets: tuple[str, ...] = ()) -> tuple[Layout, tuple[str, ...]]:
    """The LoRA tensors of all linear projections (or of `targets`), named as peft saves them; and their targets.

    Raises Misuse where they would hold more than the base model: memory that a joiner did not offer.
    """
    shapes: dict[str, tuple[int, int]] = {}
    found: set[str] = set()
    config = check_base_folder(folder)
    is_transposed = config.get("model_type") in _TRANSPOSED_MODELS
    base = read_weight_shapes(folder)
    for name, shape in base.items():
        module = name.removesuffix(".weight")
        target = module.rpartition(".")[2]
        if module == name or len(shape) != 2 or any(part in module for part in _NOT_ADAPTED):
            continue
        if set(module.split(".")) & set(_ROUTED):  # of experts only attention, and what all tokens pass, is adapted
            continue
        if targets and target not in targets:
            continue
        found.add(target)
        outputs, inputs = reversed(shape) if is_transposed else shape
        shapes[f"base_model.model.{module}.lora_A.weight"] = (rank, inputs)
        shapes[f"base_model.model.{module}.lora_B.weight"] = (outputs, rank)
    if not shapes or (targets and found != set(targets)):
        raise Misuse(f"base model {folder}: no linear projections named {', '.join(targets) or 'at all'}")
    layout, most = Layout.of(shapes), sum(math.prod(shape) for shape in base.values())
    if layout.parameters > most:
        raise Misuse(
            f"base model {folder}: an adapter of rank {rank} has {layout.parameters} parameters, the model itself only "
            f"{most}; choose a smaller rank or fewer targets"
        )
    return layout, tuple(sorted(found))


def create_document(
    name: str, folder: Path, *, seed: bytes, budget: Budget | None = None, rank: int = 8, alpha: int = 64,
    targets: tuple[str, ...] = (), format: Format | None = None, data: str = ANY, base: BaseManifest | None = None,
    reference: str = "",
) -> TaskDocument:  # fmt: skip
    """The document of a new task on a base model's folder; raises Misuse for what a joiner would refuse. `base`: the
    folder's manifest, where it is known already: its files are large."""
    layout, found = compute_layout(folder, rank, targets)
    document = TaskDocument(
        name=name,
        base_files=(base or describe_base(folder)).files,
        layout=layout,
        seed=seed,
        lora=LoraSettings(rank, alpha, found),
        budget=budget or Budget(),
        format=format or Format(),
        data=data,
        reference=reference,
    )
    try:
        decode_document(document.encode())
    except InvalidEncoding as error:
        raise Misuse(str(error)) from error
    return document


def compute_initial_adapter(document: TaskDocument) -> GlobalAdapter:
    """The round-0 adapter: A uniform within 1 / sqrt(inputs), B zero. The same bits on every machine.

    PCG64's raw 64-bit outputs are part of numpy's promise of stability, its distributions are not; so the scaling is
    our own: 53 bits to [-1, 1), times the bound, all of it exact or correctly rounded by IEEE 754.
    """
    generator = np.random.PCG64(int.from_bytes(sha256(document.seed).digest(), "big"))
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, shape in document.layout.tensors:
        if name.endswith("lora_B.weight"):
            tensors[name] = np.zeros(shape, np.float32)
            continue
        raw = np.asarray(generator.random_raw(math.prod(shape)), np.uint64) >> np.uint64(11)
        unit = raw.astype(np.float64) * 2.0**-52 - 1.0
        tensors[name] = (unit / math.sqrt(shape[1])).astype(np.float32).reshape(shape)
    return from_floats(document.layout.flatten(tensors), document.layout, document.format)
