"""The ledger service: the chain's executor, its store and the mempool behind one async interface.

Implements the driver's LedgerPort. Knows no votes and no network: who calls gossips transactions and certificates.
"""

import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import trio

from flock_chain.consensus.attendance import AttendanceRule
from flock_chain.consensus.digest import make_domain
from flock_chain.consensus.types import Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account, Digest, Key
from flock_chain.errors import InvalidBlock, InvalidRemote, Misuse, Refused, Unavailable
from flock_chain.execution import records
from flock_chain.execution.block_run import Candidate
from flock_chain.execution.blocks import HEADER_ROOM_BYTES, Block, decode_block
from flock_chain.execution.executor import Executor, NotNext
from flock_chain.execution.machine import Writes
from flock_chain.execution.ordered_trie import compute_ordered_root
from flock_chain.execution.schedule import compute_transaction_gas
from flock_chain.execution.transactions import decode_transaction
from flock_chain.execution.validators import Served
from flock_chain.genesis import Genesis
from flock_chain.parameters import Parameters
from flock_chain.restart import Restart
from flock_chain.upgrades import Schedule
from flock_contracts.addresses import BOARD
from flock_peers.driver.ports import BlockVerdict
from flock_peers.ledger.builder import Builder
from flock_peers.ledger.candidates import Candidates
from flock_peers.ledger.demand import Awaited
from flock_peers.ledger.evm_thread import EvmThread
from flock_peers.ledger.pacing import Pacing
from flock_peers.ledger.reads import Reads
from flock_peers.ledger.served_sets import ServedSets
from flock_peers.ledger.timeliness import Timeliness
from flock_peers.ledger.write_behind import WriteBehind
from flock_peers.mempool import Limits, Mempool
from flock_peers.store.chain_store import ChainStore

log = logging.getLogger(__name__)

MAX_SAMPLES = 1_000  # finality times kept for whoever shows them
MAX_TAKEN = 1_000  # transactions tried for one block; 30 M gas hold fewer
DECODED_KEPT = 64  # 4 MiB of the largest; gossip asks for one before it passes it on, and at once again after
_SYSTEM_ROOM_BYTES = 8 << 10  # the beacon's call and 16 pokes in the smallest block


decode_once = lru_cache(DECODED_KEPT)(decode_transaction)  # raises as `decode_transaction` does, each time


@dataclass(frozen=True)
class BlockInfo:
    height: int
    id: bytes
    timestamp: int
    state_root: bytes


class Ledger(Reads):
    """Made by `open_ledger`. One trio run; the EVM works in its own thread."""

    def __init__(
        self, genesis: Genesis, store: ChainStore, evm: EvmThread, key: Key | None, clock: Callable[[], float],
        restarts: Sequence[Restart] = (), upgrades: Schedule | None = None,
    ) -> None:  # fmt: skip
        self.genesis, self.upgrades = genesis, upgrades or Schedule(genesis.hash)
        rows, domain = WriteBehind(store), make_domain(genesis, restarts)
        rule = AttendanceRule(domain)
        executor = Executor(genesis, rows, attendance=rule, restarts=restarts, upgrades=upgrades)
        super().__init__(executor, rows, evm, clock)
        parameters = genesis.parameters
        self.finality: deque[float] = deque(maxlen=MAX_SAMPLES)  # seconds from accepting a transaction to its block
        self.mempool = Mempool(
            Limits(),
            base_fee=parameters.base_fee,
            max_gas=compute_transaction_gas(parameters.block_gas_limit),
            max_transaction_bytes=parameters.max_block_bytes - HEADER_ROOM_BYTES - _SYSTEM_ROOM_BYTES,
            own=None if key is None else key.account,
        )
        self._builder = None if key is None else Builder(executor, rows, domain, key, clock)
        self._sets, self._candidates = ServedSets(), Candidates()
        self._pacing = Pacing(executor, evm, parameters, partial(self.mempool.find_senders, Account(BOARD)))
        self._timeliness = Timeliness(parameters, clock)
        self._new_head = trio.Condition()
        self._ids: tuple[bytes, bytes] = (b"", b"")
        self._head: BlockInfo | None = None
        self._base = 1
        self._pin: records.Pin | None = None

    async def start(self) -> None:
        """Write the genesis state into an empty store, or find the head of what is there.

        Raises Refused where this release does not contain the rules of the next height.
        """
        self._sets.set(await self._evm.run(self._start))
        self._set_head()
        self._set_parameters()

    def _start(self) -> Served:
        if self._store.get(records.HEAD) is None:
            self._store.commit(self.executor.genesis_writes())
        self._base, self._pin = records.read_base(self._store), records.read_pin(self._store)
        return self.executor.served()

    def _set_parameters(self) -> None:
        """What holds for the next height. Raises Refused where that is unknown here: the peer stops before it."""
        self._pacing.parameters = self.upgrades.parameters_at(self.genesis.parameters, self.epoch)
        self.mempool.set_max_gas(compute_transaction_gas(self.parameters.block_gas_limit))

    @property
    def parameters(self) -> Parameters:
        """Of the next height."""
        return self._pacing.parameters

    @property
    def epoch(self) -> int:
        """Of the next height."""
        return self._sets.epoch

    # ---- the head
    @property
    def head(self) -> BlockInfo:
        if self._head is None:
            raise Misuse("ledger: not started")
        return self._head

    async def wait_for_height(self, height: int) -> None:
        async with self._new_head:
            while self.head.height < height:
                await self._new_head.wait()

    async def wait_new_head(self, height: int) -> int:
        """Returns the head's height once it is above `height`."""
        await self.wait_for_height(height + 1)
        return self.head.height

    async def chain_time(self) -> float:
        """What chain time would be in a block made now."""
        return await self._pacing.chain_time(self._clock())

    # ---- transactions
    async def submit(self, raw: bytes) -> Digest:
        """Into the mempool; returns the hash, also where it is there already.

        Raises InvalidRemote for bytes that break a rule, Refused where the mempool does not take it now.
        """
        known = self.mempool.get_known(raw)
        if known is not None:
            return known.hash
        transaction = decode_once(raw, self.genesis.chain_id)
        sender = await self.account(transaction.sender)
        digest = self.mempool.add(transaction, nonce=sender.nonce, balance=sender.balance, now=trio.current_time())
        self._pacing.on_arrival()
        return digest

    # ---- LedgerPort
    def height(self) -> int:
        return self.head.height

    def base(self) -> int:
        return self._base

    async def validators(self) -> ValidatorSet:
        """The set of the next height, of the epoch that the final state is in."""
        await trio.lowlevel.checkpoint()
        return self._sets.current

    async def next_validators(self) -> ValidatorSet:
        await trio.lowlevel.checkpoint()
        return self._sets.following

    def block_id(self, block: bytes) -> bytes:
        """Raises InvalidBlock or InvalidEncoding, also for transactions that are not those of the header."""
        if self._ids[0] == block:
            return self._ids[1]
        decoded = decode_block(block, max_bytes=self.genesis.parameters.max_block_bytes)
        if compute_ordered_root(decoded.transactions) != decoded.header.transaction_root:
            raise InvalidBlock("block: the transactions are not those of its header")
        self._ids = (block, decoded.id)
        return decoded.id

    async def build(self, height: int, view: int, votes: Callable[[], Sequence[Vote]] = tuple) -> bytes:
        """A fresh block on the head, not before its time; raises Unavailable where this peer cannot make it.

        `votes`: of the head's height, asked when the block is made; where some are missing, the block shows the others.
        """
        if height != self.head.height + 1:
            raise Unavailable(f"ledger: block {height} cannot be built on the head at {self.head.height}")
        builder = self._builder
        if builder is None or builder.account not in await self.validators():
            raise Unavailable("ledger: this peer is no validator")
        await self._pacing.wait_interval(partial(self._have_all_voted, votes))
        # Taken here, not in the EVM's thread: the mempool belongs to this one.
        taken = self.mempool.take(max_count=MAX_TAKEN, max_bytes=2 * self.genesis.parameters.max_block_bytes)
        shown = tuple(votes())
        candidate = await self._evm.run(lambda: builder.build(height, taken, shown))
        self._candidates.add(candidate)
        for transaction, error in candidate.rejected:
            log.debug("block %d, view %d: left out %s: %s", height, view, transaction.hash.hex(), error)
        return candidate.block.encoded

    async def check(self, block: bytes, *, fresh: bool = True, proposer: Account | None = None) -> BlockVerdict:
        """`fresh`: its timestamp must fit this peer's clock; a block that is proposed again was judged before.

        `proposer`: who must have made it, where the caller knows.
        """
        try:
            decoded = decode_block(block, max_bytes=self.genesis.parameters.max_block_bytes)
            if decoded.height != self.head.height + 1:
                return BlockVerdict.LATER
            if proposer is not None and decoded.proposer != proposer:
                raise InvalidBlock(f"block: made by 0x{decoded.proposer.hex()}, not by the leader")
            if fresh and not self._timeliness.judge(decoded):
                return BlockVerdict.LATER
            await self._execute(block)
        except NotNext:  # another one of its height became final while this one waited for its turn
            return BlockVerdict.LATER
        except InvalidRemote as error:
            log.warning("block at height %d refused: %s", self.head.height + 1, error)
            return BlockVerdict.INVALID
        return BlockVerdict.VALID

    async def _execute(self, block: bytes) -> Candidate:
        """Raises InvalidRemote naming the rule. No block is executed twice."""
        fault = self._candidates.get_fault(block)
        if fault is not None:
            raise InvalidBlock(fault)
        candidate = self._candidates.get(block)
        if candidate is None:
            try:
                candidate = await self._evm.run(lambda: self.executor.verify(block, known=self.mempool.get_known))
            except NotNext:
                raise
            except InvalidRemote as error:
                self._candidates.add_fault(block, str(error))
                raise
            self._candidates.add(candidate)
        return candidate

    async def commit(self, block: bytes, certificate: bytes) -> None:
        """Execute where needed, and store block, receipts, state and certificate in one synced transaction."""
        await self._finalize(block, certificate, self._store.commit)

    async def adopt(self, block: bytes, certificate: bytes) -> None:
        """`commit`, but durable only after `flush` (or the next `commit`)."""
        await self._finalize(block, certificate, self._store.put)

    async def _finalize(self, block: bytes, certificate: bytes, write: Callable[[Writes], None]) -> None:
        candidate = await self._execute(block)
        self._sets.set(await self._evm.run(lambda: self._store_final(candidate, certificate, write)))
        self._after_commit(candidate)
        try:
            self._set_parameters()
        except Refused:
            await self.flush()  # the peer ends here; what is final stays
            raise
        async with self._new_head:
            self._new_head.notify_all()

    def _store_final(self, candidate: Candidate, certificate: bytes, write: Callable[[Writes], None]) -> Served:
        if candidate.block.parent_id != self.executor.head.id:
            raise Misuse("ledger: only a child of the head can become final")
        self._check_pin(candidate.block)
        write({**candidate.writes, records.certificate_key(candidate.block.height): certificate})
        self.executor.advance(candidate)
        return self.executor.served()

    def _check_pin(self, block: Block) -> None:
        """Whoever held old keys could certify another chain after the snapshot, but not one through this block."""
        if self._pin is not None and block.height == self._pin.height and block.id != self._pin.block_id:
            raise Refused(
                f"block {block.height} is {block.id.hex()}, final by its certificate, but this home trusts the "
                f"checkpoint {self._pin}: its peers follow another chain; not following them, use a new --home"
            )

    def _after_commit(self, candidate: Candidate) -> None:
        header, limit = candidate.block.header, self.genesis.parameters.max_block_bytes
        self._set_head()
        self._candidates.clear()
        committed_at = self._pacing.on_commit(candidate)
        accepted = self.mempool.on_block(
            {receipt.hash for receipt in candidate.receipts},
            candidate.nonces,
            gas_left=header.gas_limit - header.gas_used,
            bytes_left=limit - HEADER_ROOM_BYTES - len(candidate.block.encoded),
        )
        self.finality.extend(committed_at - at for at in accepted)

    def _set_head(self) -> None:
        header = self.executor.head
        self._head = BlockInfo(header.height, header.id, header.timestamp, header.state_root)

    # ---- demand
    async def work(self, now: float, votes: Callable[[], Sequence[Vote]] | None = None) -> float | None:
        """Seconds until a block is wanted, or until this should be asked again; 0 for now.

        `votes`: of the head's height, where this peer is to make the block.
        """
        have_all_voted = partial(self._have_all_voted, votes) if votes is not None else None
        return await self._pacing.work(now, self.mempool.has_executable, have_all_voted)

    def _have_all_voted(self, votes: Callable[[], Sequence[Vote]]) -> bool:
        """On the head; False for genesis, which had no votes."""
        return self.head.height > 0 and {vote.signer for vote in votes()} >= self._sets.previous

    def expect(self, task: int, stage: tuple[int, int], accounts: Collection[Account], enough: int) -> None:
        """What a task's stage, a round's phase, waits for as of the head: transactions of so many of these accounts, or
        blocks alone where none is enough. With all of it here, a block of this peer may come early."""
        self._pacing.expect(task, Awaited(stage, frozenset(accounts), enough))

    async def wait_work(self) -> None:
        """Returns once a transaction has arrived since `work` was last asked."""
        await self._pacing.wait_work()


@asynccontextmanager
async def open_ledger(
    genesis: Genesis,
    path: Path,
    *,
    key: Key | None = None,
    clock: Callable[[], float] = time.time,
    restarts: Sequence[Restart] = (),
    upgrades: Schedule | None = None,
) -> AsyncIterator[Ledger]:
    """`path`: the folder of the chain. `key`: of a peer that may propose. `clock`: seconds since 1970.

    Raises Unavailable where another process has the folder open, Misuse where it holds another network's chain, Refused
    where this release does not contain the rules of the next height.
    """
    store = ChainStore(path)
    try:
        evm = EvmThread()
        try:
            ledger = Ledger(genesis, store, evm, key, clock, restarts, upgrades)
            await ledger.start()
            yield ledger
        finally:
            evm.close()
    finally:
        store.close()
