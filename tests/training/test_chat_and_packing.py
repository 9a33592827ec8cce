"""What of a row is learned, what rows see of each other, and how much text a loss stands for."""

import math
import signal
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_support import miniature, miniature_document

from flock_chain.errors import InvalidContent
from flock_peers.training import chat
from flock_peers.training.chat import cut_chat
from flock_peers.training.model import AdaptedModel
from flock_peers.training.opening import load_tokenizer
from flock_peers.training.rows import Refusals, Row, read_rows
from flock_peers.training.streams import Windows, build_stream, compute_positions

TALK = (("user", "What is 2 + 2?"), ("assistant", "It is 4."), ("user", "And 3 + 3?"), ("assistant", "It is 6."))
CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|stop|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
FORGETFUL = (  # writes earlier answers shorter than the last one, as templates of reasoning models do
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content if loop.last or m.role == 'user' else '...' }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
STRICT = "{{ raise_exception('roles must alternate') }}"


@lru_cache(maxsize=1)
def model() -> AdaptedModel:
    return AdaptedModel(miniature()[0], miniature_document())


def tokenizer(template: str | None) -> Any:
    found = load_tokenizer(miniature()[0])
    found.chat_template = template
    return found


def learned(template: str | None, messages: tuple[tuple[str, str], ...] = TALK) -> list[str]:
    parts = cut_chat(messages, tokenizer(template))
    return [text for text, is_learned in parts if is_learned]


def test_of_a_chat_every_answer_is_learned_and_nothing_else() -> None:
    assert learned(CHATML) == ["It is 4.<|stop|>\n", "It is 6.<|stop|>\n"]
    assert learned(None) == ["assistant: It is 4.\n", "assistant: It is 6.\n"]
    whole = "".join(text for text, _ in cut_chat(TALK, tokenizer(CHATML)))
    assert whole.count("<|user|>") == 2 and whole.endswith("It is 6.<|stop|>\n")


def test_a_question_after_the_last_answer_is_left_away() -> None:
    assert learned(CHATML, (*TALK, ("user", "bye"))) == learned(CHATML)


def test_where_a_template_rewrites_earlier_answers_only_the_last_is_learned() -> None:
    assert learned(FORGETFUL) == ["It is 6.\n"]


def test_a_row_that_the_template_refuses_is_named_with_its_line_and_the_others_train() -> None:
    refusals = Refusals()
    rows = [Row("", "", TALK, "line 1"), Row("", "plain text of some length", where="line 2")]
    stream = build_stream(rows, tokenizer(STRICT), refusals)
    assert refusals.named == ["line 1: the model's chat template refuses it: roles must alternate"]
    assert set(stream.rows.tolist()) == {1}
    with pytest.raises(InvalidContent, match="line 1: the model's chat template refuses it"):
        build_stream(rows[:1], tokenizer(STRICT))


def test_a_template_that_writes_without_end_is_refused() -> None:
    endless = "{% for i in range(99999) %}{% for j in range(99) %}aaaaaaaaaa{% endfor %}{% endfor %}"
    refusals = Refusals()
    build_stream([Row("", "", TALK, "line 1"), Row("", "plain text, enough")], tokenizer(endless), refusals)
    assert "characters, at most" in refusals.named[0]


def test_a_template_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "TEMPLATE_SECONDS", 0.2)
    silent = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    refusals = Refusals()
    build_stream([Row("", "", TALK, "line 1"), Row("", "plain text, enough")], tokenizer(silent), refusals)
    assert refusals.named == ["line 1: the model's chat template runs for more than 0 s"]
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_the_first_token_of_a_row_and_prompts_are_no_targets() -> None:
    stream = build_stream([Row("ask", " answer"), Row("", "text")], tokenizer(None))
    begins = np.flatnonzero(np.diff(stream.rows, prepend=-1))
    assert (stream.weights[begins] == 0).all()
    ids = tokenizer(None)("ask")["input_ids"]
    assert stream.weights[1 : 1 + len(ids)].sum() == 0 and stream.tokens[1 : 1 + len(ids)].tolist() == ids


def test_bits_per_byte_are_of_the_learned_text_alone() -> None:
    long = build_stream([Row("a long question " * 9, "yes"), Row("", "no more text here")], tokenizer(None))
    short = build_stream([Row("", "yes"), Row("", "no more text here")], tokenizer(None))
    assert long.bytes_per_token == short.bytes_per_token == len("yesno more text here") / short.weights.sum()


def test_positions_begin_anew_with_each_row() -> None:
    assert compute_positions(np.array([[3, 3, 3], [4, 4, 4]], np.int32)) is None
    found = compute_positions(np.array([[3, 3, 4, 4, 5], [7, 7, 7, 7, 7]], np.int32))
    assert found is not None and found.tolist() == [[0, 1, 0, 1, 0], [0, 1, 2, 3, 4]]


def test_no_row_of_a_window_changes_anothers_loss() -> None:
    rows = np.repeat(np.array([[0, 1]], np.int32), 12, axis=1)
    tokens = np.arange(24, dtype=np.int64)[None] * 7 % 300
    weights = np.concatenate([np.zeros(13), np.ones(11)]).astype(np.float32)[None]
    other = np.concatenate([tokens[:, :12][:, ::-1], tokens[:, 12:]], axis=1)
    losses = [model().loss(Windows(each, weights, rows)).item() for each in (tokens, other)]
    seen = [model().loss(Windows(each, weights)).item() for each in (tokens, other)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert abs(seen[0] - seen[1]) > 1e-4  # without rows the second does see the first


def test_the_fast_loss_of_masked_windows_is_the_plain_one() -> None:
    chance = np.random.Generator(np.random.PCG64(1))
    tokens, weights = chance.integers(0, 300, (3, 20)), (chance.random((3, 20)) < 0.4).astype(np.float32)
    windows = Windows(tokens, weights * 2.5)
    assert model().is_fast
    fast = model().loss(windows)
    logits = model().logits(tokens)[:, :-1].double()
    picked = logits.log_softmax(-1).gather(2, __import__("torch").from_numpy(tokens[:, 1:, None])).squeeze(2)
    plain = -(picked.detach().numpy() * windows.weights[:, 1:]).sum() / windows.weights[:, 1:].sum()
    assert fast.item() == pytest.approx(plain, rel=1e-5) and math.isfinite(plain)


def test_data_beyond_the_bounds_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(**bounds: int) -> tuple[int, list[str]]:
        refusals = Refusals()
        with monkeypatch.context() as patch:
            for name, value in bounds.items():
                patch.setattr(f"flock_peers.training.{name.replace('__', '.')}", value)
            return len(read_rows(tmp_path, refusals)), refusals.named

    (tmp_path / "a.jsonl").write_text('{"text": "12345678"}\n' * 6)
    deep = tmp_path / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "d.txt").write_text("some more text")
    assert read() == (7, [])
    for bound in ({"rows__MAX_ROWS": 5}, {"rows__MAX_DATA_BYTES": 40}):
        count, named = read(**bound)
        assert count == 5 and named[0].startswith("a.jsonl, line 6: and all after it: ")
    assert read(text_files__MAX_TEXT_BYTES=13) == (6, ["b/c/d.txt: longer than 13 bytes; cut it, or give JSONL"])
    assert read(text_files__MAX_FOLDER_DEPTH=1)[0] == 6
    assert read(text_files__MAX_FILES=1) == (
        6, ["b/c/d.txt: and all after it: at most 1 files of a folder are read"]
    )  # fmt: skip


def test_rows_beyond_what_a_stream_may_hold_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row("", "a text of some length")] * 10
    whole = build_stream(rows, tokenizer(None))
    monkeypatch.setattr("flock_peers.training.streams.MAX_STREAM_TOKENS", len(whole.tokens) // 2)
    assert set(build_stream(rows, tokenizer(None)).rows.tolist()) == set(range(5))


def test_a_row_ends_with_the_end_token_which_is_learned_once() -> None:
    end = tokenizer(None).eos_token_id
    stream = build_stream([Row("", "some text"), Row("", "more text<|end|>")], tokenizer(None))
    ends = np.flatnonzero(stream.tokens == end)
    last = np.flatnonzero(np.diff(stream.rows, append=9))
    assert set(last.tolist()) <= set(ends.tolist()) and (stream.weights[last] == 1).all()
    assert (stream.tokens[last - 1] != end).all()


def test_a_folder_of_text_is_read_in_order_and_what_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.md").write_text("# Two\n\n" + "word " * 900)
    (tmp_path / "a.txt").write_text("one paragraph")
    (tmp_path / "c.jsonl").write_text('{"text": "three"}\n\n{"no": 1}\n')
    (tmp_path / "d.txt").write_bytes(b"caf\xe9 latin")
    (tmp_path / "e.txt").write_bytes(b"a\0b")
    (tmp_path / "f.pdf").write_bytes(b"%PDF")
    (tmp_path / "g.txt").symlink_to(tmp_path / "a.txt")
    (tmp_path / ".hidden.txt").write_text("hidden")
    refusals = Refusals()
    rows = read_rows(tmp_path, refusals)
    assert [row.where for row in rows] == [
        "a.txt, piece 1",
        "c.jsonl, line 1",
        *[f"b/two.md, piece {n}" for n in (1, 2, 3, 4)],
    ]
    assert "".join(row.completion for row in rows[2:]).replace("# Two", "").split() == ["word"] * 900
    assert sorted(refusals.named) == [
        "c.jsonl, line 3: none of the keys text, prompt with completion, messages",
        "d.txt: not UTF-8 at byte 3", "e.txt: holds zero bytes, so it is no text",
        "f.pdf: not one of .jsonl, .txt, .md, .rst", "g.txt: a link or no plain file",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"messages": [{"role": "user", "content": "hi"}]}', "no message of the role 'assistant'"),
        ('{"messages": []}', "messages is no list"),
        ('{"messages": [' + ",".join(['{"role": "assistant", "content": "x"}'] * 1025) + "]}", "at most 1024"),
        ('{"text": "\\ud800"}', "half a surrogate pair"),
        ("[" * 100 + "]" * 100, "not JSON"),
    ],
)
def test_a_refused_row_says_its_line_and_why(line: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('\n{"text": "a"}\n' * 4 + line)
    refusals = Refusals()
    assert len(read_rows(tmp_path / "rows.jsonl", refusals)) == 4
    assert refusals.count == 1 and refusals.named[0].startswith("line 9: ") and reason in refusals.named[0]


def test_of_many_refusals_the_first_are_named_and_the_others_counted(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n' * 4 + "{}\n" * 50)
    refusals = Refusals()
    read_rows(tmp_path / "rows.jsonl", refusals)
    assert refusals.count == 50 and len(refusals.named) == 20 and str(refusals).endswith("and 30 more")
