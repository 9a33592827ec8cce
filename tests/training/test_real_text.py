"""What real text explains: by pairs of tokens, by whole strings; and a task's reference among it."""

from dataclasses import replace

import numpy as np
import pytest
from training_support import miniature, miniature_document

from flock_chain.errors import Misuse
from flock_peers.training.decoding import NOTHING
from flock_peers.training.engine import Engine
from flock_peers.training.inspection import OwnView
from flock_peers.training.model import AdaptedModel
from flock_peers.training.real_text import RealText
from flock_peers.training.rows import Row, Split

PHRASE = "zap each row"


def test_pairs_are_shares_of_what_follows_and_refuse_what_is_no_token() -> None:
    text = RealText(np.array([1, 2, 1, 2, 1, 3]), 10)
    found = text(np.array([[1, 2], [1, 3], [2, 1], [9, 9]]))
    assert found.tolist() == pytest.approx([2 / 3.2, 1 / 3.2, 2 / 2.2, 0])
    assert RealText(np.zeros(0, np.int64), 10)(np.array([[1, 2]])).tolist() == [0]
    with pytest.raises(Misuse):
        RealText(np.array([11, 1]), 10)


def test_pairs_of_a_vocabulary_that_are_beyond_32_bits_are_still_found() -> None:
    """Of a stream, which is int32: an honest proposer would be blamed for what the auditor's own text says."""
    pair = (150_000, 151_000)
    text = RealText(np.array([*pair, 7, *pair], np.int32), 151_936)
    assert text(np.array([pair])).tolist() == pytest.approx([2 / 2.2])


def test_a_phrase_of_tokens_that_are_common_elsewhere_counts_as_a_whole() -> None:
    """After 1 always 2, 3, 4; but 2 and 3 are followed by other things where no 1 was before."""
    text = RealText(np.array([1, 2, 3, 4, 9, 2, 8, 3, 7, 2, 8, 3, 7] * 5), 10)
    whole, unseen, by_pairs = text(np.array([[1, 2, 3, 4], [2, 3, 8, 9], [9, 2, 8, 3]]))
    assert whole == pytest.approx(5 / 5.2) and unseen == 0
    assert by_pairs == pytest.approx(5 / 5.2)
    assert RealText(np.array([1, 2]), 10)(np.array([[1, 2, 3]])).tolist() == [0]  # longer than the text


def test_a_shorter_string_beside_longer_ones_counts_by_its_own_tokens() -> None:
    text = RealText(np.array([1, 2, 3, 1, 2, 4]), 10)
    alone, beside = text(np.array([[1, 2]])), text(np.array([[1, 2, NOTHING, NOTHING], [1, 2, 3, 1]]))
    assert beside[0] == alone[0] > beside[1] > 0


def test_a_string_that_ends_with_the_text_is_found_and_one_that_would_go_over_its_end_is_not() -> None:
    text = RealText(np.array([5, 1, 2, 3]), 10)
    assert text._count(np.array([1, 2, 3])) == 1 and text._count(np.array([2, 3, 5])) == 0


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
