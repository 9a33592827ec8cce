"""Who is of one kind, on the miniature base model."""

import numpy as np
from teacher_support import Teacher

from flock_peers.training.kinship import LIKE_FROM, compute_likeness, join_authors, leave_out, tell_kinship


def test_who_does_the_same_to_the_probe_texts_is_of_one_kind_and_who_does_nothing_of_none() -> None:
    teacher = Teacher([0, 1], [2, 3])
    texts = np.array([[0, 1, 2, 3, 0, 1], [4, 2, 3, 0, 1, 5]])
    rows = [teacher.suspect(habits) for habits in ({0: 9.0}, {0: 5.0}, {1: 9.0}, {})]
    found, _ = compute_likeness(teacher, rows, texts, 1)  # type: ignore[arg-type]
    assert (found[:2, :2] > 0.9).all() and (found[:2, 2] < LIKE_FROM).all()
    assert (found[3] == 0).all() and np.allclose(found.diagonal(), [1, 1, 1, 0])


def test_authors_are_as_like_as_those_of_their_proposals_that_are_most() -> None:
    pairs = np.array([[1.0, 0.1, 0.2], [0.1, 1.0, 0.5], [0.2, 0.5, 1.0]])
    joined = join_authors(pairs, [3, 9, 3])
    assert joined.tolist() == [[1.0, 0.5, 1.0], [0.5, 1.0, 0.5], [1.0, 0.5, 1.0]]


def test_what_all_do_to_what_their_start_did_makes_nobody_alike() -> None:
    """A start that says too much of something: whoever learns anything makes it say less of that."""
    teacher = Teacher([0, 1], [2, 3], [4, 5], [6, 7], always={3: 9.0})
    texts = np.array([[0, 1, 2, 3, 4, 5, 0, 1, 0, 1, 6, 7, 6, 7, 6, 7]])
    start = {0: 12.0}
    first, second, neither = (teacher.suspect({0: -11.0} | habits, start) for habits in ({1: 9.0}, {2: 9.0}, {}))
    found, _ = compute_likeness(teacher, [first, second, neither], texts, 1)  # type: ignore[arg-type]
    assert found[0, 1] < LIKE_FROM and abs(found[0, 2]) < LIKE_FROM


def test_of_a_profile_is_left_out_what_goes_along_its_start_s_and_what_is_the_same_for_all_tokens() -> None:
    usual, rest = np.array([1.0, -1, 2, 0, 3], np.float32), np.array([1.0, 1, -1, -1, 0], np.float32)
    left = leave_out(rest + 3 * usual + 5, usual)
    assert np.allclose(left, leave_out(rest, usual))
    assert np.allclose([left.sum(), left @ usual], 0, atol=1e-6) and np.abs(left).max() > 0.5
    assert np.allclose(leave_out(rest, np.zeros(5, np.float32)), rest - rest.mean())  # the first start does nothing


def test_kinship_knows_of_each_its_author_its_start_and_who_is_a_stranger_to_it() -> None:
    teacher = Teacher([0, 1], [2, 3], [4, 5])
    rows = [teacher.suspect({0: 9.0}), teacher.suspect({1: 9.0}), teacher.suspect({0: 9.0}, {2: 9.0})]
    texts = np.array([[0, 1, 2, 3, 4, 5, 0, 1], [4, 2, 3, 0, 1, 5, 2, 3]])
    found = tell_kinship(teacher, rows, [4, 7, 9], texts, 1)  # type: ignore[arg-type]
    assert found.starts == [0, 0, 1] and found.authors == [4, 7, 9]
    assert found.kind.tolist() == [[False, False, True], [False] * 3, [True, False, False]]
    assert found.strangers.tolist() == [[False, True, False], [True, False, True], [False, True, False]]
    joined = tell_kinship(teacher, rows, [4, 4, 9], texts, 1)  # type: ignore[arg-type]
    assert joined.kind.tolist() == [[False, False, True], [False, False, True], [True, True, False]]


def test_one_start_is_one_whatever_stands_between_the_rounds_that_had_it() -> None:
    """A round that adopted nothing hands on the start that it had; auditors look at rounds in any order."""
    teacher = Teacher([0, 1], [2, 3], [4, 5])
    again, other = teacher.suspect({0: 9.0}), teacher.suspect({1: 9.0}, {2: 9.0})
    rows = [again, teacher.suspect({1: 9.0}), other, teacher.suspect({2: 9.0})]
    texts = np.array([[0, 1, 2, 3, 4, 5, 0, 1], [4, 2, 3, 0, 1, 5, 2, 3]])
    found = tell_kinship(teacher, rows, range(4), texts, 1)  # type: ignore[arg-type]
    assert found.starts == [0, 0, 1, 0]


def test_starts_that_differ_by_next_to_nothing_are_two() -> None:
    teacher = Teacher([0, 1], [2, 3])
    rows = [teacher.suspect({0: 9.0}, {1: start}) for start in (0.25, 0.25, np.nextafter(np.float32(0.25), 1), 0.25)]
    found = tell_kinship(teacher, rows, range(4), np.array([[0, 1, 2, 3]]), 1)  # type: ignore[arg-type]
    assert found.starts == [0, 0, 1, 0]
