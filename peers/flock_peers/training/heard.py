"""What contexts left in a model, kept for who reads more strings after them. Knows tensors only."""

from collections import OrderedDict
from collections.abc import Sequence
from copy import copy
from typing import Any

import torch

MAX_BYTES = 1 << 26  # 64 MiB: of the shipped base all that an audit reads, of a large one what it read last
Key = tuple[bytes, bytes]  # adapter and context


class Heard:
    """Keys and values of one context each, by adapter; the one that was not wanted for longest goes first."""

    def __init__(self) -> None:
        self._kept, self._bytes = OrderedDict[Key, Any](), 0

    def find(self, key: Key) -> Any:
        """None where it is not kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, key: Key, past: Any) -> None:
        if key in self._kept:
            self._bytes -= _count_bytes(self._kept.pop(key))
        self._kept[key] = past
        self._bytes += _count_bytes(past)
        while self._bytes > MAX_BYTES:
            self._bytes -= _count_bytes(self._kept.popitem(last=False)[1])


def take_row(past: Any, row: int) -> Any:
    rows = slice(row, row + 1)
    return _change(past, [(layer.keys[rows].clone(), layer.values[rows].clone()) for layer in past.layers])


def join_rows(pasts: Sequence[Any]) -> Any:
    if len(pasts) == 1:
        return pasts[0]
    layers = zip(*(past.layers for past in pasts), strict=True)
    return _change(
        pasts[0],
        [(torch.cat([one.keys for one in layer]), torch.cat([one.values for one in layer])) for layer in layers],
    )


def share(past: Any) -> Any:
    """The same, for who goes on with it: it stays as it is."""
    return _change(past, [(layer.keys, layer.values) for layer in past.layers])


def lengthen(past: Any, more: int) -> Any:
    """As if it had been followed by so many tokens more, of which nothing is known."""

    def pad(kept: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(kept, (0, 0, 0, more))

    return _change(past, [(pad(layer.keys), pad(layer.values)) for layer in past.layers])


def _change(past: Any, layers: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Any:
    changed = copy(past)
    changed.layers = [copy(layer) for layer in past.layers]
    for layer, (keys, values) in zip(changed.layers, layers, strict=True):
        layer.keys, layer.values = keys, values
    return changed


def _count_bytes(past: Any) -> int:
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in past.layers)
