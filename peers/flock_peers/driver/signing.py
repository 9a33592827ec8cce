"""Whether this peer may sign with its key: level with a quorum first, silent once somebody else signs with it.

Owns the logs and what is known of this account's own votes. What is signed is the core's to decide.
"""

import logging
from collections.abc import Callable

from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.signer import SignRecord
from flock_chain.consensus.types import Message
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import decode_certificate
from flock_peers.driver.current import Current
from flock_peers.driver.journal import Journal
from flock_peers.driver.level import Level
from flock_peers.driver.own_votes import OwnVotes

log = logging.getLogger(__name__)

Enlist = Callable[[int], Journal]


class Signing:
    def __init__(
        self,
        current: Current,
        domain: ChainDomain,
        journal: Journal,
        make_level: Callable[[], Level],
        enlist: Enlist | None,
    ) -> None:
        """`enlist`: opens the logs, at a final height, of who is no validator yet, once it is in a set."""
        self.journal = journal
        self._current, self._make_level, self._enlist = current, make_level, enlist
        self._own = OwnVotes(domain, current.me, journal.signer)
        self._level_height: int | None = None  # the head when this process began to sign; None before
        self._refusal = ""  # of the signer, last time

    # ---------------------------------------------------------------- level

    async def become_level(self) -> None:
        """A signer first learns how far the network is: it may not know what it signed there."""
        if self.journal.signer is not None and self._current.is_member:
            await self._reach_level()
        self._level_height = self._current.ledger.height()

    async def _reach_level(self, *, before_entering: bool = False) -> None:
        ledger = self._current.ledger
        before = ledger.height()
        await self._make_level().reach(before_entering=before_entering)
        if ledger.height() > before:
            await self.journal.caught_up(ledger.height())

    def takes_part(self) -> bool:
        """Whether blocks come to it by votes. A validator that waits asks for them: its messages may go to a copy."""
        current = self._current
        if not current.height and self._level_height is None and self.journal.signer is not None:
            return current.is_member  # what it lacks is fetched while it asks how far the others are
        return current.is_member and current.core.is_voting

    # ---------------------------------------------------------------- entering a set

    async def enters_soon(self) -> bool:
        """Who has no logs yet is in the running set or in the next one."""
        if self._enlist is None:
            return False
        current = self._current
        return current.is_member or current.me in await current.ledger.next_validators()

    def open_logs(self, height: int) -> None:
        """An epoch ahead: new logs do not sign at once, and the set may need this vote in its first height."""
        assert self._enlist is not None
        enlist, self._enlist = self._enlist, None
        self.journal.take_over(enlist(height - 1))
        self._own.use_signer(self.journal.signer)
        self._level_height = None
        log.info("height %d: this peer is a validator now, or will be in the next epoch", height)

    async def enter(self) -> None:
        """After `open_logs`, as at a start: this key may have signed blocks elsewhere that are still to come here."""
        await self._reach_level(before_entering=True)
        self._level_height = self._current.ledger.height()
        self._current.core.use_signer(self.journal.signer)

    # ---------------------------------------------------------------- own votes

    def note_signed(self, record: SignRecord) -> None:
        self._own.note(record)

    def note_refusal(self, reason: str) -> None:
        self._refusal = reason
        log.error("not voting at height %d any more: %s", self._current.height, reason)

    def look_into(self, certificate: bytes, validators: ValidatorSet) -> None:
        """Of a block that becomes final here, verified; `validators`: of its height."""
        self.look_for_double(decode_certificate(certificate), validators)

    def look_for_double(self, message: Message, validators: ValidatorSet | None) -> None:
        """A vote of this account that was not made here: our past, up to the height at which we began; else a copy."""
        vote = self._own.find_unknown(message, validators) if validators else None
        signer = self.journal.signer
        if vote is None or signer is None or signer.stopped:
            return
        what = f"a {vote.kind.name} vote of height {vote.height}, view {vote.view}, with this validator's key"
        if self._level_height is None or vote.height <= self._level_height + 1:
            if self.journal.doubt(max(vote.height, self._current.ledger.height())):
                log.warning("%s is not in the signer's file: the file is old, so it waits", what)
            return
        self._refusal = f"another process made {what}: stop the copy of this home, then start this one again"
        signer.stop(self._refusal)
        log.error("signing nothing more: %s; two signers of one key lose its stake", self._refusal)

    # ---------------------------------------------------------------- for people

    def explain_silence(self) -> str:
        """Why a validator does not sign; empty while it does, and for who is no validator."""
        current, signer = self._current, self.journal.signer
        if not current.is_member or current.core.is_voting:
            return ""
        if signer is None:
            return self.journal.reason or "not started yet"
        if self._level_height is None:
            return "has not heard yet from validators with a quorum of weight how far they are"
        if signer.stopped:
            return self._refusal
        if not signer.may_sign(current.height):
            return f"waits for height {signer.mark}: its signer's file was new or old"
        return self._refusal or "not started yet"
