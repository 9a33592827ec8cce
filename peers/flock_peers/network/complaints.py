"""Who misbehaves, in the log, however often it does: each source at once, then once a minute with how often, and so
each kind of its trouble by itself: a flood of one is no screen for another.

A source is an address, or an account once that is proved. Both cost an attacker little, so the lines of all addresses
have a rate, and those of all accounts another: a crowd of strangers hides no peer. What it swallows is counted.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from flock_peers.network.limits import TokenBucket
from flock_peers.plural import plural

log = logging.getLogger(__name__)
_ordinary = logging.getLogger("flock_peers.network.connections")

_QUIET_SECONDS = 60.0  # between two lines about one source
_LINES_PER_SECOND, _LINES_AT_ONCE = 1.0, 60.0  # 40 MB a day at the very most
_ORDINARY_AT_ONCE = 400.0  # a network of a hundred, and all of them once more
_SOURCES = 1_024  # the longest quiet is forgotten
_KINDS = 4  # of one source in a minute: whoever makes all there are does not get everybody's lines
_CHARACTERS = 400  # a stranger's words in one line
_TALLY_SECONDS = 60.0  # in which what is tolerated is counted
_TALLIES = 1_024  # of sources and kinds; the longest quiet is forgotten


@dataclass(frozen=True)
class Tolerance:
    """What honest peers do, too, a little: how much of it within a minute is nothing to speak of."""

    kind: str
    most: int


class Lines:
    """Of what is no complaint, but what a crowd can make happen as often as it likes: who comes, and who goes."""

    def __init__(
        self, clock: Callable[[], float], *, rate: float = _LINES_PER_SECOND, at_once: float = _ORDINARY_AT_ONCE,
        logger: logging.Logger = _ordinary,
    ) -> None:  # fmt: skip
        self._left, self._swallowed, self._log = TokenBucket(rate, at_once, clock), 0, logger

    def tell(self, text: str, level: int = logging.INFO) -> None:
        if not self._left.take():
            self._swallowed += 1
            return
        others = f" (others, not told: {self._swallowed})" if self._swallowed else ""
        self._swallowed = 0
        self._log.log(level, "%s%s", text, others)


class Complaints:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lines = {kind: TokenBucket(_LINES_PER_SECOND, _LINES_AT_ONCE, clock) for kind in (True, False)}
        # Of each source by kind: when it was told, how often since.
        self._sources: OrderedDict[str, dict[str, tuple[float, int]]] = OrderedDict()
        self._tallies: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()  # since when, how much
        self._swallowed = 0

    def tally(self, source: str, tolerance: Tolerance, what: object, count: int = 1) -> None:
        """`note`, above what is tolerated."""
        now, key = self._clock(), (source, tolerance.kind)
        since, before = self._tallies.pop(key, (now, 0))
        if now - since >= _TALLY_SECONDS:
            since, before = now, 0
        self._tallies[key] = since, before + count
        if len(self._tallies) > _TALLIES:
            self._tallies.popitem(last=False)
        if before + count > tolerance.most:
            self.note(source, what, kind=tolerance.kind)

    def note(
        self, source: str, what: object, level: int = logging.INFO, *, kind: str = "", is_proved: bool = True
    ) -> None:  # fmt: skip
        """`kind`: of trouble, by a name of ours; never what a stranger chose. `is_proved`: an account that `source`
        names has shown its key; what a relay says of who dials by way of it is no better than an address."""
        now = self._clock()
        kinds = self._kinds_of(source)
        if kind not in kinds and len(kinds) >= _KINDS and not self._forget_quiet(kinds, now):
            self._swallowed += 1
            return
        told, count = kinds.get(kind, (now - _QUIET_SECONDS, 0))
        if now - told < _QUIET_SECONDS or not self._lines[is_proved and "0x" in source].take():
            self._swallowed += now - told >= _QUIET_SECONDS
            kinds[kind] = told, count + 1
        else:
            kinds[kind] = now, 0
            self._tell(source, what, level, count)

    def _kinds_of(self, source: str) -> dict[str, tuple[float, int]]:
        kinds = self._sources.setdefault(source, {})
        self._sources.move_to_end(source)
        if len(self._sources) > _SOURCES:
            self._sources.popitem(last=False)
        return kinds

    def _forget_quiet(self, kinds: dict[str, tuple[float, int]], now: float) -> bool:
        """The kind that was told the longest ago. False where all were told just now."""
        oldest = min(kinds, key=lambda kind: kinds[kind])
        told, count = kinds[oldest]
        if now - told < _QUIET_SECONDS:
            return False
        self._swallowed += count
        del kinds[oldest]
        return True

    def _tell(self, source: str, what: object, level: int, count: int) -> None:
        text = fit_line(str(what) or type(what).__name__)
        more = f" (and {plural(count, 'time')} since it was last told)" if count else ""
        others = f" (others, not told: {self._swallowed})" if self._swallowed else ""
        self._swallowed = 0
        log.log(level, "%s: %s%s%s", source, text, more, others)


def fit_line(text: str) -> str:
    """A stranger's words, as one short line of the log."""
    return "".join(c if c.isprintable() else "?" for c in text[:_CHARACTERS])
