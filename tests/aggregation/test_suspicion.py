"""The functional filter and the audit's rule: pairs, thresholds and quorums, to the unit."""

from fractions import Fraction

import numpy as np
import pytest
from aggregation_support import FORMAT, SMALL, make_adapter, make_delta, make_vector
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flock_chain.aggregation import ONE, apply, compute_gram, encode_global, quantise, take_out
from flock_chain.audit_rule import (
    CONVICT_FROM,
    GUILTY_FROM,
    SUSPECT_FROM,
    Adopted,
    ClosedAudit,
    Finding,
    RemovalStep,
    accuses,
    compute_removed,
    find,
    find_first_audited,
    has_majority,
    is_out_already,
    plan_removal,
    read_closed_audit,
    summarise,
)
from flock_chain.crypto import Account
from flock_chain.errors import Misuse
from flock_chain.suspicion import (
    MIN_PROPOSALS,
    choose_compared,
    compute_cosines,
    find_possible_suspects,
    find_suspects,
)
from flock_chain.tally import FILTER_NEAR_DUPLICATE, FILTER_NO_SCORE, FILTER_NORM_REJECT, FILTER_NORM_SLASH

ANN, BOB, EVE = (Account(bytes([n]) * 20) for n in (1, 2, 3))


def matrix(size: int, pairs: dict[tuple[int, int], float], unit: int) -> list[list[int]]:
    rows = [[unit if i == j else 0 for j in range(size)] for i in range(size)]
    for (i, j), value in pairs.items():
        rows[i][j] = rows[j][i] = round(value * unit)
    return rows


def suspects(weights: dict[tuple[int, int], float], functions: dict[tuple[int, int], float], size: int = 8) -> set[int]:
    return set(find_suspects(matrix(size, weights, ONE), matrix(size, functions, 1_000)))


def test_two_that_are_alike_in_weights_and_not_in_function_are_both_flagged_and_twins_are_not() -> None:
    assert suspects({(1, 4): 0.4}, {(1, 4): 0.1}) == {1, 4}
    assert suspects({(1, 4): 0.9}, {(1, 4): 0.9}) == set()
    assert suspects({(1, 4): 0.4}, {(1, 4): -0.9}) == {1, 4}  # a negative likeness excuses no more than none


def test_the_margin_is_exceeded_not_reached() -> None:
    assert suspects({(0, 1): 0.0625}, {(0, 1): 0.003}) == set()  # 0.0625 has no rounding in either unit
    assert suspects({(0, 1): 0.0625}, {(0, 1): 0.002}) == {0, 1}


def test_a_neighbour_of_a_flagged_one_is_flagged_only_from_half_of_the_strongest_likeness_on() -> None:
    assert suspects({(0, 1): 0.5, (1, 2): 0.25}, {}) == {0, 1, 2}
    assert suspects({(0, 1): 0.5, (1, 2): 0.24}, {}) == {0, 1}
    assert suspects({(0, 1): 0.5, (2, 3): 0.1}, {}) == {0, 1, 2, 3}  # both free


def test_two_of_eight_may_be_missing_and_of_fewer_than_six_nobody_is_told_apart() -> None:
    pair = {(0, 1): 0.9}
    assert suspects(pair, {}, 5) == set() and suspects(pair, {}, 6) == {0, 1}
    assert find_possible_suspects(matrix(5, pair, ONE)) == frozenset()
    assert find_possible_suspects(matrix(6, pair, ONE)) == {0, 1}


def test_whose_norm_turns_it_away_has_no_part_in_who_is_alike() -> None:
    filters = [0, FILTER_NORM_REJECT, FILTER_NEAR_DUPLICATE, FILTER_NORM_REJECT | FILTER_NORM_SLASH, FILTER_NO_SCORE]
    assert choose_compared(filters) == [0, 2, 4]


@pytest.mark.parametrize("liars", [1, 2, 3])
def test_who_share_a_change_just_below_twice_the_norm_make_nobody_else_alike(liars: int) -> None:
    """With it the mean is so far away that all others seem alike, who have nothing in common."""
    own = np.eye(MIN_PROPOSALS, dtype=np.int64) * 1_000
    shared = np.where(np.arange(MIN_PROPOSALS) < liars, 1_670, 0)  # 1.95 times the others' norm, all in all
    vectors = np.column_stack([own, shared])
    found = find_possible_suspects(compute_cosines((vectors @ vectors.T).tolist()))
    assert found == (frozenset(range(liars)) if liars > 1 else frozenset())


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.floats(-1, 1), st.floats(-1, 1)), max_size=30))
@settings(max_examples=60)
def test_nobody_is_flagged_who_could_not_be_by_the_weights_alone(rows: list[tuple[int, int, float, float]]) -> None:
    weights = {(i, j): c for i, j, c, _ in rows if i != j}
    functions = {(i, j): f for i, j, _, f in rows if i != j}
    flagged = suspects(weights, functions, 10)
    assert flagged <= set(find_possible_suspects(matrix(10, weights, ONE)))
    assert len(flagged) != 1


def centred_cosines(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = vectors - vectors.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    return centred @ centred.T


def test_what_all_proposals_share_is_no_likeness_of_two_and_the_cosines_are_exact() -> None:
    """As they are, or of one length, whichever is less."""
    common = make_vector(SMALL, 99)
    vectors = [(1 + seed / 8) * (3 * common + make_vector(SMALL, seed)) for seed in range(8)]
    deltas = [quantise(vector.astype(np.float32), SMALL, FORMAT) for vector in vectors]
    found = np.array(compute_cosines(compute_gram(deltas))) / ONE
    rows = np.array([delta.to_float32() for delta in deltas], np.float64)
    level = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    plain, other, apart = centred_cosines(rows), centred_cosines(level), ~np.eye(8, dtype=bool)
    assert np.abs(found - np.minimum(plain, other)).max() < 1e-6
    assert (plain < other - 0.01).any() and (other < plain - 0.01).any()
    assert (level @ level.T).min() > 0.5 and found[apart].max() < 0.5


def test_one_that_is_the_mean_itself_is_alike_to_nobody() -> None:
    delta = quantise(make_vector(SMALL, 1), SMALL, FORMAT)
    assert compute_cosines(compute_gram([delta] * 8)) == [[0] * 8] * 8


def test_matrices_of_different_sizes_are_refused() -> None:
    with pytest.raises(Misuse, match="square"):
        find_suspects(matrix(8, {}, ONE), matrix(9, {}, 1_000))


# ---------------------------------------------------------------- audits


def test_values_mean_what_the_thresholds_say() -> None:
    wanted = {GUILTY_FROM: Finding.GUILTY, GUILTY_FROM - 1: Finding.SUSPECT, SUSPECT_FROM: Finding.SUSPECT}
    assert {value: find(value) for value in wanted} == wanted
    assert find(SUSPECT_FROM - 1) is find(-1) is Finding.CLEAR


def test_who_is_out_already_is_named_again_only_by_what_is_worth_its_bond() -> None:
    values = (GUILTY_FROM - 1, GUILTY_FROM, CONVICT_FROM - 1, CONVICT_FROM)
    assert [accuses(value, is_out=False) for value in values] == [False, True, True, True]
    assert [accuses(value, is_out=True) for value in values] == [False, False, False, True]


def test_out_already_is_what_an_audit_looked_at_that_named_its_author_by_more_than_half() -> None:
    audits = [ClosedAudit(2, 90, {ANN: 46, BOB: 45}), ClosedAudit(3, 90, {BOB: 46})]
    assert [is_out_already(audits, ANN, number) for number in (1, 2, 3)] == [True, True, False]
    assert [is_out_already(audits, BOB, number) for number in (2, 3, 4)] == [True, True, False]
    assert not is_out_already([], ANN, 1)


def test_an_auditor_s_value_is_that_of_the_string_that_both_kinds_of_contexts_show_most() -> None:
    assert summarise([0, 600_000, 690_000], [900_000, 580_000, 400_000]) == 580_000
    assert summarise([700_000], [-20_000]) == -20_000 and summarise([], []) == 0
    with pytest.raises(Misuse):
        summarise([1], [])


def test_an_audit_looks_at_the_rounds_that_fewer_than_two_that_counted_have_looked_at() -> None:
    assert [find_first_audited(range(1, audits)) for audits in range(1, 6)] == [1, 1, 2, 3, 4]
    assert find_first_audited([2, 4, 6]) == 5
    assert find_first_audited([1, 2, 5]) == 3  # those of rounds 3 and 4 were void


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 10**6)), min_size=1, max_size=12))
def test_the_half_of_bits_is_the_bit_of_what_the_half_reaches(rows: list[tuple[int, int]]) -> None:
    """Why an auditor's word on chain is a bit: the quorum of thresholds is the threshold of the quantile."""
    total = sum(stake for stake, _ in rows)
    saying = sum(stake for stake, value in rows if find(value) is Finding.GUILTY)
    reached = max(v for _, v in rows if Fraction(sum(s for s, w in rows if w >= v), total) > Fraction(1, 2))
    assert has_majority(saying, total) == (find(reached) is Finding.GUILTY)


def test_more_than_half_of_the_stake_takes_an_account_s_contributions_out_for_ever() -> None:
    audits = [
        ClosedAudit(2, 90, {ANN: 46, BOB: 45}),
        ClosedAudit(4, 90, {}),
        ClosedAudit(6, 90, {BOB: 90, ANN: 1}),
        ClosedAudit(8, 90, {ANN: 90}),
    ]
    assert compute_removed(audits, 2) == {}  # the audit of round 2 comes after round 2
    assert compute_removed(audits, 3) == compute_removed(audits, 6) == {ANN: [range(1, 3)]}
    assert compute_removed(audits, 7) == {ANN: [range(1, 3)], BOB: [range(1, 7)]}
    assert compute_removed(audits, 9) == {ANN: [range(1, 3), range(1, 9)], BOB: [range(1, 7)]}
    assert compute_removed([ClosedAudit(2, 0, {EVE: 0})], 9) == {}


def test_a_conviction_reaches_back_over_the_rounds_of_four_audits_and_what_is_older_stays() -> None:
    audits = [ClosedAudit(2 * place, 9, {ANN: 9} if place == 5 else {}) for place in range(1, 8)]
    assert compute_removed(audits, 20) == {ANN: [range(3, 11)]}
    lineage = [Adopted(number, ((0, ANN), (1, BOB))) for number in (2, 3, 10)]
    assert plan_removal(lineage, audits, 11) == [RemovalStep(3, (0, 1), (0,)), RemovalStep(10, (0, 1), (0,))]
    again = [*audits, ClosedAudit(14, 9, {}), ClosedAudit(14, 9, {ANN: 9})]  # all stake is heard again at once
    assert compute_removed(again, 15)[ANN] == [range(3, 11), range(7, 15)]


def test_a_plan_takes_out_what_was_found_since_the_last_adoption_and_nothing_twice() -> None:
    lineage = [Adopted(1, ((0, ANN), (2, BOB))), Adopted(2, ()), Adopted(3, ((1, ANN),)), Adopted(4, ((0, ANN),))]
    first, second = ClosedAudit(3, 9, {ANN: 6}), ClosedAudit(6, 9, {BOB: 9, ANN: 9})
    assert plan_removal(lineage[:3], [first], 3) == [] == plan_removal([], [first], 9)
    assert plan_removal(lineage[:3], [first], 4) == [RemovalStep(1, (0, 2), (0,)), RemovalStep(3, (1,), (1,))]
    assert plan_removal(lineage, [first], 5) == []  # it was out when round 4 was adopted, which added Ann anew
    # Of round 1 only Bob's is still there.
    assert plan_removal(lineage, [first, second], 7) == [RemovalStep(1, (2,), (2,)), RemovalStep(4, (0,), (0,))]
    assert RemovalStep(1, (0, 2, 5), (2, 5)).places == (1, 2)


def test_a_round_that_something_is_taken_out_of_is_as_if_it_had_accepted_the_others_whatever_came_after() -> None:
    start, later = make_adapter(SMALL), [make_delta(SMALL, seed) for seed in (7, 8)]
    accepted = [make_delta(SMALL, seed, 10.0**-seed) for seed in range(1, 5)]
    after = apply(apply(start, accepted), later)
    without = take_out(after, accepted, [1, 3])
    assert (without.grid == apply(apply(start, [accepted[0], accepted[2]]), later).grid).all()  # a mean of two
    assert (take_out(take_out(after, accepted, [3]), accepted[:3], [1]).grid == without.grid).all()
    assert (take_out(without, [accepted[0], accepted[2]], [0, 1]).grid == apply(start, later).grid).all()
    assert (without.grid != after.grid).any() and encode_global(without) != encode_global(after)


def test_the_board_s_rows_read_as_an_audit() -> None:
    assert read_closed_audit((90, 4), {ANN: 60, BOB: 0}) == ClosedAudit(4, 90, {ANN: 60})
