"""Questions of outsiders about the final chain, in a thread of their own: none of them holds up a block.

Knows rows and states; knows neither who asks nor in which format the answer goes out.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from flock_chain.execution import records
from flock_chain.execution.blocks import Block, Header, Receipt
from flock_chain.execution.caller import Call, Caller
from flock_chain.execution.machine import KeyValues, State
from flock_peers.ledger.evm_thread import EvmThread, Priority
from flock_peers.ledger.ledger import Ledger

MAX_CALL_GAS = (
    10_000_000  # the dearest call of an account, a tally, takes 5.8 million; ten seconds of Python at the worst
)

T = TypeVar("T")


@dataclass(frozen=True)
class ChainView:
    """The final chain up to a head, for one question. Every method may block: call them in the thread alone."""

    reader: KeyValues
    caller: Caller
    chain_id: int
    head: int
    now: int  # seconds since 1970

    def header(self, height: int) -> Header:
        """Raises Unavailable where it is not here."""
        return records.read_header(self.reader, height)

    def block(self, height: int) -> Block:
        """Raises Unavailable where it is not here."""
        return records.read_block(self.reader, height)

    def receipts(self, height: int) -> tuple[Receipt, ...]:
        """Raises Unavailable where they are not here."""
        return () if height == 0 else records.read_receipts(self.reader, height)

    def find_block(self, block_id: bytes) -> int | None:
        height = records.find_height(self.reader, block_id)
        return None if height is None or height > self.head else height

    def find_transaction(self, transaction_hash: bytes) -> tuple[int, int] | None:
        """Height and index."""
        place = records.read_place(self.reader, transaction_hash)
        return None if place is None or place[0] > self.head else place

    def state(self, height: int) -> State:
        return self.caller.open_state(self.header(height), next_at=self.now if height == self.head else None)

    def call(self, height: int, call: Call, gas: int) -> bytes:
        return self.caller.call(self.state(height), call, min(gas, MAX_CALL_GAS))

    def estimate_gas(self, height: int, call: Call, gas: int) -> int:
        return self.caller.estimate_gas(self.state(height), call, min(gas, MAX_CALL_GAS))


class Queries:
    def __init__(self, ledger: Ledger, thread: EvmThread, clock: Callable[[], float]) -> None:
        self._ledger, self._thread, self._clock = ledger, thread, clock
        self._caller = Caller(ledger.genesis, ledger.reader)

    async def run(self, question: Callable[[ChainView], T]) -> T:
        """What was final when it was asked, and nothing later. Raises Unavailable where too many wait."""
        ledger, now = self._ledger, int(self._clock())
        view = ChainView(ledger.reader, self._caller, ledger.genesis.chain_id, ledger.head.height, now)
        return await self._thread.run(lambda: question(view), Priority.VIEW)


@asynccontextmanager
async def open_queries(ledger: Ledger, clock: Callable[[], float]) -> AsyncIterator[Queries]:
    """Close it before the ledger: it reads the same store."""
    thread = EvmThread()
    try:
        yield Queries(ledger, thread, clock)
    finally:
        thread.close()
