"""The aggregation rules of the literature, as pure functions on stacked changes. Knows no model, no round, no vote.

A stack has one row for each proposal. Every rule returns what the server adds to the global vector, and which rows it
kept. Where a rule has state, that is an object whose call is the rule.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Stack = NDArray[np.float64]  # [proposals, parameters]
Update = tuple[NDArray[np.float64], list[int]]
Rule = Callable[[Stack], Update]

WEISZFELD_STEPS = 32
SMALLEST = 1e-12
KRUM_DIGITS = 9  # of the largest score: sums in another order differ in the last bits


def _all(stack: Stack) -> list[int]:
    return list(range(len(stack)))


def average(stack: Stack, rate: float = 1.0) -> Update:
    """FedAvg with equal weights: self-declared data sizes are nobody's to believe. McMahan et al., 2017. `rate`: of the
    server, FedOpt's generalisation with plain SGD (Reddi et al., 2020)."""
    return rate * stack.mean(axis=0), _all(stack)


@dataclass
class Momentum:
    """FedAvgM, Hsu et al., 2019: m <- beta m + mean; the step is rate x m."""

    beta: float = 0.9
    rate: float = 0.3  # with beta 0.9 a steady mean is applied three times over
    _m: NDArray[np.float64] | None = None

    def __call__(self, stack: Stack) -> Update:
        mean = stack.mean(axis=0)
        self._m = mean if self._m is None else self.beta * self._m + mean
        return self.rate * self._m, _all(stack)


@dataclass
class Adaptive:
    """FedAdagrad, FedAdam, FedYogi: Reddi et al., "Adaptive Federated Optimization", ICLR 2021, Algorithm 2.

    m <- beta1 m + (1 - beta1) mean; v by the kind; the step is rate x m / (sqrt(v) + tau), v from tau^2 on.
    """

    kind: str  # "adagrad", "adam" or "yogi"
    rate: float = 5e-3
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3
    _m: NDArray[np.float64] | None = field(default=None, repr=False)
    _v: NDArray[np.float64] | None = field(default=None, repr=False)

    def __call__(self, stack: Stack) -> Update:
        mean = stack.mean(axis=0)
        m = np.zeros_like(mean) if self._m is None else self._m
        v = np.full_like(mean, self.tau**2) if self._v is None else self._v
        self._m = self.beta1 * m + (1 - self.beta1) * mean
        self._v = self._next_v(v, mean * mean)
        return self.rate * self._m / (np.sqrt(self._v) + self.tau), _all(stack)

    def _next_v(self, v: NDArray[np.float64], square: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.kind == "adagrad":
            return v + square
        if self.kind == "adam":
            return self.beta2 * v + (1 - self.beta2) * square
        return v - (1 - self.beta2) * square * np.sign(v - square)


def squared_distances(stack: Stack) -> Stack:
    gram = stack @ stack.T
    norms = np.diag(gram)
    return np.maximum(norms[:, None] + norms[None, :] - 2 * gram, 0.0)


def multi_krum(stack: Stack, bad: int) -> Update:
    """Blanchard et al., 2017: the n - f rows with the least sum of squared distances to their n - f - 2 nearest.

    Of few rows two that are each other's nearest are equal; then their values decide, not who came first.
    """
    count = len(stack)
    bad = max(0, min(bad, count - 3))
    near = max(1, count - bad - 2)
    distances = squared_distances(stack)
    np.fill_diagonal(distances, np.inf)
    scores = np.sort(distances, axis=1)[:, :near].sum(axis=1)
    scores = np.round(scores / scores.max(), KRUM_DIGITS) if scores.max() > 0 else scores
    kept = sorted(sorted(range(count), key=lambda row: (scores[row], stack[row].tolist()))[: count - bad])
    return stack[kept].mean(axis=0), kept


def trimmed_mean(stack: Stack, bad: int) -> Update:
    """Yin et al., 2018: of each coordinate, the mean without the `bad` largest and the `bad` smallest."""
    bad = max(0, min(bad, (len(stack) - 1) // 2))
    return np.sort(stack, axis=0)[bad : len(stack) - bad].mean(axis=0), _all(stack)


def coordinate_median(stack: Stack) -> Update:
    """Yin et al., 2018."""
    return np.median(stack, axis=0), _all(stack)


def geometric_median(stack: Stack) -> Update:
    """Pillutla et al., "Robust Aggregation for Federated Learning", 2019: Weiszfeld's iteration from the mean."""
    middle = stack.mean(axis=0)
    for _ in range(WEISZFELD_STEPS):
        weights = 1 / np.maximum(np.linalg.norm(stack - middle, axis=1), SMALLEST)
        middle = weights @ stack / weights.sum()
    return middle, _all(stack)


def fltrust(stack: Stack, reference: NDArray[np.float64]) -> Update:
    """Cao et al., "FLTrust", 2021: weights by ReLU of the cosine to the server's own update, norms set to its norm."""
    own = float(np.linalg.norm(reference))
    norms = np.maximum(np.linalg.norm(stack, axis=1), SMALLEST)
    trust = np.maximum(stack @ reference / (norms * max(own, SMALLEST)), 0.0)
    if trust.sum() <= 0:
        return np.zeros(stack.shape[1]), []
    return (trust * own / norms) @ stack / trust.sum(), [int(row) for row in np.flatnonzero(trust > 0)]


def flame(stack: Stack, noise: NDArray[np.float64] | None = None, share: float = 1e-3) -> Update:
    """After Nguyen et al., "FLAME", 2022: the largest cosine cluster, clipped to the median norm, with noise.

    For HDBSCAN with clusters of more than half stands single linkage, cut where the first such cluster forms.
    `noise`: of unit variance; scaled to `share` of the median norm.
    """
    norms = np.maximum(np.linalg.norm(stack, axis=1), SMALLEST)
    kept = _majority_cluster(1 - stack @ stack.T / np.outer(norms, norms))
    limit = float(np.median(norms))
    update = (stack[kept] * np.minimum(1.0, limit / norms[kept])[:, None]).mean(axis=0)
    return (update if noise is None else update + share * limit * noise / np.sqrt(len(noise))), kept


def _majority_cluster(distances: Stack) -> list[int]:
    count = len(distances)
    labels = list(range(count))
    pairs = sorted((float(distances[i, j]), i, j) for i in range(count) for j in range(i))
    for _, i, j in pairs:
        old, new = labels[i], labels[j]
        labels = [new if label == old else label for label in labels]
        if 2 * labels.count(new) > count:
            return [row for row in range(count) if labels[row] == new]
    return list(range(count))
