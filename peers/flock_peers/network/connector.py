"""Keeps a host connected: dials what the address book knows, with bounded back-off, and asks peers whom they know.

The rule is a full mesh: every peer tries to hold one connection to every other.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence

import trio

from flock_chain.crypto import Account
from flock_chain.errors import FlockError, InvalidRemote
from flock_peers.network.addresses import AddressBook, Entry
from flock_peers.network.guarded import contained
from flock_peers.network.hello import decode_addresses
from flock_peers.network.identity import Address
from flock_peers.network.limits import Limits

log = logging.getLogger(__name__)

_SAVE_SECONDS = 1.0  # where something changed: a peer that is killed soon after must find the others again
_TRIES, _RETRY_SECONDS = 3, 1.0


class Connector:
    def __init__(
        self, book: AddressBook, limits: Limits, *, is_connected: Callable[[Account], bool],
        dial: Callable[[Address], Awaitable[None]], ask_peers: Callable[[Account], Awaitable[bytes]],
        connected: Callable[[], list[Account]], count_outbound: Callable[[], int],
        keeps_loopback: Callable[[bytes], bool],
    ) -> None:  # fmt: skip
        self._book, self._limits = book, limits
        self._count_outbound = count_outbound
        self._is_connected, self._dial = is_connected, dial
        self._ask_peers, self._connected = ask_peers, connected
        self._keeps_loopback = keeps_loopback
        self._dialing: set[Account] = set()
        self._wake = trio.Event()
        self._nursery: trio.Nursery

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(contained, self._save_often)
            self._nursery.start_soon(contained, self._ask_often)
            while True:
                wait = self._dial_due()
                self._wake = trio.Event()
                with trio.move_on_after(wait):
                    await self._wake.wait()

    def _dial_due(self) -> float:
        """Start what is due; returns the seconds until the next is."""
        now = trio.current_time()
        wanted = [
            entry for entry in self._book.entries.values()
            if entry.account not in self._dialing and entry.addresses and not self._is_connected(entry.account)
        ]  # fmt: skip
        wanted.sort(key=lambda entry: (not self._book.is_wanted(entry), entry.due))
        for entry in wanted:
            if entry.due <= now and self._has_room_for(entry):
                self._dialing.add(entry.account)
                self._nursery.start_soon(contained, self._try, entry)
        later = [entry.due - now for entry in wanted if entry.account not in self._dialing and entry.due > now]
        return max(0.05, min(later, default=self._limits.redial_seconds_max))

    def _has_room_for(self, entry: Entry) -> bool:
        """Some outgoing connections are for bootstrap peers, anchors and validators: a crowd cannot have them all."""
        places = self._limits.max_outbound
        if not self._book.is_wanted(entry):
            places -= self._limits.reserved_outbound
        busy = len(self._dialing)
        return busy < self._limits.parallel_dials and self._count_outbound() + busy < places

    async def _try(self, entry: Entry) -> None:
        address = entry.addresses[0]
        try:
            await self._dial(address)
            self._book.on_success(entry.account, trio.current_time(), address)
        except FlockError as error:
            level = logging.DEBUG
            if entry.is_bootstrap and entry.failures == 0:
                level = logging.WARNING if isinstance(error, InvalidRemote) else logging.INFO
            log.log(level, "cannot connect: %s", error)
            self._book.on_failure(entry.account, trio.current_time(), address)
        finally:
            self._dialing.discard(entry.account)
            self.wake()

    async def learn_from(self, account: Account) -> None:
        """Ask one peer for the addresses that it knows; again when it is too busy to answer."""
        for _ in range(_TRIES):
            if not self._is_connected(account):
                return
            try:
                addresses = decode_addresses(await self._ask_peers(account), self._limits.exchanged_addresses)
            except FlockError as error:
                log.debug("peer exchange with 0x%s: %s", account.hex(), error)
                await trio.sleep(_RETRY_SECONDS)
                continue
            self.hear(addresses, account)
            return

    def hear(self, addresses: Sequence[Address], told_by: bytes) -> None:
        """Hearsay: dial hints, of which one source may give so many."""
        now = trio.current_time()
        keeps_loopback = self._keeps_loopback(told_by)
        hints = [address for address in addresses if keeps_loopback or not address.is_loopback]
        if any([self._book.add(a, now=now, told_by=told_by) for a in hints]):
            self.wake()

    async def _ask_often(self) -> None:
        turn = 0
        while True:
            await trio.sleep(self._limits.exchange_seconds)
            peers = self._connected()
            if peers:
                turn += 1
                await self.learn_from(peers[turn % len(peers)])

    async def _save_often(self) -> None:
        try:
            while True:
                await trio.sleep(_SAVE_SECONDS)
                self._book.save()
        finally:
            self._book.save()
