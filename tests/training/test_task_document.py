import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training_support import miniature, miniature_document

from flock_chain.aggregation import Layout, encode_global
from flock_chain.codec import decode, encode
from flock_chain.errors import InvalidContent, InvalidEncoding, Misuse
from flock_peers.training.base_manifest import list_base_files
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import (
    Budget,
    check_base,
    check_fit,
    check_layout,
    compute_initial_adapter,
    create_document,
    decode_document,
)


def test_a_document_survives_encoding() -> None:
    document = create_document("shipped", BASE_FOLDER, seed=b"\7" * 32)
    assert decode_document(document.encode()) == document
    assert {file.name for file in document.base_files} >= {"config.json", "model.safetensors", "tokenizer.json"}


def test_a_document_has_a_reference_or_is_as_it_was_before_there_were_any() -> None:
    plain = create_document("shipped", BASE_FOLDER, seed=b"\7" * 32)
    document = create_document("shipped", BASE_FOLDER, seed=b"\7" * 32, reference="How many?\n")
    assert decode_document(document.encode()) == document != plain
    assert (decode(document.encode())["format"], decode(plain.encode())["format"]) == (3, 2)
    assert "reference" not in decode(plain.encode())
    with pytest.raises(Misuse, match="a reference has 1 to 65536 bytes"):
        create_document("shipped", BASE_FOLDER, seed=b"\7" * 32, reference="x" * 65_537)


def test_all_linear_projections_and_nothing_else_are_adapted_by_default() -> None:
    document = create_document("shipped", BASE_FOLDER, seed=b"\7" * 32)
    expected = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
    assert document.lora.targets == expected
    assert not any("embed" in name or "norm" in name for name, _ in document.layout.tensors)


def test_chosen_targets_must_exist_in_the_base_model() -> None:
    chosen = ("q_proj", "v_proj")
    assert create_document("few", BASE_FOLDER, seed=b"\7" * 32, targets=chosen).lora.targets == chosen
    with pytest.raises(Misuse, match="no linear projections"):
        create_document("none", BASE_FOLDER, seed=b"\7" * 32, targets=("attention",))


def changed(**values: Any) -> bytes:
    document = decode(miniature_document().encode())
    for path, value in values.items():
        part = document
        *parents, last = path.split("__")
        for key in parents:
            part = part[key]
        part[last] = value
    return encode(document)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": b"short"}, "seed is 32 bytes"),
        ({"format": 1}, "format 1, this release reads formats 2 and 3"),
        ({"format": 3}, "fields differ: .'reference'"),
        ({"reference": "text"}, "fields differ: .'reference'"),
        ({"format": 3, "reference": ""}, "a reference has 1 to 65536 bytes"),
        ({"format": 3, "reference": "é" * (1 << 15) + "x"}, "a reference has 1 to 65536 bytes"),
        ({"format": 3, "reference": b"text"}, "a reference has 1 to 65536 bytes"),
        ({"data": "images"}, "data is one of any, text, completions, chat"),
        ({"data": ["text"]}, "data is one of"),
        ({"budget__steps": 0}, "steps"),
        ({"budget__steps": True}, "steps"),
        ({"budget__lr_millionths": 10**7}, "lr_millionths"),
        ({"lora__rank": 5}, "no LoRA tensor of this rank"),
        ({"lora__targets": ["q_proj"]}, "no target or no counterpart"),
        ({"base__files": [["../config.json", 1, b"\0" * 32]]}, "no allowed name"),
        ({"base__files": []}, "base files"),
        ({"base": []}, "base manifest: format None"),
        ({"numbers": {"bits": 8, "block": 32, "elo": -99, "window": 15}}, "elo"),
    ],
)
def test_a_strangers_document_is_refused_with_the_check_that_failed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidEncoding, match=message):
        decode_document(changed(**values))


@pytest.mark.parametrize("metric", ["accuracy", "loss", 1, None])
def test_a_document_with_a_metric_is_refused_by_its_name(metric: object) -> None:
    """Scores, thresholds and tolerance are of a loss; a metric that rises would be judged upside down."""
    with pytest.raises(InvalidEncoding, match=f"metric {metric!r}: scores here are of a loss alone"):
        decode_document(changed(metric=metric))


def test_a_creator_cannot_make_a_document_that_joiners_would_refuse() -> None:
    with pytest.raises(Misuse, match="steps"):
        create_document("bad", BASE_FOLDER, seed=b"\7" * 32, budget=Budget(steps=0))


def test_an_adapter_larger_than_its_base_model_is_made_by_nobody_and_joined_by_nobody() -> None:
    with pytest.raises(Misuse, match="choose a smaller rank"):
        create_document("too large", BASE_FOLDER, seed=bytes(32), rank=128)
    modest = create_document("modest", BASE_FOLDER, seed=bytes(32), rank=64)
    shapes = {
        name: (128, shape[1]) if name.endswith("lora_A.weight") else (shape[0], 128)
        for name, shape in modest.layout.tensors
    }
    hostile = replace(modest, layout=Layout.of(shapes), lora=replace(modest.lora, rank=128))
    with pytest.raises(InvalidContent, match="choose a smaller rank"):
        check_fit(BASE_FOLDER, hostile)


def test_a_base_folder_with_another_file_is_named_as_the_wrong_model(tmp_path: Path) -> None:
    document = miniature_document()
    check_base(miniature()[0], document)
    copy = shutil.copytree(miniature()[0], tmp_path / "base")
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    with pytest.raises(InvalidContent, match=r"config\.json is not the task's file"):
        check_base(copy, document)
    (copy / "config.json").unlink()
    with pytest.raises(InvalidContent, match=r"config\.json is missing"):
        check_base(copy, document)


@pytest.mark.parametrize(
    "header",
    [
        b'{"w": {"shape": ["abc", 2]}}', b'{"w": {"shape": [true, 2]}}', b'{"w": {"shape": [-1, 2]}}',
        b'{"w": {"shape": [1e3, 2]}}', b'{"w": {"shape": [1' + b"0" * 40 + b"]}}", b'{"w": {"shape": 7}}', b'{"w": {}}',
        b"[" * 100_000, b"[]", b'{"w": {"shape": [1,1,1,1,1,1,1,1,1]}}',
        b'{"w": {"shape": [], "data_offsets": [0, 1e999]}}', b'{"w": {"shape": [], "data_offsets": [0]}}',
    ],
)  # fmt: skip
def test_a_strangers_weights_with_a_header_that_is_none_are_refused(header: bytes, tmp_path: Path) -> None:
    copy = shutil.copytree(miniature()[0], tmp_path / "base")
    (copy / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(Misuse, match=r"base: model.safetensors is cut off, or no safetensors file"):
        create_document("hostile", copy, seed=bytes(32))


def test_weights_that_are_cut_off_are_the_folders_fault_here_and_a_strangers_where_they_were_fetched(
    tmp_path: Path,
) -> None:
    copy = shutil.copytree(miniature()[0], tmp_path / "base")
    document = create_document("whole", copy, seed=bytes(32))
    data = (copy / "model.safetensors").read_bytes()
    for length in (len(data) - 1, 1_000, 5):
        (copy / "model.safetensors").write_bytes(data[:length])
        with pytest.raises(Misuse, match=r"base: model.safetensors .*; fetch it again"):
            create_document("cut", copy, seed=bytes(32))
        with pytest.raises(InvalidContent, match="fetch it again"):
            check_layout(copy, document)


def test_everybody_computes_the_same_round_0_adapter() -> None:
    document = miniature_document()
    adapter = compute_initial_adapter(document)
    assert encode_global(adapter) == encode_global(compute_initial_adapter(decode_document(document.encode())))
    tensors = document.layout.split(adapter.to_float32())
    for name, value in tensors.items():
        assert (name.endswith("lora_B.weight") and not value.any()) or abs(value).max() <= value.shape[1] ** -0.5
    other = compute_initial_adapter(replace(document, seed=b"\1" * 32))
    assert (other.grid != adapter.grid).any()


def test_code_and_pickles_beside_a_base_model_are_no_part_of_it(tmp_path: Path) -> None:
    copy = shutil.copytree(miniature()[0], tmp_path / "base")
    for name in ("pytorch_model.bin", "modeling_evil.py", ".hidden.json"):
        (copy / name).write_text("x")
    assert [path.name for path in list_base_files(copy)] == [path.name for path in list_base_files(miniature()[0])]
