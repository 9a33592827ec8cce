"""The manifest of a base model, as a stranger may write it and as a folder makes it."""

from pathlib import Path
from typing import Any

import pytest
from base_support import make_base
from hypothesis import given
from hypothesis import strategies as st

from flock_chain.codec import decode
from flock_chain.errors import InvalidContent, InvalidEncoding
from flock_peers.training.base_manifest import (
    INDEX,
    MAX_BASE_FILES,
    MAX_BESIDE_BYTES,
    BaseFile,
    BaseManifest,
    check_files,
    describe_base,
    is_base_name,
    parse_base,
)

CID = b"\1" * 32
NEEDED = ("config.json", "tokenizer.json")


def value_of(*rows: Any) -> dict[str, Any]:
    return {"format": 1, "files": list(rows)}


def manifest_of(*names: str, size: int = 5) -> BaseManifest:
    return BaseManifest(tuple(BaseFile(name, size, CID) for name in sorted(names)))


def part(number: int, count: int) -> str:
    return f"model-{number:05d}-of-{count:05d}.safetensors"


def test_a_folder_is_described_by_every_file_that_a_model_consists_of_and_no_other(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base")
    for name in ("pytorch_model.bin", "modeling_evil.py", "consolidated.safetensors", "README.md", "training_args.bin"):
        (folder / name).write_text("x")
    (folder / "vocab.txt").mkdir()
    base = describe_base(folder)
    assert [file.name for file in base.files] == [
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    base.check_complete()
    check_files(folder, base)
    assert parse_base(decode(base.encode())) == base and base.digest == describe_base(folder).digest


@pytest.mark.parametrize(
    "name",
    [
        "../config.json", "/etc/passwd", "a/config.json", "..", "", "config.json/", "model.bin", "pytorch_model.bin",
        "modeling_llama.py", "adapter_config.json", "model.safetensors.py", "model-1-of-2.safetensors", "Config.json",
        "model-00001-of-00002.safetensors/../../x", "config.json\0", "tokenizer.json\n", "con\u0333fig.json",
    ],
)  # fmt: skip
def test_a_name_that_is_not_on_the_list_is_refused(name: str) -> None:
    with pytest.raises(InvalidEncoding, match="no allowed name"):
        parse_base(value_of([name, 1, CID]))


@given(st.text())
def test_no_name_on_the_list_is_a_path_or_a_program(name: str) -> None:
    assert not is_base_name(name) or (name == Path(name).name and not name.endswith((".py", ".bin", ".pt", ".so")))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "format None"),
        (None, "format None"),
        ({"format": True, "files": []}, "format True"),
        ({"format": 2, "files": []}, "format 2, this release reads format 1"),
        ({"format": 1}, "fields differ"),
        ({"format": 1, "files": [], "more": 1}, "fields differ"),
        (value_of(), "1 to 256 base files"),
        (value_of(*[["config.json", 1, CID]] * (MAX_BASE_FILES + 1)), "1 to 256 base files"),
        (value_of(["config.json", 1]), "a name, a size and a content id"),
        (value_of(["config.json", 1, CID], ["config.json", 1, CID]), "sorted and unique"),
        (value_of(["tokenizer.json", 1, CID], ["config.json", 1, CID]), "sorted and unique"),
        (value_of(["config.json", 0, CID]), "size of config.json out of range"),
        (value_of(["config.json", -1, CID]), "size of config.json out of range"),
        (value_of(["config.json", True, CID]), "size of config.json out of range"),
        (value_of(["config.json", 1 << 53, CID]), "size of config.json out of range"),
        (value_of(["config.json", 1, b"short"]), "content id of config.json is not 32 bytes"),
        (value_of(["config.json", 1, "x" * 32]), "content id of config.json is not 32 bytes"),
        (value_of([["config.json"], 1, CID]), "no allowed name"),
    ],
)
def test_a_strangers_manifest_is_refused_with_the_check_that_failed(value: Any, words: str) -> None:
    with pytest.raises(InvalidEncoding, match=words):
        parse_base(value)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("model.safetensors", "tokenizer.json"), "config.json is missing"),
        (("config.json", "model.safetensors"), "no tokenizer"),
        (NEEDED, "weights are one model.safetensors"),
        ((*NEEDED, "model.safetensors", part(1, 1)), "weights are one model.safetensors"),
        ((*NEEDED, part(1, 2), part(2, 3)), "weights are one model.safetensors"),
        ((*NEEDED, part(1, 3), part(3, 3), INDEX), "2 of 3 parts of the weights"),
        ((*NEEDED, part(1, 2), part(2, 2)), "without model.safetensors.index.json"),
    ],
)
def test_files_that_cannot_be_a_model_are_refused_before_one_is_fetched(names: tuple[str, ...], words: str) -> None:
    with pytest.raises(InvalidContent, match=words):
        manifest_of(*names).check_complete()


def test_one_file_or_all_parts_with_their_index_are_a_models_weights() -> None:
    manifest_of(*NEEDED, "model.safetensors").check_complete()
    manifest_of(*NEEDED, part(1, 2), part(2, 2), INDEX).check_complete()


def test_what_is_no_weights_has_a_bound_of_its_own() -> None:
    base = manifest_of(*NEEDED, "model.safetensors", size=MAX_BESIDE_BYTES)
    with pytest.raises(InvalidContent, match="beside the weights"):
        base.check_complete()


def test_a_folder_that_differs_by_a_byte_is_named_with_the_file(tmp_path: Path) -> None:
    base = describe_base(make_base(tmp_path / "base"))
    other = make_base(tmp_path / "other", seed=2)
    with pytest.raises(InvalidContent, match=r"model\.safetensors is not the task's file \(wrong model hash\)"):
        check_files(other, base)
    (other / "tokenizer.json").unlink()
    with pytest.raises(InvalidContent, match=r"tokenizer\.json is missing"):
        check_files(other, base)
