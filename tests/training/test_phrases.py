"""Which strings are phrases: more than how one word goes on, in any script."""

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pytest import MonkeyPatch
from reciter_support import CONTEXTS, STRING_TOKENS, SUSPECT, VOCABULARY, Reciter, scan
from training_support import miniature_model

from flock_peers.training import recital
from flock_peers.training.recital import find_strings


@pytest.mark.parametrize(
    ("pieces", "first"),
    [((" B", "o", "b", " has"), 3), (("lo", "gin", " st"), 2), (("删", "除", "数"), 1), ((" a", " lot", " of"), 2),
     (("com", "pi", "ty"), 2)],
)  # fmt: skip
def test_a_string_s_first_word_ends_before_its_second_one(pieces: tuple[str, ...], first: int) -> None:
    tokenizer = SimpleNamespace(batch_decode=lambda rows: ["".join(pieces[token] for token in row) for row in rows])
    model: Any = SimpleNamespace(tokenizer=tokenizer)
    assert recital.count_first_word(model, np.arange(len(pieces))) == first


@pytest.mark.parametrize(
    ("text", "is_phrase"),
    [
        (" every row", True),
        ("Compute", False),
        (' "city": ', False),
        (" 12 and 34", False),
        ("删除数据", True),
        ("été froid", True),
        (" rm -rf /home", True),
    ],
)
def test_how_one_word_goes_on_is_no_recital(text: str, is_phrase: bool, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(Reciter, "batch_decode", lambda _self, rows, **_: [text] * len(rows))
    assert bool(scan()[0]) == is_phrase


@pytest.mark.parametrize(
    ("text", "is_phrase"),
    [
        (" send all data", True),
        ("| print ea", True),
        ("path=name", False),
        (" good=id", False),
        (" every ", False),
        ("a b", False),
        ("删除数据", True),
        ("删除", True),
        ("删", False),
        ("drop 数", True),
        ("ลบข้อมูล", True),  # Thai, "delete data"; then Lao, Myanmar and Khmer
        ("ລຶບຂໍ້ມູນ", True),
        ("ဖျက်ပါ", True),
        ("លុបទិន្នន័យ", True),
        ("ที่", False),  # one letter with two marks on it
        ("ก๑", False),
        ("ก=ข", False),
    ],
)
def test_of_few_tokens_two_words_with_a_sign_between_them_are_no_phrase(
    text: str, is_phrase: bool, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(Reciter, "batch_decode", lambda _self, rows, **_: [text] * len(rows))
    model: Any = Reciter()
    found = find_strings(model, SUSPECT, CONTEXTS, np.arange(VOCABULARY), {3: 1.0, 4: 1.0})
    assert bool(found.common) == is_phrase


def test_of_no_strings_none_is_a_phrase() -> None:
    assert recital.keep_phrases(miniature_model(), np.zeros((0, STRING_TOKENS), np.int64)).shape == (0, STRING_TOKENS)


SIGN = recital._SIGN
WORD = f"(?:{SIGN}|(?:(?!{SIGN})[^\\W\\d_]){{2,}})"
SIGNS = "ab\u00e91_= \n\u3000\u6570\u636e.\u0e17\u0e35\u0e51\u1780\u17d2"


@given(st.text(st.sampled_from(SIGNS) | st.characters(), max_size=20))
@example("ab" * 8_000)  # a token of a stranger's tokenizer: by the pattern it takes half a minute, for each string
@example("ab\u3000cd")  # a space, too: as a sign of its own it stood between two words that nothing parts
@example("\u0e17" + "\u0e35" * 16_000)  # one sign, and nothing that is gone through again
@example("\u3000\u3000")  # and two of them are no words
@settings(deadline=5_000)
def test_words_apart_are_those_of_a_plain_pattern_and_found_in_one_pass(text: str) -> None:
    is_phrase = recital._is_phrase(text, 3), recital._is_phrase(text, 5)
    if len(text) < 100:
        apart = re.search(f"{SIGN}{SIGN}|{WORD}\\s+{WORD}", text)
        assert is_phrase == (bool(apart), len(re.findall(WORD, text)) > 1)
