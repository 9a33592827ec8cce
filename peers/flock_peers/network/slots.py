"""Places for incoming connections, by address: handshakes, connections, and how fast new ones may come.

Knows no identities: who among the connected must give way is said by `find_crowd`, to whoever knows them.
"""

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

from flock_peers.network.limits import Limits, TokenBucket

T = TypeVar("T")


def group_of(ip: str) -> str:
    """What one owner is thought to have of the internet: a /24, or a /48 of IPv6. In a local network, one address."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    if not address.is_global:
        return str(address)
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 48), strict=False))


def find_crowd(rows: Sequence[T], ip_of: Callable[[T], str]) -> T | None:
    """The last row of the largest group: an eclipse comes from few places, honest peers from many."""
    sizes = Counter(group_of(ip_of(row)) for row in rows)
    return max(enumerate(rows), key=lambda pair: (sizes[group_of(ip_of(pair[1]))], pair[0]))[1] if rows else None


class Slots:
    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits, self._clock = limits, clock
        self._handshakes: Counter[str] = Counter()  # by address
        self._open: Counter[str] = Counter()  # by address, handshakes too
        self._groups: Counter[str] = Counter()
        self._rates: OrderedDict[str, TokenBucket] = OrderedDict()

    @property
    def connected(self) -> int:
        """Incoming connections whose identity is proved."""
        return self._open.total() - self._handshakes.total()

    def begin(self, ip: str) -> str:
        """Takes a place for a handshake; or says why there is none."""
        x, group = self._limits, group_of(ip)
        if not self._rate_of(ip).take():
            return f"more than {x.accept_rate:g} connections a second"
        if self._handshakes.total() >= x.max_handshakes or self._handshakes[ip] >= x.max_handshakes_per_ip:
            return f"{self._handshakes[ip]} handshakes at once, {self._handshakes.total()} of everybody"
        if self._open[ip] >= x.max_inbound_per_ip:
            return f"{x.max_inbound_per_ip} connections already"
        if group != ip and self._groups[group] >= x.max_inbound_per_group:
            return f"{x.max_inbound_per_group} connections of {group} already"
        for counter, key in ((self._handshakes, ip), (self._open, ip), (self._groups, group)):
            counter[key] += 1
        return ""

    def end_handshake(self, ip: str) -> None:
        _decrease(self._handshakes, ip)

    def end(self, ip: str) -> None:
        _decrease(self._open, ip)
        _decrease(self._groups, group_of(ip))

    def _rate_of(self, ip: str) -> TokenBucket:
        bucket = self._rates.pop(ip, None) or TokenBucket(
            self._limits.accept_rate, self._limits.accept_burst, self._clock
        )
        self._rates[ip] = bucket
        if len(self._rates) > self._limits.tracked_peers:
            self._rates.popitem(last=False)
        return bucket


def _decrease(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
