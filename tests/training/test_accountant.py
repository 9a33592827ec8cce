"""The accountant against opacus 1.6.0, whose figures stand here: never below them, and close where they mean much."""

import math

import pytest

from flock_peers.training.accountant import Entry, compute_epsilon, compute_log_moment

DELTA = 1e-5
# As RDPAccountant().get_epsilon(1e-5) says of a history of (noise, rate, steps).
REFERENCE: list[tuple[list[Entry], float]] = [
    ([(4.0, 0.01, 10_000)], 1.0354900660362476),
    ([(1.0, 0.1, 50)], 5.88097893218889),
    ([(1.0, 0.1, 100)], 7.899255002434629),
    ([(0.5, 0.05, 24)], 13.004149723700346),
    ([(1.0, 1.0, 10)], 19.05359753163139),
    ([(1.1, 256 / 60_000, 14_000)], 2.5903769658483182),
    ([(2.0, 0.5, 240), (1.0, 0.1, 24)], 26.982862631139998),
    ([(8.0, 0.02, 1)], 0.10306952344741407),
]
LOOSE = ([(0.3, 0.2, 24)], 85.44033532159006)  # between orders 1 and 2 the line is far from the curve


@pytest.mark.parametrize(("entries", "epsilon"), REFERENCE)
def test_epsilon_is_opacus_s_or_a_little_more_and_never_less(entries: list[Entry], epsilon: float) -> None:
    assert epsilon * (1 - 1e-9) <= compute_epsilon(entries, DELTA) <= 1.05 * epsilon


def test_where_little_noise_promises_little_the_bound_is_loose_and_still_one() -> None:
    entries, epsilon = LOOSE
    assert epsilon < compute_epsilon(entries, DELTA) < 3 * epsilon


def test_entries_add_up_and_nothing_costs_nothing() -> None:
    assert compute_epsilon([], DELTA) == 0.0
    assert compute_epsilon([(1.0, 0.0, 1_000)], DELTA) < 0.16  # what is left is of the conversion at the largest order
    assert compute_epsilon([(1.0, 0.1, 50)] * 2, DELTA) == pytest.approx(compute_epsilon([(1.0, 0.1, 100)], DELTA))
    assert compute_epsilon([(1.0, 0.1, 100)], 1e-7) > compute_epsilon([(1.0, 0.1, 100)], 1e-5)


def test_a_moment_of_order_two_is_its_closed_form() -> None:
    """1 + q^2 (exp(1 / noise^2) - 1)."""
    for noise, rate in ((1.0, 0.1), (0.7, 0.5), (4.0, 0.01)):
        assert compute_log_moment(noise, rate, 2) == pytest.approx(math.log1p(rate**2 * math.expm1(noise**-2)))
    assert compute_log_moment(2.0, 1.0, 7) == 7 * 6 / 8
