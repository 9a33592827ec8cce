"""A stranger's tokenizer over text of one's own and of the task's, before anything is paid."""

from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from flock_chain.errors import Misuse
from flock_peers.training import process, tokenizer_trial
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import create_document
from flock_peers.training.rows import Row
from flock_peers.training.tokenizer_trial import check_tokenizer

RUNS = "(a+)+[^a]x"  # over "aaa...b" every way to cut the run into runs is tried
FOREVER = ("a" * 20 + "b") * 1_000  # a twentieth of a second for each
TOO_MANY = "a" * 40 + "b"  # more ways than the library tries: it gives up, and takes its thread along


def write(folder: Path, pattern: str) -> Path:
    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel({"b": 0, "?": 1}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize(
    ("reference", "row", "what"),
    [(FOREVER, "fine", "the task's reference"), ("", FOREVER, "the first of the own rows")],
)
def test_a_tokenizer_that_does_not_end_is_refused_and_over_which_text_is_said(
    reference: str, row: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_trial, "TRIAL_SECONDS", 0.2)
    folder = write(tmp_path / "base", RUNS)
    with pytest.raises(Misuse, match=f"its tokenizer is not through with {what} after 0 s"):
        check_tokenizer(folder, reference, [Row("", row)])


@pytest.mark.parametrize(
    ("words", "reference", "what"),
    [
        ([f"{number}{'a' * 20}b" for number in range(20)], "", "its own tokens"),
        (["aaaaa", "b"], "aaaaa aaaaa aaaaa aaaaa b " * 20, "the task's reference"),
    ],
)
def test_tokens_that_do_not_become_text_are_seen_one_by_one_and_a_few_together(
    words: list[str], reference: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_trial, "TRIAL_SECONDS", 0.1)
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(["?", *words])}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace(Regex(RUNS), "")])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(Misuse, match=f"its tokenizer is not through with {what} after 0 s"):
        check_tokenizer(tmp_path, reference, [Row("", "fine")])


def test_a_tokenizer_that_gives_up_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"its tokenizer fails at the task's reference .*retry-limit"):
        check_tokenizer(write(tmp_path / "base", RUNS), TOO_MANY, [Row("", "fine")])


def test_a_tokenizer_that_makes_a_text_a_million_times_as_long_is_ended_before_it_has_the_machine_s_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_trial, "MEMORY_BYTES", 150 << 20)  # the interpreter and the library take 40
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.normalizer = normalizers.Replace("a", "b" * (1 << 20))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(Misuse, match=r"its tokenizer takes more than \d+ MiB at the task's reference"):
        check_tokenizer(tmp_path, "a" * 15, [Row("", "fine")])  # 300 MB


def test_an_ordinary_tokenizer_is_taken_and_one_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    check_tokenizer(BASE_FOLDER, "Question: how many?", [Row("ask", " answer"), Row("", "", (("user", "hello"),))])
    check_tokenizer(tmp_path, "no tokenizer.json, no expressions", [])
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(Misuse, match="its tokenizer fails at its own file"):
        check_tokenizer(tmp_path, "", [])


def test_a_trainer_tries_a_tokenizer_before_it_loads_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, reference: str, rows: list[Row]) -> None:
        raise Misuse(f"{folder.name}: {reference}, {len(rows) > 3}")

    monkeypatch.setattr(tokenizer_trial, "check_tokenizer", refuse)
    monkeypatch.setattr(process, "limit_files", lambda _bytes: None)  # of this process, for good
    (tmp_path / "base").symlink_to(BASE_FOLDER)
    document = create_document("trial", BASE_FOLDER, seed=bytes(32), reference="public")
    values = {"document": document.encode().hex(), "base": str(tmp_path / "base"), "home": str(tmp_path), "rows": None,
              "domain": "arithmetic", "index": 0}  # fmt: skip
    told: list[object] = []
    with pytest.raises(Misuse, match="base: public, True"):
        process.Service().call("open", values, told.append)
    assert not told  # "loading" comes before torch
