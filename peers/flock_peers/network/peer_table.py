"""Who is connected, who is banned, and how much each may still send. Opens and closes nothing by itself."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import trio

from flock_chain.crypto import Account
from flock_peers.network.limits import Limits, TokenBucket
from flock_peers.network.link import Link
from flock_peers.network.messages import Outbox


@dataclass
class Buckets:
    """What one account may send us; outlives its connections, or reconnecting would refill them."""

    messages: TokenBucket
    message_bytes: TokenBucket
    requests: TokenBucket
    gossip: TokenBucket
    gossip_bytes: TokenBucket

    def charge_message(self, size: int) -> float:
        """Seconds to wait before the next message is read."""
        return max(self.messages.debit(), self.message_bytes.debit(size))


@dataclass
class Peer:
    """A connected account. Its outboxes end when the last link is gone."""

    links: list[Link] = field(default_factory=list)
    bulk: list[Link] = field(default_factory=list)  # for files alone; they end with the last of `links`
    outboxes: dict[str, Outbox] = field(default_factory=dict)
    requests: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(1))

    def newest_link(self) -> Link | None:
        """The newest: after a crash of the other side an old connection may only look alive."""
        alive = [link for link in self.links if not link.closed.is_set()]
        return alive[-1] if alive else None


class PeerTable:
    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits, self._clock = limits, clock
        self._peers: dict[Account, Peer] = {}
        self._buckets: dict[Account, Buckets] = {}
        self._banned: dict[Account, float] = {}
        self._changed = trio.Event()

    def get(self, account: Account) -> Peer | None:
        return self._peers.get(account)

    def all_links(self) -> Iterator[tuple[Account, list[Link]]]:
        """Of each account, in the order in which they were made."""
        for account, peer in self._peers.items():
            yield account, [*peer.links, *peer.bulk]

    def newest_link(self, account: Account) -> Link | None:
        peer = self._peers.get(account)
        return peer.newest_link() if peer else None

    def bulk_link(self, account: Account) -> Link | None:
        peer = self._peers.get(account)
        alive = [link for link in peer.bulk if not link.closed.is_set()] if peer else []
        return alive[-1] if alive else None

    def has_room_for_bulk(self, account: Account, *, outbound: bool) -> bool:
        """Only beside an ordinary connection, one of each direction with a peer, and few in all."""
        if not self.is_connected(account):
            return False
        alive = [x for peer in self._peers.values() for x in peer.bulk
                 if x.outbound == outbound and not x.closed.is_set()]  # fmt: skip
        most = self._limits.max_bulk_outbound if outbound else self._limits.max_bulk_inbound
        return len(alive) < most and all(link.account != account for link in alive)

    def add_bulk(self, link: Link) -> None:
        self._peers[link.account].bulk.append(link)

    def is_connected(self, account: Account) -> bool:
        return self.newest_link(account) is not None

    def connected(self) -> list[Account]:
        return [account for account, peer in self._peers.items() if peer.newest_link() is not None]

    def count_outbound(self) -> int:
        return sum(link.outbound for peer in self._peers.values() for link in peer.links)

    def add(self, link: Link) -> bool:
        """True when the account was not connected before."""
        is_new = not self.is_connected(link.account)
        peer = self._peers.get(link.account)
        if peer is None:
            peer = self._peers[link.account] = Peer(requests=trio.CapacityLimiter(self._limits.requests_per_peer))
        peer.links.append(link)
        self.notify()
        return is_new

    def remove(self, link: Link) -> bool:
        """True when it was the account's last link."""
        peer = self._peers.get(link.account)
        if peer is not None and link in peer.bulk:
            peer.bulk.remove(link)
        if peer is None or link not in peer.links:
            return False
        peer.links.remove(link)
        if not peer.links:
            del self._peers[link.account]
            for outbox in peer.outboxes.values():
                outbox.scope.cancel()
            for bulk in peer.bulk:
                bulk.abort()
        self.notify()
        return not peer.links

    def notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait_changed(self) -> None:
        await self._changed.wait()

    def buckets_of(self, account: Account) -> Buckets:
        buckets = self._buckets.get(account)
        if buckets is None:
            if len(self._buckets) >= self._limits.tracked_peers:
                del self._buckets[next(iter(self._buckets))]
            x, now = self._limits, self._clock
            buckets = self._buckets[account] = Buckets(
                TokenBucket(x.message_rate, x.message_burst, now),
                TokenBucket(x.message_byte_rate, x.message_byte_burst, now),
                TokenBucket(x.request_rate, x.request_burst, now),
                TokenBucket(x.gossip_rate, x.gossip_burst, now),
                TokenBucket(x.gossip_byte_rate, x.gossip_byte_burst, now),
            )
        return buckets

    def ban(self, account: Account, seconds: float) -> None:
        if len(self._banned) >= self._limits.bans:
            del self._banned[next(iter(self._banned))]
        self._banned[account] = self._clock() + seconds

    def ban_left(self, account: Account) -> float:
        """Seconds; 0 when not banned."""
        left = self._banned.get(account, 0.0) - self._clock()
        if left <= 0:
            self._banned.pop(account, None)
        return max(0.0, left)
