"""Coins for newcomers, who have no gas: any peer with coins submits the drip for them. Knows no transport."""

import logging

from flock_chain.crypto import Account
from flock_chain.errors import Refused, Unavailable
from flock_peers.roles.board import Views
from flock_peers.roles.sender import Sender

log = logging.getLogger(__name__)

FAUCET_PROTOCOL = "/flock/faucet/1"
ACCEPTED = b"ok"


class FaucetHelper:
    """Answers a newcomer's request by sending the transaction that it cannot pay for."""

    def __init__(self, sender: Sender, views: Views, deposit: int) -> None:
        self._sender, self._views, self._deposit = sender, views, deposit

    async def on_request(self, account: Account, payload: bytes) -> bytes:
        """The newcomer is whoever asks: the connection has proved its account. `payload` is empty."""
        if payload:
            raise Refused("faucet: a request carries nothing")
        if await self._views.view("Faucet", "dripped", account):
            raise Refused("faucet: this account was served before")
        await self._release_deposit()
        if not await self._sender.call(f"faucet 0x{account.hex()}", "Faucet", "drip", account, value=self._deposit):
            raise Unavailable("faucet: a request of yours is under way, or this peer is busy")
        log.info("faucet: submitted for 0x%s", account.hex())
        return ACCEPTED

    async def _release_deposit(self) -> None:
        """One live deposit per submitter: take the last one back first, if its lock is over."""
        release_at = await self._views.view("Faucet", "release_at", self._sender.account)
        if release_at == 0:
            return
        if release_at > await self._views.view("Beacon", "chain_time"):
            raise Unavailable("faucet: this peer's last deposit is still locked; ask another peer")
        await self._sender.call("faucet refund", "Faucet", "refund")
