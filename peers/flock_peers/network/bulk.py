"""Second connections that carry files alone, so that no vote waits behind one. Dialed by who fetches, closed when idle.

Knows who has one, who may, and when to dial; nothing of what goes over it. Who cannot be dialed is asked over the
connection that is there.
"""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import trio

from flock_chain.crypto import Account
from flock_chain.errors import FlockError, Unavailable
from flock_peers.network.addresses import AddressBook
from flock_peers.network.handshake import Handshake
from flock_peers.network.identity import Address
from flock_peers.network.limits import Limits
from flock_peers.network.link import Link, Stream
from flock_peers.network.peer_table import PeerTable
from flock_peers.network.stack import Stack

log = logging.getLogger(__name__)

BULK = "/flock/bulk/1"  # hello of such a connection, in place of the ordinary one
_MAX_REFUSED = 256  # accounts cost nothing


class BulkLinks:
    """`find_stack`: the one that runs, if one does; `start` runs a contained task while the host lives."""

    def __init__(
        self, table: PeerTable, book: AddressBook, limits: Limits, handshake: Handshake,
        find_stack: Callable[[], Stack | None], start: Callable[[Callable[[], Awaitable[None]]], None],
    ) -> None:  # fmt: skip
        self._table, self._book, self._limits = table, book, limits
        self._handshake, self._find_stack, self._start = handshake, find_stack, start
        self._dialing: dict[Account, trio.Event] = {}
        self._refused: OrderedDict[Account, float] = OrderedDict()  # until when it is not dialed again

    async def get(self, account: Account) -> Link | None:
        """The one that is there, or a new one; None where there can be none, for then any other will do."""
        while (link := self._table.bulk_link(account)) is None:
            if account not in self._dialing:
                return await self._open(account)
            await self._dialing[account].wait()
            if account in self._refused:
                return None
        return link

    async def _open(self, account: Account) -> Link | None:
        entry = self._book.entries.get(account)
        if entry is None or not entry.addresses or self._refused.get(account, 0.0) > trio.current_time():
            return None
        done = self._dialing[account] = trio.Event()
        try:
            with trio.fail_after(self._limits.open_seconds):
                link = await self._dial(entry.addresses[0])
            self._refused.pop(account, None)
            self._start(lambda: self._close_idle(link))
            return link
        except (FlockError, trio.TooSlowError) as error:
            log.debug("no second connection to 0x%s: %s", account.hex(), error)
            if len(self._refused) >= _MAX_REFUSED:
                self._refused.popitem(last=False)
            self._refused[account] = trio.current_time() + self._limits.bulk_again_seconds
            return None
        finally:
            del self._dialing[account]
            done.set()

    async def _dial(self, address: Address) -> Link:
        """Its hello is said by BULK. Raises Unavailable where this side or the other has no room, or nobody answers."""
        stack = self._find_stack()
        if stack is None or not self._table.has_room_for_bulk(address.account, outbound=True):
            raise Unavailable("no room for a second connection")
        link = await stack.dial(address)
        link.is_bulk = True
        try:
            await self._handshake.say(link, BULK)
        except BaseException:
            link.abort()
            raise
        if link.closed.is_set():
            raise Unavailable("the second connection was closed at once")
        return link

    async def answer(self, stream: Stream) -> None:
        """The listener's side of its hello."""
        if not stream.link.admitted.is_set():  # what a connection is for does not change
            stream.link.is_bulk = True
        await self._handshake.answer(stream)

    def admit(self, link: Link) -> None:
        if not self._table.has_room_for_bulk(link.account, outbound=link.outbound):
            link.abort()
            return
        link.admitted.set()
        self._table.add_bulk(link)

    async def _close_idle(self, link: Link) -> None:
        while not link.closed.is_set():
            before = link.is_idle
            with trio.move_on_after(self._limits.bulk_idle_seconds / 2):
                await link.closed.wait()
            if before and link.is_idle:
                await link.close()
                return
