"""The validator sets that final state names, as consensus counts by them. Knows no vote and no block."""

from collections.abc import Sequence

from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account
from flock_chain.errors import Misuse
from flock_chain.execution.validators import Served, Validator


def make_set(rows: Sequence[Validator]) -> ValidatorSet:
    return ValidatorSet(tuple((row.account, row.weight) for row in rows))


class ServedSets:
    """Of the next height, and of the epoch after it; made anew only where the rows differ."""

    def __init__(self) -> None:
        self._served: Served | None = None
        self._current: ValidatorSet | None = None

    def set(self, served: Served) -> None:
        if self._served is None or served.rows != self._served.rows:
            self._current = make_set(served.rows)
        self._served = served

    @property
    def epoch(self) -> int:
        """Of the next height."""
        return self._served.epoch if self._served else 0

    @property
    def current(self) -> ValidatorSet:
        if self._current is None:
            raise Misuse("ledger: not started")
        return self._current

    @property
    def previous(self) -> frozenset[Account]:
        """Who decided about the head."""
        return frozenset(row.account for row in self._served.before) if self._served else frozenset()

    @property
    def following(self) -> ValidatorSet:
        if self._served is None:
            raise Misuse("ledger: not started")
        return make_set(self._served.following)
