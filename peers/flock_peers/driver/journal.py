"""The two logs of consensus as the driver uses them. The order on disk: first the write-ahead log, then signatures.

So a remembered vote never lacks the block or the certificate that it rests on. A journal without logs (a listener,
or a validator whose logs are damaged) takes everything and keeps nothing.
"""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.records import BodyRecord, WalRecord
from flock_chain.consensus.signer import Signer, SignerRecord, SigningKey
from flock_chain.consensus.types import Certificate
from flock_peers.store.record_log import CorruptLog
from flock_peers.store.signer_file import WAITING_HEIGHTS, SignerFile, open_signer_file
from flock_peers.store.wal import Wal, open_wal

log = logging.getLogger(__name__)

# After votes of ours that we do not remember: an old copy of the home runs, or this is one. Whether another one signs
# shows in certificates, each of which holds only the first votes of a quorum; so many of them hardly all lack ours.
OLD_MEMORY_HEIGHTS = 16

RunBlocking = Callable[..., Awaitable[None]]


class Journal:
    """Every call is made in trio's thread; only the waits for the disk are not."""

    def __init__(
        self,
        wal: Wal | None = None,
        signer_file: SignerFile | None = None,
        run_blocking: RunBlocking | None = None,
        *,
        reason: str = "",
    ) -> None:
        """`reason`: why it has no signer, for people."""
        self._wal, self._file, self.reason = wal, signer_file, reason
        self._run_blocking = run_blocking or trio.to_thread.run_sync
        self._signed: list[SignerRecord] = []
        self._waiting_heights = WAITING_HEIGHTS
        self._turn = trio.Lock()

    def take_over(self, other: "Journal") -> None:
        """The logs of a peer that was a listener so far and has become a validator."""
        self._wal, self._file, self._run_blocking = other._wal, other._file, other._run_blocking
        self.reason = other.reason

    @property
    def signer(self) -> Signer | None:
        return self._file.signer if self._file and self._wal else None

    def certificates(self, height: int) -> tuple[Certificate, ...]:
        return self._wal.certificates(height) if self._wal else ()

    def bodies(self, height: int) -> tuple[BodyRecord, ...]:
        return self._wal.bodies(height) if self._wal else ()

    def append(self, record: WalRecord) -> None:
        if self._wal:
            self._wal.append(record)

    def append_signed(self, record: SignerRecord) -> None:
        self._signed.append(record)

    async def sync(self) -> None:
        """Returns once everything appended before is durable."""
        async with self._turn:
            signed, self._signed = self._signed, []
            with trio.CancelScope(shield=True):  # records taken out of the list must reach the file
                snapshot = self._file.signer.records() if self._file else []
                await self._run_blocking(self._sync, signed, snapshot)

    def _sync(self, signed: list[SignerRecord], snapshot: list[SignerRecord]) -> None:
        if self._wal:
            self._wal.sync()
        if self._file:
            for record in signed:
                self._file.append(record)
            self._file.sync(snapshot)

    async def start_height(self) -> None:
        if self._wal:
            async with self._turn:
                await self._run_blocking(self._wal.start_height)

    async def close_below(self, height: int) -> None:
        """Before blocks of a range are committed: nothing at a final height is signed any more."""
        record = self.signer.advance(height) if self.signer else None
        if record:
            self.append_signed(record)
            await self.sync()

    def settle(self) -> None:
        """A height was decided here by its votes, not fetched."""
        if self._file:
            self._file.settle()

    def doubt(self, height: int) -> bool:
        """The signer's file lacks what this account signed at `height` or before: wait until it cannot matter.

        In force at once; durable with the next sync: a crash before finds the same reason again. Whether it is news.
        """
        if self._file is None or self.signer is None:
            return False
        is_news, self._file.is_doubtful = self._waiting_heights < OLD_MEMORY_HEIGHTS, True
        self._waiting_heights = OLD_MEMORY_HEIGHTS
        record = self.signer.advance(height + 1 + OLD_MEMORY_HEIGHTS)
        if record:
            self.append_signed(record)
        return is_news

    async def caught_up(self, final_height: int) -> None:
        """The network was ahead of this disk: a signer with an incomplete memory waits."""
        if self._file and self.signer and self._file.is_doubtful:
            await self.close_below(final_height + 1 + self._waiting_heights)
            log.warning("the signer's file is new or old: signing from height %d", self.signer.mark)

    def close(self) -> None:
        if self._wal:
            self._wal.close()
        if self._file:
            self._file.close()


def open_journal(
    folder: Path,
    key: SigningKey,
    domain: ChainDomain,
    *,
    final_height: int,
    run_blocking: RunBlocking | None = None,
) -> Journal:
    """A validator's. Damaged logs: says what to do, and the validator follows without signing.

    Raises Refused while another process signs with this folder.
    """
    try:
        signer_file = open_signer_file(folder / "signer.log", key, domain, final_height=final_height)
    except CorruptLog as error:
        return _follow_only(
            f"{error}; move {folder / 'signer.log'} away, and import a protection export if there is one: it then waits"
        )
    try:
        wal = open_wal(folder / "wal.log")
    except CorruptLog as error:
        signer_file.close()
        return _follow_only(f"{error}; move {folder / 'wal.log'} away: the signer's file beside it remembers the votes")
    if signer_file.signer.mark > final_height + 1:
        log.warning("signing from height %d, when that is reached", signer_file.signer.mark)
    return Journal(wal, signer_file, run_blocking)


def _follow_only(reason: str) -> Journal:
    log.error("this validator only follows and signs nothing: %s; then start again", reason)
    return Journal(reason=reason)
