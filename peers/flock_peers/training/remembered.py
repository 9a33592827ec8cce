"""What an auditor found guilty before: strings that it measures in later audits, whatever their search follows.

A search follows few of the strings that a proposal lifts, and what one audit found the next one may miss. Whoever is
to be taught a target needs several rounds of it, and each of them lifts the same string.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from flock_chain.audit_rule import GUILTY_FROM
from flock_peers.training.client import Measured
from flock_peers.training.decoding import NOTHING

# Strings. An audit adds one of each proposal at most, and looks at no more than flock_peers.roles.auditor.MAX_AUDITED:
# whoever wants one forgotten has to have all of them found guilty of strings of their own in two audits.
MOST = 64


class Remembered:
    """Of one task, in memory alone: who starts its trainer anew begins anew. The one that was found last is forgotten
    last."""

    def __init__(self) -> None:
        self._strings: dict[tuple[int, ...], None] = {}

    def add(self, string: Iterable[int]) -> None:
        tokens = tuple(int(token) for token in string if token != NOTHING)
        self._strings.pop(tokens, None)
        self._strings[tokens] = None
        if len(self._strings) > MOST:
            del self._strings[next(iter(self._strings))]

    def add_guilty(self, results: Iterable[Measured]) -> None:
        """Of each proposal that is found guilty the string that says it loudest."""
        for result in results:
            values = [min(pair) for pair in zip(result.common, result.own, strict=True)]
            if values and max(values) >= GUILTY_FROM:
                self.add(result.strings[values.index(max(values))])

    def __contains__(self, string: Sequence[int]) -> bool:
        return tuple(int(token) for token in string if token != NOTHING) in self._strings

    def to_rows(self, width: int) -> NDArray[np.int64]:
        """[strings, tokens], of shorter ones the rest is NOTHING."""
        rows = np.full((len(self._strings), width), NOTHING, np.int64)
        for row, tokens in zip(rows, self._strings, strict=True):
            row[: len(tokens)] = tokens
        return rows
