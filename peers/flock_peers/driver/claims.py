"""Who says that there are more blocks, and whom that turned out wrong for: heard again after a growing silence.

Knows no blocks: it is told how far the chain came.
"""

from collections import OrderedDict
from dataclasses import dataclass

import trio

from flock_chain.crypto import Account

FIRST_SILENCE_SECONDS = 0.25  # an honest source whose blocks did not come, a connection lost: soon heard again
MAX_SILENCE_SECONDS = 8.0  # each hearing asks eight peers where they are; a validator speaks every ten when idle
MAX_SOURCES = 256  # a whole set of validators and some strangers; the longest silent are forgotten


@dataclass(frozen=True)
class _Doubt:
    seconds: float
    until: float


class Claims:
    def __init__(self) -> None:
        self._open: dict[Account, int] = {}
        self._doubts: OrderedDict[Account, _Doubt] = OrderedDict()

    @property
    def target(self) -> int:
        """The highest height that somebody says is being decided; 0 where nobody says anything."""
        return max(self._open.values(), default=0)

    def take(self, account: Account, height: int) -> bool:
        """Whether it is worth a question now."""
        doubt = self._doubts.get(account)
        if doubt is not None and trio.current_time() < doubt.until:
            return False
        if account not in self._open and len(self._open) >= MAX_SOURCES:
            return False
        self._open[account] = max(height, self._open.get(account, 0))
        return True

    def close(self, height: int) -> list[Account]:
        """Everybody was asked, and `height` is being decided here now: who said more did not prove it. Returns those of
        whom that is not the first time of late."""
        claims, self._open = self._open, {}
        now, again = trio.current_time(), []
        for account, claimed in claims.items():
            old = self._doubts.pop(account, None)
            if claimed > height:
                seconds = min(old.seconds * 2, MAX_SILENCE_SECONDS) if old else FIRST_SILENCE_SECONDS
                self._doubts[account] = _Doubt(seconds, now + seconds)
                if old:
                    again.append(account)
        while len(self._doubts) > MAX_SOURCES:
            self._doubts.popitem(last=False)
        return again
