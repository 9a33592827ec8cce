"""Who signed what, through any number of crashes: the judge of the crash programs. Starts and kills nothing.

It keeps every signed statement that anybody heard or that stood in a signer's file, says what contradicts what, and
who was waited for and is back. Knows no chain; what peers reported as final is judged in crash_reports.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
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
from flock_peers.store.record_log import scan

Statement = tuple[Kind, bytes, int]  # of one signer, height and view: kind, block, parent view


@dataclass(frozen=True)
class SignerMemory:
    """A signer's file as a crash left it. A file that was rewritten begins with the mark below which it forgot all."""

    floor: int
    signed: frozenset[SignRecord]


def read_signer_log(path: Path) -> SignerMemory:
    """Without changing it; a torn tail is nothing, and so is a file that is not there. Raises CorruptLog."""
    rows = scan(path.read_bytes())[0] if path.exists() else []
    found = [decode_signer_record(kind, payload) for kind, payload in rows]
    floor = found[0].height if found and isinstance(found[0], MarkRecord) else 0
    return SignerMemory(floor, frozenset(record for record in found if isinstance(record, SignRecord)))


class Statements:
    """Who signed what. Every signature from the wire is verified; a slashable pair is a violation."""

    def __init__(self, domain: ChainDomain, validators: ValidatorSet) -> None:
        self._checker, self._validators = SignatureChecker(domain), validators
        self._rows: dict[tuple[Account, int, int], set[Statement]] = {}
        self._said: dict[Account, set[tuple[int, int, Statement]]] = {}  # those of _rows that were heard
        self._excused: dict[Account, int] = {}
        self.heard: Counter[tuple[Account, Account]] = Counter()  # messages by listener and sender
        self.violations: list[str] = []
        self.count = 0

    def excuse(self, signer: Account, below: int) -> None:
        """An accident took this signer's file away on purpose: what it said below this height it need not know."""
        self._excused[signer] = max(below, self._excused.get(signer, 0))

    def said_by(self, signer: Account) -> frozenset[tuple[int, int, Statement]]:
        """Height, view and statement of all that anybody heard of a signer."""
        return frozenset(self._said.get(signer, ()))

    def hear(self, listener: Account, sender: Account, payload: bytes) -> list[Vote]:
        """The statements in one message that nobody had heard yet."""
        self.heard[listener, sender] += 1
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
        statement = (vote.kind, vote.block_id, vote.parent_view)
        said = self._said.setdefault(vote.signer, set())
        if (vote.height, vote.view, statement) in said:
            return False
        self._checker.check(vote)
        said.add((vote.height, vote.view, statement))
        self._insert(vote)
        return True

    def _add_record(self, signer: Account, record: SignRecord) -> None:
        """Of the signer's own file, which holds no signatures."""
        r = record
        self._insert(Vote(r.kind, r.height, r.view, r.block_id, r.parent_view, signer, b""))

    def _insert(self, vote: Vote) -> None:
        known = self._rows.setdefault((vote.signer, vote.height, vote.view), set())
        if (vote.kind, vote.block_id, vote.parent_view) in known:
            return
        for kind, block_id, parent_view in known:
            other = Vote(kind, vote.height, vote.view, block_id, parent_view, vote.signer, b"")
            if is_slashable(other, vote):
                self.violations.append(
                    f"0x{vote.signer.hex()} signed {kind.name} and {vote.kind.name} against itself at height "
                    f"{vote.height}, view {vote.view}"
                )
        known.add((vote.kind, vote.block_id, vote.parent_view))
        self.count += 1

    def check_memory(self, signer: Account, memory: SignerMemory) -> None:
        """Whatever was heard of a signer must have been in its file before it left: nothing is sent unsynced."""
        known = {(r.height, r.view, (r.kind, r.block_id, r.parent_view)) for r in memory.signed}
        floor = max(memory.floor, self._excused.get(signer, 0))
        for height, view, statement in sorted(self._said.get(signer, set()) - known):
            if height >= floor:
                self.violations.append(
                    f"0x{signer.hex()}: {statement[0].name} of height {height}, view {view} was heard, but its "
                    f"signer's file (from height {memory.floor} on) does not hold it"
                )
        for record in memory.signed:
            self._add_record(signer, record)

    def unheard(self, accounts: Iterable[Account]) -> list[str]:
        """Pairs of which one never heard the other: a tape that is not written, or not read, finds nothing."""
        everybody = sorted(accounts)
        return [
            f"0x{listener.hex()} heard nothing of 0x{sender.hex()}"
            for listener in everybody
            for sender in everybody
            if listener != sender and not self.heard[listener, sender]
        ]


class Recoveries:
    """Who is waited for until it signs again, and how long that took."""

    def __init__(self, samples: list[float]) -> None:
        self._samples = samples
        self._waiting: dict[Account, tuple[float, int]] = {}  # since when, and at which height it must sign

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __contains__(self, account: Account) -> bool:
        return account in self._waiting

    def expect(self, account: Account, since: float, height: int) -> None:
        self._waiting[account] = (since, height)

    def forget(self, account: Account) -> None:
        self._waiting.pop(account, None)

    def hear(self, vote: Vote, sender: Account, at: float) -> None:
        """A new vote from its signer ends the wait; in somebody else's certificate it may be of before the crash."""
        since, wanted = self._waiting.get(vote.signer, (at, 0))
        if sender == vote.signer and vote.height >= wanted and at > since:
            del self._waiting[vote.signer]
            self._samples.append(at - since)

    def describe(self, now: float) -> str:
        return ", ".join(f"0x{account.hex()} for {now - since:.1f} s" for account, (since, _) in self._waiting.items())
