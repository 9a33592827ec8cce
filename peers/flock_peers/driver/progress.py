"""How far catching up has come and how fast: for the log and for `status`. Counts; fetches nothing."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import trio

from flock_peers.plural import plural

log = logging.getLogger(__name__)

RATE_SECONDS = 10.0  # blocks/s is that of the last so many seconds
LOG_SECONDS = 5.0
MAX_SAMPLES = 1_024


@dataclass(frozen=True)
class SyncStatus:
    height: int
    target: int  # what the peers that serve say; not proved
    blocks_per_second: float
    eta_seconds: float | None  # None: not known yet
    providers: int


class SyncProgress:
    """One run, from `start` to `target`. `tell` is called after every block."""

    def __init__(self, start: int, clock: Callable[[], float] = trio.current_time) -> None:
        self._clock, self._start, self._began = clock, start, clock()
        self._samples: deque[tuple[float, int]] = deque([(self._began, start)], maxlen=MAX_SAMPLES)
        self._logged_at = self._began
        self.target = start
        self.providers = 0

    @property
    def height(self) -> int:
        return self._samples[-1][1]

    def note_providers(self, count: int, target: int) -> None:
        """Who is still asked, and the highest height of theirs; with nobody left, what was said before stands."""
        self.providers = count
        if count:
            self.target = target

    def tell(self, height: int) -> None:
        now = self._clock()
        self._samples.append((now, height))
        while len(self._samples) > 2 and now - self._samples[0][0] > RATE_SECONDS:
            self._samples.popleft()
        if now - self._logged_at >= LOG_SECONDS:
            self._logged_at = now
            s = self.status()
            left = "?" if s.eta_seconds is None else f"{s.eta_seconds:.0f}"
            log.info(
                "sync: height %d of %d, %.0f blocks/s, %s s left, from %s",
                *(s.height, s.target, s.blocks_per_second, left, plural(s.providers, "peer")),
            )

    def status(self) -> SyncStatus:
        (first_at, first), (last_at, last) = self._samples[0], self._samples[-1]
        rate = (last - first) / (last_at - first_at) if last_at > first_at else 0.0
        eta = max(0, self.target - last) / rate if rate else None
        return SyncStatus(last, self.target, rate, eta, self.providers)

    def log_end(self) -> None:
        blocks, seconds = self.height - self._start, self._clock() - self._began
        if blocks:
            rate = blocks / seconds if seconds else float(blocks)
            log.info(
                "sync: at height %d after %s in %.1f s, %.0f/s", self.height, plural(blocks, "block"), seconds, rate
            )
