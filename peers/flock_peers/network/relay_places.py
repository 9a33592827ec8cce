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
# Of a place, from when another network asks for it: a peer that lost one hears of it within 300 s, when it renews.
SURE_SECONDS = 1_200.0
_WAIT_SECONDS = 75.0  # who has no place asks again every 30 s; who did not waits no longer
_WAITING = 1_024  # networks


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


class Places:
    """Who gives way where all places are taken."""

    def __init__(self, clock: Callable[[], float], is_favoured: Callable[[Account], bool]) -> None:
        self._clock, self._is_favoured = clock, is_favoured
        self._since: dict[str, float] = {}  # networks that have a place, and since when it was seen that others wait
        self._waiting: dict[str, float] = {}  # when each asked last; who has waited the longest first

    def find_who_gives_way(self, asker: Link, holders: Sequence[Link]) -> Link | None:
        """The newest stranger of the network that has the most, for whoever is favoured, or whose network would have
        no more than that one keeps. Where each network has one, the one of whoever has had it the longest, and for a
        sure time, for the network that has waited the longest. None where the asker gets no place."""
        strangers = [link for link in holders if not self._is_favoured(link.account)]
        worst = find_crowd(strangers, lambda link: link.remote_host)
        if worst is None or self._is_favoured(asker.account):
            return worst
        sizes = Counter(group_of(link.remote_host) for link in strangers)
        own = group_of(asker.remote_host)
        if sizes[own] + 1 <= sizes[group_of(worst.remote_host)] - 1:
            return worst
        return None if sizes[own] else self._find_turn(own, {group_of(link.remote_host): link for link in strangers})

    def _find_turn(self, asker: str, holders: dict[str, Link]) -> Link | None:
        """Of networks, not of accounts: another account of one that has a place does not begin anew."""
        now = self._clock()
        self._since = {group: self._since.get(group, now) for group in holders}
        self._waiting = {
            group: asked
            for group, asked in self._waiting.items()
            if now - asked <= _WAIT_SECONDS and group not in holders
        }
        if asker in self._waiting or len(self._waiting) < _WAITING:
            self._waiting[asker] = now  # who waits already keeps its place in the order
        oldest = min(holders, key=self._since.__getitem__)
        if next(iter(self._waiting)) != asker or now - self._since[oldest] < SURE_SECONDS:
            return None
        del self._waiting[asker]
        return holders[oldest]
