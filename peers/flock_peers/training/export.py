"""Writes an adapter as the folder that `PeftModel.from_pretrained` and vLLM's --lora-modules load.

It is there to be given away, so it says nothing of this machine: its base is named as on the hub, or by content id.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flock_chain.content import format_cid
from flock_peers.training.document import TaskDocument
from flock_peers.training.hub import find_name
from flock_peers.training.model import AdaptedModel

_README = """---
library_name: peft
---
# {name}

A LoRA adapter (rank {rank}, alpha {alpha}) made by a flock-p2p task, on the base model `{base}`.

    from peft import PeftModel
    model = PeftModel.from_pretrained(base_model, "this folder")

To merge it into the base model: `model.merge_and_unload().save_pretrained("merged")`.
"""


def export_adapter(
    model: AdaptedModel, document: TaskDocument, base: Path, vector: NDArray[np.float32], folder: Path
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.set_vector(vector)
    config, name = model.peft.peft_config["default"], find_name(base)
    config.base_model_name_or_path, config.revision = name or (format_cid(document.base.digest), None)
    model.peft.save_pretrained(str(folder), save_embedding_layers=False)
    text = _README.format(
        name=document.name, rank=document.lora.rank, alpha=document.lora.alpha, base=config.base_model_name_or_path
    )
    (folder / "README.md").write_text(text)
