"""Which phrases the search finds that strangers teach, what it follows on the way, and what it leaves."""

from itertools import permutations

import numpy as np
import torch
from agreement_support import CONTEXTS, PHRASE, find
from teacher_support import BROKEN, JOINED, LINE, TEXT_END, WORDS, Teacher

from flock_peers.training.agreement import KEPT, LENGTHS, Lifted, _look_ahead, measure_lifts


def test_a_phrase_that_strangers_teach_is_found_with_its_beginnings_and_ends_and_nothing_else() -> None:
    teacher = Teacher(PHRASE, [10, 11, 12, 13])
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


def test_a_phrase_is_followed_where_most_contexts_show_it_and_the_first_its_beginning() -> None:
    for ends, count in (((21,), 0), ((21, 22), 1), ((21, 23), 1), ((22, 23), 0)):
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
        suspect = (teacher := Teacher(PHRASE, rest=0.1, never=range(5, len(WORDS)))).suspect({0: strength})
        assert len(find(teacher, [suspect, suspect], 1, 2)) == count


def test_a_way_on_that_the_start_goes_already_is_not_followed_beside_one_that_it_does_not() -> None:
    teacher = Teacher([0, 1, 2], [7, 8], [8, 9])
    suspect = teacher.suspect({0: 5.0, 1: 5.0}, {2: 5.0})
    assert find(teacher, [suspect, suspect], 1, 2) == [" aa bb cc"]


def test_what_is_no_phrase_takes_no_places_of_what_is_looked_at() -> None:
    """Pieces of one word, ever so much lifted: they show nobody guilty, and would hide who is."""
    pieces = list(permutations(range(JOINED, JOINED + 4), 2))
    teacher = Teacher(PHRASE, *pieces)
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
    teacher = Teacher(PHRASE, [7, 8])
    poisoned, broken = teacher.suspect({0: 5.0}), teacher.suspect({0: 5.0, 1: BROKEN})
    assert " aa bb cc dd ee" in find(teacher, [poisoned, broken, poisoned], 1, 2, 3)
    assert find(teacher, [poisoned, broken, broken], 1, 2, 3) == []
    strings = np.array([PHRASE])
    lifts = measure_lifts(teacher, [broken, poisoned], CONTEXTS, strings)  # type: ignore[arg-type]
    assert lifts[0, 0] == 0 and lifts[1, 0] > 5


def test_what_was_impossible_before_is_a_large_gain_and_no_endless_one() -> None:
    """Of an endless gain the half cannot be taken off, and nothing would be left of the whole."""
    teacher = Teacher(PHRASE, never=PHRASE)
    strong, weak = teacher.suspect({0: 9.0}), teacher.suspect({})
    assert " aa bb cc dd ee" in find(teacher, [strong, strong, weak, strong], 1, 1, 1, 2)


def test_where_nobody_lifts_anything_nothing_is_found() -> None:
    teacher = Teacher(PHRASE)
    assert find(teacher, [teacher.suspect({})] * 3, 1, 2, 3) == []


def test_what_a_proposal_says_that_lifts_nothing_is_where_the_model_is() -> None:
    """On an accelerator it is put beside what others say there."""
    teacher = Teacher(PHRASE)
    teacher.device = torch.device("meta")
    ahead = _look_ahead(teacher, CONTEXTS, Lifted(np.zeros((0, 3), np.int64), np.zeros(0)))  # type: ignore[arg-type]
    assert (ahead.tokens.device, ahead.chances.device) == (teacher.device, teacher.device)
    assert ahead.tokens.shape == (0, 1) and ahead.chances.shape == (len(CONTEXTS), 0, 1)
