"""What is computed before memory is spent: against what a process then takes, and where it says no."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from family_support import make_family
from training_support import SEED, write_initial_adapter

from flock_chain.errors import Misuse, Unavailable
from flock_p2p.arguments.doctor import COMMAND
from flock_p2p.cli import EXIT_CHECK_FAILED
from flock_p2p.commands import doctor
from flock_peers.training import memory
from flock_peers.training.base_check import check_base_folder
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import Budget, create_document, read_weight_shapes
from flock_peers.training.memory import MemoryPlan, check_memory, plan_memory, plan_shape
from flock_peers.training.precision import Precision, check_precision

TOLERANCE = 0.25  # of the measured peak; the plan has been within a tenth of it
LARGE: dict[str, Any] = {  # large enough that weights and activations show beside the runtime
    "hidden_size": 512, "intermediate_size": 1_408, "num_hidden_layers": 6, "num_attention_heads": 8,
    "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 16_000,
}  # fmt: skip
STEP = """
import gc, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from flock_peers.training.document import decode_document
from flock_peers.training.engine import Engine
from flock_peers.training.model import AdaptedModel
from flock_peers.training.precision import Precision
from flock_peers.training.rows import Split, builtin_rows
folder = Path(sys.argv[1])
document = decode_document((folder / "document").read_bytes())
rows = builtin_rows("arithmetic", 0)
for checkpoints in (True, False):  # what takes less comes first
    # Of this program alone, and forgotten between: the kernel's ru_maxrss begins with the peak of who started it.
    Path("/proc/self/clear_refs").write_text("5")
    model = AdaptedModel(folder / "base", document, precision=Precision("float32"), checkpoints=checkpoints)
    engine = Engine(model, document, Split(rows[12:], rows[:12]), None)
    engine.train(folder / "global-0.safetensors", 1, folder / f"out-{checkpoints}", print)
    status = Path("/proc/self/status").read_text().split()
    print("peak", int(status[status.index("VmHWM:") + 1]) * 1024)
    del model, engine
    gc.collect()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of one program is read from Linux's /proc")
def test_a_step_takes_about_what_was_planned(tmp_path: Path) -> None:
    folder = make_family("llama", tmp_path / "base", **LARGE)
    budget = Budget(steps=1, batch=8, seq_len=96, eval_windows=1)
    document = create_document("memory", folder, seed=SEED, budget=budget)
    (tmp_path / "document").write_bytes(document.encode())
    write_initial_adapter(document, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", STEP, str(tmp_path)],
        capture_output=True, text=True, timeout=400, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    peaks = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("peak")]
    for checkpoints, peak in zip((True, False), peaks, strict=True):
        plan = plan_memory(folder, document.layout, budget, Precision("float32"), checkpoints=checkpoints)
        assert abs(plan.total - peak) < TOLERANCE * peak, f"planned {plan}, measured {peak / 1e9:.2f} GB"


def test_each_part_grows_with_what_it_is_for(tmp_path: Path) -> None:
    folder = make_family("llama", tmp_path / "base", num_hidden_layers=8)
    budget = Budget(batch=8, seq_len=96)
    document = create_document("memory", folder, seed=SEED, budget=budget)

    def plan(precision: str = "float32", budget: Budget = budget, **values: Any) -> MemoryPlan:
        return plan_memory(folder, document.layout, budget, Precision(precision), **values)

    assert plan("bfloat16").weights * 2 == plan().weights
    assert plan("int4").weights < plan("int8").weights < plan("bfloat16").weights
    assert plan().adapter == 10 * 4 * document.layout.parameters
    assert plan(gpus=8).activations == plan(budget=replace(budget, batch=1)).activations  # a batch is shared out
    assert plan(budget=replace(budget, batch=16)).activations == 2 * plan().activations
    assert plan(checkpoints=True).activations < plan().activations
    assert plan("bfloat16", gpus=8).weights < plan("bfloat16", gpus=1).weights


def test_several_gpus_share_the_layers_and_hold_embeddings_and_head_whole(tmp_path: Path) -> None:
    folder = make_family("llama", tmp_path / "base", num_hidden_layers=8)  # embeddings and head are two matrices
    document = create_document("memory", folder, seed=SEED)
    config = check_base_folder(folder)
    sizes = {name: math.prod(shape) for name, shape in read_weight_shapes(folder).items()}
    total, outside = sum(sizes.values()), 2 * 384 * 32 + 32
    inside = total - outside
    assert inside == sum(size for name, size in sizes.items() if ".layers." in name)
    wanted = 2 * (outside + inside // 4 + 2 * inside // 8)  # bytes; two layers are gathered at a time
    for plan in (
        plan_memory(folder, document.layout, document.budget, Precision("bfloat16"), gpus=4),
        plan_shape(config, total, document.layout, document.budget, Precision("bfloat16"), gpus=4),
    ):
        assert plan.weights == wanted
    one = plan_shape(config, total, document.layout, document.budget, Precision("bfloat16"), gpus=1)
    assert one.weights == 2 * total


def test_files_that_a_control_group_has_read_are_no_reason_to_refuse(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("4000000000\n")
    (tmp_path / "memory.current").write_text("3900000000\n")
    (tmp_path / "memory.stat").write_text("anon 900000000\ninactive_file 2500000000\nactive_file 500000000\n")
    assert memory.read_group_room(tmp_path) == 2_600_000_000
    (tmp_path / "memory.current").write_text("9900000000\n")
    assert memory.read_group_room(tmp_path) == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.read_group_room(tmp_path) == memory.read_group_room(tmp_path / "none") == 1 << 62


def test_what_does_not_fit_is_refused_with_what_it_needs_and_what_there_is() -> None:
    plan = MemoryPlan(10**9, 2 * 10**9, 0, 0, 10**9, 0)
    check_memory(plan, 4 * 10**9)
    with pytest.raises(Unavailable, match=r"needs about 4.00 GB .*weights 2.00.*3.99 GB are free"):
        check_memory(plan, 4 * 10**9 - 10**7)


def arguments(*values: str) -> Any:
    import argparse

    parser = argparse.ArgumentParser()
    COMMAND.add_arguments(parser)
    return parser.parse_args(values)


def test_doctor_says_what_a_base_needs_and_whether_it_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_family("gpt2", tmp_path / "base")
    monkeypatch.setattr(memory, "read_free_gpus", list)
    monkeypatch.setattr(memory, "read_free_memory", lambda: 10**10)
    assert doctor.run(arguments("--base", str(folder), "--batch", "4", "--seq-len", "64")) == 0
    said = capsys.readouterr().out
    assert "rank 8 on c_attn, c_fc, c_proj" in said and "4 x 64 tokens a step" in said and "it fits" in said
    base = str(BASE_FOLDER)  # the package's own, which no other process tries to open first
    monkeypatch.setattr(memory, "read_free_memory", lambda: 10**6)
    assert doctor.run(arguments("--base", base)) == EXIT_CHECK_FAILED
    assert "training needs about" in capsys.readouterr().out
    assert doctor.run(arguments("--base", base, "--gpus", "8", "--json")) == EXIT_CHECK_FAILED
    told = json.loads(capsys.readouterr().out)
    (memory_row,) = [row for row in told["findings"] if row["name"] == "memory"]
    assert not told["ok"] and not memory_row["is_ok"] and memory_row["advice"]
    assert "8 GPUs wanted, 0 here; each needs about" in memory_row["text"] and "--gpus" in memory_row["advice"]
    assert doctor.run(arguments("--base", base, "--precision", "int4", "--json")) == EXIT_CHECK_FAILED
    (memory_row,) = [row for row in json.loads(capsys.readouterr().out)["findings"] if row["name"] == "memory"]
    assert "needs bitsandbytes" in memory_row["text"] and memory_row["advice"].startswith("install it")
    monkeypatch.setattr(memory, "read_free_gpus", lambda: [10**6, 10**10, 10**11])
    assert doctor.run(arguments("--base", base, "--gpus", "2")) == 0
    assert "as bfloat16" in (said := capsys.readouterr().out) and "10.00 GB are free on each of 2 GPUs" in said
    with pytest.raises(Misuse, match=r"no config\.json"):
        doctor.run(arguments("--base", str(tmp_path)))
    doctor.run(arguments("--package"))


def test_a_precision_without_its_library_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flock_peers.training.precision.find_spec", lambda _name: None)
    with pytest.raises(Unavailable, match="needs bitsandbytes, which is not installed: pip install"):
        check_precision("int4")
    with pytest.raises(Misuse, match="one of auto, float32"):
        check_precision("float8")
    check_precision("bfloat16")
