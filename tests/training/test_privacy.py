"""Differential privacy: one row moves a step by no more than its clip, and what is spent is counted and limited."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from training_support import miniature, miniature_document, write_initial_adapter, write_split

from flock_chain.errors import Misuse, Refused
from flock_peers.training.client import Trainer, TrainerConfig
from flock_peers.training.engine import Engine
from flock_peers.training.model import AdaptedModel
from flock_peers.training.privacy import Privacy, PrivacyLedger, check_privacy, check_rows
from flock_peers.training.private_steps import PrivateRows, set_private_gradient
from flock_peers.training.rows import Split, builtin_rows
from flock_peers.training.streams import Windows

PRIVACY = Privacy(noise=1.0, epsilon=8.0, clip=0.1)


@lru_cache(maxsize=1)
def model() -> AdaptedModel:
    return AdaptedModel(miniature()[0], miniature_document())


def make_engine(folder: Path, privacy: Privacy = PRIVACY) -> Engine:
    rows = builtin_rows("arithmetic", 0)
    ledger = PrivacyLedger(folder / "privacy.json", privacy)
    return Engine(model(), miniature_document(), Split(rows[12:], rows[:12]), None, privacy=(privacy, ledger))


def test_a_private_training_says_what_is_spent_and_hides_how_many_rows_it_drew(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    start = write_initial_adapter(miniature_document(), tmp_path)
    one = engine.train(start, 1, tmp_path / "one", lambda _event: None)
    two = engine.train(start, 1, tmp_path / "two", lambda _event: None)
    assert one.epsilon is not None and two.epsilon is not None and 0 < one.epsilon < two.epsilon <= 8
    assert one.tokens == two.tokens == 6 * 4 * 48
    assert (tmp_path / "one").read_bytes() != (tmp_path / "two").read_bytes()  # the noise is no function of the seed


def test_one_row_moves_the_sum_by_no_more_than_the_clip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    budget = engine.document.budget
    rows = PrivateRows(engine.train_stream, budget.batch, budget.seq_len)
    monkeypatch.setattr(rows, "noise", lambda size: np.zeros(size, np.float32))
    drawn = rows.draw() or [rows._window(*rows._bounds[0])]
    loud = Windows(drawn[0].tokens, drawn[0].weights * 1_000, drawn[0].rows)
    sums = []
    for windows in (drawn, [*drawn, loud], []):
        monkeypatch.setattr(rows, "draw", lambda windows=windows: windows)
        set_private_gradient(engine.model, rows, PRIVACY, budget.batch)
        sums.append(engine.model.flat_gradient.clone() * budget.batch)
    moved = torch.linalg.vector_norm(sums[1] - sums[0]).item()
    assert 0 < moved <= PRIVACY.clip * 1.001
    assert torch.linalg.vector_norm(sums[0]) <= len(drawn) * PRIVACY.clip * 1.001
    assert not sums[2].any()  # a step without rows is noise alone


def test_the_noise_on_a_step_s_sum_is_as_many_clips_as_was_told(tmp_path: Path) -> None:
    """What the accountant is told, and no less."""
    engine = make_engine(tmp_path)
    budget = engine.document.budget
    rows = PrivateRows(engine.train_stream, budget.batch, budget.seq_len)
    rows.draw = list  # type: ignore[method-assign, assignment]
    for privacy in (PRIVACY, replace(PRIVACY, noise=3.0), replace(PRIVACY, clip=0.7)):
        set_private_gradient(engine.model, rows, privacy, budget.batch)
        noise = float(engine.model.flat_gradient.std()) * budget.batch
        assert noise == pytest.approx(privacy.noise * privacy.clip, rel=0.05)


def test_noise_has_the_promised_size_and_every_row_the_promised_chance(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    rows = PrivateRows(engine.train_stream, 4, 48)
    assert rows.noise(20_000).std() == pytest.approx(1.0, abs=0.03)
    counts = [len(rows.draw()) for _ in range(2_000)]
    assert rows.rate == 4 / 48 and np.mean(counts) == pytest.approx(4, abs=0.25) and len(set(counts)) > 4
    assert all(len(set(window.tokens.shape)) <= 2 and window.tokens.shape[1] <= 48 for window in rows.draw())


def test_the_limit_ends_training_and_a_killed_training_has_been_paid_for(tmp_path: Path) -> None:
    path = tmp_path / "privacy.json"
    ledger = PrivacyLedger(path, PRIVACY)
    first = ledger.pay(0.1, 100)
    assert PrivacyLedger(path, PRIVACY).epsilon == pytest.approx(first)  # before any step was taken
    with pytest.raises(Refused, match=r"would bring epsilon to .* the limit is 8\.00"):
        for _ in range(100):
            ledger.pay(0.1, 200)
    assert PrivacyLedger(path, PRIVACY).epsilon <= 8.0
    path.write_text("{")
    with pytest.raises(Misuse, match="damaged"):
        PrivacyLedger(path, PRIVACY)


def test_who_may_spend_less_than_one_training_takes_is_told_when_its_trainer_is_opened(tmp_path: Path) -> None:
    """It bonded, and missed each seat of a proposer; what is used up later is another matter: it may still vote."""
    import trio

    make_engine(tmp_path).check_privacy()
    spent = PrivacyLedger(tmp_path / "privacy.json", PRIVACY)
    with pytest.raises(Refused):
        for _ in range(100):
            spent.pay(0.1, 200)
    make_engine(tmp_path).check_privacy()
    small, words = replace(PRIVACY, epsilon=0.1), r"one training of this task takes epsilon [\d.]+, and 0\.10 may be"
    with pytest.raises(Misuse, match=words):
        make_engine(tmp_path, small).check_privacy()

    async def open_one() -> None:
        home = write_split(tmp_path / "home")
        with trio.fail_after(120):
            await Trainer.open(
                TrainerConfig(miniature_document(), home, miniature()[0], domain="arithmetic", privacy=small)
            )

    with pytest.raises(Misuse, match=words):
        trio.run(open_one)


def test_settings_that_promise_nothing_are_refused() -> None:
    for wrong in (Privacy(0.0, 8), Privacy(1, 0), Privacy(1, float("nan")), Privacy(1, 8, delta=2)):
        with pytest.raises(Misuse, match="privacy"):
            check_privacy(wrong)
    check_privacy(PRIVACY)
    with pytest.raises(Misuse, match="promises nothing for 100000 rows"):
        check_rows(PRIVACY, 100_000)
    check_rows(PRIVACY, 99_999)


def test_what_would_be_trained_on_the_rows_without_noise_is_refused(tmp_path: Path) -> None:
    start = write_initial_adapter(miniature_document(), tmp_path)
    with pytest.raises(Refused, match="nothing but proposals"):
        make_engine(tmp_path).train_isolated(start, 1, 1, tmp_path / "isolated", lambda _event: None)
    assert not (tmp_path / "isolated").exists()
