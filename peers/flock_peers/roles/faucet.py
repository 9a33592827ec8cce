"""Coins for newcomers, who have no gas: any peer with coins submits the drip for them. Knows no transport."""

import logging

from flock_chain.crypto import Account
from flock_chain.errors import Refused, Unavailable
from flock_peers.roles.board import Views
from flock_peers.roles.sender import MAX_PENDING, Sender

log = logging.getLogger(__name__)

FAUCET_PROTOCOL = "/flock/faucet/1"
ACCEPTED = b"ok"
ROLE_SLOTS = MAX_PENDING // 2  # a round's transactions of all roles fit beside a drip and a refund
_DRIP, _REFUND = "faucet drip", "faucet refund"


class FaucetHelper:
    """Answers a newcomer's request by sending the transaction that it cannot pay for."""

    def __init__(self, sender: Sender, views: Views, deposit: int) -> None:
        self._sender, self._views, self._deposit = sender, views, deposit
        self._is_serving = False

    async def on_request(self, account: Account, payload: bytes) -> bytes:
        """The newcomer is whoever asks: the connection has proved its account. `payload` is empty.

        Returns once the drip is sent; raises Refused or Unavailable, naming the reason, where it is not.
        """
        if payload:
            raise Refused("faucet: a request carries nothing")
        if self._is_serving:
            raise Unavailable("faucet: another request is being served; ask another peer")
        self._is_serving = True
        try:
            await self._serve(account)
        finally:
            self._is_serving = False
        log.info("faucet: submitted for 0x%s", account.hex())
        return ACCEPTED

    async def _serve(self, account: Account) -> None:
        if await self._views.view("Faucet", "dripped", account):
            raise Refused("faucet: this account was served before")
        await self._sender.resend()  # what became final a moment ago may still count as pending
        if self._sender.is_pending(_DRIP):
            raise Unavailable("faucet: this peer's last drip is not final yet; ask another peer")
        await self._check_means()
        await self._release_deposit()
        if not await self._sender.call(_DRIP, "Faucet", "drip", account, value=self._deposit):
            raise Unavailable("faucet: this peer is busy; ask another peer")

    async def _check_means(self) -> None:
        """Own round work comes first: its transactions have their slots, a bond to one more task its coins."""
        if self._sender.free_slots <= ROLE_SLOTS:
            raise Unavailable("faucet: this peer has too much to send itself; ask another peer")
        reserve = await self._views.view("Faucet", "amount")  # what bonds a newcomer to one task bonds this peer
        if await self._views.view("Faucet", "left") < reserve:
            raise Unavailable("faucet: it has given what it gives for now; ask later")
        if await self._sender.spendable() < self._deposit + reserve:
            raise Unavailable("faucet: this peer needs its coins for its own bonds; ask another peer")

    async def _release_deposit(self) -> None:
        """One live deposit per submitter: take the last one back first, if its lock is over."""
        release_at = await self._views.view("Faucet", "release_at", self._sender.account)
        if release_at == 0:
            return
        if release_at > await self._views.view("Beacon", "chain_time"):
            raise Unavailable("faucet: this peer's last deposit is still locked; ask another peer")
        await self._sender.call(_REFUND, "Faucet", "refund")
