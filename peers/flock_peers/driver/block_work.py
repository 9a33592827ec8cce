"""Bodies of blocks, beside the loop: built, fetched, checked and committed, each in a task of its own.

Decides nothing: the core asks for it and is told the outcome.
"""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import trio

from flock_chain.consensus.events import BlockBuilt, BlockChecked, BuildBlock, CheckBlock, Decide, Input
from flock_chain.consensus.wire import encode_certificate
from flock_chain.crypto import Account
from flock_chain.errors import InvalidContent, InvalidRemote, Unavailable
from flock_peers.driver.attendance import VoteBook
from flock_peers.driver.bodies import Bodies
from flock_peers.driver.catch_up import Committer
from flock_peers.driver.current import Current
from flock_peers.driver.offences import Offences
from flock_peers.driver.ports import BlockVerdict, SyncPort
from flock_peers.driver.sync import fetch_body
from flock_peers.store.disk import DiskTrouble

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.25  # a body that is nowhere, a block that is too early, a build that failed
BODY_SECONDS = 0.3  # for an answer with a body; then another peer is asked beside
MAX_CHECKS = 4  # blocks under check: each is of another view, and only the newest view's verdict is still voted by


class BlockWork:
    def __init__(
        self,
        current: Current,
        bodies: Bodies,
        votes: VoteBook,
        offences: Offences,
        sync: SyncPort,
        committer: Committer,
        tell: Callable[[Input], Awaitable[None]],
    ) -> None:
        """`tell`: brings an answer to the core."""
        self._current, self._bodies, self._votes, self._offences = current, bodies, votes, offences
        self._sync, self._committer, self._tell = sync, committer, tell
        self._checks: OrderedDict[tuple[int, bytes], None] = OrderedDict()  # the oldest is given up for a new one

    # ---------------------------------------------------------------- what the core asks for

    async def build(self, effect: BuildBlock) -> None:
        current = self._current
        while current.is_open(effect.height) and current.core.view == effect.view:
            try:
                body = await current.ledger.build(
                    effect.height, effect.view, lambda: self._votes.votes(effect.height - 1)
                )
            except DiskTrouble:
                raise  # ours, and trying again does not mend it
            except Unavailable as error:
                log.debug("no block for height %d, view %d yet: %s", effect.height, effect.view, error)
                await trio.sleep(RETRY_SECONDS)
                continue
            block_id = current.ledger.block_id(body)
            self._bodies.put(current.me, effect.height, block_id, body)
            await self._tell(BlockBuilt(effect.height, effect.view, block_id))
            return

    async def check(self, effect: CheckBlock) -> None:
        key = (effect.height, effect.block_id)
        self._checks[key] = None
        if len(self._checks) > MAX_CHECKS:
            self._checks.popitem(last=False)
        try:
            await self._check(effect, lambda: self._current.is_open(effect.height) and key in self._checks)
        finally:
            self._checks.pop(key, None)

    async def _check(self, effect: CheckBlock, is_wanted: Callable[[], bool]) -> None:
        body = await self._find_body(effect.height, effect.block_id, effect.proposer, is_wanted)
        while body is not None and is_wanted():
            verdict = await self._current.ledger.check(body, proposer=effect.proposer)
            if verdict != BlockVerdict.LATER:
                valid = verdict == BlockVerdict.VALID
                if valid:  # its proposer could flush it out before the vote, and then nobody would have it
                    self._bodies.pin(effect.height, effect.block_id, body)
                await self._tell(BlockChecked(effect.height, effect.block_id, valid))
                return
            await trio.sleep(RETRY_SECONDS)

    async def decide(self, effect: Decide) -> bool:
        """Whether the block is final now; False where it became final another way."""
        members = self._current.validators
        leader = members.leader(effect.height, effect.certificate.view) if members else self._current.me
        body = await self._find_body(
            effect.height, effect.block_id, leader, lambda: self._current.is_open(effect.height)
        )
        if body is not None:
            await self._committer.commit(effect.height, body, encode_certificate(effect.certificate))
        return body is not None

    # ---------------------------------------------------------------- bodies

    async def _find_body(
        self, height: int, block_id: bytes, first: Account, is_wanted: Callable[[], bool]
    ) -> bytes | None:
        """Here, or from whoever has it; None once nobody needs it any more."""
        while is_wanted():
            body = self._bodies.get(height, block_id)
            if body is not None:
                return body
            await self._ask_around(height, block_id, first, is_wanted)
            if self._bodies.get(height, block_id) is None:
                await trio.sleep(RETRY_SECONDS)
        return None

    async def _ask_around(self, height: int, block_id: bytes, first: Account, is_wanted: Callable[[], bool]) -> None:
        """`first`, and while there is no answer the others: a silent leader must not hold up who lacks its block."""

        def lacks() -> bool:
            return is_wanted() and self._bodies.get(height, block_id) is None

        async with trio.open_nursery() as nursery:

            async def ask(account: Account, answered: trio.Event) -> None:
                await self._ask(account, height, block_id)
                answered.set()
                if not lacks():
                    nursery.cancel_scope.cancel()

            for account in [first, *(other for other in self._sync.peers() if other != first)]:
                if account != self._current.me and lacks():
                    answered = trio.Event()
                    nursery.start_soon(ask, account, answered)
                    with trio.move_on_after(BODY_SECONDS):
                        await answered.wait()
            while nursery.child_tasks and lacks():
                await trio.sleep(RETRY_SECONDS)
            nursery.cancel_scope.cancel()

    async def _ask(self, account: Account, height: int, block_id: bytes) -> None:
        try:
            body = await fetch_body(self._sync, account, height, block_id)
            if body is None:
                return
            if self._current.ledger.block_id(body) != block_id:
                raise InvalidContent("sync answer: another block than the one asked for")
            self._bodies.put(account, height, block_id, body)
        except Unavailable as error:
            log.debug("no body from 0x%s: %s", account.hex(), error)
        except InvalidRemote as error:
            self._offences.note(account, str(error))
