"""Pairs of votes that convict their signers, for who reports them: a few of each offender, so nobody hides another.

Knows no chain: whether a pair was reported is its reader's to know.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator

from flock_chain.consensus.events import Evidence
from flock_chain.crypto import Account

MAX_PAIRS_PER_OFFENDER = 4  # one is enough to take its stake; the newest, should the chain find an old one too old
MAX_OFFENDERS = 256  # more than a whole set; the longest known go


class Convictions:
    def __init__(self) -> None:
        self._pairs: OrderedDict[Account, deque[Evidence]] = OrderedDict()

    def note(self, evidence: Evidence) -> None:
        offender = evidence.first.signer
        self._pairs.setdefault(offender, deque(maxlen=MAX_PAIRS_PER_OFFENDER)).append(evidence)
        while len(self._pairs) > MAX_OFFENDERS:
            self._pairs.popitem(last=False)

    def __iter__(self) -> Iterator[Evidence]:
        for pairs in self._pairs.values():
            yield from pairs

    def __len__(self) -> int:
        return sum(map(len, self._pairs.values()))
