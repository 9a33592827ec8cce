"""The literature's rules against cases computed by hand, and what each promises for any stack."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flock_p2p.experiment import baselines
from flock_p2p.experiment.baselines import Adaptive, Momentum, Stack

FOUR = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [10.0, 4.0]])


def rules() -> dict[str, baselines.Rule]:
    return {
        "average": baselines.average,
        "multi-krum": lambda stack: baselines.multi_krum(stack, 1),
        "trimmed-mean": lambda stack: baselines.trimmed_mean(stack, 1),
        "median": baselines.coordinate_median,
        "geometric-median": baselines.geometric_median,
        "fltrust": lambda stack: baselines.fltrust(stack, np.ones(stack.shape[1])),
        "flame": baselines.flame,
        "fedavgm": Momentum(),
        "fedadam": Adaptive("adam"),
    }


@st.composite
def stacks(draw: st.DrawFn) -> Stack:
    rows, columns = draw(st.integers(4, 7)), draw(st.integers(2, 4))
    chance = np.random.Generator(np.random.PCG64(draw(st.integers(0, 10**6))))
    return chance.normal(size=(rows, columns)) * 10.0 ** draw(st.integers(-3, 2))


@given(stacks(), st.randoms(use_true_random=False), st.sampled_from(sorted(rules())))
@settings(max_examples=60, deadline=None)
def test_the_order_of_proposals_changes_nothing(stack: Stack, chance: object, name: str) -> None:
    order = list(range(len(stack)))
    chance.shuffle(order)  # type: ignore[attr-defined]
    update, kept = rules()[name](stack)
    other, other_kept = rules()[name](stack[order])
    assert np.allclose(update, other, rtol=1e-6, atol=1e-9 * np.abs(stack).max())
    assert sorted(order[row] for row in other_kept) == kept


@given(stacks(), st.sampled_from(["average", "multi-krum", "trimmed-mean", "median", "geometric-median"]))
@settings(max_examples=40, deadline=None)
def test_a_mean_of_proposals_lies_between_the_least_and_the_greatest(stack: Stack, name: str) -> None:
    update, _ = rules()[name](stack)
    slack = 1e-9 * np.abs(stack).max()
    assert (update >= stack.min(axis=0) - slack).all() and (update <= stack.max(axis=0) + slack).all()


@given(stacks())
@settings(max_examples=20, deadline=None)
def test_flames_update_is_no_longer_than_the_median_norm(stack: Stack) -> None:
    update, kept = baselines.flame(stack)
    assert np.linalg.norm(update) <= np.median(np.linalg.norm(stack, axis=1)) * (1 + 1e-9)
    assert 2 * len(kept) > len(stack)


def test_the_average_is_of_all() -> None:
    update, kept = baselines.average(FOUR)
    assert update.tolist() == [3.25, 1.0] and kept == [0, 1, 2, 3]


def test_krum_leaves_out_the_one_that_is_far_from_its_nearest() -> None:
    update, kept = baselines.multi_krum(FOUR, 1)
    # n - f - 2 = 1 neighbour: sums of squared distances 1, 1, 1, 80
    assert kept == [0, 1, 2] and update.tolist() == [1.0, 0.0]


def test_krum_parts_two_that_are_each_others_nearest_by_their_values() -> None:
    stack = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0], [5.0, 1.0]])  # every row's nearest is at distance 1
    for order in permutations(range(4)):
        assert sorted(order[row] for row in baselines.multi_krum(stack[list(order)], 1)[1]) == [0, 1, 2]


def test_the_trimmed_mean_leaves_out_both_ends_of_each_coordinate() -> None:
    assert baselines.trimmed_mean(FOUR, 1)[0].tolist() == [1.5, 0.0]
    assert baselines.trimmed_mean(FOUR, 9)[0].tolist() == [1.5, 0.0]  # never more than leaves the middle


def test_the_median_of_an_even_number_is_the_middle_of_two() -> None:
    assert baselines.coordinate_median(FOUR)[0].tolist() == [1.5, 0.0]


def test_the_geometric_median_of_a_triangle_with_a_wide_angle_is_that_corner() -> None:
    corner = np.array([[0.0, 0.0], [-3.0, 0.1], [3.0, 0.1], [0.0, 0.0]])
    assert np.allclose(baselines.geometric_median(corner)[0], 0, atol=1e-3)


def test_fltrust_gives_an_opposite_no_weight_and_everybody_the_servers_norm() -> None:
    stack = np.array([[4.0, 0.0], [-1.0, 0.0], [0.0, 7.0]])
    update, kept = baselines.fltrust(stack, np.array([2.0, 0.0]))
    assert kept == [0] and np.allclose(update, [2.0, 0.0])
    assert baselines.fltrust(-stack[:1], np.array([2.0, 0.0]))[1] == []


def test_flame_keeps_the_majority_that_points_one_way() -> None:
    stack = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [-1.0, 5.0]])
    assert baselines.flame(stack)[1] == [0, 1, 2]


def test_momentum_remembers() -> None:
    rule = Momentum(beta=0.5, rate=1.0)
    assert [rule(np.array([[value]]))[0].tolist() for value in (4.0, 0.0, 1.0)] == [[4.0], [2.0], [2.0]]


@pytest.mark.parametrize(
    ("kind", "second_moment"),
    [("adagrad", 0.25 + 4), ("adam", 0.99 * 0.25 + 0.01 * 4), ("yogi", 0.25 + 0.01 * 4)],
)
def test_an_adaptive_server_steps_by_the_formula_of_its_paper(kind: str, second_moment: float) -> None:
    rule = Adaptive(kind, rate=1.0, tau=0.5)  # v starts at tau^2 = 0.25; mean 2, m = 0.1 x 2
    assert rule(np.array([[1.0], [3.0]]))[0][0] == pytest.approx(0.2 / (second_moment**0.5 + 0.5))


def test_yogi_comes_down_slowly_where_adam_follows_the_ratio() -> None:
    yogi, adam = Adaptive("yogi", tau=10.0), Adaptive("adam", tau=10.0)
    for rule in (yogi, adam):
        rule(np.array([[1.0]]))
    assert yogi._v is not None and adam._v is not None
    assert yogi._v[0] == pytest.approx(100 - 0.01) and adam._v[0] == pytest.approx(99 + 0.01)


def test_krum_judges_by_as_many_neighbours_as_its_paper_says() -> None:
    stack = np.array([[0.0], [1.0], [3.0], [3.5], [100.0]])
    # n - f - 2 = 1 neighbour: 1, 1, 0.25, 0.25, far; with two it would leave out the first: 10, 5, 4.25, 6.5
    assert baselines.multi_krum(stack, 2)[1] == [0, 2, 3]
