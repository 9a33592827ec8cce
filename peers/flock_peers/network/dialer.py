"""From an address to a peer of this network that is connected: by its relay where it has one, then hello.

Makes one attempt; who is dialed when, and again, is the connector's.
"""

from collections.abc import Callable

import trio

from flock_chain.crypto import Account
from flock_chain.errors import Misuse, Unavailable
from flock_peers.network.addresses import AddressBook
from flock_peers.network.handshake import Handshake
from flock_peers.network.identity import Address, parse_address
from flock_peers.network.limits import Limits
from flock_peers.network.peer_table import PeerTable
from flock_peers.network.stack import Stack


class Dialer:
    """`find_stack`: the one that runs, None while there is none."""

    def __init__(
        self, account: Account, table: PeerTable, book: AddressBook, limits: Limits, handshake: Handshake,
        find_stack: Callable[[], Stack | None],
    ) -> None:  # fmt: skip
        self._account, self._table, self._book, self._limits = account, table, book, limits
        self._handshake, self._find_stack = handshake, find_stack

    async def connect(self, text: str) -> Account:
        """Also from now on, as one that the user named. Raises as `Host.connect` says."""
        address = parse_address(text)
        if address.account == self._account:
            raise Misuse(f"address {text}: that is this peer itself")
        is_connected = self._table.is_connected(address.account)
        if not is_connected:
            await self.dial(address)
        self._book.add(address, is_bootstrap=True)
        if not is_connected:
            self._book.on_success(address.account, trio.current_time(), address)
        return address.account

    async def dial(self, address: Address) -> None:
        """Raises Unavailable (nobody there, banned, no room) or InvalidRemote (somebody else, another network)."""
        banned = self._table.ban_left(address.account)
        if banned > 0:
            raise Unavailable(f"0x{address.account.hex()} is banned for {banned:.0f} s more")
        try:
            with trio.fail_after(self._limits.dial_seconds):
                while (stack := self._find_stack()) is None:
                    await self._table.wait_changed()
                if address.relay is not None and not self._table.is_connected(address.relay_address.account):
                    await self.dial(address.relay_address)
                await self._greet(stack, address)
        except trio.TooSlowError as error:
            raise Unavailable(f"{address}: no answer within {self._limits.dial_seconds:.0f} s") from error

    async def _greet(self, stack: Stack, address: Address) -> None:
        link = await stack.dial(address)
        try:
            await self._handshake.say(link)
        except BaseException:
            link.abort()
            raise
