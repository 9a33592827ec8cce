"""Final headers and the states behind them, opened for reading or to build on. Knows no rule of a block's content."""

from collections.abc import Iterator
from dataclasses import replace

from flock_chain.crypto import Digest
from flock_chain.errors import Misuse
from flock_chain.execution import records
from flock_chain.execution.blocks import Block, Header
from flock_chain.execution.machine import Context, KeyValues, Overlay, State, make_context, open_state
from flock_chain.execution.state_cache import StateCache
from flock_chain.genesis import Genesis

MAX_ANCESTORS = 256  # how far back the EVM can ask for block hashes


class FinalState:
    def __init__(self, genesis: Genesis, reader: KeyValues) -> None:
        self.genesis = genesis
        self._reader = reader
        self._cache = StateCache()
        self._head: Header | None = None
        self._kept: tuple[Digest, State] | None = None  # of the head

    @property
    def head(self) -> Header:
        """The last final header; raises Misuse where the store holds no chain, or another network's."""
        if self._head is None:
            block = records.read_head(self._reader)
            first = None if block is None else records.read_block(self._reader, 0)
            if block is None or first is None:
                raise Misuse("executor: the store holds no chain; write genesis_writes() first")
            if first.header.extra_data != self.genesis.hash:
                raise Misuse("executor: the store holds the chain of another genesis document")
            self._head = block.header
        return self._head

    def header(self, height: int) -> Header:
        """Raises Unavailable for a height that is not final here."""
        if height == self.head.height:
            return self.head
        return records.read_header(self._reader, height)

    def block(self, height: int) -> Block:
        """Raises Unavailable for a height of which only the header, or nothing, is here."""
        return records.read_block(self._reader, height)

    def advance(self, head: Header) -> None:
        """Its rows are stored: it is the head now."""
        self._head = head
        self._kept = None

    def open_overlay(self) -> Overlay:
        return Overlay(self._reader, self._cache)

    def head_state(self, timestamp: int) -> State:
        """Kept from call to call: the reads that py-evm caches are the dear part."""
        head = self.head
        if self._kept is None or self._kept[0] != head.id:
            context = self.next_context(head, timestamp)
            self._kept = (head.id, open_state(self.open_overlay(), head.state_root, context, ()))
        state = self._kept[1]
        state.execution_context = make_context(self.next_context(head, timestamp), self.ancestors(head))
        return state

    def next_context(self, parent: Header, timestamp: int, proposer: bytes = bytes(20), mix: bytes = b"") -> Context:
        return Context(
            height=parent.height + 1,
            timestamp=max(timestamp, parent.timestamp),
            proposer=proposer,
            mix=mix or parent.mix_hash,
            gas_limit=self.genesis.parameters.block_gas_limit,
            base_fee=self.genesis.parameters.base_fee,
            chain_id=self.genesis.chain_id,
        )

    def state_of(self, header: Header) -> State:
        return open_state(self.open_overlay(), header.state_root, self.context_of(header), ())

    def context_of(self, header: Header) -> Context:
        """Of calls that ask its state."""
        context = self.next_context(header, header.timestamp)
        return replace(context, height=header.height, proposer=header.coinbase)

    def ancestors(self, header: Header) -> Iterator[bytes]:
        for _ in range(MAX_ANCESTORS):
            yield header.id
            if header.height == 0:
                return
            header = self.header(header.height - 1)
