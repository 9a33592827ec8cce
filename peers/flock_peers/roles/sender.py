"""Sends this account's transactions in nonce order and repeats what has not become final. Knows no role.

What blocks pass over is repeated with a higher tip; what cannot be paid any more gives its nonce up.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import trio

from flock_chain.crypto import Account, Key
from flock_chain.errors import FlockError, Refused
from flock_contracts.loader import load
from flock_peers.coins import count_coins, format_exact
from flock_peers.mempool import Limits

log = logging.getLogger(__name__)

MAX_PENDING = 32  # below the mempool's limit per sender, so that no own transaction is refused for room
RESEND_SECONDS = 8.0  # several blocks of a busy chain; a lost gossip message costs this much
LOOK_SECONDS = 0.5  # between two looks at the own account while blocks come
CALL_GAS = 3_000_000  # a participant's calls stay below, but for the tally; unused gas is not paid
MAX_REFUSED = 3  # resends that the own mempool refuses, before the nonce is given up: one may be a race with a block
_TIP_PARTS = 10  # the first tip is a tenth of the base fee: above those who offer nothing
_FEE_PARTS = 1_000  # one transaction's gas is raised to a thousandth of the coins at most, however long it waits
_PASSED_HEIGHTS = 2  # blocks since the last sending; with fewer the chain stands still, and no tip helps
_TRANSFER_GAS = 21_000


class Pool(Protocol):
    """What the sender needs of a ledger."""

    async def submit(self, raw: bytes) -> bytes: ...
    async def nonce(self, account: Account) -> int: ...
    async def balance(self, account: Account) -> int: ...
    def height(self) -> int: ...
    async def wait_new_head(self, height: int) -> int: ...


@dataclass(frozen=True)
class _Call:
    label: str
    to: bytes
    data: bytes
    value: int
    gas: int


@dataclass
class _Pending:
    call: _Call
    fee: int  # wei per gas at most; what is above the base fee is the tip
    raw: bytes
    sent_at: float
    height: int  # of the head when it was sent
    refused: int = 0  # resends in a row

    @property
    def cost(self) -> int:
        return self.call.gas * self.fee + self.call.value


Signer = Callable[..., bytes]
Gossip = Callable[[bytes], Awaitable[None]]


class Sender:
    """`sign` makes a raw transaction from keyword arguments; `gossip` hands it to the others."""

    def __init__(self, key: Key, chain_id: int, fee: int, pool: Pool, sign: Signer, gossip: Gossip) -> None:
        """`fee`: the base fee, in wei per gas."""
        self._key, self._chain_id, self._base_fee = key, chain_id, fee
        self._pool, self._sign, self._gossip = pool, sign, gossip
        self._pending: dict[int, _Pending] = {}
        self._lock = trio.Lock()

    @property
    def account(self) -> Account:
        return self._key.account

    @property
    def free_slots(self) -> int:
        return MAX_PENDING - len(self._pending)

    def is_pending(self, label: str) -> bool:
        return any(row.call.label == label for row in self._pending.values())

    async def spendable(self) -> int:
        """Wei of the final balance that no pending transaction may take."""
        return await self._pool.balance(self.account) - sum(row.cost for row in self._pending.values())

    async def call(
        self, label: str, contract: str, function: str, *args: Any, value: int = 0, gas: int = CALL_GAS
    ) -> bool:
        """Send one call; False where the same label is under way or too much is pending. Final or not is seen later.

        Raises Refused where the coins do not suffice for it beside what is pending.
        """
        target = load(contract)
        return await self._send(_Call(label, target.address, target.encode(function, *args), value, gas))

    async def pay(self, label: str, to: Account, value: int) -> bool:
        """Send coins to an account that runs no code; else as `call`."""
        return await self._send(_Call(label, to, b"", value, _TRANSFER_GAS))

    async def _send(self, call: _Call) -> bool:
        async with self._lock:
            await self._forget_final()
            if self.is_pending(call.label) or self.free_slots == 0:
                return False
            fee = self._first_fee(call, await self.spendable())
            nonce = await self._next_nonce()
            row = self._make(call, nonce, fee)
            await self._pool.submit(row.raw)
            self._pending[nonce] = row
        await self._gossip(row.raw)
        return True

    async def run(self) -> None:
        """Looks after what is pending, at each new head and in a standstill; lives until cancelled."""
        height = -1
        while True:
            try:
                with trio.move_on_after(RESEND_SECONDS):
                    height = await self._pool.wait_new_head(height)
                await self.resend()
            except Exception as error:  # a task's edge: what cannot be sent now can be sent later
                known = isinstance(error, FlockError)
                log.warning("sender: %s", error if known else repr(error), exc_info=None if known else error)
            await trio.sleep(LOOK_SECONDS)

    async def resend(self) -> None:
        """Repeat what is overdue: to the own mempool, which may have dropped it, and to the others."""
        async with self._lock:
            await self._forget_final()
            now = trio.current_time()
            overdue = [n for n, row in sorted(self._pending.items()) if now - row.sent_at >= RESEND_SECONDS]
            for nonce in overdue:
                if nonce in self._pending:
                    await self._repeat(nonce)

    def _first_fee(self, call: _Call, spare: int) -> int:
        """With a small tip, or without one where only that can be paid."""
        least = call.value + call.gas * self._base_fee
        if spare < least:
            coins = f"{count_coins(least)}; {format_exact(spare)} are left"
            raise Refused(f"{call.label}: it may take {coins} beside what is pending")
        wanted = self._base_fee + max(1, self._base_fee // _TIP_PARTS)
        return min(wanted, (spare - call.value) // call.gas)

    def _make(self, call: _Call, nonce: int, fee: int) -> _Pending:
        raw = self._sign(
            self._key,
            chain_id=self._chain_id,
            nonce=nonce,
            to=call.to,
            data=call.data,
            value=call.value,
            gas=call.gas,
            fee=fee,
            tip=fee - self._base_fee,
        )
        return _Pending(call, fee, raw, trio.current_time(), self._pool.height())

    async def _next_nonce(self) -> int:
        nonce = await self._pool.nonce(self.account)
        while nonce in self._pending:
            nonce += 1
        return nonce

    async def _forget_final(self) -> None:
        if not self._pending:
            return
        final = await self._pool.nonce(self.account)
        for nonce in [n for n in self._pending if n < final]:
            del self._pending[nonce]

    async def _repeat(self, nonce: int) -> None:
        old = self._pending[nonce]
        row = await self._raise_fee(nonce, old)
        old.sent_at = trio.current_time()
        try:
            await self._pool.submit(row.raw)
        except Refused as error:
            old.refused += 1
            log.debug("sender: %s, nonce %d refused again: %s", old.call.label, nonce, error)
            if old.refused >= MAX_REFUSED:
                await self._give_up(nonce, old)
                return
            row = old  # the others may have lost it; nonce and coins are seen at the next head
        except FlockError as error:
            log.debug("sender: %s, nonce %d not repeated here: %s", old.call.label, nonce, error)
            row = old
        else:
            row.refused = 0
        self._pending[nonce] = row
        await self._gossip(row.raw)

    async def _raise_fee(self, nonce: int, row: _Pending) -> _Pending:
        """The same call with twice the tip where blocks have passed it over and the coins allow it."""
        if self._pool.height() - row.height < _PASSED_HEIGHTS:
            return row
        fee = self._higher_fee(row.fee)
        coins = await self.spendable() + row.cost - row.call.value
        if fee * row.call.gas * _FEE_PARTS > coins:
            return row
        return self._make(row.call, nonce, fee)

    def _higher_fee(self, fee: int) -> int:
        """Enough to replace what waits in a mempool."""
        doubled = self._base_fee + 2 * max(1, fee - self._base_fee)
        return max(doubled, -(-fee * (100 + Limits.bump_percent) // 100))

    async def _give_up(self, nonce: int, old: _Pending) -> None:
        """Nothing in its place, so that later nonces can follow and it cannot surprise anybody later."""
        nothing = _Call(f"in place of {old.call.label}", self.account, b"", 0, _TRANSFER_GAS)
        row = self._make(nothing, nonce, self._higher_fee(old.fee))
        try:
            await self._pool.submit(row.raw)
        except FlockError as error:
            log.warning("sender: %s and what follows it cannot be paid, forgotten: %s", old.call.label, error)
            for later in [n for n in self._pending if n >= nonce]:
                del self._pending[later]
            return
        log.warning("sender: %s cannot be executed; nonce %d is spent on nothing", old.call.label, nonce)
        self._pending[nonce] = row
        await self._gossip(row.raw)
