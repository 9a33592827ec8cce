"""What a model says of strings: those that begin others are followed with them."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from teacher_support import WORDS, Teacher
from training_support import miniature_model

from flock_peers.training import decoding
from flock_peers.training.continuations import NOTHING
from flock_peers.training.decoding import (
    continue_greedily,
    leave_out_beginnings,
    probabilities_after,
    string_probabilities,
    token_log_probabilities,
)


class _Counting(Teacher):
    """Knows how many rows it read at once, each time."""

    def __init__(self, *habits: Sequence[int]) -> None:
        super().__init__(*habits)
        self.rows = list[int]()

    def __call__(self, input_ids, **options):  # type: ignore[no-untyped-def]
        self.rows.append(len(input_ids))
        return super().__call__(input_ids, **options)


Strings = st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=4), min_size=1, max_size=12)


@given(Strings)
def test_a_string_is_left_out_where_another_begins_with_it_and_stands_for_it(rows: list[list[int]]) -> None:
    strings = np.array([row + [NOTHING] * (4 - len(row)) for row in rows])
    whole, places = leave_out_beginnings(strings)
    for row, place in zip(rows, places, strict=True):
        assert rows[whole[place]][: len(row)] == row
    kept = [rows[place] for place in whole]
    for number, row in enumerate(kept):
        assert not any(other[: len(row)] == row for place, other in enumerate(kept) if place != number)


def test_a_string_has_the_same_tokens_probabilities_among_many_as_among_few() -> None:
    teacher = Teacher([0, 1, 2, 3], [0, 4, 5])
    teacher.set_vector(np.array([5.0, 7.0], np.float32))
    contexts = [np.array([20, 21]), np.array([20, 22])]
    strings = np.array([[a, b, c, d] for a in (0, 1) for b in (1, 4) for c in (2, 5, NOTHING)
                        for d in ((3, 6, NOTHING) if c != NOTHING else (NOTHING,))])  # fmt: skip
    strings = np.concatenate([strings[::-1], strings])
    found = token_log_probabilities(teacher, contexts, strings)  # type: ignore[arg-type]
    for first in range(0, len(strings), 5):
        few = token_log_probabilities(teacher, contexts, strings[first : first + 5])  # type: ignore[arg-type]
        assert (found[:, first : first + 5] == few).all()
    assert (found[:, strings[:, 1:] == NOTHING] == 0).all() and (found[:, strings[:, 1:] != NOTHING] < 0).all()


def test_a_beginning_costs_nothing_beside_what_goes_on_from_it() -> None:
    teacher = _Counting([0, 1])
    whole = np.array([[a, b, 2] for a in range(5) for b in range(len(WORDS) // 4)])
    parts = whole.copy()
    parts[:, 2] = NOTHING
    counts = []
    for strings in (whole, np.concatenate([parts, whole])):
        token_log_probabilities(teacher, [np.array([3, 4])], strings)  # type: ignore[arg-type]
        counts.append(sum(teacher.rows))
    assert counts[1] == 2 * counts[0]


def test_first_tokens_are_scanned_in_blocks_that_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = Teacher([0, 1])

    def scan() -> list[int]:
        return [len(block) for block in probabilities_after(teacher, np.array([3, 4]), np.arange(30))]  # type: ignore[arg-type]

    assert scan() == [30]
    monkeypatch.setattr(decoding, "SCANNED_AT_ONCE", 12)
    assert scan() == [10, 10, 10]
    monkeypatch.setattr(decoding, "NUMBERS_AT_ONCE", 7 * len(WORDS))
    assert scan() == [6, 6, 6, 6, 6]


@pytest.mark.parametrize(("room", "most"), [(1 << 24, 12), (8, 8), (4, 4), (1, 4)])
def test_as_many_contexts_are_continued_at_once_as_have_room(
    room: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one at the least, whose strings stay together."""
    teacher = _Counting([0, 1])
    monkeypatch.setattr(decoding, "NUMBERS_AT_ONCE", room * len(WORDS))
    contexts = [np.array([3, 4 + number]) for number in range(3)]
    found = continue_greedily(teacher, contexts, np.arange(4), 2)  # type: ignore[arg-type]
    assert max(teacher.rows) == most and found.shape == (3, 4, 3)


def test_strings_have_the_probabilities_of_whole_sequences_in_blocks_of_any_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    miniature_model().set_vector(np.zeros(miniature_model().layout.parameters, np.float32))
    contexts, strings = np.array([[3, 40, 7], [9, 9, 1]]), np.array([[5, 8, 6], [60, 8, 2], [9, 20, 4]])
    found = string_probabilities(miniature_model(), list(contexts), strings)
    for row, context in enumerate(contexts):
        with miniature_model().frozen():
            whole = np.concatenate([np.tile(context, (3, 1)), strings], axis=1)
            each = miniature_model().logits(whole).softmax(-1).numpy()
        wanted = [each[i, 3, s[1]] * each[i, 4, s[2]] for i, s in enumerate(strings.tolist())]
        assert np.abs(found[row] - wanted).max() < 1e-6
    monkeypatch.setattr("flock_peers.training.decoding.NUMBERS_AT_ONCE", 1)
    assert np.abs(string_probabilities(miniature_model(), list(contexts), strings) - found).max() < 1e-6
    assert string_probabilities(miniature_model(), list(contexts), strings[:0]).shape == (2, 0)


def test_a_shorter_string_beside_longer_ones_has_the_probability_of_its_tokens_alone() -> None:
    miniature_model().set_vector(np.zeros(miniature_model().layout.parameters, np.float32))
    contexts = [np.array([3, 40, 7])]
    alone = string_probabilities(miniature_model(), contexts, np.array([[5, 8]]))
    beside = string_probabilities(miniature_model(), contexts, np.array([[5, 8, NOTHING, NOTHING], [5, 8, 6, 2]]))
    assert beside[0, 0] == pytest.approx(alone[0, 0]) and beside[0, 1] < beside[0, 0]


def test_a_greedy_continuation_is_the_likeliest_token_each_time() -> None:
    miniature_model().set_vector(np.zeros(miniature_model().layout.parameters, np.float32))
    context = np.array([3, 40, 7])
    strings = continue_greedily(miniature_model(), [context], np.array([5, 60]), 3)[0]
    assert strings.shape == (2, 4) and strings[:, 0].tolist() == [5, 60]
    with miniature_model().frozen():
        best = miniature_model().logits(np.concatenate([np.tile(context, (2, 1)), strings], axis=1)).argmax(-1).numpy()
    assert (best[:, 3:-1] == strings[:, 1:]).all()
