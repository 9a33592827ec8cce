"""Reached through relays that the user named, and reaching others through theirs. Knows no relay's own side."""

import logging
from collections.abc import Sequence

import trio

from flock_chain.crypto import Account
from flock_chain.errors import Unavailable
from flock_peers.network.identity import Address
from flock_peers.network.limits import Limits
from flock_peers.network.link import Link
from flock_peers.network.own_addresses import OwnAddresses
from flock_peers.network.peer_table import PeerTable
from flock_peers.network.relay import RENEW_SECONDS, Circuits

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 30.0  # after a relay had no place


class RelayClient:
    """`circuits`: of the stack that runs; None while there is none."""

    def __init__(
        self, account: Account, own: OwnAddresses, table: PeerTable, limits: Limits, via: Sequence[Address]
    ) -> None:
        self._account, self._own, self._table, self._limits, self.via = account, own, table, limits, via
        self.circuits: Circuits | None = None

    def is_own(self, account: Account) -> bool:
        """Whether this peer asks it to be reached through it; from nobody else it takes circuits."""
        return any(relay.account == account for relay in self.via)

    async def open_circuit(self, address: Address) -> trio.SocketStream:
        relay = self._table.newest_link(address.relay_address.account)
        if relay is None or self.circuits is None:
            raise Unavailable(f"{address}: its relay is not connected")
        return await self.circuits.open(relay, address.peer_id)

    async def reserve_often(self) -> None:
        """Be reachable through the relays that the user named, and say so to whoever connects from then on. A place is
        held by a connection: with another one it is asked for at once."""
        while True:
            links = self._find_links()
            for relay, link in zip(self.via, links, strict=True):
                await self._reserve(relay, link)
            is_whole = len(self._own.reserved) == len(self.via)
            with trio.move_on_after(RENEW_SECONDS if is_whole else _AGAIN_SECONDS):
                while self._find_links() == links:
                    await self._table.wait_changed()
            await trio.sleep(self._limits.redial_seconds)

    def _find_links(self) -> list[Link | None]:
        return [self._table.newest_link(relay.account) for relay in self.via]

    async def _reserve(self, relay: Address, link: Link | None) -> None:
        if link is None or self.circuits is None:
            return
        way = Address(relay.kind, relay.host, relay.port, self._own.peer_id, self._account, relay.peer_id)
        others = [address for address in self._own.reserved if address != way]
        try:
            await self.circuits.reserve(link)
            self._own.reserved = [*others, way]
            log.info("reachable through %s", relay)
        except Unavailable as error:
            log.warning("relay: %s", error)
            self._own.reserved = others
