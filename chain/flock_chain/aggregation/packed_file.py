"""Blocks of 4-bit mantissas as bytes: two to a byte, and so are their exponents. Knows no tensor and no value.

File: safetensors with "k" U8 [blocks / 2] and "m" U8 [blocks, 16], for all tensors of the layout in its order. The
first of two stands in the low half of a byte, mantissas in two's complement. 4.125 bits a number, and a header of 150
bytes, where names of tensors would take a third of a small adapter's file.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flock_chain.aggregation.tensor_file import TensorSpec
from flock_chain.errors import InvalidContent

PACKED_BITS = 4


def packed_specs(blocks: int, block: int) -> list[TensorSpec]:
    return [TensorSpec("k", "U8", (-(-blocks // 2),)), TensorSpec("m", "U8", (blocks, block // 2))]


def pack(mantissas: NDArray[np.int8], exponents: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """`mantissas` within -8..7 and `exponents` within 0..15."""
    even = np.zeros(-(-len(exponents) // 2) * 2, np.uint8)
    even[: len(exponents)] = exponents
    return {"k": _join(even), "m": _join(np.asarray(mantissas.view(np.uint8) & 15, np.uint8))}


def unpack(tensors: dict[str, NDArray[Any]]) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
    """Mantissas and exponents; raises InvalidContent where half a byte is set that stands for nothing."""
    blocks = len(tensors["m"])
    exponents, mantissas = _split(tensors["k"]), _split(tensors["m"])
    if exponents[blocks:].any():
        raise InvalidContent("delta: padding of the exponents is not zero")
    return np.asarray((mantissas ^ 8) - 8, np.uint8).view(np.int8), exponents[:blocks]


def _join(halves: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(halves[..., 0::2] | (halves[..., 1::2] << 4), np.uint8)


def _split(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    halves = np.empty((*data.shape[:-1], 2 * data.shape[-1]), np.uint8)
    halves[..., 0::2], halves[..., 1::2] = data & 15, data >> 4
    return halves
