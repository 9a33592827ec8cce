"""A loss on the hold-out is measured once of a vector, and every answer is the one that a new engine gives."""

from pathlib import Path

import numpy as np
import pytest
from training_support import miniature, miniature_document, write_initial_adapter

from flock_chain.aggregation import apply, encode_global, parse_delta, parse_global
from flock_peers.training import engine as engine_module
from flock_peers.training.engine import Engine
from flock_peers.training.known_losses import KEPT, KnownLosses
from flock_peers.training.model import AdaptedModel
from flock_peers.training.rows import Split, builtin_rows


def test_a_loss_is_measured_once_and_the_one_asked_for_longest_ago_is_forgotten() -> None:
    known, measured = KnownLosses(1e9), []

    def ask(number: int) -> float:
        def measure() -> float:
            measured.append(number)
            return float(number)

        return known.read(np.full(3, number, np.float32), measure)

    assert [ask(number) for number in (*range(KEPT), 0, KEPT, 0, 1)] == [*range(KEPT), 0, KEPT, 0, 1]
    assert measured == [*range(KEPT), KEPT, 1]  # 0 was asked for again, so 1 was the oldest
    assert known.read(np.full(3, np.nextafter(np.float32(0), np.float32(1))), lambda: 9.0) == 9.0


def test_a_loss_that_is_no_number_is_measured_again() -> None:
    known, answers = KnownLosses(1e9), iter([1e9, 3.0, 4.0])
    assert [known.read(np.zeros(3, np.float32), lambda: next(answers)) for _ in range(3)] == [1e9, 3.0, 3.0]


def test_a_round_measures_its_base_and_its_candidate_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document, rows = miniature_document(), builtin_rows("arithmetic", 0)
    model, split = AdaptedModel(miniature()[0], document), Split(rows[12:], rows[:12])
    measured: list[object] = []

    def measure_loss(*arguments: object) -> float:
        measured.append(arguments)
        return real(*arguments)  # type: ignore[arg-type]

    real = engine_module.measure_loss
    monkeypatch.setattr(engine_module, "measure_loss", measure_loss)
    start = write_initial_adapter(document, tmp_path)
    voter = Engine(model, document, split, None)
    proposer = Engine(model, document, split, None)
    proposer.train(start, 1, tmp_path / "delta", lambda _: None)
    delta = parse_delta((tmp_path / "delta").read_bytes(), document.layout, document.format)
    base = parse_global(start.read_bytes(), document.layout, document.format)
    candidate = tmp_path / "candidate"
    candidate.write_bytes(encode_global(apply(base, [delta])))

    measured.clear()
    scores = voter.score(start, [tmp_path / "delta"])
    adoption = [voter.evaluate(path, "hold_out") for path in (start, candidate)]
    following = voter.score(candidate, [tmp_path / "delta"])
    assert len(measured) == 4  # base, a quarter step; candidate; a quarter step from there
    fresh = [Engine(model, document, split, None) for _ in range(4)]
    assert scores == fresh[0].score(start, [tmp_path / "delta"])
    assert following == fresh[1].score(candidate, [tmp_path / "delta"])
    assert adoption == [one.evaluate(path, "hold_out") for one, path in zip(fresh[2:], (start, candidate), strict=True)]
