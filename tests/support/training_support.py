"""A miniature base model and a task on it, for tests of the trainer."""

import json
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from flock_chain.aggregation import encode_global
from flock_peers.training.document import Budget, TaskDocument, compute_initial_adapter, create_document

if TYPE_CHECKING:
    from flock_peers.training.model import AdaptedModel

SEED = bytes(range(32))
BUDGET = Budget(steps=6, batch=4, seq_len=48, lr_millionths=5_000, eval_windows=6)
_KEPT: list[TemporaryDirectory[str]] = []


@lru_cache(maxsize=1)
def miniature() -> tuple[Path, tuple[float, ...]]:
    """The folder of a miniature base model, built once per run, and its losses while it was trained."""
    import torch

    from flock_peers.training.base_model import MINIATURE, save_base, train_base

    torch.set_num_threads(1)
    _KEPT.append(TemporaryDirectory(prefix="flock-miniature-"))
    folder = Path(_KEPT[-1].name)
    model, tokenizer, losses = train_base(MINIATURE, report=False)
    save_base(model, tokenizer, folder)
    return folder, tuple(losses)


@lru_cache(maxsize=1)
def miniature_document() -> TaskDocument:
    return create_document("miniature", miniature()[0], seed=SEED, budget=BUDGET, rank=4, alpha=8)


@lru_cache(maxsize=1)
def miniature_model() -> "AdaptedModel":
    """One for all tests of a process that set its adapter themselves, or mind none."""
    from flock_peers.training.model import AdaptedModel

    return AdaptedModel(miniature()[0], miniature_document())


def write_initial_adapter(document: TaskDocument, folder: Path) -> Path:
    path = folder / "global-0.safetensors"
    path.write_bytes(encode_global(compute_initial_adapter(document)))
    return path


def write_split(home: Path, seed: int = 2) -> Path:
    """A trainer draws its hold-out once, by chance; a test that looks at losses owns that chance."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "split.json").write_text(json.dumps({"seed": seed}))
    return home
