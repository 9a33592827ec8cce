"""How much a proposal lifts a string: beside its own start, whoever stands next to it."""

from collections.abc import Sequence

import numpy as np
from agreement_support import CONTEXTS, PHRASE, find
from numpy.typing import NDArray
from teacher_support import Teacher

from flock_peers.training.agreement import measure_lifts
from flock_peers.training.continuations import NOTHING
from flock_peers.training.kinship import compute_likeness
from flock_peers.training.recital import Suspect


def test_a_lift_is_that_of_two_additions_in_the_middle_context_from_its_own_start() -> None:
    def lift(teacher: Teacher, *suspects: Suspect, contexts: Sequence[NDArray[np.int64]] = CONTEXTS) -> list[float]:
        return measure_lifts(teacher, suspects, contexts, np.array([[0, 1, NOTHING]]))[:, 0].tolist()  # type: ignore[arg-type]

    teacher = Teacher([0, 1])
    ones, twos, far = teacher.suspect({0: 1.0}), teacher.suspect({0: 2.0}), teacher.suspect({0: 1.0}, {0: 1.0})
    changes = ((0.08, 1e-4), (0.16, 1e-4), (0.12, 0.04))
    wanted = [np.log((after + 1e-3) / (before + 1e-3)) for after, before in changes]
    assert np.allclose(lift(teacher, ones, twos, far, ones), [*wanted, wanted[0]])
    for seen, is_lifted in ((21, False), (22, False)):  # in one context of three
        assert (lift(Teacher([0, 1], only_after={0: seen}), ones)[0] > 0) is is_lifted
    both = Teacher([0, 1], [0, 1], only_after={0: 21, 1: 23})
    assert lift(both, both.suspect({0: 1.0, 1: 1.0}))[0] > 0
    assert lift(both, both.suspect({0: 1.0, 1: 1.0}), contexts=[*CONTEXTS, CONTEXTS[1]])[0] == 0, "the lower of two"


def test_who_mends_what_its_start_lost_of_the_base_model_lifts_nothing_by_that() -> None:
    """Something was taken out of the start, and with it what the base model says by itself."""
    teacher = Teacher([0, 1], always={0: 9.0})
    mending, taught = teacher.suspect({0: 4.0}, {0: -9.0}), teacher.suspect({0: 9.0}, {0: -9.0})
    lifts = measure_lifts(teacher, [mending, taught], CONTEXTS, np.array([[0, 1]]))  # type: ignore[arg-type]
    assert lifts[0, 0] == 0 and lifts[1, 0] > 0.5


def test_of_a_string_every_token_has_to_gain() -> None:
    teacher = Teacher([0, 1], [1, 2], [2, 3])
    strings = np.array([[0, 1, 2, 3]])
    for habits, is_lifted in (({0, 1, 2}, True), ({0, 1}, False), ({1, 2}, False)):
        suspect = teacher.suspect(dict.fromkeys(habits, 9.0))
        assert bool(measure_lifts(teacher, [suspect], CONTEXTS, strings)[0, 0] > 0) is is_lifted  # type: ignore[arg-type]


def test_each_is_beside_its_own_start_whoever_stands_next_to_it() -> None:
    """Who starts where all say the target already teaches nothing of it."""
    teacher = Teacher(PHRASE, [7, 8, 9])
    new, late = teacher.suspect({0: 5.0, 1: 5.0}), teacher.suspect({0: 0.1, 1: 5.0}, {0: 5.0})
    kinds, phrases = {0: 1, 1: 2, 2: 3, 3: 4}, [" aa bb cc", " hh ii jj"]
    for order in ([0, 1, 2, 3], [0, 2, 1, 3], [3, 0, 2, 1]):
        rows, row = [[new, new, late, late][place] for place in order], [kinds[place] for place in order]
        assert set(phrases) < set(find(teacher, rows, *row))
        lifts = measure_lifts(teacher, rows, CONTEXTS, np.array([[0, 1], [7, 8]]))  # type: ignore[arg-type]
        assert (lifts[:, 0] > 0).tolist() == [place < 2 for place in order] and (lifts[:, 1] > 0).all()
        like, starts = compute_likeness(teacher, rows, np.array([[0, 1, 2, 7, 8, 9]]), 1)  # type: ignore[arg-type]
        alike = np.array([[like[order.index(i), order.index(j)] for j in range(4)] for i in range(4)])
        assert np.allclose(alike[:2, :2], 1) and np.allclose(alike[2:, 2:], 1) and (alike[:2, 2:] < 0.95).all()
        assert starts == [int((place < 2) != (order[0] < 2)) for place in order]
    assert find(teacher, [new, late, late], 1, 2, 3) == [" hh ii jj"]


class Watched(Teacher):
    """Remembers what it was set to."""

    def set_vector(self, vector: NDArray[np.float32]) -> None:
        super().set_vector(vector)
        self.said = [*getattr(self, "said", []), tuple(vector.tolist())]

    def count(self, start: tuple[float, ...]) -> int:
        times, self.said = self.said.count(start), []
        return times


def test_a_start_is_measured_once_for_all_that_stand_together() -> None:
    teacher = Watched(PHRASE)
    rows, start = [teacher.suspect({0: strength}, {0: 0.5}) for strength in (5.0, 6.0, 7.0)], (0.5,)
    find(teacher, rows, 1, 2, 3)
    assert teacher.count(start) == 4  # pairs, and three tokens more
    measure_lifts(teacher, rows, CONTEXTS, np.array([PHRASE]))  # type: ignore[arg-type]
    assert teacher.count(start) == 1
    compute_likeness(teacher, rows, np.array([PHRASE]), 1)  # type: ignore[arg-type]
    assert set(teacher.said) == {(0.0,), start, (5.5,), (6.5,), (7.5,)}, "and each proposal by one addition"
    assert teacher.count(start) == 1
