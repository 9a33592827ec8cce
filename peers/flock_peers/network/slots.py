"""Places for incoming connections, by address: handshakes, connections, and how fast new ones may come.

Knows no identities: who among the connected must give way is said by `find_crowd`, to whoever knows them.
"""

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Generic, TypeVar

from flock_peers.network.limits import Limits, TokenBucket

T = TypeVar("T")
GiveWay = Callable[[], None]
_RANGE = 16, 32  # bits of what a provider is given: of IPv6 a small one has 65,536 networks
_SURE_SECONDS = 2.0  # of a handshake, where all places are taken and others come: four round trips of half a second


@lru_cache(4_096)  # ten microseconds each, and asked for again and again
def group_of(ip: str, bits: tuple[int, int] = (24, 48)) -> str:
    """What one owner is thought to have of the internet: a /24, or a /48 of IPv6. In a local network, one address."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    if not address.is_global:
        return str(address)
    return str(ipaddress.ip_network((address, bits[address.version == 6]), strict=False))


def find_crowd(rows: Sequence[T], ip_of: Callable[[T], str]) -> T | None:
    """The last row of the largest group: an eclipse comes from few places, honest peers from many."""
    sizes = Counter(group_of(ip_of(row)) for row in rows)
    return max(enumerate(rows), key=lambda pair: (sizes[group_of(ip_of(pair[1]))], pair[0]))[1] if rows else None


class Slots:
    """`is_known`: whether a peer that is needed comes from there; the rate of everybody does not hold it up."""

    def __init__(
        self, limits: Limits, clock: Callable[[], float], is_known: Callable[[str], bool] = lambda _ip: False
    ) -> None:
        self._limits, self._clock, self._is_known = limits, clock, is_known
        self._all = TokenBucket(limits.accept_rate_of_all, limits.accept_burst_of_all, clock)
        self._first = TokenBucket(limits.accept_rate_of_first, limits.accept_burst_of_first, clock)
        self._handshakes: Counter[str] = Counter()  # by address
        # Address, who is said to dial, and since when; the oldest first.
        self._shaking: dict[GiveWay, tuple[str, str, float]] = {}
        self._leaving = 0  # who gave way, and did not end yet
        self._open: Counter[str] = Counter()  # by address, handshakes too
        self._groups: Counter[str] = Counter()
        self._networks: Rates[str] = Rates(limits.accept_rate, limits.accept_burst, limits.tracked_peers, clock)
        self._ranges: Rates[str] = Rates(
            limits.accept_rate_of_range, limits.accept_burst_of_range, limits.tracked_peers, clock
        )  # fmt: skip

    @property
    def connected(self) -> int:
        """Incoming connections whose identity is proved."""
        return self._open.total() - self._handshakes.total() - self._leaving

    def begin(self, ip: str, give_way: GiveWay | None = None, *, dialer: str = "") -> str:
        """Takes a place for a handshake; or says why there is none. `give_way`: how to end it, where another comes.
        `dialer`: where `ip` is a relay, who dials by way of it."""
        x, group = self._limits, group_of(ip)
        rate = self._networks.of(group)
        is_first = rate.find_wait(x.accept_burst) == 0  # of its network, for a while, as far as that is remembered
        if not rate.take():
            return f"more than {x.accept_rate:g} connections a second"
        if not self._all.take() and not self._is_known(ip) and not (is_first and self._take_first(ip)):
            return f"more than {x.accept_rate_of_all:g} connections a second of everybody"
        if self._open[ip] >= x.max_inbound_per_ip:
            return f"{x.max_inbound_per_ip} connections already"
        if group != ip and self._groups[group] >= x.max_inbound_per_group:
            return f"{x.max_inbound_per_group} connections of {group} already"
        if not self._has_room(ip, group, dialer):
            return f"{self._handshakes[ip]} handshakes at once, {self._handshakes.total()} of everybody"
        for counter, key in ((self._handshakes, ip), (self._open, ip), (self._groups, group)):
            counter[key] += 1
        if give_way is not None:
            self._shaking[give_way] = ip, dialer, self._clock()
        return ""

    def _has_room(self, ip: str, group: str, dialer: str) -> bool:
        """Of one address nobody can be told from another before his key is proved; behind a relay they can."""
        if dialer and self._handshakes[ip] >= self._limits.max_handshakes_per_relay:
            names = {way: who for way, (place, who, _) in self._shaking.items() if place == ip}
            return self._make_way(names, dialer)
        if self._handshakes[ip] >= self._limits.max_handshakes_per_ip:
            return False
        if self._handshakes.total() < self._limits.max_handshakes:
            return True
        return self._make_way({way: group_of(place) for way, (place, _, _) in self._shaking.items()}, group)

    def end_handshake(self, ip: str, give_way: GiveWay | None = None) -> None:
        if give_way is not None and self._shaking.pop(give_way, None) is None:
            self._leaving -= 1
        else:
            _decrease(self._handshakes, ip)

    def _make_way(self, groups: dict[GiveWay, str], asker: str) -> bool:
        """The oldest handshake of the group that has the most goes for one of a group that would have no more than
        that one keeps. Else the oldest of all, unless it may be honest still: silence costs nothing."""
        sizes = Counter(groups.values())
        worst = max(sizes.values(), default=0)
        for give_way, group in groups.items():
            ip, _, since = self._shaking[give_way]
            is_crowd = sizes[group] == worst > sizes[asker] + 1
            if is_crowd or (worst <= sizes[asker] + 1 and self._clock() - since >= _SURE_SECONDS):
                del self._shaking[give_way]
                self._leaving += 1
                _decrease(self._handshakes, ip)
                give_way()
                return True
        return False

    def end(self, ip: str) -> None:
        _decrease(self._open, ip)
        _decrease(self._groups, group_of(ip))

    def _take_first(self, ip: str) -> bool:
        """Somebody may have more networks than are remembered, each the first of its own. Mostly they are of few
        ranges, and those do not take all there is for the others."""
        return self._ranges.of(group_of(ip, _RANGE)).take() and self._first.take()


class Rates(Generic[T]):
    """A rate for each, and the longest quiet are forgotten: of IPv6 one owner has more addresses than there are."""

    def __init__(self, rate: float, burst: float, most: int, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._most, self._clock = rate, burst, most, clock
        self._buckets: OrderedDict[T, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def of(self, key: T) -> TokenBucket:
        bucket = self._buckets.pop(key, None) or TokenBucket(self._rate, self._burst, self._clock)
        self._buckets[key] = bucket
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return bucket


def _decrease(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
