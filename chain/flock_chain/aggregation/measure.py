"""Exact norms, dots and the filters on them: Python integers, the same on every processor. Knows no file and no model.

Thresholds compare squares and cross-multiply; nothing is rounded. Fixed-point results (clip factors, cosines) carry
30 bits and come from integer square roots.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flock_chain.aggregation.delta import Delta
from flock_chain.aggregation.format import EXACT_RUN, Format
from flock_chain.aggregation.layout import Layout
from flock_chain.errors import Misuse
from flock_chain.tally import FILTER_NEAR_DUPLICATE, FILTER_NORM_REJECT, FILTER_NORM_SLASH, compute_lower_median

ONE = 1 << 30  # fixed point of clip factors and cosines
MAX_DELTAS = 16  # the seats of proposers in a round
NORM_REJECT, NORM_SLASH = 2, 3  # times the lower median norm
# Of the lower median norm. Clipped to the median itself, a round in which half of the proposals are of domains that
# change little takes a third off all others (docs/experiment.md).
CLIP_NUMERATOR, CLIP_DENOMINATOR = 3, 2
MIN_NORMS_TO_SLASH = 3  # the lower median of two is the lesser: a tiny delta would get an honest one slashed
SLACK_PERCENT = 10  # of the ball's radius: what rounding to the grid may add to an honest norm, many times over
NEAR_DUPLICATE_PER_MILLE = 999  # cosine; honest pairs reached 921 at most
_CHUNK_BLOCKS = 1 << 11  # 16 deltas of 512 KiB as float64


def compute_gram(deltas: Sequence[Delta], *, chunk_blocks: int = _CHUNK_BLOCKS) -> list[list[int]]:
    """All dots (squared norms on the diagonal) in units of 4^elo, exact.

    Float64 matrix products over runs so short that every partial sum is an integer below 2^53: exact in any order of
    addition, so for any number of threads and any instruction set.
    """
    layout, format = _check_alike(deltas)
    rows = EXACT_RUN // format.block  # blocks in an exact run
    blocks = sum(layout.block_counts(format.block))
    chunk_blocks = min(chunk_blocks, blocks)
    values = np.zeros((len(deltas), -(-chunk_blocks // rows) * rows, format.block))
    gram = [[0] * len(deltas) for _ in deltas]
    for start in range(0, blocks, chunk_blocks):
        stop = min(start + chunk_blocks, blocks)
        for row, delta in zip(values, deltas, strict=True):
            row[: stop - start] = delta.mantissas[start:stop].astype(np.int32) << delta.exponents[start:stop, None]
            row[stop - start :] = 0
        _add_runs(gram, values.reshape(len(deltas), -1, EXACT_RUN).transpose(1, 0, 2))
    return gram


def _add_runs(gram: list[list[int]], runs: NDArray[np.float64]) -> None:
    """runs: [run, delta, element]. At most 512 products of a run's size fit into one int64 sum."""
    transposed = runs.transpose(0, 2, 1).copy()  # without the copy numpy takes a path that is slower for small matrices
    products = (runs @ transposed).astype(np.int64)
    for first in range(0, len(products), 512):
        total = products[first : first + 512].sum(axis=0).tolist()
        for into, row in zip(gram, total, strict=True):
            for index, value in enumerate(row):
                into[index] += value


def _check_alike(deltas: Sequence[Delta]) -> tuple[Layout, Format]:
    if not 0 < len(deltas) <= MAX_DELTAS:
        raise Misuse(f"measure: {len(deltas)} deltas, 1 to {MAX_DELTAS} allowed")
    if any((delta.layout, delta.format) != (deltas[0].layout, deltas[0].format) for delta in deltas):
        raise Misuse("measure: deltas of different tasks")
    return deltas[0].layout, deltas[0].format


def squared_norm(delta: Delta) -> int:
    """In units of 4^elo."""
    return compute_gram([delta])[0][0]


def compute_cosine(dot: int, squared_a: int, squared_b: int) -> int:
    """In units of 1 / ONE, truncated towards zero."""
    if squared_a <= 0 or squared_b <= 0:
        raise Misuse("cosine: zero norm")
    cosine = math.isqrt((dot * dot << 60) // (squared_a * squared_b))
    return -cosine if dot < 0 else cosine


def cosine(a: Delta, b: Delta) -> int:
    gram = compute_gram([a, b])
    return compute_cosine(gram[0][1], gram[0][0], gram[1][1])


def compute_clip_factors(squared_norms: Sequence[int]) -> list[int]:
    """What brings each norm down to 3/2 of the lower median norm, in units of 1 / ONE; ONE where it is not above."""
    if min(squared_norms) <= 0:
        raise Misuse("clip: zero norm")
    most = CLIP_NUMERATOR**2 * compute_lower_median(squared_norms)
    return [
        ONE if CLIP_DENOMINATOR**2 * norm <= most else math.isqrt((most << 60) // (CLIP_DENOMINATOR**2 * norm))
        for norm in squared_norms
    ]


def compute_slash_floor(norm_thousandths: int, format: Format) -> int:
    """The squared norm, in units of 4^elo, up to which nobody is slashed: the ball of local training and its slack.

    Whoever trains as the task says stays inside it, so not even a majority of tiny deltas gets an honest one slashed.
    """
    radius = norm_thousandths * (100 + SLACK_PERCENT)
    return (radius * radius << -2 * format.elo) // 100_000**2


def compute_filter_bits(gram: Sequence[Sequence[int]], slash_floor: int) -> list[int]:
    """The filter results that anybody can recompute, by proposal, from the round's Gram matrix.

    Among fewer than three proposals there is no majority of norms, so none is slashed; rejecting costs no stake.
    """
    norms = [row[index] for index, row in enumerate(gram)]
    if min(norms) <= 0:
        raise Misuse("filters: zero norm")
    median = compute_lower_median(norms)
    results = []
    for later, norm in enumerate(norms):
        bits = FILTER_NORM_REJECT if norm > NORM_REJECT**2 * median else 0
        is_slashable = len(norms) >= MIN_NORMS_TO_SLASH and norm > slash_floor
        bits |= FILTER_NORM_SLASH if is_slashable and norm > NORM_SLASH**2 * median else 0
        if any(_is_near_duplicate(gram[earlier][later], norms[earlier], norm) for earlier in range(later)):
            bits |= FILTER_NEAR_DUPLICATE
        results.append(bits)
    return results


def filter_bits(deltas: Sequence[Delta], norm_thousandths: int) -> list[int]:
    """`norm_thousandths`: the radius of the task's ball."""
    return compute_filter_bits(compute_gram(deltas), compute_slash_floor(norm_thousandths, deltas[0].format))


def _is_near_duplicate(dot: int, squared_a: int, squared_b: int) -> bool:
    return dot > 0 and dot * dot * 1_000**2 > NEAR_DUPLICATE_PER_MILLE**2 * squared_a * squared_b
