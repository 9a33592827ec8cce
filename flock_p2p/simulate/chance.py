"""All chance of one schedule: one stream of numbers, and a count of the faults that it made happen.

A fault can be suppressed by its number without disturbing the numbers drawn before it: that is what shrinking needs.
"""

import random
from collections.abc import Collection


class Chance:
    def __init__(self, seed: int, suppressed: Collection[int] = (), last: int | None = None) -> None:
        """`suppressed`: numbers of faults that do not happen; none after the number `last` happens."""
        self.random = random.Random(seed)
        self.count = 0  # of all faults, suppressed or not
        self.happened = 0
        self._suppressed, self._last = suppressed, last

    def fault(self, share: float) -> bool:
        """Whether a fault of this probability happens now."""
        return bool(share) and self.random.random() < share and self.allow()

    def allow(self) -> bool:
        """Count a fault; False where it is suppressed."""
        self.count += 1
        if self.count in self._suppressed or (self._last is not None and self.count > self._last):
            return False
        self.happened += 1
        return True

    def subset(self, size: int, share: float) -> frozenset[int]:
        draw = self.random.random
        return frozenset([index for index in range(size) if draw() < share])
