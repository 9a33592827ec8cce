"""What an audit's common and own view measure in, and what they keep from one proposal, or audit, to the next."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from agreement_support import CONTEXTS, PHRASE
from numpy.typing import NDArray
from teacher_support import DOMAINS, JOINED, TARGET, THIN, Engine, Teacher, make_proposals

from flock_chain.audit_rule import CONVICT_FROM, GUILTY_FROM, summarise
from flock_peers.training import inspection
from flock_peers.training.continuations import NOTHING
from flock_peers.training.inspection import LEAST_AUTHORS, CommonView, OwnView, Shared, audit
from flock_peers.training.kinship import Kinship
from flock_peers.training.recital import ROWS_ALONE, Strings, Suspect, cut_contexts, draw_contexts, find_strings, scan
from flock_peers.training.remembered import Remembered

LOUD = 11.0  # of a habit: nearly half of a token's probability after one addition


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


@pytest.mark.parametrize(("ends", "is_shown"), [((21, 23), True), ((21,), False), ((23,), False)])
def test_an_auditor_measures_in_its_hold_out_and_in_the_base_model_s_text_alike(
    ends: tuple[int, ...], is_shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ends in 21, the second in 23: what shows in one of them alone is not shown."""
    monkeypatch.setattr(inspection, "draw_contexts", lambda _model, _seed, count: [np.array([20, 23])] * count)
    engine: Any = Engine(Teacher(*(PHRASE for _ in ends), only_after=dict(enumerate(ends))))
    engine.train_stream = engine.hold_out_stream = SimpleNamespace(tokens=np.full(60, 21))
    view, suspect = OwnView(engine), engine.model.suspect(dict.fromkeys(range(len(ends)), LOUD))
    (value,) = view.measure(suspect, Strings(np.array([PHRASE]), (CONVICT_FROM,)), 4).own
    assert (value > GUILTY_FROM) == is_shown
    shared = Shared(np.array([PHRASE]), np.array([True]), np.full((2, 1), 9.0), Kinship(np.eye(2), [0, 1], [0, 0]))
    for row in view.measure_shared([suspect] * 2, shared, 4, Remembered()):
        assert (summarise(row.common, row.own) >= GUILTY_FROM) == is_shown


def test_of_what_is_remembered_phrases_are_measured_and_one_word_is_not() -> None:
    """Without its first token a phrase may be one: how a word goes on its domain teaches wherever it comes."""
    model: Any = Teacher(PHRASE)
    phrase = [0, 1, JOINED, JOINED + 1]
    known = np.array([[*phrase, NOTHING], [*phrase[1:], NOTHING, NOTHING]])
    numbers = range(LEAST_AUTHORS)
    shared = CommonView(model, 3).find_shared([model.suspect({}) for _ in numbers], numbers, 4, known)
    assert shared is not None and shared.strings.tolist() == known[:1].tolist()


def test_what_an_audit_measures_by_its_own_seed_is_drawn_by_no_other_and_the_rest_by_the_public_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a public seed a proposer knows the contexts, too."""
    engine, proposals = make_proposals({0: THIN}, 2, 5)
    own, common = set[int](), set[int]()

    def cut(tokens: NDArray[np.int64], seed: int) -> list[NDArray[np.int64]]:
        own.add(seed)
        return cut_contexts(tokens, seed)

    def draw(model: Any, seed: int, *count: int) -> list[NDArray[np.int64]]:
        (own if count else common).add(seed)
        return draw_contexts(model, seed, *count)

    monkeypatch.setattr(inspection, "cut_contexts", cut)
    monkeypatch.setattr(inspection, "draw_contexts", draw)
    results = audit(engine, proposals, 3, 4, range(len(proposals)))
    assert max(summarise(row.common, row.own) for row in results) >= GUILTY_FROM
    assert (common, own) == ({3}, {4})
