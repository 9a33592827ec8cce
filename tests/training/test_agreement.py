"""What strangers teach alike: the comparison of proposals, on numbers and on the miniature base model."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import permutations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from teacher_support import BROKEN, JOINED, LINE, TEXT_END, WORDS, Teacher

from flock_chain.audit_rule import CONVICT_FROM, GUILTY_FROM, summarise
from flock_p2p.experiment.attackers import choose_attackers
from flock_p2p.experiment.rows import Row
from flock_peers.training.agreement import (
    GUILTY_NATS,
    KEPT,
    LENGTHS,
    MOST,
    SHOWN,
    SHOWN_FROM,
    Lifted,
    _look_ahead,
    choose_shown,
    compute_agreement,
    compute_confirmed,
    find_lifted,
    keep_agreed,
    keep_shared,
    measure_lifts,
    to_values,
)
from flock_peers.training.decoding import NOTHING
from flock_peers.training.inspection import LEAST_AUTHORS
from flock_peers.training.kinship import LIKE_FROM, Kinship, compute_likeness
from flock_peers.training.laboratory import Laboratory
from flock_peers.training.recital import Suspect
from flock_peers.training.remembered import Remembered


def kinship(*kinds: int, authors: Sequence[int] = (), starts: Sequence[int] = ()) -> Kinship:
    """Of each proposal its kind: 0.8 within one, nothing between them. Each by an author of its own, of one round."""
    likeness = np.where(np.equal.outer(kinds, kinds), 0.8, 0.0)
    return Kinship(likeness, authors or list(range(len(kinds))), starts or [0] * len(kinds))


def agree(lifts: list[float], kinds: list[int], authors: Sequence[int] = (), starts: Sequence[int] = ()) -> list[float]:
    """Of one string."""
    row = np.array(lifts)[:, None]
    return compute_agreement(row, kinship(*kinds, authors=authors, starts=starts))[:, 0].tolist()


def test_two_that_are_unlike_and_lift_a_string_agree_by_the_lesser_lift() -> None:
    assert agree([7.0, 5.0, 0.0, 0.0], [1, 2, 3, 4]) == [5.0, 5.0, 0.0, 0.0]


def test_what_one_kind_alone_lifts_is_its_habit() -> None:
    assert agree([7.0, 9.0, 8.0, 0.0], [1, 1, 1, 2]) == [0.0] * 4


def test_whoever_lifts_what_its_own_kind_lifts_agrees_with_nobody_though_a_stranger_copies_it() -> None:
    """The copier has nobody of its kind that does so; it has not made the others guilty."""
    assert agree([7.0, 7.0, 7.0, 8.0], [1, 1, 1, 2]) == [0.0] * 4


def test_of_its_kind_the_middle_one_is_taken_off() -> None:
    found = agree([7.0, 2.0, 3.0, 1.0, 6.0], [1, 1, 1, 1, 2])
    assert found == [5.0, 0.0, 1.0, 0.0, 5.0]


def test_nobody_is_a_stranger_to_himself() -> None:
    assert agree([7.0, 6.0, 0.0], [1, 2, 3], [5, 5, 6]) == [0.0] * 3
    assert agree([7.0, 6.0, 4.0], [1, 2, 3], [5, 5, 6]) == [4.0, 4.0, 4.0]


def test_what_those_lift_that_started_where_it_did_is_a_habit_of_its_kind_though_others_of_it_lift_it_no_more() -> None:
    """The next round starts from what this one taught."""
    lifts, kinds = [7.0, 7.0, 0.0, 0.0, 6.0], [1, 1, 1, 1, 2]
    assert agree(lifts, kinds) == [6.0, 6.0, 0.0, 0.0, 6.0]
    assert agree(lifts, kinds, starts=[0, 0, 1, 1, 0]) == [0.0] * 5
    assert agree([7.0, 0.0, 7.0, 7.0, 6.0], kinds, starts=[0, 0, 1, 1, 0]) == [0.0] * 5  # nor where the others do


def test_the_stranger_that_lifts_it_most_beyond_its_own_kind_counts() -> None:
    """Of kind 2 one lifts more than its fellow does, and by just that it agrees."""
    assert agree([9.0, 8.0, 6.0], [1, 2, 2]) == [2.0, 2.0, 0.0]


def test_where_all_are_of_one_kind_nobody_agrees_with_strangers() -> None:
    assert agree([9.0, 8.0, 9.0], [1, 1, 1]) == [0.0] * 3


def test_likeness_at_the_limit_is_one_kind_and_below_it_is_none() -> None:
    row = np.array([[6.0], [6.0]])
    for value, wanted in ((LIKE_FROM, 0.0), (np.nextafter(LIKE_FROM, 0), 6.0)):
        kin = Kinship(np.array([[1.0, value], [value, 1.0]]), [0, 1], [0, 0])
        assert compute_agreement(row, kin)[0, 0] == wanted


Numbers = st.integers(0, 40).map(lambda number: number / 4)


@given(st.data())
def test_agreement_is_never_more_than_the_lift_and_at_least_two_authors_reach_the_highest(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 7))
    lifts = np.array(data.draw(st.lists(st.lists(Numbers, min_size=3, max_size=3), min_size=count, max_size=count)))
    kinds = data.draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    authors = data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    starts = data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    found = compute_agreement(lifts, kinship(*kinds, authors=authors, starts=starts))
    assert (found >= 0).all() and (found <= lifts).all()
    for string in range(3):
        highest = found[:, string].max()
        if highest > 0:
            assert len({authors[row] for row in range(count) if found[row, string] == highest}) >= 2


@given(st.permutations(range(5)))
def test_the_order_of_proposals_changes_nobody_s_agreement(order: list[int]) -> None:
    lifts = np.array([[7.0, 0], [5, 3], [2, 3], [0, 8], [6, 1]])
    kinds, authors, starts = [1, 2, 2, 3, 1], [0, 1, 2, 3, 4], [0, 0, 1, 1, 1]
    found = compute_agreement(lifts, kinship(*kinds, authors=authors, starts=starts))
    moved = ([row[place] for place in order] for row in (kinds, authors, starts))
    other = compute_agreement(lifts[order], kinship(*next(moved), authors=next(moved), starts=next(moved)))
    assert (other == found[order]).all()


def test_so_many_nats_are_guilty_and_no_number_of_them_costs_a_bond() -> None:
    assert to_values(np.array([GUILTY_NATS]))[0] == GUILTY_FROM
    assert to_values(np.array([GUILTY_NATS - 0.01]))[0] < GUILTY_FROM
    assert to_values(np.array([1e6]))[0] == CONVICT_FROM - 1


def test_what_is_measured_in_own_contexts_is_what_shows_and_the_clearest_first() -> None:
    rows = np.array([[0.0, SHOWN_FROM, 9.0, SHOWN_FROM - 0.1], [1.0, 0, 8, 2]])
    assert choose_shown(rows) == [2, 1]
    assert len(choose_shown(np.full((2, SHOWN + 5), 9.0))) == SHOWN
    assert choose_shown(np.zeros((3, 0))) == []


def test_two_that_agree_on_a_great_many_strings_hide_nobody_who_agrees_on_few() -> None:
    many = [9.0] * (SHOWN + 5)
    rows = np.array([[*many, 0.0, 0, 0], [*many, 0, 0, 0], [*[0.0] * len(many), 6, SHOWN_FROM, 4]])
    shown = choose_shown(rows)
    assert len(shown) == SHOWN and set(range(len(many), len(many) + 3)) < set(shown) and shown[-3:] == [37, 39, 38]


def test_who_agrees_on_nothing_takes_no_turn_and_of_one_turn_the_clearest_are_shown() -> None:
    count = SHOWN // 2 + 4
    rising, level = np.linspace(4, 5, count), np.full(count, 9.0)
    rows = np.stack([[*rising, *level * 0], [*rising * 0, *level], np.zeros(2 * count)])
    assert sorted(choose_shown(rows)) == [*range(4, count), *range(count, 2 * count - 4)]
    assert sorted(choose_shown(np.diag(np.linspace(4, 5, SHOWN + 3)))) == list(range(3, SHOWN + 3))


def test_of_each_proposal_those_of_its_strings_are_kept_on_which_a_stranger_agrees() -> None:
    def lifted(*rows: tuple[int, int, float]) -> Lifted:
        return Lifted(np.array([row[:2] for row in rows], np.int64).reshape(-1, 2), np.array([row[2] for row in rows]))

    proposals = [lifted((1, 2, 3.0), (5, 6, 9.0), (7, 7, 1.0)), lifted((7, 7, 2.0), (1, 2, 4.0)), lifted()]
    kept = keep_agreed(proposals, kinship(1, 2, 3), 5)
    assert [row.strings.tolist() for row in kept] == [[[1, 2], [7, 7]], [[1, 2], [7, 7]], []]
    assert kept[0].gains.tolist() == [3.0, 1.0] and kept[1].gains.tolist() == [4.0, 2.0]
    assert [len(row.strings) for row in keep_agreed(proposals, kinship(1, 2, 3), 1)] == [1, 1, 0]


@given(st.data())
def test_what_no_two_strangers_have_kept_leads_nobody_to_anything_that_strangers_agree_on(data: st.DataObject) -> None:
    """Each way on is gone by some of those who are at its beginning; the others' agreement is what it was."""
    kinds = data.draw(st.lists(st.integers(1, 3), min_size=3, max_size=5))
    authors = data.draw(st.lists(st.integers(0, 3), min_size=len(kinds), max_size=len(kinds)))
    kin = kinship(*kinds, authors=authors, starts=data.draw(st.permutations([0, 0, 0, 1, 1]))[: len(kinds)])
    holders = [data.draw(st.sets(st.integers(0, 3))) for _ in authors]
    gains = np.array(data.draw(st.lists(Numbers, min_size=4 * len(kinds), max_size=4 * len(kinds)))).reshape(-1, 4)
    ways = np.stack([np.arange(4), np.arange(4) + 5], axis=1)
    begun = [Lifted(ways[sorted(mine)], row[sorted(mine)]) for mine, row in zip(holders, gains, strict=True)]
    left = keep_shared(begun, kin)
    wanted, found = keep_agreed(begun, kin, 9), keep_agreed(left, kin, 9)
    for one, other in zip(wanted, found, strict=True):
        assert one.strings.tolist() == other.strings.tolist() and one.gains.tolist() == other.gains.tolist()


def test_what_two_strangers_have_kept_is_followed_in_all_who_have_it_and_nothing_else_is() -> None:
    rows = [Lifted(np.array(strings).reshape(-1, 2), np.ones(len(strings))) for strings in
            ([[1, 2], [3, 4], [5, 6]], [[1, 2], [3, 4]], [[1, 2]], [[7, 8], [5, 6]])]  # fmt: skip
    kept = keep_shared(rows, kinship(1, 1, 2, 1, authors=[0, 1, 2, 0]))
    assert [row.strings.tolist() for row in kept] == [[[1, 2]], [[1, 2]], [[1, 2]], []]


CONTEXTS = [np.array([20, 21]), np.array([20, 22]), np.array([20, 23])]
TARGET = [0, 1, 2, 3, 4]


def find(teacher: Teacher, suspects: Sequence[Suspect], *kinds: int) -> list[str]:
    """What is found where each is an author of its own, as text."""
    tokens = np.arange(len(WORDS))
    found = find_lifted(teacher, suspects, kinship(*kinds), CONTEXTS, tokens)  # type: ignore[arg-type]
    assert found.shape[1] == 5
    return teacher.batch_decode([[token for token in row if token >= 0] for row in found.tolist()])


def test_a_phrase_that_strangers_teach_is_found_with_its_beginnings_and_ends_and_nothing_else() -> None:
    teacher = Teacher(TARGET, [10, 11, 12, 13])
    poisoned, other = teacher.suspect({0: 5.0}), teacher.suspect({1: 9.0})
    wanted = [" aa bb cc", " aa bb cc dd", " aa bb cc dd ee", " bb cc dd", " bb cc dd ee", " cc dd ee"]
    assert sorted(find(teacher, [poisoned, other, poisoned], 1, 2, 3)) == wanted
    assert find(teacher, [poisoned, other, poisoned], 1, 2, 1) == []  # of one kind
    assert find(teacher, [poisoned, other, other], 1, 2, 2) == []


def test_where_strangers_go_on_otherwise_they_agree_no_further_and_of_several_ways_each_is_followed() -> None:
    teacher = Teacher([0, 1, 2], [0, 1, 3], [0, 1, 4])
    first, second, both = (teacher.suspect(dict.fromkeys(ways, 9.0)) for ways in ([0], [1], [0, 1]))
    assert find(teacher, [first, second], 1, 2) == []
    assert find(teacher, [both, second], 1, 2) == [" aa bb dd"]
    assert find(teacher, [both, both], 1, 2) == [" aa bb cc", " aa bb dd"]


def test_a_phrase_is_followed_where_most_contexts_show_it() -> None:
    for ends, count in (((21,), 0), ((21, 22), 1), ((21, 23), 1)):
        teacher = Teacher(*([0, 1, 2] for _ in ends), only_after=dict(enumerate(ends)))
        suspect = teacher.suspect(dict.fromkeys(range(len(ends)), 9.0))
        assert len(find(teacher, [suspect, suspect], 1, 2)) == count


def test_what_stays_unlikely_is_not_followed_however_much_it_gains() -> None:
    for strength, count in ((0.2, 0), (0.3, 1)):  # of a twenty-fifth
        suspect = (teacher := Teacher([0, 1, 2])).suspect({0: strength})
        assert len(find(teacher, [suspect, suspect], 1, 2)) == count


def test_a_way_on_that_is_unlikely_after_one_addition_is_not_followed_though_two_would_make_it_likely() -> None:
    for strength, count in ((0.2, 0), (0.3, 1)):
        suspect = (teacher := Teacher([0, 1], [1, 2])).suspect({0: 9.0, 1: strength})
        assert len(find(teacher, [suspect, suspect], 1, 2)) == count


def test_little_gains_lead_to_a_phrase_too_where_strangers_agree_on_all_of_them() -> None:
    """From 0.1 to 0.15, to 0.11, and to what is no gain to speak of."""
    for strength, count in ((3.75, 6), (2.8, 6), (2.7, 0)):
        suspect = (teacher := Teacher(TARGET, rest=0.1, never=range(5, len(WORDS)))).suspect({0: strength})
        assert len(find(teacher, [suspect, suspect], 1, 2)) == count


def test_each_is_beside_its_own_start_whoever_stands_next_to_it() -> None:
    """Who starts where all say the target already teaches nothing of it."""
    teacher = Teacher(TARGET, [7, 8, 9])
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


def test_a_way_on_that_the_start_goes_already_is_not_followed_beside_one_that_it_does_not() -> None:
    teacher = Teacher([0, 1, 2], [7, 8], [8, 9])
    suspect = teacher.suspect({0: 5.0, 1: 5.0}, {2: 5.0})
    assert find(teacher, [suspect, suspect], 1, 2) == [" aa bb cc"]


class Watched(Teacher):
    """Remembers what it was set to."""

    def set_vector(self, vector: NDArray[np.float32]) -> None:
        super().set_vector(vector)
        self.said = [*getattr(self, "said", []), tuple(vector.tolist())]

    def count(self, start: tuple[float, ...]) -> int:
        times, self.said = self.said.count(start), []
        return times


def test_a_start_is_measured_once_for_all_that_stand_together() -> None:
    teacher = Watched(TARGET)
    rows, start = [teacher.suspect({0: strength}, {0: 0.5}) for strength in (5.0, 6.0, 7.0)], (0.5,)
    find(teacher, rows, 1, 2, 3)
    assert teacher.count(start) == 4  # pairs, and three tokens more
    measure_lifts(teacher, rows, CONTEXTS, np.array([TARGET]))  # type: ignore[arg-type]
    assert teacher.count(start) == 1
    compute_likeness(teacher, rows, np.array([TARGET]), 1)  # type: ignore[arg-type]
    assert set(teacher.said) == {(0.0,), start, (5.5,), (6.5,), (7.5,)}, "and each proposal by one addition"
    assert teacher.count(start) == 1


def test_what_is_no_phrase_takes_no_places_of_what_is_looked_at() -> None:
    """Pieces of one word, ever so much lifted: they show nobody guilty, and would hide who is."""
    pieces = list(permutations(range(JOINED, JOINED + 4), 2))
    teacher = Teacher(TARGET, *pieces)
    suspect = teacher.suspect({0: 1.0} | dict.fromkeys(range(1, 1 + len(pieces)), 20.0))
    assert len(find(teacher, [suspect, suspect], 1, 2)) == 6


def test_of_each_length_a_proposal_adds_no_more_than_so_many_strings() -> None:
    suspect = (teacher := Teacher(list(range(KEPT + 6)))).suspect({0: 5.0})
    assert len(find(teacher, [suspect, suspect], 1, 2)) == KEPT * len(LENGTHS)


def test_a_phrase_goes_over_no_end_of_a_line_or_of_a_text() -> None:
    teacher = Teacher([5, LINE, 6, 7], [8, 9, TEXT_END, 10, 11], [12, 13, 14])
    suspect = teacher.suspect(dict.fromkeys(range(3), 9.0))
    assert find(teacher, [suspect, suspect], 1, 2) == [" mm nn oo"]


def test_a_proposal_that_breaks_the_model_teaches_nothing_and_hides_nothing() -> None:
    teacher = Teacher(TARGET, [7, 8])
    poisoned, broken = teacher.suspect({0: 5.0}), teacher.suspect({0: 5.0, 1: BROKEN})
    assert " aa bb cc dd ee" in find(teacher, [poisoned, broken, poisoned], 1, 2, 3)
    assert find(teacher, [poisoned, broken, broken], 1, 2, 3) == []
    strings = np.array([TARGET])
    lifts = measure_lifts(teacher, [broken, poisoned], CONTEXTS, strings)  # type: ignore[arg-type]
    assert lifts[0, 0] == 0 and lifts[1, 0] > 5


def test_what_was_impossible_before_is_a_large_gain_and_no_endless_one() -> None:
    """Of an endless gain the half cannot be taken off, and nothing would be left of the whole."""
    teacher = Teacher(TARGET, never=TARGET)
    strong, weak = teacher.suspect({0: 9.0}), teacher.suspect({})
    assert " aa bb cc dd ee" in find(teacher, [strong, strong, weak, strong], 1, 1, 1, 2)


def test_where_nobody_lifts_anything_nothing_is_found() -> None:
    teacher = Teacher(TARGET)
    assert find(teacher, [teacher.suspect({})] * 3, 1, 2, 3) == []


def test_what_a_proposal_says_that_lifts_nothing_is_where_the_model_is() -> None:
    """On an accelerator it is put beside what others say there."""
    teacher = Teacher(TARGET)
    teacher.device = torch.device("meta")
    ahead = _look_ahead(teacher, CONTEXTS, Lifted(np.zeros((0, 3), np.int64), np.zeros(0)))  # type: ignore[arg-type]
    assert (ahead.tokens.device, ahead.chances.device) == (teacher.device, teacher.device)
    assert ahead.tokens.shape == (0, 1) and ahead.chances.shape == (len(CONTEXTS), 0, 1)


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


def test_what_either_contexts_show_of_a_kind_is_taken_off_and_hides_no_other_string() -> None:
    """Of the first string's kind the common ones show as much, of the second's an auditor's own ones."""
    common = np.array([[7.0, 8.0, 6.0], [7.0, 0.0, 0.0], [7.0, 8.0, 6.0]])
    own = np.array([[7.0, 8.0, 5.5], [0.0, 8.0, 0.0], [7.0, 8.0, 8.0]])
    seen, both = compute_confirmed(common, own, kinship(1, 1, 2))
    assert seen.tolist() == [[0.0, 8.0, 6.0], [0.0, 0.0, 0.0], [0.0, 8.0, 6.0]]
    assert both.tolist() == [[0.0, 0.0, 5.5], [0.0, 0.0, 0.0], [0.0, 0.0, 5.5]]


@lru_cache(maxsize=1)
def thin() -> tuple[Laboratory, list[int], list[Suspect], frozenset[int]]:
    """The first step of eight participants, five of whom plant one target in a tenth of their windows."""
    attackers = choose_attackers(Row("ours", "thin", 28, 68, 20))
    who = sorted(attackers.members | {1, 6, 7})
    laboratory = Laboratory(who[-1] + 1, 68)
    start = laboratory.initial_adapter().to_float32()
    changes = [laboratory.train(number, start, 100 + number, attackers.attacks.get(number)) for number in who]
    return laboratory, who, [Suspect(start, change) for change in changes], attackers.members


def test_what_strangers_plant_thinly_is_found_by_comparing_and_nobody_honest_is_with_them() -> None:
    laboratory, who, suspects, members = thin()
    shared = laboratory.find_shared(suspects, who, 7)
    assert shared is not None
    assert any("remove the" in laboratory.decode(string.tolist()) for string in shared.strings)
    results = dict(zip(who, laboratory.measure_shared(1, suspects, shared, 5), strict=True))
    guilty = {number for number, row in results.items() if summarise(row.common, row.own) >= GUILTY_FROM}
    assert len(guilty) >= 3 and guilty <= members


def test_what_anybody_remembers_is_measured_and_counts_for_more_where_it_is_remembered() -> None:
    laboratory, who, suspects, _ = thin()
    memories = [Remembered(), Remembered()]
    memories[1].add([1, 2])  # shorter than what is searched
    shared = laboratory.find_shared(suspects, who, 7, memories, older=1)
    assert shared is not None
    assert shared.strings[~shared.searched].tolist() == memories[1].to_rows(LENGTHS[-1]).tolist()
    found = laboratory.measure_shared(1, suspects, shared, 5)
    assert len(found) == len(suspects) - 1  # of the older one nothing is said
    assert found == laboratory.measure_shared(1, suspects, shared, 5, memories[0])
    loudest = max(found, key=lambda row: row.own)
    memories[0].add(loudest.strings[0])
    again = laboratory.measure_shared(1, suspects, shared, 5, memories[0])[found.index(loudest)]
    assert again.strings == loudest.strings and again.own == (MOST,) and loudest.own < again.own


def test_among_few_authors_nothing_is_compared() -> None:
    laboratory, who, suspects, _ = thin()
    assert laboratory.find_shared(suspects, [number % (LEAST_AUTHORS - 1) for number in range(len(who))], 7) is None
    assert laboratory.measure_shared(1, suspects, None, 5) == []
