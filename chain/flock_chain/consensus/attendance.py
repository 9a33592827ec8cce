"""Who took part in a height: the votes of it that a later block shows, and whom they leave out. Knows no blocks.

A block shows votes only where somebody's are missing, and then those of a quorum at least: a leader that lies by
leaving votes out can name no more than a third of the weight, and one leader is one height of many.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from flock_chain.codec import decode, encode
from flock_chain.consensus.certificates import Recover, SignatureChecker, make_certificate, votes_of
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.types import NO_BLOCK, Certificate, Kind, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import certificate_fields, parse_certificate
from flock_chain.crypto import Account, recover
from flock_chain.errors import InvalidBlock, InvalidRemote

MAX_ATTENDANCE_BYTES = 16 << 10  # 150 signatures, and as many groups as honest validators ever make
_VERSION = 1


class Row(Protocol):
    @property
    def account(self) -> Account: ...

    @property
    def weight(self) -> int: ...


def make_attendance(height: int, votes: Iterable[Vote], validators: ValidatorSet, domain: ChainDomain) -> bytes:
    """What to show of a height; empty where nobody is missing, or where fewer than a quorum are here.

    Votes that are not of this height, of the set or well signed are left out: a peer can only spoil its own.
    """
    present: dict[Account, Vote] = {}
    checker = SignatureChecker(domain)
    for vote in votes:
        if (
            vote.height == height
            and vote.signer in validators
            and vote.signer not in present
            and _is_good(vote, checker)
        ):
            present[vote.signer] = vote
    weight = sum(validators.weight(account) for account in present)
    if weight == validators.total or weight < validators.quorum:
        return b""
    groups: dict[tuple[Kind, int, bytes], dict[Account, bytes]] = {}
    for account in validators.accounts:
        if account in present:
            vote = present[account]
            groups.setdefault((vote.kind, vote.view, vote.block_id), {})[account] = vote.signature
    rows = [
        make_certificate(kind, height, view, block_id, groups[kind, view, block_id], validators)
        for kind, view, block_id in sorted(groups)
    ]
    payload = encode([_VERSION, [certificate_fields(row) for row in rows]])
    return payload if len(payload) <= MAX_ATTENDANCE_BYTES else b""


def _is_good(vote: Vote, checker: SignatureChecker) -> bool:
    if vote.kind == Kind.PROPOSE or (vote.kind == Kind.NULLIFY) != (vote.block_id == NO_BLOCK):
        return False
    try:
        checker.check(vote)
    except InvalidRemote:
        return False
    return True


class AttendanceRule:
    """Judges what `make_attendance` makes; the same bits from everybody."""

    def __init__(self, domain: ChainDomain, recover_signer: Recover = recover) -> None:
        self._domain, self._recover = domain, recover_signer

    def __call__(self, payload: bytes, height: int, rows: Sequence[Row]) -> int:
        """Bit i: row i did not vote. Raises InvalidBlock, InvalidEncoding or InvalidSignature."""
        validators = ValidatorSet(tuple((row.account, row.weight) for row in rows))
        checker = SignatureChecker(self._domain, self._recover)
        present = 0
        for group in _decode_groups(payload):
            if group.height != height:
                raise InvalidBlock(f"attendance: votes of height {group.height}, not of {height}")
            votes = votes_of(group, validators)
            bits = int.from_bytes(group.bitmap, "little")
            if present & bits:
                raise InvalidBlock("attendance: somebody is shown twice")
            present |= bits
            for vote in votes:
                checker.check(vote)
        absent = (1 << len(validators)) - 1 & ~present
        weight = sum(row.weight for index, row in enumerate(rows) if present >> index & 1)
        if not absent or weight < validators.quorum:
            raise InvalidBlock("attendance: shown only where somebody is missing, and then a quorum's votes")
        return absent


def _decode_groups(payload: bytes) -> list[Certificate]:
    value = decode(payload, limit=MAX_ATTENDANCE_BYTES)
    if not isinstance(value, list) or len(value) != 2 or value[0] != _VERSION or not isinstance(value[1], list):
        raise InvalidBlock(f"attendance: not a list of votes of version {_VERSION}")
    return [parse_certificate(row) for row in value[1]]
