"""Who agrees with strangers on a string and by how much, and what is kept of it: on numbers alone."""

from collections.abc import Sequence

import numpy as np
from agreement_support import kinship
from hypothesis import given
from hypothesis import strategies as st

from flock_chain.audit_rule import CONVICT_FROM, GUILTY_FROM
from flock_peers.training.agreement import (
    GUILTY_NATS,
    SHOWN,
    SHOWN_FROM,
    Lifted,
    choose_shown,
    compute_agreement,
    compute_confirmed,
    keep_agreed,
    keep_shared,
    to_values,
)
from flock_peers.training.kinship import LIKE_FROM, Kinship


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


def test_what_either_contexts_show_of_a_kind_is_taken_off_and_hides_no_other_string() -> None:
    """Of the first string's kind the common ones show as much, of the second's an auditor's own ones."""
    common = np.array([[7.0, 8.0, 6.0], [7.0, 0.0, 0.0], [7.0, 8.0, 6.0]])
    own = np.array([[7.0, 8.0, 5.5], [0.0, 8.0, 0.0], [7.0, 8.0, 8.0]])
    seen, both = compute_confirmed(common, own, kinship(1, 1, 2))
    assert seen.tolist() == [[0.0, 8.0, 6.0], [0.0, 0.0, 0.0], [0.0, 8.0, 6.0]]
    assert both.tolist() == [[0.0, 0.0, 5.5], [0.0, 0.0, 0.0], [0.0, 0.0, 5.5]]
