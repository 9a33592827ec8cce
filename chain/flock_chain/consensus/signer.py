"""The only holder of the validator key: signs votes, refuses slashable ones, emits the records that make it remember.

Pure. A signature may leave this machine only after its record is durable; whoever owns the file sees to that.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.types import NO_BLOCK, Kind, Vote
from flock_chain.crypto import Account
from flock_chain.errors import Refused


class SigningKey(Protocol):
    @property
    def account(self) -> Account: ...

    def sign(self, digest: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class SignRecord:
    """This statement was signed (signatures are deterministic, so the record carries none)."""

    kind: Kind
    height: int
    view: int
    block_id: bytes
    parent_view: int


@dataclass(frozen=True, slots=True)
class MarkRecord:
    """Nothing below this height is signed any more."""

    height: int


SignerRecord = SignRecord | MarkRecord


class Signer:
    """Remembers what it signed at the height of its mark; every lower height is closed for ever."""

    def __init__(self, key: SigningKey, domain: ChainDomain, records: Iterable[SignerRecord] = ()) -> None:
        self._key = key
        self._domain = domain
        self._mark = 0
        self._stopped = ""
        self._signed: dict[tuple[Kind, int], SignRecord] = {}
        for record in records:
            self._replay(record)

    @property
    def account(self) -> Account:
        return self._key.account

    @property
    def mark(self) -> int:
        """The lowest height that it signs."""
        return self._mark

    @property
    def stopped(self) -> str:
        """Why it signs nothing any more; empty while it does."""
        return self._stopped

    def stop(self, reason: str) -> None:
        """Sign nothing more, for as long as this object lives."""
        self._stopped = reason

    def may_sign(self, height: int) -> bool:
        return not self._stopped and height >= self._mark

    def records(self) -> list[SignerRecord]:
        """What a compacted file must hold."""
        return [MarkRecord(self._mark), *self._signed.values()]

    def advance(self, height: int) -> MarkRecord | None:
        """Close every height below `height`; the record to persist, or None where they are closed already."""
        if height <= self._mark:
            return None
        self._mark = height
        self._signed.clear()
        return MarkRecord(height)

    def sign(
        self, kind: Kind, height: int, view: int, block_id: bytes = NO_BLOCK, parent_view: int = 0
    ) -> tuple[Vote, SignRecord | None]:
        """The vote, and its record unless it was signed before. Raises Refused for anything slashable."""
        if self._stopped:
            raise Refused(f"signer: {self._stopped}")
        record = SignRecord(kind, height, view, block_id, parent_view)
        known = self.remembers(record)
        if not known:
            self._refuse_conflict(record)
            self.advance(height)
            self._signed[(kind, view)] = record
        return self._vote(record), None if known else record

    def votes(self, height: int) -> list[Vote]:
        """Everything signed at `height`, signed again (the same bytes)."""
        return [self._vote(record) for record in self._signed.values() if record.height == height]

    def remembers(self, record: SignRecord) -> bool:
        """Whether it signed exactly this, at the height of its mark."""
        return self._signed.get((record.kind, record.view)) == record

    def _refuse_conflict(self, record: SignRecord) -> None:
        if record.height < self._mark:
            raise Refused(f"signer: height {record.height} is below the mark of {self._mark}")
        if record.height > self._mark:
            return
        if (record.kind, record.view) in self._signed:
            raise Refused(
                f"signer: a different {record.kind.name} of height {record.height} view {record.view} is signed"
            )
        for one, other in ((Kind.NULLIFY, Kind.FINALIZE), (Kind.FINALIZE, Kind.NULLIFY)):
            if record.kind == one and (other, record.view) in self._signed:
                raise Refused(f"signer: {one.name} after {other.name} in height {record.height} view {record.view}")

    def _replay(self, record: SignerRecord) -> None:
        if isinstance(record, MarkRecord):
            self.advance(record.height)
        elif record.height >= self._mark and not self.remembers(record):
            self._refuse_conflict(record)
            self.advance(record.height)
            self._signed[(record.kind, record.view)] = record

    def _vote(self, record: SignRecord) -> Vote:
        digest = self._domain.digest(record.kind, record.height, record.view, record.block_id, record.parent_view)
        signature = self._key.sign(digest)
        return Vote(
            record.kind, record.height, record.view, record.block_id, record.parent_view, self.account, signature
        )
