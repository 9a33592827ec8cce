"""What must hold through any number of crashes: the judge of the crash programs. Starts and kills nothing.

It keeps every signed statement that anybody heard or that stood in a signer's file, every head and every receipt that
a peer reported, and says what contradicts what.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from flock_chain.consensus.certificates import SignatureChecker, votes_of
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.evidence import is_slashable
from flock_chain.consensus.records import decode_signer_record
from flock_chain.consensus.signer import MarkRecord, SignRecord
from flock_chain.consensus.types import Certificate, Kind, Proposal, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import decode_certificate, decode_message
from flock_chain.crypto import Account
from flock_chain.errors import FlockError
from flock_chain.execution import records
from flock_peers.store.chain_store import ChainStore
from flock_peers.store.record_log import scan

Statement = tuple[Kind, bytes, int]  # of one signer, height and view: kind, block, parent view


@dataclass(frozen=True)
class SignerMemory:
    """A signer's file as a crash left it."""

    mark: int
    signed: frozenset[SignRecord]


def read_signer_log(path: Path) -> SignerMemory:
    """Without changing it; a torn tail is nothing. Raises CorruptLog."""
    mark, signed = 0, set()
    for kind, payload in scan(path.read_bytes())[0]:
        record = decode_signer_record(kind, payload)
        if isinstance(record, MarkRecord):
            mark = max(mark, record.height)
        else:
            mark = max(mark, record.height)
            signed.add(record)
    return SignerMemory(mark, frozenset(signed))


class Statements:
    """Who signed what. Every signature from the wire is verified; a slashable pair is a violation."""

    def __init__(self, domain: ChainDomain, validators: ValidatorSet) -> None:
        self._checker, self._validators = SignatureChecker(domain), validators
        self._rows: dict[tuple[Account, int, int], set[Statement]] = {}
        self.violations: list[str] = []
        self.count = 0

    def hear(self, sender: Account, payload: bytes) -> list[Vote]:
        """The statements in one message that nobody had heard yet."""
        message, _ = decode_message(payload, sender)
        if isinstance(message, Vote):
            return self._add_all([message])
        if isinstance(message, Proposal):
            return self._add_all([message.vote, *(v for c in message.certificates for v in self._unpack(c))])
        return self._add_all(self._unpack(message)) if isinstance(message, Certificate) else []

    def _unpack(self, certificate: Certificate) -> Iterable[Vote]:
        return votes_of(certificate, self._validators)

    def _add_all(self, votes: Iterable[Vote]) -> list[Vote]:
        return [vote for vote in votes if self._add(vote)]

    def add_certificate(self, data: bytes) -> None:
        self._add_all(self._unpack(decode_certificate(data)))

    def _add(self, vote: Vote) -> bool:
        if self.knows(vote.signer, vote.height, vote.view, (vote.kind, vote.block_id, vote.parent_view)):
            return False
        self._checker.check(vote)
        return self._insert(vote)

    def knows(self, signer: Account, height: int, view: int, statement: Statement) -> bool:
        return statement in self._rows.get((signer, height, view), ())

    def add_record(self, signer: Account, record: SignRecord) -> None:
        """Of the signer's own file, which holds no signatures."""
        r = record
        if not self.knows(signer, r.height, r.view, (r.kind, r.block_id, r.parent_view)):
            self._insert(Vote(r.kind, r.height, r.view, r.block_id, r.parent_view, signer, b""))

    def _insert(self, vote: Vote) -> bool:
        known = self._rows.setdefault((vote.signer, vote.height, vote.view), set())
        for kind, block_id, parent_view in known:
            other = Vote(kind, vote.height, vote.view, block_id, parent_view, vote.signer, b"")
            if is_slashable(other, vote):
                self.violations.append(
                    f"0x{vote.signer.hex()} signed {kind.name} and {vote.kind.name} against itself at height "
                    f"{vote.height}, view {vote.view}"
                )
        known.add((vote.kind, vote.block_id, vote.parent_view))
        self.count += 1
        return True

    def check_memory(self, signer: Account, memory: SignerMemory) -> None:
        """Whatever was heard of a signer must have been in its file before it left: nothing is sent unsynced."""
        known = {(r.height, r.view, (r.kind, r.block_id, r.parent_view)) for r in memory.signed}
        for (account, height, view), statements in self._rows.items():
            if account != signer or height < memory.mark:
                continue
            for statement in statements:
                if (height, view, statement) not in known:
                    self.violations.append(
                        f"0x{signer.hex()}: {statement[0].name} of height {height}, view {view} was heard, but its "
                        f"signer's file (mark {memory.mark}) does not hold it"
                    )
        for record in memory.signed:
            self.add_record(signer, record)


@dataclass
class Reports:
    """What peers said was final: heads and receipts. At the end every chain must hold all of it."""

    heads: dict[int, tuple[str, str]] = field(default_factory=dict)  # height -> block, state root
    receipts: dict[str, int] = field(default_factory=dict)  # transaction -> height
    violations: list[str] = field(default_factory=list)

    def head(self, height: int, block: str, state_root: str) -> None:
        known = self.heads.setdefault(height, (block, state_root))
        if known != (block, state_root):
            self.violations.append(f"height {height}: reported as {known[0]} and as {block}")

    def receipt(self, transaction: str, height: int) -> None:
        known = self.receipts.setdefault(transaction, height)
        if known != height:
            self.violations.append(f"transaction {transaction}: reported final at {known} and at {height}")

    def check_chain(self, name: str, folder: Path, statements: Statements) -> int:
        """A stopped peer's chain against all reports; the height it reaches."""
        with ChainStore(folder, read_only=True) as store:
            height = 0
            while (data := records.read_block_bytes(store, height + 1)) is not None:
                height += 1
                block = records.read_block(store, height)
                self.head(height, block.id.hex(), block.header.state_root.hex())
                certificate = store.get(records.certificate_key(height))
                if certificate is None or not data:
                    self.violations.append(f"{name}: block {height} has no certificate")
                else:
                    statements.add_certificate(certificate)
            for transaction, at in self.receipts.items():
                receipt = records.read_receipt(store, bytes.fromhex(transaction))
                if at <= height and (receipt is None or receipt.height != at):
                    self.violations.append(f"{name}: transaction {transaction}, reported final at {at}, is lost")
        return height


def describe(error: FlockError) -> str:
    return f"{type(error).__name__}: {error}"
