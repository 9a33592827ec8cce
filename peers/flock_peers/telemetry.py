"""What a peer can say about itself: bytes by round, finality samples, training progress. Counts; decides nothing."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

MAX_ROUNDS = 256  # rounds whose byte counts are kept
MAX_EVENTS = 400  # lines of the recent past that `status` shows


def compute_percentile(samples: Sequence[float], share: float) -> float | None:
    """Nearest rank; None without samples."""
    if not samples:
        return None
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class RoundBytes:
    """Bytes sent and received by this peer in each round of a task."""

    def __init__(self, read_total: Callable[[], int]) -> None:
        self._read_total = read_total
        self._at_start: dict[int, int] = {}

    def on_round(self, number: int) -> None:
        self._at_start.setdefault(number, self._read_total())
        while len(self._at_start) > MAX_ROUNDS:
            del self._at_start[min(self._at_start)]

    def by_round(self) -> dict[int, int]:
        numbers = sorted(self._at_start)
        if not numbers:
            return {}
        ends = [self._at_start[number] for number in numbers[1:]] + [self._read_total()]
        return {number: end - self._at_start[number] for number, end in zip(numbers, ends, strict=True)}


class TrainingProgress:
    """The latest word of the trainer."""

    def __init__(self) -> None:
        self.latest: dict[str, Any] = {}
        self.recent: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)

    def on_progress(self, word: dict[str, Any]) -> None:
        self.latest = word
        self.recent.append(word)
