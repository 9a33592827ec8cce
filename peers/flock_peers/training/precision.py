"""In which numbers the frozen base model is held. Needs torch only where it asks what the machine can do.

LoRA tensors and their optimizer are float32 in every one of them; the precision is each participant's own choice.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flock_chain.errors import Misuse, Unavailable

PRECISIONS = ("auto", "float32", "bfloat16", "int8", "int4")
BYTES_PER_WEIGHT = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0, "int4": 0.53}  # int4: 4 bits, and a scale of 64


@dataclass(frozen=True)
class Precision:
    name: str

    @property
    def is_quantised(self) -> bool:
        return self.name in ("int8", "int4")

    @property
    def bytes_per_weight(self) -> float:
        return BYTES_PER_WEIGHT[self.name]


def check_precision(name: str) -> None:
    """Raises Misuse for a name that there is not, Unavailable where a library is missing. Without torch."""
    if name not in PRECISIONS:
        raise Misuse(f"precision {name!r}: one of {', '.join(PRECISIONS)}")
    if Precision(name).is_quantised and find_spec("bitsandbytes") is None:
        raise Unavailable(
            f"precision {name}: needs bitsandbytes, which is not installed: pip install 'flock-p2p[quantised]'"
        )


def choose_precision(name: str) -> Precision:
    """`auto`: bfloat16 on CUDA and on processors that multiply it themselves, float32 elsewhere."""
    check_precision(name)
    if name != "auto":
        return Precision(name)
    import torch

    if torch.cuda.is_available():
        return Precision("bfloat16")
    return Precision("bfloat16" if torch.cpu._is_amx_tile_supported() else "float32")


def guess_precision(name: str) -> Precision:
    """The same on a machine without CUDA, without torch: for a first look at the memory."""
    if name != "auto":
        return Precision(name)
    try:
        has_tiles = "amx_tile" in Path("/proc/cpuinfo").read_text()
    except OSError:
        has_tiles = False
    return Precision("bfloat16" if has_tiles else "float32")


def loading_options(precision: Precision) -> dict[str, Any]:
    """What `from_pretrained` is told."""
    import torch

    if not precision.is_quantised:
        return {"dtype": torch.float32 if precision.name == "float32" else torch.bfloat16}
    from transformers import BitsAndBytesConfig

    half = torch.bfloat16
    if precision.name == "int8":
        return {"dtype": half, "quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=half
    )
    return {"dtype": half, "quantization_config": config}
