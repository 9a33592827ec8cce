"""Who may have how much of a relay: streams to it by account, and the places at which others are reached, by network.

Knows no messages. Identities cost nothing, so no bound here is only one on each.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote
from flock_peers.network.limits import TokenBucket
from flock_peers.network.link import Link
from flock_peers.network.slots import find_crowd, group_of

# Of one account. Half of its 16 streams: the others are for what it says to the relay itself.
HOP_STREAMS_AT_ONCE = 8
# Eight circuits that are dialed in vain, 0.5 s to 15 s apart, take 50 in their first minute.
HOP_STREAMS_PER_MINUTE = 64
_ACCOUNTS = 1_024  # whose rate is remembered; the longest quiet is forgotten


class HopStreams:
    """Streams on which circuits and places are asked for. A circuit is its stream, for as long as it lasts."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: Counter[Account] = Counter()
        self._rates: OrderedDict[Account, TokenBucket] = OrderedDict()

    @contextmanager
    def take(self, account: Account) -> Iterator[None]:
        """Raises InvalidRemote where it has too many, or comes too often."""
        if self._open[account] >= HOP_STREAMS_AT_ONCE:
            raise InvalidRemote(f"more than {HOP_STREAMS_AT_ONCE} streams at once to be relayed")
        if not self._rate_of(account).take():
            raise InvalidRemote(f"more than {HOP_STREAMS_PER_MINUTE} streams a minute to be relayed")
        self._open[account] += 1
        try:
            yield
        finally:
            self._open[account] -= 1
            if not self._open[account]:
                del self._open[account]

    def _rate_of(self, account: Account) -> TokenBucket:
        rate = self._rates.pop(account, None) or TokenBucket(
            HOP_STREAMS_PER_MINUTE / 60, HOP_STREAMS_PER_MINUTE, self._clock
        )
        self._rates[account] = rate
        if len(self._rates) > _ACCOUNTS:
            self._rates.popitem(last=False)
        return rate


def find_who_gives_way(asker: Link, holders: Sequence[Link], is_favoured: Callable[[Account], bool]) -> Link | None:
    """Where all places are taken: the newest stranger of the network that has the most, for whoever is favoured, or
    whose network would have fewer places than that one keeps. None where the asker gets no place."""
    strangers = [link for link in holders if not is_favoured(link.account)]
    worst = find_crowd(strangers, lambda link: link.remote_host)
    if worst is None or is_favoured(asker.account):
        return worst
    sizes = Counter(group_of(link.remote_host) for link in strangers)
    keeps, would_have = sizes[group_of(worst.remote_host)] - 1, sizes[group_of(asker.remote_host)] + 1
    return worst if would_have <= keeps else None
