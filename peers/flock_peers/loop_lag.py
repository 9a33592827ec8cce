"""How late this peer's one loop runs what is due: counts, by how late. Knows nobody who keeps it busy.

Twice: on the clock, which other programs slow down as well, and as far as this process's own work held it up.
"""

import time
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import trio

TICK_SECONDS = 0.05  # twenty wakes a second: a thousandth of a core
BOUNDS = (
    0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 5.0,
    10.0,  # or more
)  # fmt: skip


def find_percentile(counts: Sequence[int], share: float) -> float:
    """The bound that this share of all ticks kept; 0 without ticks."""
    rank, seen = share * sum(counts), 0
    for number, count in enumerate(counts):
        seen += count
        if count and seen >= rank:
            return BOUNDS[number]
    return 0.0


class LoopLag(trio.abc.Instrument):
    """Counts of ticks since the start, by BOUNDS; the difference of two readings is of the time between them."""

    def __init__(self) -> None:
        self.on_clock, self.own = [0] * len(BOUNDS), [0] * len(BOUNDS)
        self._due = self._worked = 0.0  # of the next tick; processor time of the process, before it was due

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - trio's signature
        self._look()

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        self._look()

    def _look(self) -> None:
        if trio.current_time() <= self._due:
            self._worked = time.process_time()

    async def run(self) -> None:
        trio.lowlevel.add_instrument(self)
        try:
            while True:
                self._due, self._worked = trio.current_time() + TICK_SECONDS, time.process_time()
                await trio.sleep_until(self._due)
                self.note(trio.current_time() - self._due, time.process_time() - self._worked)
        finally:
            trio.lowlevel.remove_instrument(self)

    def note(self, late: float, worked: float) -> None:
        """`worked`: processor time of all threads since it was due; what is late beyond that is others' fault."""
        for counts, seconds in ((self.on_clock, late), (self.own, min(late, worked))):
            counts[bisect_left(BOUNDS, seconds, hi=len(BOUNDS) - 1)] += 1

    def read(self) -> dict[str, Any]:
        return {
            "p99_seconds": find_percentile(self.on_clock, 0.99),
            "on_clock": list(self.on_clock),
            "own": list(self.own),
        }
