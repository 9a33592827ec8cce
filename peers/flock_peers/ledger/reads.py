"""What final state says, for the rest of a peer: contracts' views, accounts, receipts, blocks. Changes nothing."""

from collections.abc import Callable
from typing import Any

import trio

from flock_chain.crypto import Account
from flock_chain.errors import Refused
from flock_chain.execution import records
from flock_chain.execution.blocks import Block, Receipt
from flock_chain.execution.executor import AccountView, Executor
from flock_chain.execution.machine import KeyValues
from flock_contracts.loader import load
from flock_peers.coins import count_coins, format_exact
from flock_peers.ledger.evm_thread import EvmThread, Priority
from flock_peers.ledger.write_behind import WriteBehind


class Reads:
    """The ledger's side that only reads. One trio run; the EVM works in its own thread."""

    def __init__(self, executor: Executor, store: WriteBehind, evm: EvmThread, clock: Callable[[], float]) -> None:
        """`clock`: seconds since 1970."""
        self.executor = executor
        self._store, self._evm, self._clock = store, evm, clock

    @property
    def reader(self) -> KeyValues:
        """Every row of the chain, from any thread: final state is never changed."""
        return self._store

    async def view(self, contract: str, function: str, *arguments: Any, height: int | None = None) -> Any:
        """A contract's view, decoded, on final state; raises CallReverted with the contract's reason."""
        now = int(self._clock())
        return await self._evm.run(
            lambda: self.executor.view(contract, function, *arguments, height=height, timestamp=now), Priority.VIEW
        )

    async def simulate(self, contract: str, function: str, *arguments: Any, sender: Account, value: int = 0) -> None:
        """What a transaction would meet on final state; raises CallReverted with the contract's reason, Refused where
        the sender has too few coins."""
        if value and (have := await self.balance(sender)) < value:
            raise Refused(
                f"this account has {count_coins(have)}, and {format_exact(value)} are needed; "
                f"who has some can send them: `send --to 0x{bytes(sender).hex()} --amount COINS`"
            )
        target, now = load(contract), int(self._clock())
        data = target.encode(function, *arguments)
        await self._evm.run(
            lambda: self.executor.call(target.address, data, timestamp=now, sender=sender, value=value), Priority.VIEW
        )

    async def account(self, account: bytes) -> AccountView:
        return await self._evm.run(lambda: self.executor.account(account), Priority.VIEW)

    async def nonce(self, account: bytes) -> int:
        """The next nonce in final state; what waits in the mempool is not counted."""
        return (await self.account(account)).nonce

    async def balance(self, account: bytes) -> int:
        return (await self.account(account)).balance

    async def receipt(self, transaction_hash: bytes) -> Receipt | None:
        """None while the transaction is not final here. What is reported is on disk."""
        await self.flush()
        return records.read_receipt(self._store, transaction_hash)

    async def receipts(self, height: int) -> tuple[Receipt, ...]:
        await trio.lowlevel.checkpoint()
        return records.read_receipts(self._store, height)

    def block_bytes(self, height: int) -> bytes | None:
        return records.read_block_bytes(self._store, height)

    def block(self, height: int) -> Block:
        """Raises Unavailable where it is not final here."""
        return records.read_block(self._store, height)

    def certificate_bytes(self, height: int) -> bytes | None:
        return self._store.get(records.certificate_key(height))

    async def block_and_certificate(self, height: int) -> tuple[bytes, bytes] | None:
        await trio.lowlevel.checkpoint()
        block, certificate = self.block_bytes(height), self.certificate_bytes(height)
        return None if block is None or certificate is None else (block, certificate)

    async def flush(self) -> None:
        """What was adopted is on disk when it returns."""
        if self._store.is_durable:
            await trio.lowlevel.checkpoint()
        else:
            await self._evm.run(self._store.flush)
