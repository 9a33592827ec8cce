"""Losses that were measured once: a round asks for the same few again. Knows no model.

What a voter adopted is what it scores from in the next round, and what it scored from is what a candidate is compared
with: of a round's evaluations on the hold-out two or three are of vectors that were measured before.
"""

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEPT = 4  # a round's base and candidate, and the last one's; what a proposal alone does is asked once, and not kept


class KnownLosses:
    """By the vector's own bytes: another rounding is another vector."""

    def __init__(self, broken: float) -> None:
        """`broken`: from this loss on it is measured again."""
        self._broken = broken
        self._losses: OrderedDict[bytes, float] = OrderedDict()  # the one asked for last stands last

    def read(self, vector: NDArray[np.float32], measure: Callable[[], float]) -> float:
        key = _digest(vector)
        if key in self._losses:
            self._losses.move_to_end(key)
            return self._losses[key]
        loss = measure()
        if loss >= self._broken:  # a device's lapse would stay for a whole round
            return loss
        self._losses[key] = loss
        if len(self._losses) > KEPT:
            self._losses.popitem(last=False)
        return loss


def _digest(vector: NDArray[Any]) -> bytes:
    return sha256(np.ascontiguousarray(vector).data).digest()
