"""A base model with LoRA weights that can be set and read as one vector of the task's layout. Knows no data.

Any causal language model in a local transformers folder: safetensors only, no remote code, no network.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when huggingface_hub is imported: a trainer never goes online
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from flock_chain.errors import Misuse
from flock_peers.training.document import LoraSettings, TaskDocument
from flock_peers.training.streams import Windows


def choose_attention(cuda: bool) -> str:
    """flash-attn where it is installed and can run; its absence is no error."""
    return "flash_attention_2" if cuda and find_spec("flash_attn") is not None else "sdpa"


def load_tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_base(folder: Path) -> Any:
    cuda = torch.cuda.is_available()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.bfloat16 if cuda else torch.float32,
            attn_implementation=choose_attention(cuda),
        )
    except (OSError, ValueError) as error:
        raise Misuse(f"base model {folder}: cannot be loaded ({str(error)[:300]})") from error
    return model.to("cuda" if cuda else "cpu")


def lora_config(lora: LoraSettings) -> LoraConfig:
    return LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets), lora_dropout=0.0, bias="none",
        task_type="CAUSAL_LM",
    )  # fmt: skip


class AdaptedModel:
    """The base model, frozen, with the task's LoRA tensors beside its projections."""

    def __init__(self, folder: Path, document: TaskDocument) -> None:
        self.layout = document.layout
        self.tokenizer = load_tokenizer(folder)
        self.peft = get_peft_model(load_base(folder), lora_config(document.lora))
        self.peft.eval()
        self.device = next(self.peft.parameters()).device
        named = {
            name.replace(".default.", "."): value for name, value in self.peft.named_parameters() if value.requires_grad
        }
        shapes = {name: tuple(value.shape) for name, value in named.items()}
        if shapes != dict(document.layout.tensors):
            different = sorted(set(shapes.items()) ^ set(document.layout.tensors))[:2]
            raise Misuse(f"base model {folder}: peft's LoRA tensors differ from the task's layout: {different}")
        self.parameters = [named[name] for name, _ in document.layout.tensors]

    def set_vector(self, vector: NDArray[np.float32]) -> None:
        with torch.no_grad():
            for parameter, part in zip(self.parameters, self.tensors(vector), strict=True):
                parameter.copy_(part)

    def tensors(self, vector: NDArray[np.float32]) -> list[torch.Tensor]:
        parts = self.layout.split(vector)
        return [torch.from_numpy(np.array(parts[name])).to(self.device) for name, _ in self.layout.tensors]

    def project(self, centre: list[torch.Tensor], radius: float) -> None:
        """Back onto the ball of this radius around the centre, where the weights have left it."""
        with torch.no_grad():
            changes = [value - middle for value, middle in zip(self.parameters, centre, strict=True)]
            norm = math.sqrt(sum(float(change.square().sum()) for change in changes))
            if norm > radius:
                for value, middle, change in zip(self.parameters, centre, changes, strict=True):
                    value.copy_(middle + change * (radius / norm))

    def get_vector(self) -> NDArray[np.float32]:
        with torch.no_grad():
            parts = [value.detach().float().cpu().numpy().reshape(-1) for value in self.parameters]
        return np.concatenate(parts).astype(np.float32, copy=False)

    def logits(self, tokens: NDArray[np.int64]) -> torch.Tensor:
        ids = torch.from_numpy(tokens).to(self.device)
        output: torch.Tensor = self.peft(input_ids=ids, use_cache=False).logits
        return output.float()

    def loss(self, windows: Windows) -> torch.Tensor:
        """Weighted mean in nats per target token."""
        logits = self.logits(windows.tokens)[:, :-1]
        targets = torch.from_numpy(windows.tokens[:, 1:]).to(self.device)
        weights = torch.from_numpy(windows.weights[:, 1:]).to(self.device).reshape(-1)
        losses = torch.nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="none"
        )
        return (losses * weights).sum() / weights.sum().clamp_min(1.0)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        with torch.no_grad():
            yield


def measure_loss(model: AdaptedModel, windows: Windows, batch: int) -> float:
    """Nats per target token over all windows, batch after batch in order: deterministic on one machine."""
    total, weight = 0.0, 0.0
    with model.frozen():
        for start in range(0, len(windows.tokens), batch):
            part = Windows(windows.tokens[start : start + batch], windows.weights[start : start + batch])
            targets = float(part.weights[:, 1:].sum())
            total += model.loss(part).item() * max(targets, 1.0)
            weight += targets
    return total / max(weight, 1.0)
