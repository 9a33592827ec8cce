"""The task's global adapter: integers on a grid, to which contributions are added exactly and from which they can be
taken out again. Knows neither rounds nor votes.

Each contribution, server rate x clip factor x delta / count, is rounded half to even on its own, so that the sum does
not depend on the order and a later removal is an exact subtraction. File: safetensors, I64 in each tensor's shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flock_chain.aggregation.delta import Delta
from flock_chain.aggregation.format import GUARD_BITS, RATE_ONE, Format
from flock_chain.aggregation.layout import Layout
from flock_chain.aggregation.measure import MAX_DELTAS, ONE, compute_clip_factors, compute_gram
from flock_chain.aggregation.tensor_file import TensorSpec, compute_file_bytes, encode_tensors, parse_tensors
from flock_chain.errors import InvalidContent, Misuse, Refused

GRID_LIMIT = 1 << 53  # below it float64 holds every grid integer exactly
_CHUNK_BLOCKS = 1 << 12  # indices and contributions of a chunk, 1 MiB each, stay in the processor's cache
_CHUNK_PARAMETERS = 1 << 16


@dataclass(frozen=True, eq=False)
class GlobalAdapter:
    """Well formed: made by the functions of this module only. The array is read-only."""

    layout: Layout
    format: Format
    grid: NDArray[np.int64]  # [parameters], in units of 2^format.grid_exponent, |g| < GRID_LIMIT

    def to_float32(self) -> NDArray[np.float32]:
        """The vector to train from: exact up to one rounding to float32."""
        vector = np.empty(self.grid.size, np.float32)
        unit = 2.0**self.format.grid_exponent
        for start in range(0, self.grid.size, _CHUNK_PARAMETERS):
            chunk = self.grid[start : start + _CHUNK_PARAMETERS]
            vector[start : start + _CHUNK_PARAMETERS] = chunk.astype(np.float64) * unit
        return vector


def from_floats(vector: NDArray[Any], layout: Layout, format: Format) -> GlobalAdapter:
    """The round-0 adapter, rounded half to even onto the grid; `vector` is float32, of the layout."""
    if vector.shape != (layout.parameters,) or vector.dtype != np.float32:
        raise Misuse(f"global adapter: must be a float32 vector of {layout.parameters} parameters")
    if not np.isfinite(vector).all():
        raise Refused("global adapter: not finite")
    scaled = np.rint(np.ldexp(vector.astype(np.float64), -format.grid_exponent))
    if np.abs(scaled).max() >= GRID_LIMIT:
        raise Refused("global adapter: a weight is too large for the grid")
    return _seal(layout, format, scaled.astype(np.int64))


def add_contribution(adapter: GlobalAdapter, delta: Delta, factor: int, count: int) -> GlobalAdapter:
    """adapter + server rate x factor / ONE x delta / count."""
    return _change(adapter, [(delta, factor)], count, 1)


def remove_contribution(adapter: GlobalAdapter, delta: Delta, factor: int, count: int) -> GlobalAdapter:
    """The exact inverse of `add_contribution`, in any order and at any later time."""
    return _change(adapter, [(delta, factor)], count, -1)


def apply(adapter: GlobalAdapter, accepted: Sequence[Delta]) -> GlobalAdapter:
    """The candidate of a round: each accepted delta clipped to 3/2 of their lower median norm, then the mean, times the
    task's server rate."""
    if not accepted:
        return adapter
    return _add_mean(adapter, accepted, 1)


def take_out(adapter: GlobalAdapter, accepted: Sequence[Delta], places: Sequence[int]) -> GlobalAdapter:
    """As if a round had accepted only the others, whatever was added since: exact, so the order does not matter.

    `accepted`: the round's deltas that the adapter still has, in the round's order; `places`: of those to come out.
    What is left becomes a mean again: otherwise a round with three of eight out would count five eighths of one, and
    the more poison was found, the less would be learned.
    """
    out = set(places)
    return apply(_add_mean(adapter, accepted, -1), [delta for place, delta in enumerate(accepted) if place not in out])


def _add_mean(adapter: GlobalAdapter, accepted: Sequence[Delta], sign: int) -> GlobalAdapter:
    gram = compute_gram(accepted)
    factors = compute_clip_factors([gram[index][index] for index in range(len(accepted))])
    return _change(adapter, list(zip(accepted, factors, strict=True)), len(accepted), sign)


def _change(adapter: GlobalAdapter, parts: Sequence[tuple[Delta, int]], count: int, sign: int) -> GlobalAdapter:
    layout, format = adapter.layout, adapter.format
    grid = adapter.grid.copy()
    tables = {factor: sign * _contributions(factor, count, format) for _, factor in parts}
    for delta, factor in parts:
        if (delta.layout, delta.format) != (layout, format):
            raise Misuse("global adapter: a delta of another task")
        _add(grid, delta, tables[factor])
    return _seal(layout, format, grid)


def _contributions(factor: int, count: int, format: Format) -> NDArray[np.int64]:
    """What each exponent and mantissa adds: [window + 1, 256], the mantissa as an unsigned byte.

    A table of Python integers: exact by construction, where int64 arithmetic would come within a bit of overflowing.
    """
    if not 0 < factor <= ONE or not 0 < count <= MAX_DELTAS:
        raise Misuse(f"contribution: factor {factor} or count {count} out of range")
    rows = []
    for exponent in range(format.window + 1):
        unit = (format.server_lr_thousandths * factor) << (exponent + GUARD_BITS)
        values = [
            round_half_even(unit * mantissa, RATE_ONE * count * ONE) for mantissa in range(format.mantissa_max + 1)
        ]
        unused = [0] * (257 - 2 * len(values))  # mantissas that there are not, -128 among them
        rows.append([*values, *unused, *(-value for value in reversed(values[1:]))])
    return np.array(rows, np.int64)


def round_half_even(numerator: int, denominator: int) -> int:
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient & 1 == 1))


def _add(grid: NDArray[np.int64], delta: Delta, table: NDArray[np.int64]) -> None:
    """In place. A sum stays below 2^54 until `_seal` checks it: at most 16 x 2^34 are added to less than 2^53."""
    block = delta.format.block
    flat = table.reshape(-1)
    for run in delta.layout.runs(block):
        for start in range(0, run.parameters, _CHUNK_BLOCKS * block):
            stop = min(start + _CHUNK_BLOCKS * block, run.parameters)
            blocks = slice(run.first_block + start // block, run.first_block + -(-stop // block))
            index = delta.mantissas[blocks].view(np.uint8) | (delta.exponents[blocks].astype(np.intp) << 8)[:, None]
            values = flat.take(index.reshape(-1)[: stop - start], mode="clip")  # in range; "clip" skips a copy
            grid[run.first_parameter + start : run.first_parameter + stop] += values


def _specs(layout: Layout) -> list[TensorSpec]:
    return [TensorSpec(name, "I64", shape) for name, shape in layout.tensors]


def compute_global_file_bytes(layout: Layout) -> int:
    """The exact size of every global adapter file of a task."""
    return compute_file_bytes(_specs(layout))


def encode_global(adapter: GlobalAdapter) -> bytes:
    """The canonical file; its chunk list names the adapter on chain."""
    return encode_tensors(adapter.layout.split(adapter.grid), _specs(adapter.layout))


def parse_global(data: bytes, layout: Layout, format: Format) -> GlobalAdapter:
    """Parse a stranger's file; raises InvalidContent naming the check."""
    tensors = parse_tensors(data, _specs(layout), "global adapter")
    return _seal(layout, format, np.concatenate([tensors[name].reshape(-1) for name, _ in layout.tensors]))


def _seal(layout: Layout, format: Format, grid: NDArray[np.int64]) -> GlobalAdapter:
    if int(grid.max()) >= GRID_LIMIT or int(grid.min()) <= -GRID_LIMIT:
        raise InvalidContent("global adapter: a weight leaves the grid (2^53)")
    grid.setflags(write=False)
    return GlobalAdapter(layout, format, grid)
