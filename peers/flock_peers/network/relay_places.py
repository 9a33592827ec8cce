"""Who may have how much of a relay: streams to it, by account and by network, and the places at which others are
reached, by network.

Knows no messages. Identities cost nothing, so no bound here is only one on each.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote
from flock_peers.network.link import Link
from flock_peers.network.slots import Rates, find_crowd, group_of

# Of one account. Half of its 16 streams: the others are for what it says to the relay itself.
HOP_STREAMS_AT_ONCE = 8
# Eight circuits that are dialed in vain, 0.5 s to 15 s apart, take 50 in their first minute.
HOP_STREAMS_PER_MINUTE = 64
# Of one network, with all its accounts: as many as the circuits that a relay lends, sixteen to each of its places,
# which a laboratory behind one address may begin with. Each takes up to 5 ms of a core (benchmarks/wire_costs.py).
HOP_STREAMS_PER_MINUTE_OF_NETWORK = 256
_REMEMBERED = 1_024  # accounts, and networks, that have a rate
# Of a place, from when another network asks for it: a peer that lost one hears of it within 300 s, when it renews.
SURE_SECONDS = 1_200.0
_WAIT_SECONDS = 75.0  # who has no place asks again every 30 s; who did not waits no longer
_WAITING = 1_024  # networks
# Of the circuits to one place, so many may not have said yet what a handshake and a hello take.
QUIET_AT_ONCE = 8
GREETING_BYTES = 512
QUIET_SECONDS = 2.0  # four round trips of half a second; until then it may be honest
PATIENCE_SECONDS = 5.0  # with whom they are lent to: no honest dialer waits longer for a circuit, or for a handshake


class Way(Protocol):
    """A circuit's stream, on the side of who dialed."""

    def give_way(self, reason: str, /) -> None: ...


class HopStreams:
    """Streams on which circuits and places are asked for. A circuit is its stream, for as long as it lasts."""

    def __init__(self, clock: Callable[[], float], is_favoured: Callable[[Account], bool]) -> None:
        self._is_favoured = is_favoured
        self._open: Counter[Account] = Counter()
        self._rates: Rates[Account] = Rates(HOP_STREAMS_PER_MINUTE / 60, HOP_STREAMS_PER_MINUTE, _REMEMBERED, clock)
        of_network = HOP_STREAMS_PER_MINUTE_OF_NETWORK
        self._networks: Rates[str] = Rates(of_network / 60, of_network, _REMEMBERED, clock)

    @contextmanager
    def take(self, account: Account) -> Iterator[None]:
        """Raises InvalidRemote where it has too many, or comes too often."""
        if self._open[account] >= HOP_STREAMS_AT_ONCE:
            raise InvalidRemote(f"more than {HOP_STREAMS_AT_ONCE} streams at once to be relayed")
        if not self._rates.of(account).take():
            raise InvalidRemote(f"more than {HOP_STREAMS_PER_MINUTE} streams a minute to be relayed")
        self._open[account] += 1
        try:
            yield
        finally:
            self._open[account] -= 1
            if not self._open[account]:
                del self._open[account]

    def take_share(self, asker: Link) -> bool:
        """Whether its network has asked for no more than it may: keys cost nothing, and many of them do not get more
        than four. Who is needed does not pay for its neighbours."""
        return self._networks.of(group_of(asker.remote_host)).take() or self._is_favoured(asker.account)


class Places:
    """Who has one. It is a network's and an account's: neither another name nor another network begins a new term."""

    def __init__(self, count: int, clock: Callable[[], float], is_favoured: Callable[[Account], bool]) -> None:
        self._count, self._clock, self._is_favoured = count, clock, is_favoured
        # Of networks and accounts that have a place: since when it was seen that others wait.
        self._since: dict[str | Account, float] = {}
        self._waiting: dict[str, float] = {}  # when each network asked last; who has waited the longest first

    def ask(self, asker: Link, holders: Sequence[Link]) -> tuple[bool, Link | None]:
        """Whether it has a place now, and who gives way for it.

        Where all are taken: the newest stranger of the network that has the most, for whoever is favoured, or whose
        network would have no more than that one keeps. Where each network has one, the one of whoever has had it the
        longest, and for a sure time, for the network that has waited the longest. One that is free is for those who
        wait: else who has many networks leaves, and comes from another one, before its time is over."""
        strangers = [link for link in holders if not self._is_favoured(link.account)]
        groups = {group_of(link.remote_host): link for link in strangers}
        self._forget(strangers, groups)
        free, own = self._count - len(holders), group_of(asker.remote_host)
        if self._is_favoured(asker.account):
            worst = None if free > 0 else _find_crowd(strangers)
        elif free > 0:
            return self._takes_free(own, free, groups), None
        else:
            worst = self._find_who_gives_way(own, strangers, groups)
        return free > 0 or worst is not None, worst

    def _forget(self, strangers: Sequence[Link], groups: dict[str, Link]) -> None:
        """Terms of who has no place any more; and among those who wait whoever has one now, or did not ask again."""
        now, present = self._clock(), groups.keys() | {link.account for link in strangers}
        self._since = {key: since for key, since in self._since.items() if key in present}
        self._waiting = {
            group: asked
            for group, asked in self._waiting.items()
            if now - asked <= _WAIT_SECONDS and group not in groups
        }

    def _wait(self, group: str) -> None:
        """Who waits already keeps its place in the order."""
        if group in self._waiting or len(self._waiting) < _WAITING:
            self._waiting[group] = self._clock()

    def _takes_free(self, own: str, free: int, groups: dict[str, Link]) -> bool:
        if own in groups:  # it has one
            return len(self._waiting) < free
        self._wait(own)
        return own in list(self._waiting)[:free]

    def _find_who_gives_way(self, own: str, strangers: Sequence[Link], groups: dict[str, Link]) -> Link | None:
        worst = _find_crowd(strangers)
        if worst is None:
            return None
        sizes = Counter(group_of(link.remote_host) for link in strangers)
        if sizes[own] + 1 <= sizes[group_of(worst.remote_host)] - 1:
            return worst
        return None if sizes[own] else self._find_turn(own, groups)

    def _find_turn(self, own: str, groups: dict[str, Link]) -> Link | None:
        now = self._clock()
        terms = {
            group: min(self._since.setdefault(key, now) for key in (group, link.account))
            for group, link in groups.items()
        }
        self._wait(own)
        oldest = min(groups, key=terms.__getitem__)
        if next(iter(self._waiting)) != own or now - terms[oldest] < SURE_SECONDS:
            return None
        return groups[oldest]


@dataclass(eq=False)
class Lent:
    """A circuit. `said`: bytes by who dialed. `heard`: when the one it is lent to said something last."""

    dialer: Link
    since: float
    way: Way
    heard: float
    said: int = 0
    agreed_after: float | None = None  # seconds that the one it is lent to took; None: it has not answered yet
    is_answer_due: bool = True  # from the one it is lent to: who dialed has spoken last


class CircuitPlaces:
    """Circuits to each place at a time. Whom it is lent to does not know where they come from; this relay does."""

    def __init__(self, count: int, clock: Callable[[], float], is_favoured: Callable[[Account], bool]) -> None:
        self._count, self._clock, self._is_favoured = count, clock, is_favoured
        self._lent: dict[bytes, list[Lent]] = {}  # by peer id, the oldest first
        self._ways: dict[Way, Lent] = {}

    @contextmanager
    def take(self, target: bytes, dialer: Link, way: Way, tell: Callable[[Link, str], None]) -> Iterator[Lent | None]:
        """None where there is no room. `way` ends the circuit, where it gives way to another one."""
        worst, why = self._find_who_gives_way(self._lent.get(target, []), dialer)
        if worst is None and why:
            yield None
            return
        if worst is not None:
            self._remove(target, worst)
            tell(worst.dialer, why)
            worst.way.give_way(why)
        lent = self._ways[way] = Lent(dialer, self._clock(), way, self._clock())
        self._lent.setdefault(target, []).append(lent)
        try:
            yield lent
        finally:
            self._remove(target, lent)

    def note_said(self, way: Way, count: int) -> None:
        """The other direction's streams are none of these."""
        if (lent := self._ways.get(way)) is not None:
            lent.said += count
            lent.is_answer_due = True

    def note_heard(self, way: Way) -> None:
        """Whom it is lent to has agreed to it, or says something in it."""
        if (lent := self._ways.get(way)) is not None:
            lent.heard, lent.is_answer_due = self._clock(), False
            if lent.agreed_after is None:
                lent.agreed_after = lent.heard - lent.since

    def _remove(self, target: bytes, lent: Lent) -> None:
        rows = self._lent.get(target, [])
        if lent in rows:
            rows.remove(lent)
            del self._ways[lent.way]
        if not rows:
            self._lent.pop(target, None)

    def _find_who_gives_way(self, rows: Sequence[Lent], dialer: Link) -> tuple[Lent | None, str]:
        """And why; without anybody, why there is no room."""
        quiet = [lent for lent in rows if lent.said < GREETING_BYTES]
        if len(quiet) >= QUIET_AT_ONCE:
            worst = self._find_crowd(quiet, dialer) or self._find_silent(quiet)
            return worst, "a circuit that says nothing gives way to another one"
        if len(rows) >= self._count:
            return self._find_crowd(rows, dialer), "a circuit gives way to one of who has fewer, or is needed"
        return None, ""

    def _find_silent(self, quiet: Sequence[Lent]) -> Lent | None:
        """Who could have spoken by now. A handshake waits for the one it is lent to, and who dialed cannot help it if
        that one is slow: its time runs from the other's last word, and is longer by what the other takes just now to
        agree to a circuit. Of those whose time is over, the oldest whose turn it is to speak goes first."""
        now = self._clock()
        slowest = max(now - lent.since if lent.agreed_after is None else lent.agreed_after for lent in quiet)
        patience = QUIET_SECONDS + min(slowest, PATIENCE_SECONDS)
        silent = (lent for lent in quiet if now - lent.heard >= patience)
        return min(silent, key=lambda lent: lent.is_answer_due, default=None)

    def _find_crowd(self, rows: Sequence[Lent], dialer: Link) -> Lent | None:
        """The newest stranger's of the network that has the most, for who is needed or whose network has fewer."""
        strangers = [lent for lent in rows if not self._is_favoured(lent.dialer.account)]
        worst = find_crowd(strangers, lambda lent: lent.dialer.remote_host)
        if worst is None or self._is_favoured(dialer.account):
            return worst
        sizes = Counter(group_of(lent.dialer.remote_host) for lent in strangers)
        has_more = sizes[group_of(worst.dialer.remote_host)] > sizes[group_of(dialer.remote_host)] + 1
        return worst if has_more else None


def _find_crowd(links: Sequence[Link]) -> Link | None:
    return find_crowd(links, lambda link: link.remote_host)
