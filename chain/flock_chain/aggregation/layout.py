"""Which LoRA tensors a task's adapters consist of, in the one canonical order. Knows no weights.

All vectors of a task (a delta, the global adapter, their float views) are the tensors in name order, each in row-major
order, one after another. Blocks of the number format never straddle two tensors: the A and B of a LoRA pair differ in
size by orders of magnitude, and would share an exponent.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flock_chain.errors import InvalidEncoding, Misuse

MAX_TENSORS = 4_096  # a model of 80 layers with 7 LoRA targets has 1,120
MAX_NAME_CHARACTERS = 160  # peft's longest names have about 90
MAX_DIMENSIONS = 4  # a convolution's
MAX_PARAMETERS = 1 << 30  # the global adapter, 8 bytes each, stays below the largest file
_NAME = re.compile(r"[A-Za-z0-9_.\-]+", re.ASCII)


@dataclass(frozen=True)
class Run:
    """Neighbouring tensors whose blocks follow each other without padding, but for the last block."""

    first_parameter: int
    first_block: int
    parameters: int


@dataclass(frozen=True)
class Layout:
    tensors: tuple[tuple[str, tuple[int, ...]], ...]  # (name, shape), sorted by name

    def __post_init__(self) -> None:
        if not 0 < len(self.tensors) <= MAX_TENSORS:
            raise InvalidEncoding(f"layout: {len(self.tensors)} tensors, 1 to {MAX_TENSORS} allowed")
        for name, shape in self.tensors:
            _check_tensor(name, shape)
        names = [name for name, _ in self.tensors]
        if any(a >= b for a, b in pairwise(names)):
            raise InvalidEncoding("layout: names must be sorted and unique")
        if self.parameters > MAX_PARAMETERS:
            raise InvalidEncoding(f"layout: {self.parameters} parameters, at most {MAX_PARAMETERS} allowed")

    @staticmethod
    def of(shapes: Mapping[str, Sequence[int]]) -> "Layout":
        """From shapes by name, in any order."""
        return Layout(tuple((name, tuple(int(side) for side in shapes[name])) for name in sorted(shapes)))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return tuple(math.prod(shape) for _, shape in self.tensors)

    @cached_property
    def parameters(self) -> int:
        return sum(self.sizes)

    def block_counts(self, block: int) -> tuple[int, ...]:
        """Blocks of each tensor."""
        return tuple(-(-size // block) for size in self.sizes)

    def runs(self, block: int) -> list[Run]:
        runs: list[Run] = []
        parameter = blocks = start = first_block = 0
        for index, size in enumerate(self.sizes):
            parameter += size
            blocks += -(-size // block)
            if size % block or index == len(self.sizes) - 1:
                runs.append(Run(start, first_block, parameter - start))
                start, first_block = parameter, blocks
        return runs

    def flatten(self, tensors: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """One float32 vector; raises Misuse where names, shapes or dtype differ from the layout."""
        if set(tensors) != {name for name, _ in self.tensors}:
            raise Misuse("layout: names differ from the layout's")
        for name, shape in self.tensors:
            if tensors[name].shape != shape or tensors[name].dtype != np.float32:
                raise Misuse(f"layout: {name} must be float32 of shape {shape}")
        return np.concatenate([np.ascontiguousarray(tensors[name]).reshape(-1) for name, _ in self.tensors])

    def split(self, vector: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Views of a vector, by name and in shape."""
        if vector.shape != (self.parameters,):
            raise Misuse(f"layout: a vector has {self.parameters} parameters, not shape {vector.shape}")
        parts = np.split(vector, np.cumsum(self.sizes)[:-1])
        return {name: part.reshape(shape) for (name, shape), part in zip(self.tensors, parts, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        return {"tensors": [[name, list(shape)] for name, shape in self.tensors]}

    @staticmethod
    def from_dict(document: object) -> "Layout":
        """Raises InvalidEncoding for anything that `to_dict` would not have made."""
        if not isinstance(document, Mapping) or set(document) != {"tensors"}:
            raise InvalidEncoding("layout: must name its tensors")
        rows = document["tensors"]
        if not isinstance(rows, list) or len(rows) > MAX_TENSORS:
            raise InvalidEncoding(f"layout: tensors must be a list of at most {MAX_TENSORS}")
        if not all(isinstance(row, list) and len(row) == 2 and isinstance(row[1], list) for row in rows):
            raise InvalidEncoding("layout: a tensor is a name and a shape")
        return Layout(tuple((name, tuple(shape)) for name, shape in rows))


def _check_tensor(name: object, shape: tuple[object, ...]) -> None:
    if not isinstance(name, str) or len(name) > MAX_NAME_CHARACTERS or not _NAME.fullmatch(name):
        raise InvalidEncoding(f"layout: {str(name)[:40]!r} is no name of a tensor")
    if not 0 < len(shape) <= MAX_DIMENSIONS:
        raise InvalidEncoding(f"layout: {name} has {len(shape)} dimensions, 1 to {MAX_DIMENSIONS} allowed")
    if not all(isinstance(side, int) and not isinstance(side, bool) and 0 < side <= MAX_PARAMETERS for side in shape):
        raise InvalidEncoding(f"layout: {name} has a side that is no positive integer in range")
