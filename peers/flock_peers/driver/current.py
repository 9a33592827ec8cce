"""The running height as the parts of a driver share it: the core, the ledger under it, and who decides. A value."""

import trio

from flock_chain.consensus.core import Core
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account
from flock_peers.driver.ports import LedgerPort


class Current:
    def __init__(self, core: Core, ledger: LedgerPort, me: Account) -> None:
        self.core, self.ledger, self.me = core, ledger, me
        self.validators: ValidatorSet | None = None  # of the next height of the ledger
        self.changed = trio.Event()  # set once when another height runs

    @property
    def height(self) -> int:
        """That is being decided."""
        return self.core.height

    @property
    def is_member(self) -> bool:
        return self.validators is not None and self.me in self.validators

    @property
    def is_leader(self) -> bool:
        """Of the running height's first view."""
        return self.validators is not None and self.validators.leader(self.height, 1) == self.me

    @property
    def others(self) -> list[Account]:
        """Who decides beside this peer."""
        return [account for account in self.validators.accounts if account != self.me] if self.validators else []

    def is_open(self, height: int) -> bool:
        return self.core.height == height and self.ledger.height() < height

    def tell_change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def wait_for_final(self, height: int) -> None:
        while self.ledger.height() < height:
            await self.changed.wait()
