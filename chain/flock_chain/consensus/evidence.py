"""Which two signed statements convict their signer, and the count of votes of one height that finds them."""

from flock_chain.consensus.types import Kind, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account

Pair = tuple[Vote, Vote]
_OPPOSITE = {Kind.NULLIFY: Kind.FINALIZE, Kind.FINALIZE: Kind.NULLIFY}


def is_slashable(first: Vote, second: Vote) -> bool:
    """N/N, F/F and P/P that differ, and U/F, of one signer, height and view. N(x)/F(y) is legal."""
    if (first.signer, first.height, first.view) != (second.signer, second.height, second.view):
        return False
    if first.kind == second.kind:
        return (first.block_id, first.parent_view) != (second.block_id, second.parent_view)
    return _OPPOSITE.get(first.kind) == second.kind


class Tally:
    """The votes of one height by statement. Each signer counts once a (kind, view); a second one is evidence only."""

    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators
        self._first: dict[tuple[Kind, int, Account], Vote] = {}
        self._convicted: set[tuple[Kind, int, Account]] = set()
        self._signatures: dict[tuple[Kind, int, bytes], dict[Account, bytes]] = {}
        self._weights: dict[tuple[Kind, int, bytes], int] = {}

    def add(self, vote: Vote) -> tuple[bool, list[Pair]]:
        """Whether the vote is new and counts, and the slashable pairs that it completes (each pair once)."""
        key = (vote.kind, vote.view, vote.signer)
        old = self._first.get(key)
        if old is not None:
            return False, self._pairs(key, old, vote)
        self._first[key] = vote
        statement = (vote.kind, vote.view, vote.block_id)
        self._signatures.setdefault(statement, {})[vote.signer] = vote.signature
        weight = self._validators.weight(vote.signer)
        self._weights[statement] = self._weights.get(statement, 0) + weight
        opposite = _OPPOSITE.get(vote.kind)
        other = self._first.get((opposite, vote.view, vote.signer)) if opposite else None
        return True, self._pairs(key, other, vote)

    def _pairs(self, key: tuple[Kind, int, Account], old: Vote | None, new: Vote) -> list[Pair]:
        if old is None or key in self._convicted or not is_slashable(old, new):
            return []
        self._convicted.add(key)
        return [(old, new)]

    def weight(self, kind: Kind, view: int, block_id: bytes) -> int:
        return self._weights.get((kind, view, block_id), 0)

    def signatures(self, kind: Kind, view: int, block_id: bytes) -> dict[Account, bytes]:
        return self._signatures.get((kind, view, block_id), {})
