"""What steps of noise on sampled rows have told of one row: epsilon at a delta, by Rényi moments. Pure arithmetic.

The sampled Gaussian mechanism, after Mironov, Talwar and Zhang (arXiv:1908.10530), section 3.3: for whole orders the
moment is a finite sum. Its logarithm is convex in the order, so between two whole orders the line is a bound from
above. Held against opacus' accountant, which this is never below (tests/training/test_accountant.py).
"""

import math
from collections.abc import Sequence

ORDERS = tuple([1 + tenth / 10 for tenth in range(1, 100)] + [float(order) for order in range(11, 64)])
_MOST = 64  # whole orders whose moments are computed
Entry = tuple[float, float, int]  # noise multiplier, sampling rate, steps


def compute_epsilon(entries: Sequence[Entry], delta: float) -> float:
    """Of all entries together. Infinite where no order gives a bound."""
    if not entries:
        return 0.0
    moments = [0.0] * (_MOST + 1)  # log of the moment of each order; of order 1 it is 0
    for noise, rate, steps in entries:
        for order in range(2, _MOST + 1):
            moments[order] += steps * compute_log_moment(noise, rate, order)
    return max(0.0, min(_convert(_at(moments, order), order, delta) for order in ORDERS))


def compute_log_moment(noise: float, rate: float, order: int) -> float:
    """Of one step: log of the sum over k of binomial(order, k) (1 - q)^(order - k) q^k exp((k^2 - k) / (2 noise^2))."""
    if rate >= 1.0:
        return order * (order - 1) / (2 * noise * noise)
    if rate <= 0.0:
        return 0.0
    terms = [
        math.lgamma(order + 1) - math.lgamma(k + 1) - math.lgamma(order - k + 1)
        + (order - k) * math.log1p(-rate) + k * math.log(rate) + (k * k - k) / (2 * noise * noise)
        for k in range(order + 1)
    ]  # fmt: skip
    most = max(terms)
    return most + math.log(math.fsum(math.exp(term - most) for term in terms))


def _at(moments: Sequence[float], order: float) -> float:
    whole = int(order)
    share = order - whole
    return moments[whole] if share == 0 else (1 - share) * moments[whole] + share * moments[whole + 1]


def _convert(moment: float, order: float, delta: float) -> float:
    """Balle et al. (arXiv:1905.09982), theorem 21: from Rényi to epsilon and delta."""
    return moment / (order - 1) - (math.log(delta) + math.log(order)) / (order - 1) + math.log((order - 1) / order)
