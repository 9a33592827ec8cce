"""A base model opened from its folder, with a task's LoRA on it: whole, in several processes' parts, or without its
weights, to see whether it could be. Knows no vector, no loss and no data.

Any causal language model in a local transformers folder: safetensors only, no remote code, no network.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when huggingface_hub is imported: a trainer never goes online
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from flock_chain.aggregation import Layout
from flock_chain.errors import FlockError, Misuse
from flock_peers.training.base_check import UnusableBase, check_base_folder, check_context
from flock_peers.training.base_manifest import list_weights
from flock_peers.training.document import LoraSettings, read_weight_shapes
from flock_peers.training.precision import Precision, choose_precision, loading_options
from flock_peers.training.reasons import describe, is_of_the_machine
from flock_peers.training.sharding import Group, load_sharded, make_empty_base

log = logging.getLogger(__name__)

ADVICE = "the model has to be mended, or another one taken"  # to whoever has it in a folder, and to who would join


def choose_attention(cuda: bool) -> str:
    """flash-attn where it is installed and can run; its absence is no error."""
    return "flash_attention_2" if cuda and find_spec("flash_attn") is not None else "sdpa"


def load_tokenizer(folder: Path) -> Any:
    with reasons_of(folder, "its tokenizer cannot be loaded"):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


@contextmanager
def reasons_of(folder: Path, what: str) -> Iterator[None]:
    """Whatever a model's own code raises while it is opened is this model's reason, but for what the machine lacks."""
    try:
        yield
    except FlockError:
        raise
    except Exception as error:
        if is_of_the_machine(error):
            raise
        raise UnusableBase(f"base model {folder}: {what} ({describe(error)}); {ADVICE}") from error


def load_base(folder: Path, precision: Precision | None = None, group: Group | None = None) -> Any:
    """The frozen base on its device. Raises Misuse naming the check that it fails."""
    check_base_folder(folder)
    cuda = torch.cuda.is_available()
    precision = precision or choose_precision("auto")
    if group is not None:
        return _load_shared(folder, precision, group)
    model = _load_whole(folder, precision, choose_attention(cuda))
    model.requires_grad_(False)
    return model if precision.is_quantised else model.to("cuda" if cuda else "cpu")


def _load_shared(folder: Path, precision: Precision, group: Group) -> Any:
    if precision.is_quantised:
        raise Misuse(f"precision {precision.name}: a base in several parts is float32 or bfloat16")
    attention = choose_attention(group.device.type == "cuda")
    return load_sharded(
        lambda: _load_whole(folder, precision, attention), lambda: _make_empty(folder, precision, attention), group
    )


def _make_empty(folder: Path, precision: Precision, attention: str) -> Any:
    options = loading_options(precision)
    return _with_attention(folder, attention, lambda which: make_empty_base(folder, which, **options))


def _load_whole(folder: Path, precision: Precision, attention: str) -> Any:
    model, info = _with_attention(folder, attention, lambda which: _load(folder, precision, which))
    _check_found(folder, info)
    return model


def _check_found(folder: Path, info: dict[str, Any]) -> None:
    for what in ("missing_keys", "mismatched_keys"):
        if info.get(what):
            names = ", ".join(sorted(str(name) for name in info[what])[:3])
            found = f"weights {what.removesuffix('_keys')}: {names}"
            raise UnusableBase(f"base model {folder}: {found}; they would be made up: fetch all again")


def _with_attention(folder: Path, attention: str, load: Callable[[str], Any]) -> Any:
    """What `load` makes with this attention, or with the model's own, slower one, where its family has no other."""
    with reasons_of(folder, "cannot be loaded"):
        try:
            return load(attention)
        except ValueError as error:
            if "does not support an attention implementation" not in str(error):
                raise
            log.info("this model has no %s attention; its own is used", attention)
            return load("eager")
        except RuntimeError as error:
            if "ignore_mismatched_sizes" not in str(error):
                raise
            what = "its weights have other shapes than its configuration says; fetch both again"
            raise UnusableBase(f"base model {folder}: {what}") from error


def _load(folder: Path, precision: Precision, attention: str) -> tuple[Any, dict[str, Any]]:
    """The model, and which weights were not found."""
    found: tuple[Any, dict[str, Any]] = AutoModelForCausalLM.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
        attn_implementation=attention,
        **loading_options(precision),
    )
    return found


def try_opening(folder: Path, wanted: Sequence[tuple[LoraSettings, Layout]], seq_len: int) -> None:
    """All of a model's opening that needs no weights: they are names and shapes here, from the headers of their files.
    Raises Misuse as `AdaptedModel` does, of the first that is `wanted` where the model takes none of them. What only
    its computation says is not seen."""
    weights = {name: torch.empty(shape, device="meta") for name, shape in read_weight_shapes(folder).items()}

    def load(attention: str) -> tuple[Any, dict[str, Any]]:
        empty = make_empty_base(folder, attention, dtype=torch.float32)
        config = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, attn_implementation=attention
        )
        found: tuple[Any, dict[str, Any]] = type(empty).from_pretrained(
            None,
            config=config if type(config) is type(empty.config) else config.get_text_config(),  # of several parts
            state_dict=weights,
            device_map="meta",
            dtype=torch.float32,
            output_loading_info=True,
        )
        _check_read_beside(folder)
        return found

    base, info = _with_attention(folder, choose_attention(cuda=False), load)
    _check_found(folder, info)
    check_context(base.config.get_text_config(), seq_len, len(load_tokenizer(folder)))
    refusals = []
    for lora, layout in wanted:
        try:
            put_lora(folder, base if len(wanted) == 1 else deepcopy(base), lora, layout, low_cpu_mem_usage=True)
        except UnusableBase as error:
            refusals.append(error)
        else:
            return
    raise refusals[0]


def _check_read_beside(folder: Path) -> None:
    """What a load from the folder reads and one from shapes does not: all of the headers, and how text is generated."""
    for path in list_weights(folder):
        with safe_open(path, framework="numpy"):  # maps it for reading only, which counts as no memory of the process
            pass
    with suppress(OSError):  # there is none, or it is no JSON: neither is missed
        GenerationConfig.from_pretrained(folder, local_files_only=True)


def put_lora(folder: Path, base: Any, lora: LoraSettings, layout: Layout, **options: Any) -> tuple[Any, list[Any]]:
    """The adapted model, and its LoRA tensors in the layout's order."""
    with reasons_of(folder, "takes no LoRA"):
        peft = get_peft_model(base, lora_config(lora, _is_transposed(base)), **options)
    named = {name.replace(".default.", "."): value for name, value in peft.named_parameters() if value.requires_grad}
    shapes = {name: tuple(value.shape) for name, value in named.items()}
    if shapes != dict(layout.tensors):
        different = sorted(set(shapes.items()) ^ set(layout.tensors))[:2]
        raise UnusableBase(f"base model {folder}: peft's LoRA tensors differ from the task's layout: {different}")
    return peft, [named[name] for name, _ in layout.tensors]


def lora_config(lora: LoraSettings, transposed: bool = False) -> LoraConfig:
    return LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets), lora_dropout=0.0, bias="none",
        task_type="CAUSAL_LM", fan_in_fan_out=transposed,
    )  # fmt: skip


def _is_transposed(base: Any) -> bool:
    """GPT-2 keeps its weights as [inputs, outputs]."""
    return any(type(module).__name__ == "Conv1D" for module in base.modules())
