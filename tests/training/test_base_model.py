import shutil
import subprocess
from pathlib import Path

import pytest
from training_support import miniature

from flock_peers.training.base_manifest import list_base_files
from flock_peers.training.client import BASE_FOLDER

MAX_SHIPPED_BYTES = 4 << 20


def test_a_rebuilt_miniature_learns() -> None:
    losses = miniature()[1]
    assert sum(losses[-10:]) / 10 < sum(losses[:3]) / 3 - 0.8


def test_the_shipped_base_is_an_ordinary_small_transformers_folder() -> None:
    names = {path.name for path in list_base_files(BASE_FOLDER)}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert sum(path.stat().st_size for path in BASE_FOLDER.iterdir()) <= MAX_SHIPPED_BYTES


def test_nothing_ignores_the_shipped_base_so_that_it_reaches_the_wheel() -> None:
    root = Path(__file__).parents[2]
    if shutil.which("git") is None or not (root / ".git").exists():
        pytest.skip("not a git checkout")
    files = [str(path) for path in BASE_FOLDER.iterdir()]
    assert subprocess.run(["git", "-C", str(root), "check-ignore", *files], capture_output=True).returncode == 1
