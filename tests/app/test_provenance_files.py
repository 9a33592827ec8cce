"""A proof and the files beside it, byte by byte: each is what was exported and says what the proof says or is named."""

import json
import os
from pathlib import Path

import pytest
from provenance_support import copy, flip, proof, write

from flock_chain.errors import InvalidContent
from flock_p2p.provenance import FILE_NAME, GLOBAL_NAME, check_provenance, format_provenance

_FLIPS = 61  # bytes of the proof that are flipped, from its first to its last


def test_a_flipped_byte_anywhere_in_the_proof_is_found(tmp_path: Path) -> None:
    out = copy(tmp_path)
    whole = (out / FILE_NAME).read_bytes()
    for number in range(_FLIPS):
        at = number * (len(whole) - 1) // (_FLIPS - 1)
        (out / FILE_NAME).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        report = check_provenance(out)
        assert report.failures, f"byte {at}: {whole[at - 40 : at + 40]!r}"


@pytest.mark.parametrize("name", [GLOBAL_NAME, "adapter_model.safetensors", "adapter_config.json", "README.md"])
def test_a_flipped_byte_in_a_file_beside_it_names_the_file(tmp_path: Path, name: str) -> None:
    out = copy(tmp_path)
    for at in (0, (out / name).stat().st_size // 2, -1):
        flip(out / name, at)
        report = check_provenance(out)
        assert any(name in text for text in report.failures), at
        assert "3 files beside it by size and SHA-256" in report.checked  # and not that one
        flip(out / name, at)
    assert check_provenance(out).ok


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_file_that_was_exchanged_together_with_its_checksum_is_found_by_what_it_means(
    tmp_path: Path, name: str
) -> None:
    from safetensors.numpy import load_file, save_file

    out = copy(tmp_path)
    if name.endswith("json"):
        config = json.loads((out / name).read_text())
        (out / name).write_text(json.dumps(config | {"lora_alpha": config["lora_alpha"] + 1}))
    else:
        tensors = load_file(out / name)
        first = min(tensors)
        tensors[first] = tensors[first] * 2
        save_file(tensors, out / name)
    write(out, proof())
    (failure,) = check_provenance(out).failures
    assert name in failure


@pytest.mark.parametrize(
    ("name", "value"),
    [("use_rslora", True), ("alpha_pattern", {"q_proj": 99}), ("init_lora_weights", "pissa"), ("bias", "all"),
     ("modules_to_save", ["lm_head"]), ("peft_type", "IA3"), ("a_switch_of_next_year", 1)],
)  # fmt: skip
def test_a_switch_of_peft_that_makes_another_model_of_the_same_weights_is_found(
    tmp_path: Path, name: str, value: object
) -> None:
    out = copy(tmp_path)
    config = json.loads((out / "adapter_config.json").read_text())
    usual = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none", "use_rslora": False, "revision": "f" * 40}
    (out / "adapter_config.json").write_text(json.dumps(config | usual | {"lora_dropout": 0.5}))
    write(out, proof())
    assert check_provenance(out).ok
    (out / "adapter_config.json").write_text(json.dumps(config | usual | {name: value}))
    write(out, proof())
    (failure,) = check_provenance(out).failures
    assert name in failure and "another model" in failure


def test_other_weights_are_not_proven_by_taking_away_what_says_whose_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies beside the proof is named in it by who hands it over, who can rewrite that."""
    from safetensors.numpy import load_file, save_file

    from flock_p2p.export import merge

    out = copy(tmp_path)
    save_file({name: -tensor for name, tensor in load_file(out / "adapter_model.safetensors").items()},
              out / "adapter_model.safetensors")  # fmt: skip
    (out / GLOBAL_NAME).unlink()
    write(out, proof())
    report = check_provenance(out)
    assert not report.ok and "nothing shows that these are the adapter's" in report.failures[0]
    with pytest.raises(InvalidContent, match="does not hold"):
        merge.merge_adapter(out, tmp_path / "merged")
    (out / "adapter_model.safetensors").rename(out / "adapter_model.bin")  # as peft also loads them
    report = check_provenance(out)
    assert report.ok and not report.are_weights_checked
    assert "No weights were checked" in format_provenance(report)
    assert any("adapter_model.bin: not part of what was exported" in text for text in report.could_not_check)
    with pytest.raises(InvalidContent, match="says nothing of these weights"):
        monkeypatch.setattr(merge, "check_base", lambda _base, _document: None)
        merge.merge_adapter(out, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("name", [GLOBAL_NAME, "adapter_model.safetensors", "adapter_config.json"])
def test_a_file_without_end_is_not_read(tmp_path: Path, name: str) -> None:
    out = copy(tmp_path)
    os.truncate(out / name, 1 << 36)  # takes no room on the disk, but all of the memory
    assert any(name in text for text in check_provenance(out).failures)
