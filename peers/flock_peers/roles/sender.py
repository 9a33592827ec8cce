"""Sends this account's transactions in nonce order and repeats what has not become final. Knows no role."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import trio

from flock_chain.crypto import Account, Key
from flock_chain.errors import FlockError
from flock_contracts.loader import load

MAX_PENDING = 32  # below the mempool's limit per sender, so that no own transaction is refused for room
RESEND_SECONDS = 8.0  # several blocks of a busy chain; a lost gossip message costs this much
CALL_GAS = 2_000_000  # the dearest call of a participant (tally) stays below; unused gas is not paid


class Pool(Protocol):
    """What the sender needs of a ledger."""

    async def submit(self, raw: bytes) -> bytes: ...
    async def nonce(self, account: Account) -> int: ...


@dataclass
class _Pending:
    raw: bytes
    label: str
    sent_at: float


Signer = Callable[..., bytes]
Gossip = Callable[[bytes], Awaitable[None]]


class Sender:
    """`sign` makes a raw transaction from keyword arguments; `gossip` hands it to the others."""

    def __init__(self, key: Key, chain_id: int, fee: int, pool: Pool, sign: Signer, gossip: Gossip) -> None:
        self._key, self._chain_id, self._fee = key, chain_id, fee
        self._pool, self._sign, self._gossip = pool, sign, gossip
        self._pending: dict[int, _Pending] = {}
        self._lock = trio.Lock()

    @property
    def account(self) -> Account:
        return self._key.account

    def is_pending(self, label: str) -> bool:
        return any(row.label == label for row in self._pending.values())

    async def call(
        self, label: str, contract: str, function: str, *args: Any, value: int = 0, gas: int = CALL_GAS
    ) -> bool:
        """Send one call; False where the same label is under way or too much is pending. Final or not is seen later."""
        async with self._lock:
            await self._forget_final()
            if self.is_pending(label) or len(self._pending) >= MAX_PENDING:
                return False
            nonce = await self._next_nonce()
            target = load(contract)
            raw = self._sign(
                self._key,
                chain_id=self._chain_id,
                nonce=nonce,
                to=target.address,
                data=target.encode(function, *args),
                value=value,
                gas=gas,
                fee=self._fee,
            )
            await self._pool.submit(raw)
            self._pending[nonce] = _Pending(raw, label, trio.current_time())
        await self._gossip(raw)
        return True

    async def _next_nonce(self) -> int:
        nonce = await self._pool.nonce(self.account)
        while nonce in self._pending:
            nonce += 1
        return nonce

    async def _forget_final(self) -> None:
        final = await self._pool.nonce(self.account)
        for nonce in [n for n in self._pending if n < final]:
            del self._pending[nonce]

    async def resend(self) -> None:
        """Repeat what is overdue: to the own mempool, which may have dropped it, and to the others."""
        async with self._lock:
            await self._forget_final()
            now = trio.current_time()
            overdue = [n for n, row in sorted(self._pending.items()) if now - row.sent_at >= RESEND_SECONDS]
            for nonce in overdue:
                row = self._pending[nonce]
                row.sent_at = now
                try:
                    await self._pool.submit(row.raw)
                except FlockError:
                    pass  # known already, or no longer executable: its nonce tells at the next head
                await self._gossip(row.raw)
