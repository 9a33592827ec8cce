"""Norms, dots, filters and sums against slow twins of Python integers; traps of fixed-width arithmetic."""

import math
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from aggregation_support import (
    FORMAT,
    FOUR,
    SMALL,
    TINY,
    TOP,
    float32_vectors,
    make_adapter,
    make_delta,
    make_vector,
    slow_apply,
    slow_filter_bits,
    slow_gram,
    slow_quantise,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flock_chain.aggregation import (
    GRID_LIMIT,
    ONE,
    Format,
    Layout,
    add_contribution,
    apply,
    compute_clip_factors,
    compute_cosine,
    compute_filter_bits,
    compute_gram,
    compute_slash_floor,
    cosine,
    encode_delta,
    encode_global,
    filter_bits,
    from_floats,
    parse_delta,
    quantise,
    remove_contribution,
    squared_norm,
    take_out,
)
from flock_chain.aggregation.adapter import round_half_even
from flock_chain.aggregation.format import MAX_RATE, MIN_RATE, RATE_ONE
from flock_chain.errors import InvalidContent, Misuse, Refused

seeds = st.integers(0, 2**32)


vectors = st.sampled_from([FORMAT, FOUR]).flatmap(
    lambda format: st.tuples(st.just(format), float32_vectors(TINY, format))
)


@given(vectors)
@settings(max_examples=400, deadline=None)
def test_quantising_picks_the_smallest_exponent_and_rounds_half_to_even_like_its_slow_twin(case):
    format, vector = case
    delta = quantise(vector, TINY, format)
    assert (delta.mantissas.tolist(), delta.exponents.tolist()) == slow_quantise(TINY, vector, format)
    data = encode_delta(delta)
    parsed = parse_delta(data, TINY, format)
    assert (parsed.mantissas == delta.mantissas).all() and (parsed.exponents == delta.exponents).all()
    assert encode_delta(parsed) == data


@given(vectors)
@settings(max_examples=100, deadline=None)
def test_quantising_what_a_delta_says_gives_the_same_delta(case):
    format, vector = case
    delta = quantise(vector, TINY, format)
    assert encode_delta(quantise(delta.to_float32(), TINY, format)) == encode_delta(delta)


def test_blocks_do_not_straddle_tensors():
    vector = make_vector(SMALL, 3)
    delta = quantise(vector, SMALL, FORMAT)
    assert (delta.mantissas.tolist(), delta.exponents.tolist()) == slow_quantise(SMALL, vector)
    error = np.abs(delta.to_float32() - vector)
    assert error.max() <= np.abs(vector).max() / 127


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused(bad):
    vector = make_vector(SMALL, 1)
    vector[17] = bad
    with pytest.raises(Refused, match="not finite"):
        quantise(vector, SMALL, FORMAT)
    with pytest.raises(Refused, match="not finite"):
        from_floats(vector, SMALL, FORMAT)


@pytest.mark.parametrize("value", [0.0, -0.0, 2.0**-26, 1e-42])
def test_a_vector_that_is_zero_on_the_grid_is_refused(value):
    with pytest.raises(Refused, match="zero"):
        quantise(np.full(SMALL.parameters, value, np.float32), SMALL, FORMAT)


def test_a_vector_of_another_shape_or_dtype_is_misuse():
    for vector in (np.ones(3, np.float32), np.ones(SMALL.parameters, np.float64)):
        with pytest.raises(Misuse):
            quantise(vector, SMALL, FORMAT)
        with pytest.raises(Misuse):
            from_floats(vector, SMALL, FORMAT)


@given(
    st.lists(st.tuples(seeds, st.sampled_from([1e-6, 1e-3, 1e-2, 3e-2, 0.2, 10])), min_size=1, max_size=6),
    st.sampled_from([1, 100, 1_400, 100_000]),
    st.sampled_from([FORMAT, FOUR]),
)
@settings(max_examples=80, deadline=None)
def test_dots_norms_and_filters_equal_their_slow_twins(parts, ball, format):
    deltas = [make_delta(SMALL, seed, scale, format) for seed, scale in parts if scale > 1e-6 or format is FORMAT]
    assume(deltas)
    assert compute_gram(deltas) == slow_gram(deltas)
    assert filter_bits(deltas, ball) == slow_filter_bits(deltas, ball)
    assert [squared_norm(delta) for delta in deltas] == [row[i] for i, row in enumerate(slow_gram(deltas))]


@given(
    st.lists(st.tuples(seeds, st.sampled_from([1e-3, 1e-2, 0.2])), min_size=1, max_size=7), seeds,
    st.sampled_from([FORMAT, FOUR, Format(server_lr_thousandths=2_000), Format.of_bits(4, 333)]),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_applying_a_round_equals_its_slow_twin_in_any_order_of_proposals(parts, seed, format):
    deltas = [make_delta(SMALL, s, scale, format) for s, scale in parts]
    adapter = make_adapter(SMALL, seed, format)
    factors = compute_clip_factors([squared_norm(delta) for delta in deltas])
    after = apply(adapter, deltas)
    assert after.grid.tolist() == slow_apply(adapter, deltas, factors)
    assert encode_global(apply(adapter, deltas[::-1])) == encode_global(after)


@given(st.lists(seeds, min_size=1, max_size=5), st.integers(1, ONE), st.integers(1, 16))
@settings(max_examples=50, deadline=None)
def test_taking_contributions_out_in_another_order_restores_the_adapter_bit_for_bit(parts, factor, count):
    adapter = make_adapter(SMALL)
    deltas = [make_delta(SMALL, seed) for seed in parts]
    changed = adapter
    for delta in deltas:
        changed = add_contribution(changed, delta, factor, count)
    for delta in deltas:
        changed = remove_contribution(changed, delta, factor, count)
    assert encode_global(changed) == encode_global(adapter)


@given(st.lists(seeds, min_size=2, max_size=7), st.integers(MIN_RATE, MAX_RATE))
@settings(max_examples=30, deadline=None)
def test_what_is_taken_out_is_what_the_tasks_rate_added(parts, rate):
    format = Format(server_lr_thousandths=rate)
    adapter = make_adapter(SMALL, 0, format)
    deltas = [make_delta(SMALL, seed, 1e-2, format) for seed in parts]
    later = apply(apply(adapter, deltas), deltas[:1])
    assert encode_global(take_out(later, deltas, [0])) == encode_global(apply(apply(adapter, deltas[1:]), deltas[:1]))


def test_twice_the_mean_moves_twice_as_far():
    one, two = (
        apply(make_adapter(SMALL, 0, format), [make_delta(SMALL, seed, 1e-2, format) for seed in (1, 2)]).grid
        - make_adapter(SMALL, 0, format).grid
        for format in (FORMAT, Format(server_lr_thousandths=2 * RATE_ONE))
    )
    assert np.abs(two - 2 * one).max() <= 2 and np.abs(one).max() > 1_000  # two roundings, each of half a unit


def test_the_largest_rate_of_the_largest_contributions_stays_on_the_grid():
    format = Format(server_lr_thousandths=MAX_RATE)
    delta = quantise(np.full(SMALL.parameters, 3e38, np.float32), SMALL, format)
    added = apply(make_adapter(SMALL, 0, format), [delta]).grid - make_adapter(SMALL, 0, format).grid
    assert set(added.tolist()) == {4 * 127 << (15 + 10)}


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**20))
def test_rounding_is_half_to_even(numerator, denominator):
    assert round_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


def test_nobody_accepted_leaves_the_adapter_as_it_is():
    adapter = make_adapter(SMALL)
    assert apply(adapter, []) is adapter


def test_a_hostile_vector_of_largest_values_does_not_overflow_an_int64_norm():
    layout = Layout.of({"w": (600_000,)})  # one int64 sum wraps from 532,578 parameters on
    hostile = quantise(np.full(layout.parameters, 1e30, np.float32), layout, FORMAT)
    opposite = quantise(np.full(layout.parameters, -TOP, np.float32), layout, FORMAT)
    norm = layout.parameters * (127 << 15) ** 2
    assert norm > 2**63
    assert compute_gram([hostile, opposite]) == [[norm, -norm], [-norm, norm]]
    assert cosine(hostile, opposite) == -ONE
    adapter = from_floats(np.zeros(layout.parameters, np.float32), layout, FORMAT)
    assert set(apply(adapter, [hostile]).grid.tolist()) == {127 << 25}


def test_every_window_and_grid_of_the_format_is_exact_at_its_largest_values():
    layout = Layout.of({"w": (4_096 + 5,)})
    for bits, elo, window in (
        (8, -40, 15),
        (8, -24, 0),
        (8, 0, 15),
        (8, -20, 7),
        (4, -20, 15),
        (4, -40, 0),
        (4, 0, 15),
    ):
        format = Format(bits=bits, elo=elo, window=window)
        most = 2 ** (bits - 1) - 1
        delta = quantise(np.full(layout.parameters, 3e38, np.float32), layout, format)
        assert squared_norm(delta) == layout.parameters * (most << window) ** 2
        assert delta.to_float32().tolist() == [most * 2.0 ** (elo + window)] * layout.parameters


def test_threads_and_chunk_sizes_give_the_same_bits():
    layout = Layout.of({"a": (301, 33), "b": (64, 64), "c": (7,)})
    vectors = [make_vector(layout, seed) for seed in range(4)]

    def run(chunk: int) -> tuple[list[bytes], list[list[int]], bytes]:
        deltas = [quantise(vector, layout, FORMAT, chunk_blocks=chunk) for vector in vectors]
        gram = compute_gram(deltas, chunk_blocks=chunk)
        return [encode_delta(delta) for delta in deltas], gram, encode_global(apply(make_adapter(layout), deltas))

    expected = run(1 << 11)
    with ThreadPoolExecutor(4) as pool:
        assert all(result == expected for result in pool.map(run, [1, 3, 16, 17, 64, 100, 1 << 20, 1 << 11]))


def test_the_bits_do_not_depend_on_the_memory_layout_of_the_input():
    vector = make_vector(SMALL, 5)
    strided = np.repeat(vector, 3)[::3]
    assert not strided.flags.c_contiguous
    assert encode_delta(quantise(strided, SMALL, FORMAT)) == encode_delta(quantise(vector, SMALL, FORMAT))


def make_gram(*norms: int) -> list[list[int]]:
    """Of deltas at right angles."""
    return [[n * n if i == j else 0 for j in range(len(norms))] for i, n in enumerate(norms)]


def test_the_norm_filters_bind_strictly_above_two_and_three_times_the_lower_median():
    def bits(*norms: int) -> list[int]:
        return compute_filter_bits(make_gram(*norms), slash_floor=0)

    assert bits(10, 10, 10, 10, 20, 21, 30, 31) == [0, 0, 0, 0, 0, 1, 1, 3]
    assert bits(10, 30) == [0, 1]  # the lower of two is the median
    assert bits(10) == [0]


def test_a_tiny_delta_among_two_gets_no_honest_one_slashed():
    """The lower median of two is the lesser; a rejection costs no stake, a slash would."""

    def bits(*norms: int) -> list[int]:
        return compute_filter_bits(make_gram(*norms), slash_floor=0)

    assert bits(1, 1_000) == [0, 1]
    assert bits(1_000, 1) == [1, 0]
    assert bits(1, 1_000, 1_000) == [0, 0, 0]
    assert bits(1_000, 1_000, 4_000) == [0, 0, 3]


def test_not_even_a_majority_of_tiny_deltas_gets_one_inside_the_tasks_ball_slashed():
    floor = compute_slash_floor(1_400, Format(elo=-24))
    radius = math.isqrt(floor)
    assert radius == math.isqrt(int((Fraction(14, 10) * Fraction(11, 10)) ** 2 * 4**24))
    ball = int(Fraction(14, 10) * 2**24)
    assert compute_filter_bits(make_gram(1, 1, ball), floor) == [0, 0, 1]
    assert compute_filter_bits(make_gram(1, 1, radius), floor) == [0, 0, 1]
    assert compute_filter_bits(make_gram(1, 1, radius + 1), floor) == [0, 0, 3]
    assert compute_filter_bits(make_gram(ball, ball, 4 * ball), floor) == [0, 0, 3]


def test_a_near_duplicate_is_the_later_one_and_an_opposite_is_none():
    one, other = make_vector(SMALL, 1), make_vector(SMALL, 2)
    near = one + other * np.float32(np.linalg.norm(one) / np.linalg.norm(other) * 0.02)
    vectors = [other, one, near.astype(np.float32), -one, one * np.float32(2)]
    assert filter_bits([quantise(v, SMALL, FORMAT) for v in vectors], 1) == [0, 0, 4, 0, 4]


def test_the_near_duplicate_rule_binds_strictly_above_its_cosine():
    square = 1_000_000
    assert compute_filter_bits([[square, 999_000], [999_000, square]], 0) == [0, 0]
    assert compute_filter_bits([[square, 999_001], [999_001, square]], 0) == [0, 4]


def test_clip_factors_bring_the_norm_to_three_halves_of_the_lower_median_from_below():
    most = 9 * 10**20  # the median's square, times 9/4
    norms = [1, 4 * 10**20, most, most + 1, 4 * most, 9 * most]
    factors = compute_clip_factors([*norms, 2, 3])  # of eight, the fourth in order is 4e20
    assert factors == [ONE, ONE, ONE, ONE - 1, ONE // 2, math.isqrt((most << 60) // (9 * most)), ONE, ONE]
    assert all(f * f * n <= max(n, most) << 60 for f, n in zip(factors, norms, strict=False))


def test_a_zero_norm_is_caught_before_a_division():
    for call in (
        lambda: compute_cosine(0, 0, 1),
        lambda: compute_clip_factors([0, 1]),
        lambda: compute_filter_bits([[0]], 0),
    ):
        with pytest.raises(Misuse, match="zero norm"):
            call()


def test_measures_refuse_no_deltas_too_many_and_mixed_tasks():
    small, tiny = make_delta(SMALL, 1), make_delta(TINY, 1)
    for deltas in ([], [small] * 17, [small, tiny]):
        with pytest.raises(Misuse):
            compute_gram(deltas)
    with pytest.raises(Misuse):
        add_contribution(make_adapter(SMALL), tiny, ONE, 1)
    for factor, count in ((0, 1), (ONE + 1, 1), (ONE, 0), (ONE, 17)):
        with pytest.raises(Misuse):
            add_contribution(make_adapter(SMALL), small, factor, count)


def test_an_adapter_that_leaves_the_grid_is_refused_and_never_wraps():
    adapter = from_floats(np.full(TINY.parameters, 2.0**19 - 0.03125, np.float32), TINY, FORMAT)
    delta = quantise(np.full(TINY.parameters, TOP, np.float32), TINY, FORMAT)
    with pytest.raises(InvalidContent, match="leaves the grid"):
        apply(adapter, [delta])
    for value in (2.0**19, 1e30, -3e38):
        with pytest.raises(Refused, match="too large"):
            from_floats(np.full(TINY.parameters, value, np.float32), TINY, FORMAT)
    assert int(adapter.grid.max()) < GRID_LIMIT


@given(float32_vectors(TINY))
@settings(max_examples=100, deadline=None)
def test_the_float_view_of_an_adapter_is_the_grid_rounded_once(vector):
    vector = np.clip(vector, -1e5, 1e5).astype(np.float32)
    adapter = from_floats(vector, TINY, FORMAT)
    exact = [float(Fraction(g) * Fraction(2) ** FORMAT.grid_exponent) for g in adapter.grid.tolist()]
    assert adapter.grid.tolist() == [round(Fraction(float(v)) * 2**34) for v in vector]
    assert adapter.to_float32().tolist() == np.array(exact, np.float64).astype(np.float32).tolist()


def test_results_cannot_be_changed_in_place():
    delta, adapter = make_delta(SMALL, 1), make_adapter(SMALL)
    parsed = parse_delta(bytearray(encode_delta(delta)), SMALL, FORMAT)
    for array in (delta.mantissas, delta.exponents, parsed.mantissas, parsed.exponents, adapter.grid):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
