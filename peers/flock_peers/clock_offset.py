"""How far this machine's clock is from the network's: the age of blocks when they become final here. Changes no clock.

A block's time is its proposer's, in whole seconds; a median over blocks of many proposers is not one liar's.
"""

import logging
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flock_peers.ledger import BlockInfo

log = logging.getLogger(__name__)

SAMPLES = 32  # of the last blocks
LEAST_SAMPLES = 3
MOST_OFFSET = 5.0  # seconds: of that much a block's age can be the network's own


class Heads(Protocol):
    """What is needed of the ledger."""

    @property
    def head(self) -> "BlockInfo": ...
    async def wait_new_head(self, height: int) -> int: ...


class ClockOffset:
    def __init__(
        self, heads: Heads, is_catching_up: Callable[[], bool], clock: Callable[[], float] = time.time
    ) -> None:
        self._heads, self._is_catching_up, self._clock = heads, is_catching_up, clock
        self._samples: deque[float] = deque(maxlen=SAMPLES)
        self._is_told = False

    async def run(self) -> None:
        height = self._heads.head.height
        while True:
            reached = await self._heads.wait_new_head(height)
            if reached == height + 1 and not self._is_catching_up():  # more at once: old ones, fetched
                self._samples.append(self._clock() - self._heads.head.timestamp)
                self._warn()
            height = reached

    def _warn(self) -> None:
        """Once, until it is right again."""
        offset = self.read()
        is_wrong = offset is not None and abs(offset) > MOST_OFFSET
        if is_wrong and not self._is_told:
            log.warning("this machine's clock is %s: set it by NTP, and start the peer again", describe(offset or 0.0))
        self._is_told = is_wrong

    def read(self) -> float | None:
        """Seconds that this clock is ahead; None before enough blocks came. A second or less is nothing."""
        return statistics.median(self._samples) if len(self._samples) >= LEAST_SAMPLES else None


def describe(offset: float) -> str:
    return f"{abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} the blocks of the others"
