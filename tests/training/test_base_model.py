import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from training_support import miniature

from flock_peers.training.base_manifest import list_base_files
from flock_peers.training.base_model import SECOND, main, save_base, train_base
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import create_document

MAX_SHIPPED_BYTES = 4 << 20


def test_a_rebuilt_miniature_learns() -> None:
    losses = miniature()[1]
    assert sum(losses[-10:]) / 10 < sum(losses[:3]) / 3 - 0.8


def test_a_second_base_is_of_another_family_and_vocabulary_and_learns(tmp_path: Path) -> None:
    recipe = replace(SECOND, vocabulary=384, steps=30, batch=4, seq_len=48, lr=1e-2, warmup=5, max_chars=100_000)
    model, tokenizer, losses = train_base(recipe, report=False)
    assert sum(losses[-5:]) / 5 < sum(losses[:3]) / 3 - 0.8
    save_base(model, tokenizer, tmp_path / "second")
    folders = (tmp_path / "second", BASE_FOLDER)
    config, shipped = (json.loads((folder / "config.json").read_text()) for folder in folders)
    assert config["model_type"] == "gpt2" != shipped["model_type"] and SECOND.vocabulary != shipped["vocab_size"]
    assert create_document("second", tmp_path / "second", seed=bytes(32)).lora.targets == ("c_attn", "c_fc", "c_proj")


def test_of_a_recipe_its_steps_and_its_vocabulary_are_what_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path), "--miniature", "--steps", "2", "--vocabulary", "300"]) == 0
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] == 300
    assert "step 0/2 " in capsys.readouterr().out


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
