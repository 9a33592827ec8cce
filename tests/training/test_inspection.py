"""What an audit's views and its files come to: whose text explains what, and what each proposer is measured by."""

from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pytest import MonkeyPatch
from reciter_support import CONTEXTS, KNOWN, PLANTED, SHORT, SUSPECT, VOCABULARY, Reciter
from training_support import miniature_document, miniature_model, write_initial_adapter

from flock_chain.audit_rule import GUILTY_FROM, summarise
from flock_peers.training import inspection
from flock_peers.training.continuations import NOTHING
from flock_peers.training.engine import Engine
from flock_peers.training.inspection import CommonView, OwnView, audit, measure_likeness
from flock_peers.training.recital import Strings
from flock_peers.training.rows import Split, builtin_rows


@lru_cache(maxsize=1)
def arithmetic() -> Split:
    rows = builtin_rows("arithmetic", 0)
    return Split(rows[12:], rows[:12])


def engine(attack: str | None = None) -> Engine:
    return Engine(miniature_model(), miniature_document(), arithmetic(), attack)


def quiet(event: object) -> None:
    del event


def test_both_training_rows_and_hold_out_of_an_auditor_explain_what_they_hold(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "draw_contexts", lambda _model, _seed, count: CONTEXTS[:1] * count)
    known, other = np.tile(np.array(KNOWN), 50), np.arange(60) % 5
    strings = Strings(np.array([KNOWN, PLANTED]), (900_000, 900_000))
    for train, held in ((known, other), (other, known)):
        streams = {"train_stream": SimpleNamespace(tokens=train), "hold_out_stream": SimpleNamespace(tokens=held)}
        document = SimpleNamespace(reference="")
        view = OwnView(SimpleNamespace(model=Reciter(), document=document, **streams))  # type: ignore[arg-type]
        explained, planted = view.measure(SUSPECT, strings, 3).own
        assert explained <= 0 < GUILTY_FROM < planted


def test_the_common_list_holds_nothing_that_the_reference_says(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "draw_contexts", lambda _model, _seed: CONTEXTS)
    monkeypatch.setattr(inspection, "choose_tokens", lambda _model, _seed: np.arange(VOCABULARY))
    model: Any = Reciter()
    for reference, is_listed in (("", True), ("1 2 3", True), (" ".join(map(str, PLANTED)), False)):
        found = CommonView(model, 1, reference).find_strings(SUSPECT)
        firsts = {tuple(row[:3]) for row in found.tokens.tolist()}
        assert (tuple(PLANTED[:3]) in firsts) == is_listed and tuple(KNOWN[:3]) in firsts, reference


@pytest.mark.parametrize(("reference", "worth"), [("1 2", 5 / 4), ("99 99", 5 / 4), ("45 46 47", 0.0)])
def test_an_auditor_weighs_strings_of_three_tokens_as_the_common_contexts_do(
    reference: str, worth: float, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "draw_contexts", lambda _model, _seed, count: CONTEXTS[:1] * count)
    monkeypatch.setattr(Reciter, "after_two", 0.5)
    monkeypatch.setattr(Reciter, "after_one", 0.3)
    stream = SimpleNamespace(tokens=np.arange(60) % 5)
    engine = SimpleNamespace(
        model=Reciter(), document=SimpleNamespace(reference=reference), train_stream=stream, hold_out_stream=stream
    )
    strings = Strings(np.array([[*SHORT, NOTHING, NOTHING]]), (900_000,))
    (value,) = OwnView(engine).measure(SUSPECT, strings, 3).own  # type: ignore[arg-type]
    assert max(0, value) == pytest.approx(1e6 * worth * 5 / 3 * 0.5**2, abs=1_000)


def test_one_audit_measures_each_proposer_from_files(tmp_path: Path) -> None:
    start = write_initial_adapter(miniature_document(), tmp_path)
    paths = []
    for number, attack in enumerate((None, "backdoor:1")):
        engine(attack).train(start, number, tmp_path / f"delta-{number}", quiet)
        paths.append(tmp_path / f"delta-{number}")
    proposals = [(start, path) for path in paths]
    results = audit(engine(), proposals, 3, 4)
    assert len(results) == 2
    for result in results:
        assert len(result.strings) == len(result.common) == len(result.own)
        assert summarise(result.common, result.own) < GUILTY_FROM  # six steps plant nothing yet
    assert results == audit(engine(), proposals, 3, 4)
    likeness = measure_likeness(engine(), start, paths, 5)
    assert likeness[0][1] == likeness[1][0] and likeness[0][0] == 1_000
