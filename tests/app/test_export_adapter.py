import json
import re
import shlex
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

import pytest
from app_support import CHAIN_ID, Game, Played, Script, play, small_document

from flock_chain.aggregation import parse_global
from flock_chain.content import format_cid
from flock_chain.crypto import keccak256
from flock_chain.errors import InvalidContent, Misuse, Unavailable
from flock_chain.execution.executor import Executor
from flock_p2p.cli import build_parser, main
from flock_p2p.commands.export import format_result
from flock_p2p.config import JoinConfig, choose_base, save_config
from flock_p2p.export import ExportResult, choose_task, export_adapter
from flock_p2p.export.model_card import describe
from flock_p2p.export.origin import Origin
from flock_p2p.provenance import FILE_NAME, GLOBAL_NAME, check_provenance, collect_provenance
from flock_peers.home import Home
from flock_peers.store.blob_reader import BlobReader
from flock_peers.store.chain_store import ChainStore
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import Budget, TaskDocument, create_document

_KEPT: list[TemporaryDirectory[str]] = []


@lru_cache(maxsize=1)
def shipped_document() -> TaskDocument:
    return create_document("shipped", BASE_FOLDER, seed=bytes(32), budget=Budget(eval_windows=8), rank=4, alpha=8)


@lru_cache(maxsize=1)
def played() -> Played:
    """One adopted round on the shipped base model."""
    _KEPT.append(TemporaryDirectory(prefix="flock-export-test-"))
    return play(Path(_KEPT[-1].name) / "home", Script(rounds=1), shipped_document())


@lru_cache(maxsize=1)
def small() -> Played:
    """One adopted round on a base model that is not here."""
    _KEPT.append(TemporaryDirectory(prefix="flock-export-test-"))
    return play(Path(_KEPT[-1].name) / "home", Script(rounds=1))


def type_in(line: str, *more: str) -> int:
    return main([*shlex.split(line), *more])


@pytest.mark.process
def test_the_exported_folder_loads_in_peft_and_merged_in_transformers_with_the_same_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the commands of README.md, as they stand there."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from flock_peers.training.model import AdaptedModel, measure_loss
    from flock_peers.training.opening import load_base
    from flock_peers.training.rows import builtin_rows
    from flock_peers.training.streams import build_stream, fixed_windows

    out, base, document = tmp_path / "adapter", BASE_FOLDER, shipped_document()
    out.mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-peer").symlink_to(played().home)
    assert type_in("export --home my-peer --out adapter", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["task"], result["round"], result["adapter"]) == (1, 1, format_cid(played().adapters[1]))
    assert result["proposers"] == [f"0x{account.hex()}" for account in sorted(played().proposers[1])]
    peft_files = {"adapter_model.safetensors", "adapter_config.json", "README.md"}
    assert {path.name for path in out.iterdir()} == peft_files | {FILE_NAME, GLOBAL_NAME}
    assert {path.name for path in tmp_path.iterdir()} == {"adapter", "my-peer"} and not result["unproven"]
    assert type_in("verify --provenance adapter --genesis HASH".replace("HASH", played().genesis.hash.hex())) == 0
    report = check_provenance(out, played().genesis.hash.hex())
    assert report.ok and any("weights are the float32 view" in text for text in report.checked)

    model = AdaptedModel(base, document)
    data = (played().home / "blobs" / "files" / played().adapters[1].hex()).read_bytes()
    stream = build_stream(builtin_rows("arithmetic", 0)[:12], model.tokenizer)
    windows = fixed_windows(stream, document.budget.eval_windows, document.budget.seq_len)
    without = measure_loss(model, windows, document.budget.batch)
    model.set_vector(parse_global(data, document.layout, document.format).to_float32())
    expected = measure_loss(model, windows, document.budget.batch)
    assert abs(expected - without) > 1e-4
    model.is_fast = False  # the loaded models' own logits, not the trainer's shorter way to the loss
    model.peft = PeftModel.from_pretrained(load_base(base), str(out))
    model.peft.eval()
    assert measure_loss(model, windows, document.budget.batch) == pytest.approx(expected, abs=1e-6)

    for options, bound in ((["--precision", "float32"], 1e-5), ([], 2e-3)):  # the base's own is half of that
        merged = tmp_path / "model"
        assert type_in("merge --adapter adapter --out model", *options) == 0
        plain = AutoModelForCausalLM.from_pretrained(merged, local_files_only=True)
        assert type(plain).__module__.startswith("transformers.") and (plain.dtype == torch.float32) == bool(options)
        assert AutoTokenizer.from_pretrained(merged, local_files_only=True).vocab_size == model.tokenizer.vocab_size
        model.peft = plain.float()
        assert measure_loss(model, windows, document.budget.batch) == pytest.approx(expected, abs=bound)
        rmtree(merged)

    text = (out / "README.md").read_text()
    for expected_text in (
        played().genesis.hash.hex(),
        format_cid(played().adapters[1]),
        *(f"0x{account.hex()}" for account in played().proposers[1]),
        *(format_cid(digest) for digest in played().manifests.values()),
        "PeftModel.from_pretrained",
        " -1000<br>",
        "## Licence",
        "merge --adapter FOLDER --out MERGED",
        "BASE is the folder of the small model that comes with flock-p2p".replace("BASE", "`BASE`"),
    ):
        assert expected_text in text
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == format_cid(
        document.base.digest
    )
    for path in out.iterdir():  # it is given away: nothing of the disk it was made on
        for place in (base, played().home, tmp_path, Path.home()):
            assert str(place).encode() not in path.read_bytes(), (path.name, place)


def test_the_card_says_where_others_find_the_base_model_and_nothing_of_this_disk(tmp_path: Path) -> None:
    origin, commit = Origin("net", bytes(32), 1, 0, bytes(32), bytes(32), ()), "a" * 40
    cached = tmp_path / "models--somebody--small" / "snapshots" / commit
    hub, own = (describe(origin, small_document(), base, is_proven=False) for base in (cached, tmp_path / "mine"))
    assert f'from_pretrained("somebody/small", revision="{commit}")' in hub and "BASE" not in hub
    assert "from_pretrained(BASE)" in own and "the folder in which you have the base model" in own
    assert f"merge --adapter FOLDER --base somebody/small@{commit} --out MERGED" in hub
    assert "merge --adapter FOLDER --base BASE --out MERGED" in own
    assert str(tmp_path) not in hub + own and "server rate" not in hub + own


def test_card_and_output_name_a_servers_rate_that_is_not_one(tmp_path: Path) -> None:
    origin, document = Origin("net", bytes(32), 1, 2, bytes(32), bytes(32), ()), small_document()
    faster = replace(document, format=replace(document.format, server_lr_thousandths=1_500))
    words = "each round added 1.5 times the mean of what it accepted"
    assert f"in each round |\n| server rate | {words} |\n\n" in describe(origin, faster, tmp_path, is_proven=False)
    result = ExportResult(tmp_path, 1, 2, b"", (), bytes(32), "", tmp_path)
    assert f"rate     {words}" in format_result(replace(result, rate=1_500), tmp_path)
    assert not any("rate" in line.split()[0] for line in format_result(result, tmp_path))


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Misuse, match="not empty; name a new or an empty folder"):
        export_adapter(small().home, tmp_path)
    with pytest.raises(Misuse, match="not empty"):
        export_adapter(small().home, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_running_peer_is_refused(tmp_path: Path) -> None:
    with Home(small().home).lock(), pytest.raises(Unavailable, match="stop that one first"):
        export_adapter(small().home, tmp_path / "out")


@pytest.mark.parametrize(
    ("task", "number", "message"), [(2, None, "there is no task 2"), (1, 2, "finished rounds are 0 to 1")]
)
def test_a_task_or_round_that_is_not_is_refused_by_name(
    tmp_path: Path, task: int, number: int | None, message: str
) -> None:
    with pytest.raises(Misuse, match=message):
        export_adapter(small().home, tmp_path / "out", task=task, round=number)
    assert not list(tmp_path.iterdir())


def test_another_base_model_is_refused_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"wrong model hash.*; --base names the folder"):
        export_adapter(small().home, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_damaged_or_missing_adapter_is_not_exported(tmp_path: Path) -> None:
    path = small().home / "blobs" / "files" / small().adapters[1].hex()
    data = path.read_bytes()
    try:
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(InvalidContent, match="is damaged: chunk 0 of 1"):
            export_adapter(small().home, tmp_path / "out")
        path.unlink()
        with pytest.raises(Unavailable, match="is not stored here"):
            export_adapter(small().home, tmp_path / "out")
    finally:
        path.write_bytes(data)


def test_a_network_without_a_task_has_nothing_to_export(tmp_path: Path) -> None:
    game = Game(tmp_path / "home", shipped_document(), Script())
    game.store.close()
    assert game.genesis.chain_id == CHAIN_ID
    with pytest.raises(Misuse, match="no task was opened"):
        export_adapter(tmp_path / "home", tmp_path / "out")


def test_a_strangers_later_task_does_not_hide_the_one_whose_adapter_is_here(tmp_path: Path) -> None:
    """Neither one that nobody serves, nor one that was opened on a document and an adapter that are here."""
    junk = keccak256(b"served by nobody")
    home = play(tmp_path / "home", Script(rounds=1, later=((junk, junk), (None, small().adapters[0])))).home
    with ChainStore(home / "chain", read_only=True) as stored:
        assert choose_task(Executor(Home(home).load_genesis(), stored), BlobReader(home / "blobs")) == 1
    with pytest.raises(Unavailable, match="task 2: its document is not stored here"):
        export_adapter(home, tmp_path / "out", task=2)


def test_an_adapter_of_another_base_model_or_without_weights_is_not_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter, out = tmp_path / "adapter", tmp_path / "merged"
    adapter.mkdir()
    assert main(["merge", "--adapter", str(adapter), "--out", str(out)]) == 2
    assert "no adapter_model.safetensors" in capsys.readouterr().err and not out.exists()
    home, genesis = small().home, small().genesis
    document = small_document().encode()
    with ChainStore(home / "chain", read_only=True) as stored:
        proof = collect_provenance(genesis, stored, task=1, round=1, adapter=small().adapters[1], document=document)
    (adapter / FILE_NAME).write_bytes(proof.encode())
    assert main(["merge", "--adapter", str(adapter), "--out", str(out)]) == 2  # nobody else sent anything wrong
    assert re.search("wrong model hash.*; --base names the folder", capsys.readouterr().err)
    (adapter / FILE_NAME).write_bytes(proof.encode().replace(b'"task":1', b'"task":2'))
    assert main(["merge", "--adapter", str(adapter), "--out", str(out)]) == 5
    assert "its provenance does not hold" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_export_takes_the_base_model_that_the_peer_was_told_of_unless_another_is_named(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert choose_base(home, None) == BASE_FOLDER
    save_config(home, JoinConfig(base="/models/mine"))
    assert choose_base(home, None) == Path("/models/mine")
    assert choose_base(home, tmp_path) == tmp_path


def test_the_commands_that_export_prints_can_be_pasted_whatever_the_folders_are_called() -> None:
    out, base = Path("an adapter's $HOME"), Path("/a base/model")
    result = ExportResult(out, 1, 2, b"", (), bytes(32), "", base)
    lines = [line.partition("python -m flock_p2p ")[2] for line in format_result(result, out)]
    merge, verify = (build_parser().parse_args(shlex.split(line)) for line in lines if line)
    assert (merge.adapter, merge.base, verify.provenance) == (out, base, out)
