"""Following the chain by certificates: ranges from several peers, each block verified with the set of its height,
executed in order, many made durable together. Trusts no peer; who serves something wrong is dropped by name.
"""

import logging
from collections.abc import Callable, Collection, Sequence

import trio

from flock_chain.consensus.certificates import verify_finality
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import decode_certificate
from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote, Refused, Unavailable
from flock_peers.driver.claims import Claims
from flock_peers.driver.download import Download
from flock_peers.driver.journal import Journal
from flock_peers.driver.offences import Offences
from flock_peers.driver.ports import LedgerPort, SyncPort
from flock_peers.driver.progress import SyncProgress, SyncStatus
from flock_peers.driver.sync import MAX_WAIT_MS, Head, Row, fetch_head, fetch_range
from flock_peers.store.disk import DiskTrouble

log = logging.getLogger(__name__)

MAX_PEERS_ASKED = 8  # where they are, at once; the next run asks anew
HEAD_GRACE_SECONDS = 0.5  # after the first answer the others have so long
PAUSE_SECONDS = 0.25  # after an answer without blocks
REST_SECONDS = 30.0  # who was slow is asked after everybody else
CAUGHT_UP_BLOCKS = 2  # so many at once: the network was ahead of this disk
BEHIND_BLOCKS = 8  # so many in one answer: several peers are worth asking
FLUSH_BLOCKS = 32  # share one wait for the disk: 10 ms each would halve the speed; at worst they are fetched again


class Committer:
    """The only place where blocks become final here: in order, each once."""

    def __init__(
        self,
        ledger: LedgerPort,
        on_final: Callable[[], None],
        on_certificate: Callable[[bytes, ValidatorSet], None] = lambda _certificate, _validators: None,
    ) -> None:
        """`on_certificate`: is shown each verified one, and the set of its height, before its block is stored."""
        self._ledger, self._on_final, self._on_certificate = ledger, on_final, on_certificate
        self._turn = trio.Lock()

    async def commit(self, height: int, block: bytes, certificate: bytes) -> None:
        """The certificate is verified already; raises Refused where such a block does not execute here."""
        async with self._turn:
            if self._ledger.height() + 1 != height:
                return
            self._on_certificate(certificate, await self._ledger.validators())
            try:
                await self._ledger.commit(block, certificate)
            except InvalidRemote as error:
                raise _refuse(height, error) from error
        self._on_final()

    async def adopt(self, height: int, block: bytes, certificate: bytes) -> None:
        """`commit`, but nobody is told and nothing is durable before `flush`."""
        async with self._turn:
            if self._ledger.height() + 1 != height:
                return
            self._on_certificate(certificate, await self._ledger.validators())
            try:
                await self._ledger.adopt(block, certificate)
            except InvalidRemote as error:
                raise _refuse(height, error) from error

    async def flush(self) -> None:
        async with self._turn:
            await self._ledger.flush()
        self._on_final()


def _refuse(height: int, error: InvalidRemote) -> Refused:
    return Refused(
        f"block {height} is final by its certificate but invalid here ({error}): more than a third of the weight "
        "misbehaves, this release computes something else, or the network follows an upgrade schedule that is not "
        "installed here (`upgrade`); not following further"
    )


def _choose(peers: Sequence[Account], validators: Collection[Account], turn: int) -> Account:
    """Every second time a validator where one is connected: listeners that ask each other in a ring hear of no block
    until one of them asks somebody else. The other times anybody: a validator may hold questions and answer none."""
    deciding = [account for account in peers if account in validators]
    if deciding and turn % 2 == 0:
        return deciding[turn // 2 % len(deciding)]
    return peers[(turn // 2 if deciding else turn) % len(peers)]


class Follower:
    def __init__(
        self,
        ledger: LedgerPort,
        port: SyncPort,
        domain: ChainDomain,
        journal: Journal,
        committer: Committer,
    ) -> None:
        self._ledger, self._port, self._domain, self._journal = ledger, port, domain, journal
        self._committer = committer
        self._dropped = Offences()  # as providers of blocks only: a bad disk must not cost a validator its voice
        self._resting: dict[Account, float] = {}
        self._claims = Claims()
        self._is_running = False
        self._unflushed = 0
        self._stuck_at = -1  # the height at which nobody was left to ask; said once
        self._progress: SyncProgress | None = None

    @property
    def status(self) -> SyncStatus | None:
        """None while nothing is caught up with."""
        return self._progress.status() if self._progress else None

    # ---- when

    async def catch_up(self, first: Account, target: int) -> None:
        """Until `target - 1` is final here, or nobody serves more. `first`: who says that there is such a height."""
        if not self._claims.take(first, target) or self._is_running:
            return
        while self._ledger.height() + 1 < self._claims.target and await self.download(first):
            pass
        height = self._ledger.height()
        for account in self._claims.close(height + 1):
            self._dropped.mention(account, f"says again that there are blocks after {height}, and nobody serves one")

    async def follow(
        self, is_member: Callable[[], bool], validators: Callable[[], Collection[Account]] = tuple
    ) -> None:
        """A listener's loop: level first; then one peer at a time holds the question until there is a next block."""
        turn, is_level = 0, False
        while True:
            peers = [] if is_member() else [account for account in sorted(self._port.peers()) if self._is_good(account)]
            if not peers:
                is_level = False
                await trio.sleep(PAUSE_SECONDS)
                continue
            if not is_level:
                is_level = not await self.download(peers[turn % len(peers)])
                continue
            done = await self._follow_one(_choose(peers, validators(), turn))
            is_level = done < BEHIND_BLOCKS
            if not done:
                turn += 1
                await trio.sleep(PAUSE_SECONDS)

    async def _follow_one(self, account: Account) -> int:
        """The number of blocks that one held answer of this peer made final here."""
        before = self._ledger.height()
        try:
            first = before + 1
            for offset, row in enumerate(await fetch_range(self._port, account, first, wait_ms=MAX_WAIT_MS)):
                await self._adopt(first + offset, row)
        except DiskTrouble:
            raise  # ours, and no other peer's answer mends it
        except Unavailable as error:
            log.debug("sync: 0x%s does not answer: %s", account.hex(), error)
        except InvalidRemote as error:
            self._on_wrong(account, str(error))
        finally:
            with trio.CancelScope(shield=True):
                await self._settle()
        return self._ledger.height() - before

    # ---- from several peers

    def _is_good(self, account: Account) -> bool:
        return not self._dropped.is_ignored(account)

    async def download(self, first: Account) -> int:
        """One run; returns how many heights higher the ledger is."""
        if self._is_running:
            await trio.sleep(PAUSE_SECONDS)
            return 0
        self._is_running = True
        before = self._ledger.height()
        try:
            heads = await self._ask_heads(first)
            usable = {account: head for account, head in heads.items() if head.base <= before + 1 <= head.height}
            if usable:
                await self._run(Download(
                    self._port, usable, before, on_wrong=self._on_wrong, on_slow=self._on_slow
                ))  # fmt: skip
            elif any(head.height > before for head in heads.values()):
                lowest = min(head.base for head in heads.values() if head.height > before)
                log.warning(
                    "sync: no connected peer serves block %d, the lowest served is %d: connect to a peer with the "
                    "whole chain, or start from a checkpoint (join --checkpoint)",
                    *(before + 1, lowest),
                )
        finally:
            self._is_running = False
        return self._ledger.height() - before

    async def _run(self, download: Download) -> None:
        progress = SyncProgress(self._ledger.height())

        async def adopt(height: int, row: Row) -> None:
            await self._adopt(height, row)
            progress.note_providers(download.providers, download.target)
            progress.tell(self._ledger.height())

        progress.target = download.target
        self._progress = progress
        try:
            await download.run(adopt, self._settle)
        finally:
            self._progress = None
            with trio.CancelScope(shield=True):
                await self._settle()
            progress.log_end()

    async def _ask_heads(self, first: Account) -> dict[Account, Head]:
        """Those that answer soon, `first` first and who was slow lately last."""
        now = trio.current_time()
        self._resting = {account: until for account, until in self._resting.items() if until > now}
        known = [account for account in self._port.peers() if self._is_good(account)]
        known.sort(key=lambda account: (account in self._resting, account != first))
        asked = known[:MAX_PEERS_ASKED]
        found: dict[Account, Head] = {}

        async def ask(account: Account) -> None:
            try:
                found[account] = await fetch_head(self._port, account)
            except Unavailable as error:
                log.debug("sync: 0x%s does not say where it is: %s", account.hex(), error)
                return
            except InvalidRemote as error:
                self._on_wrong(account, str(error))
                return
            deadline = trio.current_time() + HEAD_GRACE_SECONDS
            nursery.cancel_scope.deadline = min(nursery.cancel_scope.deadline, deadline)

        async with trio.open_nursery() as nursery:
            for account in asked:
                nursery.start_soon(ask, account)
        return {account: found[account] for account in asked if account in found}

    def _on_wrong(self, account: Account, reason: str) -> None:
        self._dropped.drop(account, f"as a provider of blocks: {reason}")
        height = self._ledger.height()
        if self._stuck_at != height and not any(self._is_good(other) for other in self._port.peers()):
            self._stuck_at = height
            log.warning(
                "sync: what every connected peer serves after height %d is wrong by what is installed here; where the "
                "operators restarted a halted chain or agreed on an upgrade, stop this peer, install their document "
                "(`restart apply`, `upgrade --install`) and start it again",
                height,
            )

    def _on_slow(self, account: Account, reason: str) -> None:
        log.info("sync: 0x%s rests for %.0f s: %s", account.hex(), REST_SECONDS, reason)
        self._resting[account] = trio.current_time() + REST_SECONDS

    # ---- one block

    async def _adopt(self, height: int, row: Row) -> None:
        """Raises InvalidRemote unless the certificate makes the block final at this height."""
        if self._ledger.height() >= height:
            return
        block, certificate = row
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
        if not self._unflushed:  # the core cannot reach a later height before it is told
            await self._journal.close_below(height + 1)
        self._unflushed += 1
        await self._committer.adopt(height, block, certificate)
        if self._unflushed >= FLUSH_BLOCKS:
            await self._settle()

    async def _settle(self) -> None:
        """What was adopted becomes durable, and the core is told."""
        blocks, self._unflushed = self._unflushed, 0
        if not blocks:
            return
        if blocks >= CAUGHT_UP_BLOCKS:
            await self._journal.caught_up(self._ledger.height())
        await self._committer.flush()
