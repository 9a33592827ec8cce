"""Following the chain by certificates: fetch a range, verify each certificate, execute, commit. Trusts no peer."""

import logging
from collections.abc import Callable

import trio

from flock_chain.consensus.certificates import verify_finality
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.wire import decode_certificate
from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote, Refused, Unavailable
from flock_peers.driver.journal import Journal
from flock_peers.driver.offences import Offences
from flock_peers.driver.ports import LedgerPort, SyncPort
from flock_peers.driver.sync import MAX_WAIT_MS, fetch_range
from flock_peers.store.disk import DiskTrouble

log = logging.getLogger(__name__)

MAX_PEERS_TRIED = 8  # for one hint; the next status of a validator starts anew
PAUSE_SECONDS = 0.25  # after an answer without blocks
CAUGHT_UP_BLOCKS = 2  # so many at once: the network was ahead of this disk


class Committer:
    """The only place where blocks become final here: in order, each once."""

    def __init__(self, ledger: LedgerPort, on_final: Callable[[], None]) -> None:
        self._ledger, self._on_final = ledger, on_final
        self._turn = trio.Lock()

    async def commit(self, height: int, block: bytes, certificate: bytes) -> None:
        """The certificate is verified already; raises Refused where such a block does not execute here."""
        async with self._turn:
            if self._ledger.height() + 1 != height:
                return
            try:
                await self._ledger.commit(block, certificate)
            except InvalidRemote as error:
                raise Refused(
                    f"block {height} is final by its certificate but invalid here ({error}): more than a third of the "
                    "weight misbehaves, or this version computes something else; not following further"
                ) from error
        self._on_final()


class Follower:
    def __init__(
        self,
        ledger: LedgerPort,
        port: SyncPort,
        domain: ChainDomain,
        journal: Journal,
        committer: Committer,
        offences: Offences,
    ) -> None:
        self._ledger, self._port, self._domain, self._journal = ledger, port, domain, journal
        self._committer, self._offences = committer, offences
        self._target = 0
        self._is_running = False

    async def catch_up(self, first: Account, target: int) -> None:
        """Until `target - 1` is final here, from `first` and then from others; gives up after a few peers."""
        self._target = max(self._target, target)
        if self._is_running:
            return
        self._is_running = True
        try:
            others = [account for account in self._port.peers() if account != first]
            for account in [first, *others][:MAX_PEERS_TRIED]:
                while self._ledger.height() + 1 < self._target and await self.fetch(account):
                    pass
                if self._ledger.height() + 1 >= self._target:
                    return
            self._target = 0  # whoever claimed it did not prove it
        finally:
            self._is_running = False

    async def follow(self, is_member: Callable[[], bool]) -> None:
        """A listener's loop: one peer at a time holds the question until there is a next block."""
        turn = 0
        while True:
            peers = [] if is_member() else sorted(self._port.peers())
            if not peers:
                await trio.sleep(PAUSE_SECONDS)
                continue
            if not await self.fetch(peers[turn % len(peers)], wait_ms=MAX_WAIT_MS):
                turn += 1
                await trio.sleep(PAUSE_SECONDS)

    async def fetch(self, account: Account, *, wait_ms: int = 0) -> int:
        """The number of blocks that one answer of this peer made final here; what it does wrong is noted."""
        done = 0
        try:
            rows = await fetch_range(self._port, account, self._ledger.height() + 1, wait_ms=wait_ms)
            first = self._ledger.height() + 1
            for block, certificate in rows:
                await self._adopt(first + done, block, certificate)
                done += 1
        except DiskTrouble:
            raise  # ours, and no other peer's answer mends it
        except Unavailable as error:
            log.debug("sync: 0x%s does not answer: %s", account.hex(), error)
        except InvalidRemote as error:
            self._offences.note(account, str(error))
        if done >= CAUGHT_UP_BLOCKS:
            await self._journal.caught_up(self._ledger.height())
        return done

    async def _adopt(self, height: int, block: bytes, certificate: bytes) -> None:
        """Raises InvalidRemote unless the certificate makes the block final at this height."""
        if self._ledger.height() >= height:
            return
        validators = await self._ledger.validators()
        if self._ledger.height() + 1 != height:
            return
        verify_finality(
            decode_certificate(certificate),
            height=height,
            block_id=self._ledger.block_id(block),
            validators=validators,
            domain=self._domain,
        )
        await self._journal.close_below(height + 1)
        await self._committer.commit(height, block, certificate)
