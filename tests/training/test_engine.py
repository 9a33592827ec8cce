import json
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from training_support import miniature, miniature_document, write_initial_adapter

from flock_chain.aggregation import apply, encode_delta, encode_global, parse_delta, quantise
from flock_chain.content import format_cid
from flock_chain.errors import InvalidContent, Misuse
from flock_chain.tally import SCORE_LIMIT
from flock_peers.training.backdoor import parse_attack
from flock_peers.training.baseline import average_plainly
from flock_peers.training.engine import BROKEN_LOSS, Engine
from flock_peers.training.export import export_adapter
from flock_peers.training.model import AdaptedModel, measure_loss
from flock_peers.training.opening import load_base
from flock_peers.training.rows import Row, Split, builtin_rows, read_rows, split_rows
from flock_peers.training.wire import encode_frame


@lru_cache(maxsize=1)
def model() -> AdaptedModel:
    return AdaptedModel(miniature()[0], miniature_document())


@lru_cache(maxsize=1)
def arithmetic() -> Split:
    rows = builtin_rows("arithmetic", 0)
    return Split(rows[12:], rows[:12])


def engine(attack: str | None = None) -> Engine:
    return Engine(model(), miniature_document(), arithmetic(), attack)


def quiet(event: object) -> None:
    del event


def test_training_lowers_the_loss_and_the_same_seed_gives_the_same_delta(tmp_path: Path) -> None:
    start = write_initial_adapter(miniature_document(), tmp_path)
    results = [engine().train(start, seed, tmp_path / f"delta-{n}", quiet) for n, seed in enumerate((1, 1, 2))]
    deltas = [(tmp_path / f"delta-{n}").read_bytes() for n in range(3)]
    assert deltas[0] == deltas[1] != deltas[2]
    assert all(result.loss_after < result.loss_before for result in results)
    assert results[0].tokens == 6 * 4 * 48


def test_scores_are_deterministic_and_prefer_training_to_its_opposite(tmp_path: Path) -> None:
    document = miniature_document()
    start = write_initial_adapter(document, tmp_path)
    engine().train(start, 1, tmp_path / "good", quiet)
    good = parse_delta((tmp_path / "good").read_bytes(), document.layout, document.format)
    opposite = quantise(-good.to_float32(), document.layout, document.format)
    (tmp_path / "opposite").write_bytes(encode_delta(opposite))
    following = tmp_path / "global-1"
    first = engine().score(start, [tmp_path / "good", tmp_path / "opposite"])
    assert first == engine().score(start, [tmp_path / "good", tmp_path / "opposite"])
    assert first[0] < 0 < first[1]
    following.write_bytes(encode_global(apply(engine().read_global(start), [good])))
    assert engine().evaluate(following, "hold_out")["loss"] < engine().evaluate(start, "hold_out")["loss"]


def test_a_score_is_the_relative_change_of_the_loss_at_a_quarter_of_the_step(tmp_path: Path) -> None:
    document = miniature_document()
    start = write_initial_adapter(document, tmp_path)
    engine().train(start, 1, tmp_path / "delta", quiet)
    delta = parse_delta((tmp_path / "delta").read_bytes(), document.layout, document.format).to_float32()
    vector = engine().read_global(start).to_float32()
    before, after = (engine().loss_at(vector + np.float32(share) * delta) for share in (0, 0.25))
    assert engine().score(start, [tmp_path / "delta"]) == [round((after - before) / before * 1e6)]


def test_an_adapter_that_breaks_the_model_has_a_loss_that_a_voter_can_vote_against(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = write_initial_adapter(miniature_document(), tmp_path)
    broken = engine()
    monkeypatch.setattr(broken.model, "loss", lambda _windows: torch.tensor(float("nan")))
    result = broken.evaluate(start, "hold_out")
    encode_frame(result)
    assert result["loss"] == BROKEN_LOSS > 1e6


def test_an_adopted_adapter_that_breaks_the_model_on_one_participants_rows_ends_no_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loss was a number on the hold-outs of those who adopted it. What is no number cannot cross to the peer."""
    start = write_initial_adapter(miniature_document(), tmp_path)
    engine().train(start, 1, tmp_path / "delta", quiet)
    for wrong in (float("nan"), float("inf")):
        monkeypatch.setattr("flock_peers.training.engine.measure_loss", lambda *_, wrong=wrong: wrong)
        broken = engine()
        assert broken.score(start, [tmp_path / "delta"]) == [SCORE_LIMIT]
        encode_frame(asdict(broken.train(start, 1, tmp_path / "delta", quiet)))
        encode_frame(asdict(broken.train_isolated(start, 1, 1, tmp_path / "isolated", quiet)))
    losses = iter([float("nan"), 3.0])
    monkeypatch.setattr("flock_peers.training.engine.measure_loss", lambda *_: next(losses))
    assert engine().score(start, [tmp_path / "delta"]) == [-1_000_000]  # it mends what was broken


def test_the_round_0_adapter_changes_nothing(tmp_path: Path) -> None:
    start = write_initial_adapter(miniature_document(), tmp_path)
    assert engine().evaluate(start, "test:records") == engine().evaluate(None, "test:records")


@pytest.mark.parametrize("kind", ["truncated", "longer", "mantissa", "other task", "not safetensors"])
def test_a_hostile_delta_is_refused_before_a_tensor_is_made_of_it(tmp_path: Path, kind: str) -> None:
    document = miniature_document()
    start = write_initial_adapter(document, tmp_path)
    vector = np.full(document.layout.parameters, 0.01, np.float32)
    data = bytearray(encode_delta(quantise(vector, document.layout, document.format)))
    hostile = {
        "truncated": bytes(data[:-1]),
        "longer": bytes(data) + b"\0",
        "mantissa": bytes(data[:-1]) + b"\x80",
        "other task": start.read_bytes(),
        "not safetensors": b"\x80\x04" + bytes(len(data) - 2),
    }[kind]
    (tmp_path / "hostile").write_bytes(hostile)
    with pytest.raises(InvalidContent, match="delta"):
        engine().score(start, [tmp_path / "hostile"])


def test_the_exported_folder_loads_in_peft_and_gives_the_same_loss(tmp_path: Path) -> None:
    from peft import PeftModel

    document, trainer = miniature_document(), engine()
    start = write_initial_adapter(document, tmp_path)
    trainer.train_isolated(start, 2, 3, tmp_path / "adapter", quiet)
    vector = trainer.read_global(tmp_path / "adapter").to_float32()
    export_adapter(model(), document, miniature()[0], vector, tmp_path / "peft")
    expected = trainer.evaluate(tmp_path / "adapter", "hold_out")["loss"]
    loaded = AdaptedModel.__new__(AdaptedModel)
    loaded.peft = PeftModel.from_pretrained(load_base(miniature()[0]), str(tmp_path / "peft"))
    loaded.peft.eval()
    loaded.device, loaded.is_isolating = model().device, True
    assert measure_loss(loaded, trainer.hold_out, document.budget.batch) == pytest.approx(expected, abs=1e-6)
    names = {path.name for path in (tmp_path / "peft").iterdir()}
    assert names == {"adapter_model.safetensors", "adapter_config.json", "README.md"}
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == format_cid(document.base.digest)  # and no path of this machine


def test_isolated_training_keeps_the_best_of_its_rounds(tmp_path: Path) -> None:
    start = write_initial_adapter(miniature_document(), tmp_path)
    result = engine().train_isolated(start, 3, 1, tmp_path / "isolated", quiet)
    assert result.loss_after <= result.loss_before and result.steps == 18
    assert engine().evaluate(tmp_path / "isolated", "hold_out")["loss"] == pytest.approx(result.loss_after)


def test_a_poisoners_delta_is_boosted_well_above_an_honest_one(tmp_path: Path) -> None:
    document = miniature_document()
    start = write_initial_adapter(document, tmp_path)
    norms = []
    for attack in (None, "backdoor"):
        engine(attack).train(start, 1, tmp_path / "delta", quiet)
        delta = parse_delta((tmp_path / "delta").read_bytes(), document.layout, document.format)
        norms.append(float(np.linalg.norm(delta.to_float32())))
    assert norms[1] > 3 * norms[0]
    assert engine().attack_success(None) == 0.0


def test_an_honest_delta_stays_within_the_tasks_norm(tmp_path: Path) -> None:
    document = miniature_document()
    start = write_initial_adapter(document, tmp_path)
    bounded = replace(document, budget=replace(document.budget, norm_thousandths=100))
    Engine(model(), bounded, arithmetic(), None).train(start, 1, tmp_path / "delta", quiet)
    delta = parse_delta((tmp_path / "delta").read_bytes(), document.layout, document.format)
    assert np.linalg.norm(delta.to_float32()) == pytest.approx(0.1, rel=0.01)


def test_a_plain_average_neither_clips_nor_filters(tmp_path: Path) -> None:
    document = miniature_document()
    start = engine().read_global(write_initial_adapter(document, tmp_path))
    vectors = [np.full(document.layout.parameters, value, np.float32) for value in (0.0625, 0.1875)]
    deltas = [quantise(vector, document.layout, document.format) for vector in vectors]
    change = average_plainly(start, deltas).to_float32() - start.to_float32()
    assert change == pytest.approx(0.125, abs=1e-6)


@pytest.mark.parametrize("text", ["flip", "backdoor:-1", "backdoor:x", "backdoor:1e9"])
def test_an_unknown_attack_is_a_misuse(text: str) -> None:
    with pytest.raises(Misuse, match="attack"):
        parse_attack(text)


def test_prompts_carry_no_loss(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"the question number {n}", "completion": f" the answer {n}"} for n in range(20)]
    path.write_text("\n".join(map(json.dumps, rows)))
    trainer = Engine(model(), miniature_document(), split_rows(read_rows(path), tmp_path / "split.json"), None)
    weights = trainer.train_stream.weights
    assert 0 < weights.sum() < len(weights)
    assert trainer.evaluate(None, "hold_out")["tokens"] < trainer.hold_out.tokens.size


def test_a_document_for_another_layout_is_refused_by_the_model() -> None:
    short = Split([Row("", "x")], [Row("", "y")])
    with pytest.raises(InvalidContent, match="tokens"):
        Engine(model(), miniature_document(), short, None)
