"""The ordered, weighted validators of one height: quorum and leader. Does not know where the set comes from."""

from dataclasses import dataclass, field

from flock_chain.consensus.types import MAX_VALIDATORS, MAX_WEIGHT
from flock_chain.crypto import Account
from flock_chain.errors import Misuse


@dataclass(frozen=True)
class ValidatorSet:
    """`rows`: (account, weight) in the chain's order. Safe while at most `max_byzantine` weight misbehaves."""

    rows: tuple[tuple[Account, int], ...]
    total: int = field(init=False, compare=False)
    max_byzantine: int = field(init=False, compare=False)
    quorum: int = field(init=False, compare=False)
    _index: dict[Account, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < len(self.rows) <= MAX_VALIDATORS:
            raise Misuse(f"validator set: {len(self.rows)} rows, between 1 and {MAX_VALIDATORS} allowed")
        if any(len(account) != 20 or not 0 < weight < MAX_WEIGHT for account, weight in self.rows):
            raise Misuse("validator set: an account is 20 bytes and a weight is positive, below 2^128")
        index = {account: position for position, (account, _) in enumerate(self.rows)}
        if len(index) != len(self.rows):
            raise Misuse("validator set: an account appears twice")
        total = sum(weight for _, weight in self.rows)
        max_byzantine = (total - 1) // 3
        object.__setattr__(self, "_index", index)
        object.__setattr__(self, "total", total)
        object.__setattr__(self, "max_byzantine", max_byzantine)
        object.__setattr__(self, "quorum", total - max_byzantine)  # 2f + 1 only where total = 3f + 1

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, account: object) -> bool:
        return account in self._index

    @property
    def accounts(self) -> tuple[Account, ...]:
        return tuple(account for account, _ in self.rows)

    def weight(self, account: Account) -> int:
        return self.rows[self._index[account]][1]

    def leader(self, height: int, view: int) -> Account:
        """Round robin over the ordered set, blind to weight: small validators lead as often as large ones."""
        return self.rows[(height + view) % len(self.rows)][0]
