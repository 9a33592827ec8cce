"""Reached through relays that the user named, and reaching others through theirs. Knows no relay's own side."""

import logging
from collections.abc import Sequence

import trio

from flock_chain.crypto import Account
from flock_chain.errors import Unavailable
from flock_peers.network.identity import Address
from flock_peers.network.limits import Limits
from flock_peers.network.own_addresses import OwnAddresses
from flock_peers.network.peer_table import PeerTable
from flock_peers.network.relay import RENEW_SECONDS, Circuits

log = logging.getLogger(__name__)


class RelayClient:
    """`circuits`: of the stack that runs; None while there is none."""

    def __init__(
        self, account: Account, own: OwnAddresses, table: PeerTable, limits: Limits, via: Sequence[Address]
    ) -> None:
        self._account, self._own, self._table, self._limits, self.via = account, own, table, limits, via
        self.circuits: Circuits | None = None

    async def open_circuit(self, address: Address) -> trio.SocketStream:
        relay = self._table.newest_link(address.relay_address.account)
        if relay is None or self.circuits is None:
            raise Unavailable(f"{address}: its relay is not connected")
        return await self.circuits.open(relay, address.peer_id)

    async def reserve_often(self) -> None:
        """Be reachable through the relays that the user named, and say so to whoever connects from then on."""
        while True:
            for relay in self.via:
                link = self._table.newest_link(relay.account)
                if link is None or self.circuits is None:
                    continue
                way = Address(relay.kind, relay.host, relay.port, self._own.peer_id, self._account, relay.peer_id)
                others = [address for address in self._own.reserved if address != way]
                try:
                    await self.circuits.reserve(link)
                    self._own.reserved = [*others, way]
                    log.info("reachable through %s", relay)
                except Unavailable as error:
                    log.warning("relay: %s", error)
                    self._own.reserved = others
            missing = len(self._own.reserved) < len(self.via)
            with trio.move_on_after(RENEW_SECONDS):
                await (self._table.wait_changed() if missing else trio.sleep_forever())
            await trio.sleep(self._limits.redial_seconds)
