"""Slow, obvious twins of the aggregation (Python integers and fractions only) and what its tests are made from."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from flock_chain.aggregation import Delta, Format, GlobalAdapter, Layout, from_floats, quantise

FORMAT, FOUR = Format(), Format.of_bits(4)
SMALL = Layout.of({"a.lora_A": (4, 16), "a.lora_B": (5, 7), "a.b": (3,), "z": (2, 1, 32)})
TINY = Layout.of({"w": (40,)})
TOP = 127 * 2.0 ** (FORMAT.elo + FORMAT.window)  # the largest value of the format


def make_vector(layout: Layout, seed: int, scale: float = 1e-2) -> NDArray[np.float32]:
    """Values over several exponents, with zeros and repeated values among them."""
    chance = np.random.default_rng(seed)
    vector = chance.normal(size=layout.parameters) * scale * 2.0 ** chance.integers(-6, 3, layout.parameters)
    vector[chance.random(layout.parameters) < 0.1] = 0
    vector[0] = scale
    return vector.astype(np.float32)


def make_delta(layout: Layout, seed: int, scale: float = 1e-2, format: Format = FORMAT) -> Delta:
    return quantise(make_vector(layout, seed, scale), layout, format)


def make_adapter(layout: Layout, seed: int = 0, format: Format = FORMAT) -> GlobalAdapter:
    return from_floats(make_vector(layout, seed, 0.1), layout, format)


def float32_vectors(layout: Layout, format: Format = FORMAT) -> st.SearchStrategy[NDArray[np.float32]]:
    """Any finite float32, with an accent on ties and on the borders between exponents."""
    most, half = format.mantissa_max, (format.mantissa_max + 1) // 2
    border = st.builds(
        lambda m, e, sign: sign * m * 2.0**e,
        st.sampled_from([0.5, 1, half - 1, half - 0.5, half, *(most + x for x in (-0.5, 0, 0.25, 0.5, 0.75, 1))]),
        st.integers(format.elo - 2, format.elo + format.window + 2),
        st.sampled_from([-1, 1]),
    )
    number = st.floats(width=32, allow_nan=False, allow_infinity=False) | border | st.just(0.0)
    rows = st.lists(number, min_size=layout.parameters, max_size=layout.parameters)
    return rows.map(lambda row: np.array(row, np.float32)).filter(lambda row: bool(np.abs(row).max() > 2.0**format.elo))


def split_blocks(layout: Layout, values: Sequence[Fraction]) -> list[list[Fraction]]:
    blocks, start = [], 0
    for size in layout.sizes:
        padded = list(values[start : start + size]) + [Fraction(0)] * (-size % FORMAT.block)
        blocks += [padded[i : i + FORMAT.block] for i in range(0, len(padded), FORMAT.block)]
        start += size
    return blocks


def slow_quantise(
    layout: Layout, vector: NDArray[np.float32], format: Format = FORMAT
) -> tuple[list[list[int]], list[int]]:
    mantissas, exponents = [], []
    most = 2 ** (format.bits - 1) - 1
    for block in split_blocks(layout, [Fraction(float(value)) for value in vector]):
        for k in range(format.window + 1):
            row = [round(value / Fraction(2) ** (format.elo + k)) for value in block]  # half to even
            if max(map(abs, row)) <= most or k == format.window:
                break
        mantissas.append([max(-most, min(most, m)) for m in row])
        exponents.append(k)
    return mantissas, exponents


def slow_units(delta: Delta) -> list[int]:
    """The parameters as integers on the delta grid."""
    values, first = [], 0
    for size in delta.layout.sizes:
        blocks = -(-size // FORMAT.block)
        rows = zip(
            delta.mantissas[first : first + blocks].tolist(),
            delta.exponents[first : first + blocks].tolist(),
            strict=True,
        )
        values += [m << k for row, k in rows for m in row][:size]
        first += blocks
    return values


def slow_gram(deltas: Sequence[Delta]) -> list[list[int]]:
    units = [slow_units(delta) for delta in deltas]
    return [[sum(a * b for a, b in zip(x, y, strict=True)) for y in units] for x in units]


def slow_filter_bits(deltas: Sequence[Delta], norm_thousandths: int) -> list[int]:
    floor = (Fraction(norm_thousandths, 1000) * Fraction(11, 10)) ** 2 * 4 ** -deltas[0].format.elo
    gram = slow_gram(deltas)
    norms = [gram[i][i] for i in range(len(gram))]
    median = sorted(norms)[(len(norms) - 1) // 2]
    results = []
    for i, norm in enumerate(norms):
        ratio = Fraction(norm, median)
        earlier = [(gram[i][j], norms[j]) for j in range(i)]
        near = any(d > 0 and Fraction(d * d, norm * other) > Fraction(999, 1000) ** 2 for d, other in earlier)
        results.append((ratio > 4) * 1 + (ratio > 9 and len(norms) > 2 and norm > floor) * 2 + near * 4)
    return results


def slow_apply(adapter: GlobalAdapter, deltas: Sequence[Delta], factors: Sequence[int]) -> list[int]:
    grid = adapter.grid.tolist()
    for delta, factor in zip(deltas, factors, strict=True):
        for index, value in enumerate(slow_units(delta)):
            rate = Fraction(adapter.format.server_lr_thousandths, 1_000)
            grid[index] += round(rate * Fraction(factor, 1 << 30) * value * (1 << 10) / len(deltas))  # half to even
    return grid
