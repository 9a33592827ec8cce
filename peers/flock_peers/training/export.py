"""Writes an adapter as the folder that `PeftModel.from_pretrained` and vLLM's --lora-modules load."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flock_peers.training.document import TaskDocument
from flock_peers.training.model import AdaptedModel

_README = """---
library_name: peft
---
# {name}

A LoRA adapter (rank {rank}, alpha {alpha}) made by a flock-p2p task, on the base model in `{base}`.

    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "this folder")

To merge it into the base model: `model.merge_and_unload().save_pretrained("merged")`.
"""


def export_adapter(
    model: AdaptedModel, document: TaskDocument, base: Path, vector: NDArray[np.float32], folder: Path
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.set_vector(vector)
    model.peft.peft_config["default"].base_model_name_or_path = str(base)
    model.peft.save_pretrained(str(folder), save_embedding_layers=False)
    text = _README.format(name=document.name, rank=document.lora.rank, alpha=document.lora.alpha, base=base)
    (folder / "README.md").write_text(text)
