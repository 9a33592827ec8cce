"""What a peer needs before it takes part in a task: a chain as high as the network's, and coins for gas.

Knows no task and no socket.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import trio

from flock_chain.crypto import Account
from flock_chain.errors import FlockError
from flock_peers.driver.ports import SyncPort
from flock_peers.driver.sync import fetch_head
from flock_peers.ledger import BlockInfo
from flock_peers.plural import plural

log = logging.getLogger(__name__)

FAUCET_SECONDS = 10.0  # from one search of a newcomer for coins to the next
MAX_HELPERS = 8  # asked in one search: most of those it is connected to may be newcomers without coins themselves
MAX_LEVEL_PEERS = 8  # asked how far they are: a few liars among them change nothing
YOUNG_SECONDS = 30.0  # a head of this age is the network's: no crowd of liars can keep a peer from its tasks


class Chain(Protocol):
    """What is needed of the ledger."""

    @property
    def head(self) -> BlockInfo: ...
    def height(self) -> int: ...


class Arrival:
    def __init__(self, chain: Chain, sync: SyncPort, ask_faucet: Callable[[Account], Awaitable[object]]) -> None:
        """`ask_faucet`: asks one peer to submit the faucet's drip for this account; raises a FlockError where it does
        not."""
        self._chain, self._sync, self._ask_faucet = chain, sync, ask_faucet
        self._told_level = False
        self._faucet_turn, self._faucet_asked_at = 0, -FAUCET_SECONDS

    async def is_level(self) -> bool:
        """Whether the head is young, or most of the connected peers know no block beyond it."""
        height = self._chain.height()
        asked = list(self._sync.peers())[:MAX_LEVEL_PEERS]
        answers = await self._ask_heads(asked, height)
        is_young = self._chain.head.timestamp >= time.time() - YOUNG_SECONDS
        is_level = is_young or 0 < answers.count(False) >= answers.count(True)
        if is_level:
            log.info("connected to %s and level at height %d", plural(len(asked), "peer"), height)
        elif not self._told_level:
            self._told_level = True
            log.info("connected to %s, at height %d; waiting for the chain", plural(len(asked), "peer"), height)
        return is_level

    async def _ask_heads(self, accounts: Sequence[Account], height: int) -> list[bool]:
        """Of each that answers, whether it knows a later block; all at once, so that the silent cost one wait."""
        answers: list[bool] = []

        async def ask(account: Account) -> None:
            try:
                answers.append((await fetch_head(self._sync, account)).height > height)
            except FlockError as error:
                log.debug("0x%s does not say how far it is: %s", account.hex(), error)

        async with trio.open_nursery() as nursery:
            for account in accounts:
                nursery.start_soon(ask, account)
        return answers

    async def ask_for_coins(self) -> None:
        """A newcomer has no gas: it asks its peers, one after the other until one does it, to submit the faucet's drip
        for it."""
        peers = list(self._sync.peers())
        began = trio.current_time()
        if not peers or began - self._faucet_asked_at < FAUCET_SECONDS:
            return
        self._faucet_asked_at = began
        log.info("asking %s for faucet coins", plural(min(len(peers), MAX_HELPERS), "peer"))
        why = ""
        for _ in range(min(len(peers), MAX_HELPERS)):
            self._faucet_turn += 1
            why = await self._why_not(peers[self._faucet_turn % len(peers)])
            if not why:
                return
            if trio.current_time() - began >= FAUCET_SECONDS:  # whoever is silent costs the others their turn
                break
        log.info("faucet: nobody submits for this account now; the last one: %s", why)

    async def _why_not(self, helper: Account) -> str:
        """Empty where it does."""
        try:
            await self._ask_faucet(helper)
        except FlockError as error:
            log.debug("faucet: 0x%s does not: %s", helper.hex(), error)
            return str(error)
        log.info("faucet: 0x%s submits for this account", helper.hex())
        return ""
