"""Models that the project did not make: what is adapted, that it trains, and that peft loads what comes out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from family_support import FAMILIES, change_config, drop_a_weight, make_family
from training_support import SEED, miniature, write_initial_adapter

from flock_chain.errors import Misuse
from flock_peers.training.document import Budget, TaskDocument, create_document
from flock_peers.training.engine import Engine
from flock_peers.training.export import export_adapter
from flock_peers.training.model import AdaptedModel, measure_loss
from flock_peers.training.rows import Split, builtin_rows

BUDGET = Budget(steps=2, batch=2, seq_len=48, lr_millionths=5_000, eval_windows=4)
LEAKING = ("bloom",)  # takes no positions, so rows of one sequence cannot be kept apart
PLAIN = ("gemma2",)  # caps its logits


def make_document(folder: Path) -> TaskDocument:
    return create_document("family", folder, seed=SEED, budget=BUDGET, rank=4, alpha=8)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_trains_and_its_exported_adapter_gives_the_same_loss_in_peft(name: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = make_family(name, tmp_path / "base")
    document = make_document(folder)
    assert document.lora.targets == FAMILIES[name][2]
    rows = builtin_rows("arithmetic", 0)
    model = AdaptedModel(folder, document)
    assert model.is_isolating is (name not in LEAKING)
    assert model.is_fast is (name not in PLAIN)
    engine = Engine(model, document, Split(rows[12:], rows[:12]), None)
    start = write_initial_adapter(document, tmp_path)
    result = engine.train_isolated(start, 1, 3, tmp_path / "adapter", lambda _event: None)
    assert result.loss_after < result.loss_before
    export_adapter(model, document, folder, engine.read_global(tmp_path / "adapter").to_float32(), tmp_path / "peft")
    expected = measure_loss(model, engine.hold_out, BUDGET.batch)
    plain = AdaptedModel.__new__(AdaptedModel)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    plain.peft = PeftModel.from_pretrained(base, str(tmp_path / "peft")).eval()
    plain.device, plain.is_isolating = model.device, model.is_isolating
    assert measure_loss(plain, engine.hold_out, BUDGET.batch) == pytest.approx(expected, abs=2e-5)
    without = np.zeros(document.layout.parameters, np.float32)
    model.set_vector(without)
    assert measure_loss(model, engine.hold_out, BUDGET.batch) != pytest.approx(expected, abs=2e-5)


def make_adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


def pickle_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def shard_badly(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00002-of-00002.safetensors"}}')


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: change_config(folder, auto_map={"AutoModel": "code.py"}), "needs code of its own"),
        (
            lambda folder: change_config(folder, architectures=["T5ForConditionalGeneration"]),
            "no causal language model",
        ),
        (lambda folder: change_config(folder, quantization_config={"bits": 4}), "quantised already"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "it is an adapter"),
        (make_adapter, "it is an adapter .*; name the folder of the model that it was made on"),
        (lambda folder: (folder / "config.json").write_text("["), "config.json is no JSON; fetch it again"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer"),
        (pickle_weights, "weights are pickled, which is never loaded"),
        (shard_badly, "weights are missing: 1 file, the first 'model-00002"),
    ],
)
def test_a_folder_that_is_no_usable_base_is_refused_by_name_before_torch(
    damage: object, reason: str, tmp_path: Path
) -> None:
    folder = make_family("llama", tmp_path / "base")
    damage(folder)  # type: ignore[operator]
    with pytest.raises(Misuse, match=reason):
        make_document(folder)


def test_a_model_is_refused_where_weights_would_be_made_up_or_positions_are_too_few(tmp_path: Path) -> None:
    folder = make_family("llama", tmp_path / "base")
    document = make_document(folder)
    drop_a_weight(folder)
    with pytest.raises(Misuse, match=r"weights missing: model.layers.1.self_attn.q_proj.weight; they would be made up"):
        AdaptedModel(folder, document)
    short = make_family("gpt2", tmp_path / "short", n_positions=32)
    with pytest.raises(Misuse, match="48 tokens, the model 32 positions"):
        AdaptedModel(short, make_document(short))
    few = make_family("llama", tmp_path / "few")
    change_config(few, vocab_size=100)
    with pytest.raises(Misuse, match="base model"):
        AdaptedModel(few, make_document(few))
    assert miniature()[0].exists()
