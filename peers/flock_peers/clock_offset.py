"""How far this machine's clock is from the network's: the age of blocks when they become final here. Changes no clock.

A block's time is its proposer's, in whole seconds; a median over blocks of many proposers is not one liar's.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from flock_peers.ledger import BlockInfo

SAMPLES = 32  # of the last blocks
LEAST_SAMPLES = 3


class Heads(Protocol):
    """What is needed of the ledger."""

    @property
    def head(self) -> BlockInfo: ...
    async def wait_new_head(self, height: int) -> int: ...


class ClockOffset:
    def __init__(
        self, heads: Heads, is_catching_up: Callable[[], bool], clock: Callable[[], float] = time.time
    ) -> None:
        self._heads, self._is_catching_up, self._clock = heads, is_catching_up, clock
        self._samples: deque[float] = deque(maxlen=SAMPLES)

    async def run(self) -> None:
        height = self._heads.head.height
        while True:
            reached = await self._heads.wait_new_head(height)
            if reached == height + 1 and not self._is_catching_up():  # more at once: old ones, fetched
                self._samples.append(self._clock() - self._heads.head.timestamp)
            height = reached

    def read(self) -> float | None:
        """Seconds that this clock is ahead; None before enough blocks came. A second or less is nothing."""
        return statistics.median(self._samples) if len(self._samples) >= LEAST_SAMPLES else None
