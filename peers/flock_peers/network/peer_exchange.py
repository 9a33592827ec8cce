"""Whom a peer tells others of: those that it is connected to. And which of their loopback addresses hold here."""

from collections.abc import Awaitable, Callable

from flock_chain.crypto import Account
from flock_peers.network.addresses import AddressBook
from flock_peers.network.hello import PEERS, encode_addresses, max_peers_bytes
from flock_peers.network.limits import Limits
from flock_peers.network.own_addresses import OwnAddresses
from flock_peers.network.peer_table import PeerTable

Request = Callable[[Account, str, bytes, float, int], Awaitable[bytes]]


class PeerExchange:
    def __init__(
        self, book: AddressBook, table: PeerTable, own: OwnAddresses, limits: Limits, request: Request
    ) -> None:
        self._book, self._table, self._own, self._limits, self._request = book, table, own, limits, request

    async def ask(self, account: Account) -> bytes:
        x = self._limits
        return await self._request(account, PEERS, b"", x.open_seconds, max_peers_bytes(x.exchanged_addresses))

    async def answer(self, asker: Account, _payload: bytes) -> bytes:
        """Who is connected, at an address that may be of use to the asker."""
        is_near = self._is_near(asker)
        known = []
        for entry in self._book.entries.values():
            useful = [address for address in entry.addresses if is_near or not address.is_loopback]
            if entry.account != asker and useful and self._table.is_connected(entry.account):
                known.append(useful[0])
        return encode_addresses(known[: self._limits.exchanged_addresses])

    def _is_near(self, account: bytes) -> bool:
        """Whether this peer is on this machine: what it knows of loopback addresses holds here."""
        link = self._table.newest_link(Account(account))
        return link is not None and link.is_loopback

    def keeps_loopback(self, told_by: bytes) -> bool:
        """Of what somebody says of others: a neighbour of this machine, or anybody where all are of this machine."""
        return self._own.is_loopback or self._is_near(told_by)
