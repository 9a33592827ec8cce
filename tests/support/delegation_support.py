"""A task whose participants take delegations, and delegators who do as they are told."""

from typing import Any

from board_support import BOND, Game
from contracts_support import Outcome, account

from flock_contracts.addresses import DELEGATION

ONE, TWO, THREE = account(60), account(61), account(62)  # bond with others only
LIMIT = 10**9


class DelegatedGame(Game):
    """Every participant takes delegations at `commission`."""

    def __init__(self, participants: int = 6, *, commission: int = 0, bond: int = BOND, **options: Any) -> None:
        super().__init__(0, **options)
        for index in range(1, participants + 1):
            self.join(account(index), bond)
            self.says(account(index), "set_terms", commission, LIMIT)

    def delegate(self, owner: bytes, who: bytes, amount: int) -> Outcome:
        return self.world.act(owner, "Delegation", "delegate", self.task, who, value=amount)

    def says(self, who: bytes, function: str, *args: Any) -> Outcome:
        return self.world.must(who, "Delegation", function, self.task, *args)

    def tries(self, who: bytes, function: str, *args: Any) -> str:
        """Why it is refused; "" where it is not."""
        return self.world.act(who, "Delegation", function, self.task, *args).reason

    def bonded(self, owner: bytes, who: bytes, amount: int) -> None:
        outcome = self.delegate(owner, who, amount)
        assert outcome.ok, outcome.reason

    def row(self, owner: bytes, who: bytes) -> dict[str, Any]:
        found: dict[str, Any] = self.world.view("Delegation", "delegation_of", self.task, who, owner)
        return found

    def total(self, name: str) -> int:
        return int(self.world.view("Delegation", name))

    def weights(self) -> int:
        """Of all who are eligible in the running round."""
        return int(self.world.board("missing_stake", self.task, self.round)[1])

    def taken(self, owner: bytes, function: str, who: bytes) -> int:
        """What a call pays its sender; 0 where it is refused."""
        before = self.world.balance(owner)
        self.world.act(owner, "Delegation", function, self.task, who)
        return self.world.balance(owner) - before

    def claimed(self, who: bytes, round: int) -> int:
        before = self.world.balance(who)
        self.must(who, "claim", round)
        return self.world.balance(who) - before

    def wait_for(self, owner: bytes, who: bytes) -> int:
        """The clock runs on until what unbonds is paid out."""
        for _ in range(12):
            if amount := self.taken(owner, "withdraw_delegation", who):
                return amount
            self.world.next_block(90)
        raise AssertionError("nothing came out")

    def check_solvent(self) -> None:
        super().check_solvent()
        assert self.world.balance(DELEGATION) == self.total("liabilities")
