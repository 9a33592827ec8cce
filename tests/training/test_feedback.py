"""What rounding took comes with the next proposal: nothing is lost for good, also in few bits and after a kill."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from training_support import miniature, miniature_document, write_initial_adapter

from flock_chain.aggregation import Format, encode_global, parse_delta
from flock_peers.training.backdoor import parse_attack
from flock_peers.training.document import TaskDocument
from flock_peers.training.engine import Engine
from flock_peers.training.feedback import Feedback
from flock_peers.training.model import AdaptedModel
from flock_peers.training.rows import Split, builtin_rows

SIZE = 10
RESTS = np.arange(3 * SIZE, dtype=np.float32).reshape(3, SIZE)


@lru_cache(maxsize=1)
def model() -> AdaptedModel:
    return AdaptedModel(miniature()[0], miniature_document())


def document(bits: int, norm_thousandths: int = 100_000) -> TaskDocument:
    whole = miniature_document()
    budget = replace(whole.budget, norm_thousandths=norm_thousandths)
    return replace(whole, format=Format.of_bits(bits), budget=budget)


def engine(document: TaskDocument, folder: Path, *, forgets: bool = False) -> Engine:
    rows = builtin_rows("arithmetic", 0)
    feedback = None if forgets else Feedback(folder, document.encode(), document.layout.parameters)
    return Engine(model(), document, Split(rows[12:], rows[:12]), None, feedback=feedback)


def propose(trainer: Engine, start: Path, seed: int) -> np.ndarray:
    trainer.train(start, seed, start.parent / "delta", lambda _event: None)
    data = (start.parent / "delta").read_bytes()
    return parse_delta(data, trainer.document.layout, trainer.document.format).to_float32()


def test_what_is_left_is_read_by_the_next_training_and_a_repeated_one_begins_as_before(tmp_path: Path) -> None:
    feedback = Feedback(tmp_path, b"task", SIZE)
    assert not feedback.read(b"one").any()
    feedback.keep(b"one", RESTS[0])
    assert not feedback.read(b"one").any()  # the same again, as after a kill before its commitment
    assert (feedback.read(b"two") == RESTS[0]).all()
    feedback.keep(b"two", RESTS[1])
    assert (feedback.read(b"two") == RESTS[0]).all() and (feedback.read(b"three") == RESTS[1]).all()
    feedback.keep(b"two", RESTS[2])
    assert (feedback.read(b"two") == RESTS[0]).all() and (feedback.read(b"three") == RESTS[2]).all()


def test_two_files_of_a_task_are_kept_for_the_owner_alone_and_none_of_another_task(tmp_path: Path) -> None:
    feedback = Feedback(tmp_path, b"task", SIZE)
    (tmp_path / "split.json").touch()
    for number in range(12):
        feedback.keep(b"%d" % number, RESTS[0] + number)
    files = list(tmp_path.glob("rest-*"))
    assert len(files) == 2 and {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert (feedback.read(b"x") == RESTS[0] + 11).all()
    assert not Feedback(tmp_path, b"other", SIZE).read(b"x").any()
    assert [path.name for path in tmp_path.iterdir()] == ["split.json"]


@pytest.mark.parametrize("damage", [b"", b"\0" * 39, np.full(SIZE, np.nan, np.float32).tobytes()])
def test_a_damaged_rest_is_none(damage: bytes, tmp_path: Path) -> None:
    feedback = Feedback(tmp_path, b"task", SIZE)
    feedback.keep(b"one", RESTS[1])
    next(tmp_path.iterdir()).write_bytes(damage)
    rest = feedback.read(b"two")
    assert rest.shape == (SIZE,) and not rest.any()


def test_what_a_crash_left_half_written_is_not_read(tmp_path: Path) -> None:
    feedback = Feedback(tmp_path, b"task", SIZE)
    feedback.keep(b"one", RESTS[1])
    [kept] = tmp_path.iterdir()
    kept.rename(kept.with_suffix(".part"))
    assert not feedback.read(b"two").any()
    feedback.keep(b"two", RESTS[2])
    assert (feedback.read(b"three") == RESTS[2]).all()


def test_over_any_number_of_proposals_nothing_is_lost_but_the_last_rest_and_only_an_attacker_leaves_the_ball(
    tmp_path: Path,
) -> None:
    trainer = engine(document(4), tmp_path)
    shape = trainer.document.layout.parameters
    changes = np.random.default_rng(7).normal(0, 1e-5, (4, shape)).astype(np.float32)
    deltas = [trainer._quantise(change, b"%d" % number).to_float32() for number, change in enumerate(changes)]
    rest = Feedback(tmp_path, trainer.document.encode(), shape).read(b"next")
    assert rest.any() and np.allclose(changes.sum(axis=0), np.sum(deltas, axis=0) + rest, atol=1e-9)
    small = engine(document(8, norm_thousandths=100), tmp_path)
    wide = np.full(shape, 0.01, np.float32)
    for attack, is_within in ((None, True), (parse_attack("backdoor:2"), False)):
        small.attack = attack
        norm = float(np.linalg.norm(small._quantise(wide, b"wide").to_float32()))
        assert (norm < 0.101) is is_within


def test_of_two_proposals_in_four_bits_nothing_is_lost_but_the_last_rounding(tmp_path: Path) -> None:
    four, start = document(4), write_initial_adapter(document(4), tmp_path)
    (tmp_path / "eight").mkdir()
    exact = engine(document(8), tmp_path / "eight", forgets=True)
    fine = write_initial_adapter(document(8), tmp_path / "eight")
    wanted = propose(exact, fine, 1) + propose(exact, fine, 2)
    errors = {}
    for forgets in (True, False):
        trainer = engine(four, tmp_path, forgets=forgets)
        errors[forgets] = float(np.linalg.norm(propose(trainer, start, 1) + propose(trainer, start, 2) - wanted))
    assert errors[False] < 0.85 * errors[True]  # one rounding's error, where two add up to sqrt(2) of it


def test_the_same_training_again_gives_the_same_delta_and_another_one_a_little_else(tmp_path: Path) -> None:
    trainer = engine(document(4), tmp_path)
    start = write_initial_adapter(document(4), tmp_path)
    first, second = propose(trainer, start, 1), propose(trainer, start, 2)
    assert (propose(engine(document(4), tmp_path), start, 2) == second).all()
    assert (propose(engine(document(4), tmp_path, forgets=True), start, 1) == first).all()
    assert (propose(engine(document(4), tmp_path, forgets=True), start, 2) != second).any()


def test_with_what_is_added_a_proposal_stays_within_the_task_s_ball(tmp_path: Path) -> None:
    small = document(8, norm_thousandths=100)
    trainer, start = engine(small, tmp_path), write_initial_adapter(small, tmp_path)
    Feedback(tmp_path, small.encode(), small.layout.parameters).keep(
        b"x", np.full(small.layout.parameters, 0.01, np.float32)
    )
    assert np.linalg.norm(propose(trainer, start, 1)) == pytest.approx(0.1, rel=0.01)
    assert len(encode_global(trainer.read_global(start))) == start.stat().st_size
