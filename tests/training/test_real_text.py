"""What real text explains: by pairs of tokens, by whole strings; and a task's reference among it."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from training_support import miniature, miniature_document, write_initial_adapter

from flock_chain.aggregation import encode_delta, quantise
from flock_chain.errors import Misuse
from flock_peers.training import recital
from flock_peers.training.continuations import NOTHING
from flock_peers.training.document import decode_document
from flock_peers.training.engine import Engine
from flock_peers.training.inspection import OwnView, audit, read_reference
from flock_peers.training.model import AdaptedModel
from flock_peers.training.real_text import Bigrams, Phrases
from flock_peers.training.recital import Said
from flock_peers.training.rows import Row, Split

PHRASE = "zap each row"


def test_bigrams_are_shares_of_what_follows_and_refuse_what_is_no_token() -> None:
    table = Bigrams(np.array([1, 2, 1, 2, 1, 3]), 10)
    found = table(np.array([[1, 2], [1, 3], [2, 1], [9, 9]]))
    assert found.tolist() == pytest.approx([2 / 3.2, 1 / 3.2, 2 / 2.2, 0])
    assert table(np.array([[1, 2, 1]])).tolist() == pytest.approx([2 / 3.2 * 2 / 2.2])
    assert Bigrams(np.zeros(0, np.int64), 10)(np.array([[1, 2]])).tolist() == [0]
    with pytest.raises(Misuse):
        Bigrams(np.array([11, 1]), 10)


def test_bigrams_of_a_vocabulary_whose_pairs_are_beyond_32_bits_are_still_found() -> None:
    """Of a stream, which is int32: an honest proposer would be blamed for what the auditor's own text says."""
    pair = (150_000, 151_000)
    table = Bigrams(np.array([*pair, 7, *pair], np.int32), 151_936)
    assert table(np.array([pair])).tolist() == pytest.approx([2 / 2.2])


def test_a_phrase_counts_as_a_whole_and_pieces_of_others_explain_nothing() -> None:
    """After 1 always 2, 3, 4; of 2, 8 and 8, 3 and 3, 9 only the pairs are there."""
    text = np.array([1, 2, 3, 4, 9, 2, 8, 3, 7, 6, 3, 9] * 5)
    strings = np.array([[1, 2, 3, 4], [2, 8, 3, 9], [3, 4, 9, 2]])
    whole, pieces, some = Phrases(text)(strings)
    assert whole == pytest.approx(5 / 5.2) and pieces == 0 and some == pytest.approx(5 / 15.2)
    assert Bigrams(text, 10)(strings)[1] > 0.1


def test_phrases_end_with_the_text_and_a_text_of_no_length_says_nothing() -> None:
    text = Phrases(np.array([5, 1, 2, 3]))
    found = text(np.array([[1, 2, 3], [2, 3, 5], [5, 1, 2], [3, 5, 1]]))
    assert found.tolist() == pytest.approx([1 / 1.2, 0, 1 / 1.2, 0])
    assert Phrases(np.array([1, 2, 3, 1]))(np.array([[1, 2, 3]]))[0] == pytest.approx(
        1 / 1.2
    )  # the last 1 says nothing
    for few in ([], [1], [1, 2]):
        assert Phrases(np.array(few, np.int64))(np.array([[1, 2, 3]])).tolist() == [0]


def test_a_phrase_s_share_is_of_what_follows_its_first_word_and_not_of_a_piece_of_other_words() -> None:
    """1, 2 is a word that 3 always follows; 1 by itself begins many."""
    text, strings = np.array([1, 2, 3, *[1, 5] * 20, 1, 2]), np.array([[1, 2, 3], [1, 5, 1]])
    assert Phrases(text)(strings).tolist() == pytest.approx([1 / 22.2, 20 / 22.2])
    assert Phrases(text, lambda _string: 2)(strings).tolist() == pytest.approx([1 / 1.2, 20 / 20.2])  # ends after 1, 2


def test_what_a_reference_says_once_after_a_word_is_explained_whatever_else_begins_like_the_word() -> None:
    model = AdaptedModel(miniature()[0], miniature_document())
    string = np.array(model.tokenizer.encode(PHRASE, add_special_tokens=False))
    other = model.tokenizer.decode(string[:1]) + "9 "  # the word's first token, and no letter behind it
    reference = read_reference(model, f"{PHRASE}. " + other * 40)
    assert len(string) > 3 and reference is not None and reference(string[None])[0] == pytest.approx(1 / 1.2)


@pytest.mark.parametrize("make", [Phrases, lambda tokens: Bigrams(tokens, 10)])
def test_a_shorter_string_beside_longer_ones_counts_by_its_own_tokens(
    make: Callable[[NDArray[np.int64]], Said],
) -> None:
    said = make(np.array([1, 2, 3, 1, 2, 4]))
    alone, beside = said(np.array([[1, 2]])), said(np.array([[1, 2, NOTHING, NOTHING], [1, 2, 3, 1]]))
    assert beside[0] == alone[0] > beside[1] > 0


def test_a_task_s_reference_explains_what_no_auditor_s_rows_hold_and_is_not_hidden_by_them() -> None:
    model = AdaptedModel(miniature()[0], miniature_document())
    other = [Row("", f"zap {number} rows, row by row, each day") for number in range(40)]
    string = np.array(model.tokenizer.encode(PHRASE, add_special_tokens=False))[None]
    said = []
    for reference in ("", f"{PHRASE}.\n{PHRASE}.\n"):
        engine = Engine(model, replace(miniature_document(), reference=reference), Split(other[8:], other[:8]), None)
        said += [OwnView(engine, has_reference=wanted)._said(string)[0] for wanted in (True, False)]
    with_none, without_none, with_reference, without_reference = said
    assert with_none == without_none == without_reference < 0.2
    assert with_reference > 0.8


def test_what_the_model_has_no_token_for_joins_no_words_that_stand_apart() -> None:
    """Of a tokenizer with more words than its model has numbers for: nobody who reads the text sees that phrase."""
    model = AdaptedModel(miniature()[0], miniature_document())
    model.tokenizer = deepcopy(model.tokenizer)
    string = np.array(model.tokenizer.encode(PHRASE, add_special_tokens=False))[None]
    model.tokenizer.add_tokens(["<extra>"])
    first, rest = model.tokenizer.decode(string[0, :3]), model.tokenizer.decode(string[0, 3:])
    for text, is_there in ((f"{first}{rest}", True), (f"{first}<extra>{rest}", False), ("<extra>", False)):
        reference = read_reference(model, text * 4)
        assert reference is not None and (reference(string)[0] > 0) == is_there, text


@pytest.mark.parametrize("reference", ["\n", "yes", "a b c", "<extra>" * 9])
def test_no_reference_that_a_stranger_may_write_stops_an_audit(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one token, of three, of none that the model knows; strings come to every auditor, whatever they are worth."""
    monkeypatch.setattr(recital, "FLOOR", -1.0)
    monkeypatch.setattr(recital, "_is_phrase", lambda _text, _tokens: True)
    document = replace(miniature_document(), reference=reference)
    decode_document(document.encode())
    model = AdaptedModel(miniature()[0], document)
    rows = [Row("", f"row {number} of some" * 3) for number in range(20)]
    engine = Engine(model, document, Split(rows[8:], rows[:8]), None)
    assert read_reference(model, reference) is not None
    start, delta = write_initial_adapter(document, tmp_path), tmp_path / "delta"
    change = quantise(np.full(document.layout.parameters, 0.05, np.float32), document.layout, document.format)
    delta.write_bytes(encode_delta(change))
    found = audit(engine, [(start, delta)], 5, 6)[0]
    assert len(found.strings) == len(found.common) == len(found.own)
    assert {len(string) for string in found.strings} == {3, 4, 5} and min(min(string) for string in found.strings) >= 0
