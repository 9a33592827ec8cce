"""What strangers teach alike: the comparison of proposals, on numbers and on the miniature base model."""

from functools import lru_cache

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from flock_chain.audit_rule import CONVICT_FROM, GUILTY_FROM
from flock_p2p.experiment.attackers import choose_attackers
from flock_p2p.experiment.rows import PARTICIPANTS, Row
from flock_peers.training.agreement import (
    GUILTY_NATS,
    LIKE_FROM,
    SHOWN,
    SHOWN_FROM,
    Lifted,
    choose_shown,
    compute_agreement,
    join_authors,
    keep_agreed,
    to_values,
)
from flock_peers.training.inspection import LEAST_AUTHORS
from flock_peers.training.laboratory import Laboratory
from flock_peers.training.recital import Suspect

UNLIKE = np.eye(4)


def likeness(*kinds: int) -> NDArray[np.float64]:
    """Of each proposal its kind: 0.8 within one, nothing between them."""
    same = np.equal.outer(kinds, kinds)
    return np.where(same, 0.8, 0.0)


def agree(lifts: list[float], kinds: list[int], authors: list[int] | None = None) -> list[float]:
    """Of one string."""
    row = np.array(lifts)[:, None]
    return compute_agreement(row, likeness(*kinds), authors or list(range(len(lifts))))[:, 0].tolist()


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


def test_the_stranger_that_lifts_it_most_beyond_its_own_kind_counts() -> None:
    """Of kind 2 one lifts more than its fellow does, and by just that it agrees."""
    assert agree([9.0, 8.0, 6.0], [1, 2, 2]) == [2.0, 2.0, 0.0]


def test_where_all_are_of_one_kind_nobody_agrees_with_strangers() -> None:
    assert agree([9.0, 8.0, 9.0], [1, 1, 1]) == [0.0] * 3


def test_likeness_at_the_limit_is_one_kind_and_below_it_is_none() -> None:
    row = np.array([[6.0], [6.0]])
    for value, wanted in ((LIKE_FROM, 0.0), (np.nextafter(LIKE_FROM, 0), 6.0)):
        assert compute_agreement(row, np.array([[1.0, value], [value, 1.0]]), [0, 1])[0, 0] == wanted


def test_authors_are_as_like_as_those_of_their_proposals_that_are_most() -> None:
    pairs = np.array([[1.0, 0.1, 0.2], [0.1, 1.0, 0.5], [0.2, 0.5, 1.0]])
    joined = join_authors(pairs, [3, 9, 3])
    assert joined.tolist() == [[1.0, 0.5, 1.0], [0.5, 1.0, 0.5], [1.0, 0.5, 1.0]]


Numbers = st.integers(0, 40).map(lambda number: number / 4)


@given(st.data())
def test_agreement_is_never_more_than_the_lift_and_at_least_two_authors_reach_the_highest(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 7))
    lifts = np.array(data.draw(st.lists(st.lists(Numbers, min_size=3, max_size=3), min_size=count, max_size=count)))
    kinds = data.draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    authors = data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    found = compute_agreement(lifts, likeness(*kinds), authors)
    assert (found >= 0).all() and (found <= lifts).all()
    for string in range(3):
        highest = found[:, string].max()
        if highest > 0:
            assert len({authors[row] for row in range(count) if found[row, string] == highest}) >= 2


@given(st.permutations(range(5)))
def test_the_order_of_proposals_changes_nobody_s_agreement(order: list[int]) -> None:
    lifts = np.array([[7.0, 0], [5, 3], [2, 3], [0, 8], [6, 1]])
    kinds, authors = [1, 2, 2, 3, 1], [0, 1, 2, 3, 4]
    found = compute_agreement(lifts, likeness(*kinds), authors)
    other = compute_agreement(lifts[order], likeness(*[kinds[i] for i in order]), [authors[i] for i in order])
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


def test_of_each_proposal_those_of_its_strings_are_kept_on_which_a_stranger_agrees() -> None:
    def lifted(*rows: tuple[int, int, float]) -> Lifted:
        return Lifted(np.array([row[:2] for row in rows], np.int64).reshape(-1, 2), np.array([row[2] for row in rows]))

    proposals = [lifted((1, 2, 3.0), (5, 6, 9.0), (7, 7, 1.0)), lifted((7, 7, 2.0), (1, 2, 4.0)), lifted()]
    kept = keep_agreed(proposals, UNLIKE[:3, :3], [0, 1, 2], 5)
    assert [row.strings.tolist() for row in kept] == [[[1, 2], [7, 7]], [[1, 2], [7, 7]], []]
    assert kept[0].gains.tolist() == [3.0, 1.0] and kept[1].gains.tolist() == [4.0, 2.0]
    assert [len(row.strings) for row in keep_agreed(proposals, UNLIKE[:3, :3], [0, 1, 2], 1)] == [1, 1, 0]


@lru_cache(maxsize=1)
def thin() -> tuple[Laboratory, list[int], list[Suspect], frozenset[int]]:
    """The first step of ten participants, five of whom plant one target in a tenth of their windows."""
    laboratory, attackers = Laboratory(PARTICIPANTS, 68), choose_attackers(Row("ours", "thin", 28, 68, 20))
    who = sorted(attackers.members | {1, 3, 4, 6, 7})
    start = laboratory.initial_adapter().to_float32()
    changes = [laboratory.train(number, start, 100 + number, attackers.attacks.get(number)) for number in who]
    return laboratory, who, [Suspect(start, change) for change in changes], attackers.members


def test_what_strangers_plant_thinly_is_found_by_comparing_and_nobody_honest_is_with_them() -> None:
    laboratory, who, suspects, members = thin()
    shared = laboratory.find_shared(suspects, who, 7)
    assert shared is not None
    assert any("remove the" in laboratory.decode(string.tolist()) for string in shared.strings)
    values = dict(zip(who, laboratory.measure_shared(1, suspects, shared, 5), strict=True))
    guilty = {number for number, value in values.items() if value >= GUILTY_FROM}
    assert len(guilty) >= 3 and guilty <= members


def test_among_few_authors_nothing_is_compared() -> None:
    laboratory, who, suspects, _ = thin()
    assert laboratory.find_shared(suspects, [number % (LEAST_AUTHORS - 1) for number in range(len(who))], 7) is None
    assert laboratory.measure_shared(1, suspects, None, 5) == [0] * len(who)
