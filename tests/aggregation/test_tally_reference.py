"""The tally's reference: thresholds to the unit, and what each voter can and cannot do."""

import statistics
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flock_chain.errors import Misuse
from flock_chain.tally import (
    FILTER_NEAR_DUPLICATE,
    FILTER_NO_SCORE,
    FILTER_NORM_REJECT,
    FILTER_NORM_SLASH,
    Verdict,
    compute_lower_median,
    compute_mad,
    compute_tally,
    has_two_thirds,
    is_rejected_by_loss,
)

LIMIT, MULTIPLE = 20_000, 12
A, LOSS, NORM, SLASH, COPY, VOID, NONE = (
    Verdict.ACCEPTED,
    Verdict.REJECTED_LOSS,
    Verdict.REJECTED_NORM,
    Verdict.ACCUSED_NORM,
    Verdict.DUPLICATE,
    Verdict.VOID,
    Verdict.NONE,
)


def row(*values: int) -> list[int]:
    return list(values) + [0] * (16 - len(values))


def tally(scores, filters=None, input_set=None, limit=LIMIT):
    filters = filters or [[0]] * len(scores)
    members = input_set if input_set is not None else (1 << len(scores[0])) - 1
    return compute_tally([row(*s) for s in scores], [row(*f) for f in filters], members, limit, MULTIPLE)


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=16))
def test_the_lower_median_is_the_library_s_median_low(values):
    assert compute_lower_median(values) == statistics.median_low(values)
    center = compute_lower_median(values)
    assert compute_mad(values, center) == statistics.median_low([abs(value - center) for value in values])


@given(*[st.integers(-50_000, 50_000)] * 2, st.integers(0, 5_000), st.integers(0, 30_000), st.integers(0, 20))
def test_the_loss_rule_equals_its_formula_in_fractions(median, center, mad, limit, multiple):
    threshold = max(Fraction(0), center + multiple * Fraction("1.4826") * mad)
    expected = median > threshold or median > limit
    assert is_rejected_by_loss(median, center=center, mad=mad, loss_limit=limit, mad_multiple=multiple) == expected


ROWS = st.integers(2, 6).flatmap(
    lambda width: st.lists(
        st.lists(st.integers(-60_000, 60_000), min_size=width, max_size=width), min_size=1, max_size=7
    )
)


@given(ROWS, st.data())
def test_a_higher_score_is_a_worse_one_whichever_way_the_metric_counts(rows, data):
    """Where every voter finds one proposal no better than another, the other is not rejected by loss alone."""
    worse, better = data.draw(st.permutations(range(len(rows[0]))))[:2]
    rows = [[max(values[worse], values[better]) if i == worse else v for i, v in enumerate(values)] for values in rows]
    verdicts = tally(rows).verdicts
    assert not (verdicts[better] is LOSS and verdicts[worse] is A)


def test_the_loss_threshold_binds_strictly_above_the_unit():
    bound = {"center": 0, "mad": 5_000, "loss_limit": 10**9, "mad_multiple": 1}
    assert not is_rejected_by_loss(7_413, **bound)
    assert is_rejected_by_loss(7_414, **bound)
    assert not is_rejected_by_loss(20_000, center=20_000, mad=0, loss_limit=20_000, mad_multiple=12)
    assert is_rejected_by_loss(20_001, center=20_001, mad=0, loss_limit=20_000, mad_multiple=12)


def test_an_improvement_is_never_rejected_by_loss_however_good_the_others_are():
    assert not is_rejected_by_loss(0, center=-900_000, mad=0, loss_limit=0, mad_multiple=12)


def test_medians_center_and_mad_come_from_the_revealed_scores():
    result = tally([(-30, -10, 500), (-50, -10, 700), (-40, 90, 600)])
    assert result.medians == tuple(row(-40, -10, 600))
    assert (result.center, result.mad) == (-10, 30)
    assert result.verdicts[:4] == (A, A, LOSS, NONE)
    assert not result.is_void


def test_a_minority_of_voters_cannot_reject_or_save_a_proposal():
    honest = [(-30, 9_000, -20, -25)] * 5
    liars = [(10**9, -(10**9), 0, 0)] * 2
    assert tally(honest + liars).verdicts[:4] == (A, LOSS, A, A)


def test_scores_that_a_voter_could_not_measure_are_ignored():
    scores = [(0, -10), (0, -10), (30_000, -10), (30_000, -10), (30_000, -10)]
    blind = (FILTER_NO_SCORE,)
    assert tally(scores[:4]).verdicts[:2] == (A, A)
    result = tally(scores, [blind, blind, (0,), (0,), (0,)])
    assert result.medians[0] == 30_000
    assert result.verdicts[:2] == (LOSS, A)


def test_a_proposal_that_only_half_of_the_voters_could_score_is_void():
    scores = [(-20, -10), (-20, -10)]
    result = tally(scores, [(FILTER_NO_SCORE,), (0,)])
    assert result.medians[0] == -20
    assert result.verdicts[:2] == (VOID, A)


def test_a_proposal_that_nobody_could_score_is_void_and_moves_no_center():
    result = tally([(10**9, -10, -20)] * 3, [(FILTER_NO_SCORE,)] * 3)
    assert result.verdicts[:3] == (VOID, A, A)
    assert (result.medians[0], result.center) == (0, -20)
    assert tally([(-10, -20)] * 3, [(FILTER_NO_SCORE, FILTER_NO_SCORE)] * 3).is_void


def test_what_nobody_could_score_counts_in_the_input_set_of_which_half_must_be_rejected():
    """Two rejected of four are not more than half, though of three medians they would be."""
    result = tally([(30_000, 30_000, -10, -10)] * 3, [(0, 0, 0, FILTER_NO_SCORE)] * 3)
    assert result.verdicts[:4] == (LOSS, LOSS, A, VOID) and not result.is_void


def test_only_the_input_set_is_judged_and_counted():
    result = tally([(-10, 10**9, -20)] * 3, input_set=0b101)
    assert result.verdicts[:3] == (A, NONE, A)
    assert (result.medians[1], result.center) == (0, -20)


@pytest.mark.parametrize(
    ("bits", "verdict"),
    [
        (FILTER_NORM_REJECT, NORM),
        (FILTER_NORM_REJECT | FILTER_NORM_SLASH, SLASH),
        (FILTER_NEAR_DUPLICATE, COPY),
        (FILTER_NEAR_DUPLICATE | FILTER_NORM_REJECT, NORM),
    ],
)
def test_a_filter_needs_two_thirds_of_the_revealed_seats(bits, verdict):
    scores = [(-10, -20)] * 3
    assert tally(scores, [(bits,), (0,), (0,)]).verdicts[:2] == (A, A)
    assert tally(scores, [(bits,), (bits,), (0,)]).verdicts[:2] == (verdict, A)
    assert [has_two_thirds(count, 7) for count in (4, 5)] == [False, True]


def test_a_round_in_which_more_than_half_would_be_rejected_by_loss_is_void_but_slashes():
    half = tally([(30_000, 30_000, -10, -10)] * 3)
    assert half.verdicts[:4] == (LOSS, LOSS, A, A)
    scores = [(30_000, 30_000, 30_000, -10)] * 3
    slash = (FILTER_NORM_REJECT | FILTER_NORM_SLASH,)
    most = tally(scores, [slash] * 3)
    assert most.is_void
    assert most.verdicts[:4] == (SLASH, VOID, VOID, VOID)


def test_a_round_without_reveals_is_void():
    result = compute_tally([], [], 0b11, LIMIT, MULTIPLE)
    assert result.is_void
    assert result.verdicts[:3] == (VOID, VOID, NONE)


def test_rows_of_the_wrong_form_are_misuse():
    for scores, filters, members in (
        ([[0] * 15], [[0] * 16], 1),
        ([[0] * 16], [], 1),
        ([[0] * 16], [[0] * 15], 1),
        ([[0] * 16] * 17, [[0] * 16] * 17, 1),
        ([[0] * 16], [[0] * 16], 1 << 16),
    ):
        with pytest.raises(Misuse):
            compute_tally(scores, filters, members, LIMIT, MULTIPLE)
    with pytest.raises(Misuse):
        compute_lower_median([])


def test_two_medians_have_no_spread_so_the_limit_alone_decides():
    """Their lower median deviation is 0: the worse of two honest proposals of other domains would be rejected."""
    scores = [[4_432, -2_078, *[0] * 14]] * 3
    result = compute_tally(scores, [[0] * 16] * 3, 0b11, 20_000, 12)
    assert result.mad == 0
    assert result.verdicts[:2] == (Verdict.ACCEPTED, Verdict.ACCEPTED)
    over = compute_tally([[20_001, -2_078, *[0] * 14]] * 3, [[0] * 16] * 3, 0b11, 20_000, 12)
    assert over.verdicts[:2] == (Verdict.REJECTED_LOSS, Verdict.ACCEPTED)
