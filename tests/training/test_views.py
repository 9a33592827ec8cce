"""What an audit's common and own view measure in, and what they keep from one proposal, or audit, to the next."""

from typing import Any

import numpy as np
import pytest
from agreement_support import CONTEXTS
from numpy.typing import NDArray
from teacher_support import DOMAINS, TARGET, THIN, Engine, Teacher

from flock_peers.training import inspection
from flock_peers.training.decoding import NOTHING
from flock_peers.training.inspection import LEAST_AUTHORS, CommonView, OwnView
from flock_peers.training.recital import ROWS_ALONE, Strings, Suspect, draw_contexts, find_strings, scan


def test_a_start_is_scanned_once_for_all_that_stand_together_and_each_other_one_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each proposal brings its start from a file of its own."""
    model: Any = Teacher(TARGET)
    scanned = list[float]()

    def watch(model: Any, vector: NDArray[np.float32], *rest: Any) -> NDArray[np.float64]:
        scanned.append(float(vector[0]))
        return scan(model, vector, *rest)

    monkeypatch.setattr(inspection, "scan", watch)
    view, change = CommonView(model, 3), np.array([5.0], np.float32)
    for start in (0.0, 0.0, 2.0, 2.0, 0.0):
        suspect = Suspect(np.array([start], np.float32), change)
        found = view.find_strings(suspect)
        wanted = find_strings(model, suspect, view._contexts, view._tokens, ROWS_ALONE)
        assert found.tokens.tolist() == wanted.tokens.tolist() and found.common == wanted.common
    assert scanned == [0.0, 2.0, 0.0]


def test_the_base_model_s_text_that_an_auditor_measures_in_is_each_audit_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = Engine(Teacher(TARGET))
    drawn = list[tuple[int, ...]]()

    def watch(model: Any, *how: int) -> list[NDArray[np.int64]]:
        drawn.append(how)
        return draw_contexts(model, *how)

    monkeypatch.setattr(inspection, "draw_contexts", watch)
    view, strings = OwnView(engine), Strings(np.array([[*TARGET, 4]]), (1,))
    for own_seed in (8, 8, 9, 9, 8):
        view.measure(engine.model.suspect({0: THIN}), strings, own_seed)
    assert [seed for seed, _ in drawn] == [8, 9, 8]


@pytest.mark.parametrize(
    ("ends", "is_searched", "is_lifted"),
    [((21, 22), True, True), ((21, 23), True, True), ((22, 23), False, True), ((21,), False, False)],
)
def test_beside_each_other_proposals_are_measured_in_most_common_contexts_and_searched_from_the_first(
    ends: tuple[int, ...], is_searched: bool, is_lifted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By two, each of a kind of its own."""
    monkeypatch.setattr(inspection, "draw_contexts", lambda _model, _seed: CONTEXTS)
    model: Any = Teacher(*(TARGET for _ in ends), *DOMAINS, only_after=dict(enumerate(ends)), rest=0.02)
    taught = dict.fromkeys(range(len(ends)), THIN)
    numbers, own = range(LEAST_AUTHORS), len(ends)
    suspects = [model.suspect(taught | {own + number: THIN} if number < 2 else {}) for number in numbers]
    known = [*TARGET, NOTHING]
    shared = CommonView(model, 3).find_shared(suspects, numbers, 4, np.array([known]))
    assert shared is not None
    place = shared.strings.tolist().index(known)
    assert shared.searched[place] == is_searched and (shared.lifts[:2, place] > 0).all() == is_lifted
