"""Who may stay on a connection that has proved its key: peers that said hello, a few guests that did not, and who keeps
a place when a crowd has taken all. Opens no connection; knows nothing of what is sent.
"""

from collections.abc import Callable, Iterable

import trio

from flock_chain.crypto import Account
from flock_peers.network.addresses import AddressBook
from flock_peers.network.bulk import BulkLinks
from flock_peers.network.hello import Hello, listen_addresses
from flock_peers.network.limits import Limits
from flock_peers.network.link import Link
from flock_peers.network.peer_table import PeerTable


class Admission:
    """`links`: all there are, admitted or not. `on_peer` hears of each account that was not connected before."""

    def __init__(
        self, account: Account, table: PeerTable, book: AddressBook, bulk: BulkLinks, limits: Limits,
        links: Callable[[], Iterable[Link]], on_peer: Callable[[Account], None], on_guest: Callable[[Link], None],
        tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._account, self._table, self._book, self._bulk, self._limits = account, table, book, bulk, limits
        self._links, self._on_peer, self._on_guest, self._tell = links, on_peer, on_guest, tell

    def admit(self, link: Link, theirs: Hello) -> None:
        """After hello, of whom is on the same network."""
        if link.admitted.is_set() or link.closed.is_set():
            return
        if not link.has_account or link.account == self._account or self._table.ban_left(link.account) > 0:
            link.abort()
            return
        if link.is_bulk:
            self._bulk.admit(link)
            return
        link.admitted.set()
        is_near = link.is_loopback
        for address in reversed(listen_addresses(theirs, link.account)):  # the first is the best, and is to be on top
            if is_near or not address.is_loopback:
                self._book.add(address, is_confirmed=True)
        self._book.on_success(link.account, trio.current_time())
        if self._table.add(link):
            self._tell(f"connected to 0x{link.account.hex()} at {link.remote}")
            self._on_peer(link.account)

    def take_guest(self, link: Link) -> bool:
        """Whether a connection without hello may stay: a few that came to us, for gossip and bitswap alone."""
        if link.is_guest:
            return True
        guests = sum(other.is_guest and not other.admitted.is_set() for other in self._links())
        if link.outbound or guests >= self._limits.guests or self._table.ban_left(link.account) > 0:
            return False
        link.is_guest = True
        self._tell(f"guest {link.peer_id} at {link.remote}")
        if link.has_account:
            self._on_guest(link)
        return True

    def is_favoured(self, account: Account) -> bool:
        """Has a place when a crowd has taken all."""
        entry = self._book.entries.get(account)
        return account in self._book.favoured or (entry is not None and self._book.is_wanted(entry))
