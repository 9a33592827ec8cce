"""How far a running download is: bytes, rate, time left, who gave how much. Counts; decides nothing."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flock_chain.crypto import Account

RATE_SECONDS = 10.0  # the rate is of the last ten seconds: what was fast an hour ago says nothing of the end
_MB = 1e6


@dataclass(frozen=True)
class Snapshot:
    digest: bytes
    size: int
    done: int  # verified bytes, those of earlier tries with them
    bytes_per_second: float
    providers: dict[Account, int]  # bytes of this try

    @property
    def eta_seconds(self) -> float | None:
        return (self.size - self.done) / self.bytes_per_second if self.bytes_per_second else None

    def __str__(self) -> str:
        left = "" if self.eta_seconds is None else f", {self.eta_seconds:.0f} s left"
        share = 100 * self.done // max(1, self.size)
        return (
            f"file {self.digest.hex()[:12]}: {self.done / _MB:.0f} of {self.size / _MB:.0f} MB ({share} %), "
            f"{self.bytes_per_second / _MB:.1f} MB/s{left}, from {len(self.providers)} "
            + ("peer" if len(self.providers) == 1 else "peers")
        )

    def as_row(self) -> dict[str, Any]:
        """For `status`."""
        return {
            "file": self.digest.hex(),
            "bytes": self.size,
            "done": self.done,
            "bytes_per_second": round(self.bytes_per_second),
            "eta_seconds": self.eta_seconds,
            "providers": {"0x" + account.hex(): count for account, count in self.providers.items()},
        }


class Progress:
    """Time comes from outside."""

    def __init__(self, digest: bytes, size: int, clock: Callable[[], float]) -> None:
        self._digest, self._size, self._clock = digest, size, clock
        self._began = clock()
        self._done = 0
        self._recent: deque[tuple[float, int]] = deque()
        self._providers: Counter[Account] = Counter()

    def on_found(self, size: int) -> None:
        """Bytes of earlier tries that are here and right."""
        self._done += size
        self._began = self._clock()

    def on_verified(self, account: Account, size: int) -> None:
        now = self._clock()
        self._done += size
        self._providers[account] += size
        self._recent.append((now, size))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0][0] < now - RATE_SECONDS:
            self._recent.popleft()

    def read(self) -> Snapshot:
        now = self._clock()
        self._forget(now)
        seconds = min(RATE_SECONDS, now - self._began)
        rate = sum(size for _, size in self._recent) / seconds if seconds > 0 else 0.0
        return Snapshot(self._digest, self._size, self._done, rate, dict(self._providers))
