"""Before a validator signs anything after a start: is its disk as far as the network? Trusts no single peer.

A key in a new home, or a home from an old copy, does not know what it signed since. So validators that hold, with this
one, a quorum are asked first; what they have more is fetched. Without a quorum no block could be decided anyway.
"""

import logging

import trio

from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote, Unavailable
from flock_peers.driver.catch_up import Follower
from flock_peers.driver.ports import LedgerPort, SyncPort
from flock_peers.driver.sync import fetch_head

log = logging.getLogger(__name__)

ASK_SECONDS = 3.0  # for one answer; who needs longer is asked again
PAUSE_SECONDS = 0.1
SAY_SECONDS = 10.0  # between two lines that it waits


class Level:
    def __init__(self, ledger: LedgerPort, port: SyncPort, follower: Follower, me: Account) -> None:
        self._ledger, self._port, self._follower, self._me = ledger, port, follower, me
        self._heard: set[Account] = set()  # who had nothing more when asked
        self._ahead: list[Account] = []

    async def reach(self, *, before_entering: bool = False) -> None:
        """Returns once a quorum of weight, this validator's included, knew no later block.

        Who is in no set has nothing to wait for, unless it enters one soon (`before_entering`).
        """
        said = trio.current_time()
        while self._me in (validators := await self._ledger.validators()) or before_entering:
            weight = self._weight(validators)
            if weight >= validators.quorum:
                return
            before = self._ledger.height()
            await self._ask_all(validators)
            if self._ahead and self._weight(validators) < validators.quorum:  # who boasts alone is nobody to wait for
                await self._follower.download(self._ahead[0])
            if trio.current_time() - said > SAY_SECONDS:
                said = trio.current_time()
                log.info(
                    "not signing yet: heard from %d of the weight %d that a block needs", weight, validators.quorum
                )
            if self._ledger.height() == before:
                await trio.sleep(PAUSE_SECONDS)

    def _weight(self, validators: ValidatorSet) -> int:
        return sum(validators.weight(account) for account in {*self._heard, self._me} if account in validators)

    async def _ask_all(self, validators: ValidatorSet) -> None:
        self._ahead = []
        async with trio.open_nursery() as nursery:
            for account in self._port.peers():
                if account in validators and account not in self._heard:
                    nursery.start_soon(self._ask, account)

    async def _ask(self, account: Account) -> None:
        try:
            with trio.move_on_after(ASK_SECONDS):
                head = await fetch_head(self._port, account)
                if head.height > self._ledger.height():
                    self._ahead.append(account)
                else:
                    self._heard.add(account)
        except (Unavailable, InvalidRemote) as error:
            log.debug("0x%s does not say how far it is: %s", account.hex(), error)
