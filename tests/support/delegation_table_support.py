"""A table at which others bond with the participants: each of their calls goes to the contract and to the twin."""

from typing import Any

from board_support import CREATOR
from board_table_support import PEOPLE, Table

OWNERS = [CREATOR, *PEOPLE]  # whoever may delegate


class DelegatedTable(Table):
    def order(self, sender: bytes, expected: bool, function: str, *args: object, value: int = 0) -> None:
        outcome = self.world.act(sender, "Delegation", function, self.task, *args, value=value)
        assert outcome.ok == expected, (function, expected, outcome.reason)
        assert outcome.ok or outcome.reason.startswith("delegation: ")
        self.steps += 1
        self.check()

    def offer(self, me: bytes, commission: int, limit: int) -> None:
        self.order(me, self.model.pools.set_terms(me, commission, limit), "set_terms", commission, limit)

    def delegate(self, me: bytes, whom: bytes, amount: int) -> None:
        self.order(me, self.model.pools.delegate(me, whom, amount), "delegate", whom, value=amount)

    def undelegate(self, me: bytes, whom: bytes, amount: int | None = None) -> None:
        """None: all."""
        pool = self.model.pools.open[whom]
        wanted = pool.worth(pool.kept(me)) if amount is None else amount
        self.order(me, self.model.pools.undelegate(me, whom, wanted), "undelegate", whom, wanted)

    def take(self, me: bytes, whom: bytes) -> None:
        """What is free, and what is earned: just that, or it is refused."""
        pools, before = self.model.pools, self.world.balance(me)
        amount, earned = pools.coming(me, whom)[1], pools.claimable(me, whom)
        goes = pools.withdraw(me, whom)
        self.order(me, goes, "withdraw_delegation", whom)
        self.order(me, pools.claim(me, whom), "claim_delegation", whom)
        assert self.world.balance(me) - before == (amount if goes else 0) + earned

    def check_place(self, me: bytes, whom: bytes) -> None:
        pools, row = self.model.pools, self.world.view("Delegation", "delegation_of", self.task, whom, me)
        check_row(row, pools, me, whom)


def check_row(row: dict[str, Any], pools: Any, me: bytes, whom: bytes) -> None:
    """What the contract shows of a place is what the twin has."""
    pool = pools.open[whom]
    assert row["stake"] == pool.worth(pool.kept(me)), "stake"
    assert row["leaving"] == pool.worth(pool.leaving.get(me, 0)), "leaving"
    assert pool.leaving.get(me) or not row["is_out"], "what does not leave is not out"
    assert (row["unbonding"], row["free"]) == pools.coming(me, whom)
    assert row["release_at"] == pools.next_release(me, whom)
    assert row["earned"] == pools.claimable(me, whom)
