"""A proposal's delta: float weights to integers on the task's grid, and its canonical file. Knows no other delta.

Canonical, so that one vector has one file and one id: |m| <= 127, the smallest exponent that fits (a block with k > 0
has a mantissa above 63), zeros in the padding after a tensor's end. A delta of zeros is refused: every rule divides by
its norm. File: safetensors with "<name>.m" I8 [blocks, 32] and "<name>.k" U8 [blocks] for each LoRA tensor - a pair for
each tensor and not one for all, so that any safetensors reader shows what changed where. With 4 bits (|m| <= 7) the
names would be a third of a small file, so there is one pair for all (packed_file).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flock_chain.aggregation.format import Format
from flock_chain.aggregation.layout import Layout
from flock_chain.aggregation.packed_file import PACKED_BITS, pack, packed_specs, unpack
from flock_chain.aggregation.tensor_file import TensorSpec, compute_file_bytes, encode_tensors, parse_tensors
from flock_chain.errors import InvalidContent, Misuse, Refused

_CHUNK_BLOCKS = 1 << 13  # 1 MiB of float32 at a time stays in the processor's cache


@dataclass(frozen=True, eq=False)
class Delta:
    """Well formed: made by `quantise` or `parse_delta` only. The arrays are read-only."""

    layout: Layout
    format: Format
    mantissas: NDArray[np.int8]  # [blocks, block], tensor after tensor
    exponents: NDArray[np.uint8]  # [blocks]

    def to_float32(self) -> NDArray[np.float32]:
        """The exact values, as a vector of the layout."""
        scales = np.ldexp(np.float32(1), np.arange(self.format.window + 1) + self.format.elo).astype(np.float32)
        block, vector = self.format.block, np.empty(self.layout.parameters, np.float32)
        for run in self.layout.runs(block):
            blocks = slice(run.first_block, run.first_block + -(-run.parameters // block))
            values = self.mantissas[blocks] * scales[self.exponents[blocks]][:, None]
            end = run.first_parameter + run.parameters
            vector[run.first_parameter : end] = values.reshape(-1)[: run.parameters]
        return vector


def quantise(vector: NDArray[Any], layout: Layout, format: Format, *, chunk_blocks: int = _CHUNK_BLOCKS) -> Delta:
    """Round a float32 vector of the layout to the grid, half to even, saturating above the window's top.

    Raises Refused where training went wrong (not finite, or nothing left but zeros), Misuse for a wrong shape or dtype.
    """
    if vector.shape != (layout.parameters,) or vector.dtype != np.float32:
        raise Misuse(f"delta: must be a float32 vector of {layout.parameters} parameters")
    if not np.isfinite(vector).all():
        raise Refused("delta: not finite; training diverged, so there is nothing to propose")
    block = format.block
    mantissas = np.zeros((sum(layout.block_counts(block)), block), np.int8)
    exponents = np.zeros(len(mantissas), np.uint8)
    for run in layout.runs(block):
        values = vector[run.first_parameter : run.first_parameter + run.parameters]
        whole = run.parameters // block
        for start in range(0, whole, chunk_blocks):
            stop = min(start + chunk_blocks, whole)
            into = slice(run.first_block + start, run.first_block + stop)
            chunk = values[start * block : stop * block].reshape(-1, block)
            _quantise_blocks(chunk, format, mantissas[into], exponents[into])
        if run.parameters % block:
            tail = np.zeros((1, block), np.float32)
            tail[0, : run.parameters % block] = values[whole * block :]
            into = slice(run.first_block + whole, run.first_block + whole + 1)
            _quantise_blocks(tail, format, mantissas[into], exponents[into])
    if not mantissas.any():
        raise Refused("delta: zero on the task's grid; train longer or with a larger rate")
    return _freeze(Delta(layout, format, mantissas, exponents))


def _quantise_blocks(
    values: NDArray[np.float32], format: Format, mantissas: NDArray[np.int8], exponents: NDArray[np.uint8]
) -> None:
    """The smallest exponent that fits, by frexp: float32 log2 picks wrong ones near powers of two."""
    top = np.float32(np.ldexp(format.mantissa_max, format.elo + format.window))
    values = np.clip(values, -top, top)
    fraction, exponent = np.frexp(np.abs(values).max(axis=1))  # fraction in [0.5, 1), or 0
    exponent = exponent - (format.bits - 1)
    exponent += np.rint(np.ldexp(fraction, format.bits - 1)) > format.mantissa_max  # would round up to 128
    exponent = np.maximum(np.where(fraction == 0, format.elo, exponent), format.elo)
    scaled = values * np.ldexp(np.float32(1), -exponent)[:, None]  # by a power of two: exact
    mantissas[...] = np.rint(scaled)
    exponents[...] = exponent - format.elo


def _specs(layout: Layout, format: Format) -> list[TensorSpec]:
    if format.bits == PACKED_BITS:
        return packed_specs(sum(layout.block_counts(format.block)), format.block)
    specs = []
    for (name, _), blocks in zip(layout.tensors, layout.block_counts(format.block), strict=True):
        specs += [TensorSpec(f"{name}.k", "U8", (blocks,)), TensorSpec(f"{name}.m", "I8", (blocks, format.block))]
    return specs


def compute_delta_file_bytes(layout: Layout, format: Format) -> int:
    """The exact size of every delta file of a task."""
    return compute_file_bytes(_specs(layout, format))


def encode_delta(delta: Delta) -> bytes:
    """The canonical file."""
    if delta.format.bits == PACKED_BITS:
        return encode_tensors(pack(delta.mantissas, delta.exponents), _specs(delta.layout, delta.format))
    bounds = np.cumsum(delta.layout.block_counts(delta.format.block))[:-1]
    mantissas, exponents = np.split(delta.mantissas, bounds), np.split(delta.exponents, bounds)
    tensors: dict[str, NDArray[Any]] = {}
    for index, (name, _) in enumerate(delta.layout.tensors):
        tensors[f"{name}.m"], tensors[f"{name}.k"] = mantissas[index], exponents[index]
    return encode_tensors(tensors, _specs(delta.layout, delta.format))


def parse_delta(data: bytes, layout: Layout, format: Format) -> Delta:
    """Parse a stranger's file; raises InvalidContent naming the check, unless it is canonical in every bit."""
    tensors = parse_tensors(data, _specs(layout, format), "delta")
    if format.bits == PACKED_BITS:
        mantissas, exponents = unpack(tensors)
    else:
        mantissas = np.concatenate([tensors[f"{name}.m"] for name, _ in layout.tensors])
        exponents = np.concatenate([tensors[f"{name}.k"] for name, _ in layout.tensors])
    first = 0
    for (name, _), size, blocks in zip(layout.tensors, layout.sizes, layout.block_counts(format.block), strict=True):
        part = slice(first, first + blocks)
        _check_blocks(name, size, mantissas[part], exponents[part], format)
        first += blocks
    if not mantissas.any():
        raise InvalidContent("delta: zero norm")
    return _freeze(Delta(layout, format, mantissas, exponents))


def _check_blocks(
    name: str, size: int, mantissas: NDArray[np.int8], exponents: NDArray[np.uint8], format: Format
) -> None:
    low, high = mantissas.min(axis=1), mantissas.max(axis=1)
    if low.min() < -format.mantissa_max or high.max() > format.mantissa_max:
        raise InvalidContent(f"delta: a mantissa of {name} is outside {-format.mantissa_max}..{format.mantissa_max}")
    if exponents.max() > format.window:
        raise InvalidContent(f"delta: an exponent of {name} is above the window of {format.window}")
    largest = np.maximum(high, -low)  # no overflow: -128 is refused above
    if ((exponents > 0) & (largest <= format.mantissa_max // 2)).any():
        raise InvalidContent(f"delta: an exponent of {name} is not the smallest that fits")
    if mantissas.reshape(-1)[size:].any():
        raise InvalidContent(f"delta: padding of {name} is not zero")


def _freeze(delta: Delta) -> Delta:
    delta.mantissas.setflags(write=False)
    delta.exponents.setflags(write=False)
    return delta
