"""The ledger service: the chain's executor, its store and the mempool behind one async interface.

Implements the driver's LedgerPort. Knows no votes and no network: who calls gossips transactions and certificates.
"""

import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import trio

from flock_chain import ecvrf
from flock_chain.consensus.attendance import AttendanceRule, make_attendance
from flock_chain.consensus.certificates import votes_of
from flock_chain.consensus.digest import make_domain
from flock_chain.consensus.types import Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import decode_certificate
from flock_chain.crypto import Account, Digest, Key
from flock_chain.errors import InvalidBlock, InvalidRemote, Misuse, Refused, Unavailable
from flock_chain.execution import records
from flock_chain.execution.block_run import Candidate
from flock_chain.execution.blocks import HEADER_ROOM_BYTES, Block, Receipt, decode_block
from flock_chain.execution.executor import AccountView, Executor
from flock_chain.execution.machine import KeyValues, Writes
from flock_chain.execution.ordered_trie import compute_ordered_root
from flock_chain.execution.transactions import SYSTEM_TYPE, Transaction, decode_system_transaction, decode_transaction
from flock_chain.execution.validators import Served, Validator
from flock_chain.genesis import Genesis
from flock_chain.restart import Restart
from flock_chain.upgrades import Schedule
from flock_contracts.addresses import BOARD
from flock_contracts.loader import load
from flock_peers.driver.ports import BlockVerdict
from flock_peers.ledger.candidates import Candidates
from flock_peers.ledger.demand import NOTHING_DUE, Moment, compute_delay, estimate_chain_time
from flock_peers.ledger.evm_thread import EvmThread, Priority
from flock_peers.ledger.write_behind import WriteBehind
from flock_peers.mempool import Limits, Mempool
from flock_peers.store.chain_store import ChainStore

log = logging.getLogger(__name__)

MAX_SAMPLES = 1_000  # finality times kept for whoever shows them
CLOCK_WARNING_SECONDS = 10.0  # off by more, and as often, it is said; a view or two later than usual is no news
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


class Ledger:
    """Made by `open_ledger`. One trio run; the EVM works in its own thread."""

    def __init__(
        self, genesis: Genesis, store: ChainStore, evm: EvmThread, key: Key | None, clock: Callable[[], float],
        restarts: Sequence[Restart] = (), upgrades: Schedule | None = None,
    ) -> None:  # fmt: skip
        self.genesis = genesis
        self.upgrades = upgrades or Schedule(genesis.hash)
        self.parameters = genesis.parameters  # of the next height
        self._store = WriteBehind(store)
        self._domain = make_domain(genesis, restarts)
        rule = AttendanceRule(self._domain)
        self.executor = Executor(genesis, self._store, attendance=rule, restarts=restarts, upgrades=upgrades)
        self.finality: deque[float] = deque(maxlen=MAX_SAMPLES)  # seconds from accepting a transaction to its block
        parameters = genesis.parameters
        self.mempool = Mempool(
            Limits(),
            base_fee=parameters.base_fee,
            max_gas=parameters.block_gas_limit,
            max_transaction_bytes=parameters.max_block_bytes - HEADER_ROOM_BYTES - _SYSTEM_ROOM_BYTES,
            own=None if key is None else key.account,
        )
        self._evm, self._clock = evm, clock
        self._key = key
        self._vrf_seed = None if key is None else ecvrf.derive_seed(key)
        self._served: Served | None = None
        self._validators: ValidatorSet | None = None
        self._candidates = Candidates()
        self._moment: Moment | None = None
        self._failed_pokes = 0
        self._warned_at = -float("inf")
        self._committed_at = -float("inf")  # by trio's clock
        self._new_head = trio.Condition()
        self._arrived = trio.Event()
        self._ids: tuple[bytes, bytes] = (b"", b"")
        self._head: BlockInfo | None = None
        self._base = 1
        self._pin: records.Pin | None = None

    async def start(self) -> None:
        """Write the genesis state into an empty store, or find the head of what is there.

        Raises Refused where this release does not contain the rules of the next height.
        """
        self._set_served(await self._evm.run(self._start))
        self._set_head()
        self._set_parameters()

    def _start(self) -> Served:
        if self._store.get(records.HEAD) is None:
            self._store.commit(self.executor.genesis_writes())
        self._base, self._pin = records.read_base(self._store), records.read_pin(self._store)
        return self.executor.served()

    def _set_served(self, served: Served) -> None:
        if self._served is None or served.rows != self._served.rows:
            self._validators = _make_set(served.rows)
        self._served = served

    def _set_parameters(self) -> None:
        """What holds for the next height. Raises Refused where that is unknown here: the peer stops before it."""
        self.parameters = self.upgrades.parameters_at(self.genesis.parameters, self.epoch)
        self.mempool.set_max_gas(self.parameters.block_gas_limit)

    @property
    def epoch(self) -> int:
        """Of the next height."""
        return self._served.epoch if self._served else 0

    # ---- what final state says
    @property
    def head(self) -> BlockInfo:
        if self._head is None:
            raise Misuse("ledger: not started")
        return self._head

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
        """What a transaction would meet on final state; raises CallReverted with the contract's reason."""
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
        return estimate_chain_time(await self._get_moment(), self._clock(), self.genesis.parameters.chain_time_gap)

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
        self._arrived.set()
        return digest

    # ---- LedgerPort
    def height(self) -> int:
        return self.head.height

    def base(self) -> int:
        return self._base

    async def validators(self) -> ValidatorSet:
        """The set of the next height, of the epoch that the final state is in."""
        await trio.lowlevel.checkpoint()
        if self._validators is None:
            raise Misuse("ledger: not started")
        return self._validators

    async def next_validators(self) -> ValidatorSet:
        await trio.lowlevel.checkpoint()
        if self._served is None:
            raise Misuse("ledger: not started")
        return _make_set(self._served.following)

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
        if self._key is None or self._key.account not in await self.validators():
            raise Unavailable("ledger: this peer is no validator")
        await trio.sleep(max(0.0, self._interval() - self._waited()))
        # Taken here, not in the EVM's thread: the mempool belongs to this one.
        taken = self.mempool.take(max_count=MAX_TAKEN, max_bytes=2 * self.genesis.parameters.max_block_bytes)
        shown = tuple(votes())
        candidate = await self._evm.run(lambda: self._build(taken, shown))
        self._candidates.add(candidate)
        for transaction, error in candidate.rejected:
            log.debug("block %d, view %d: left out %s: %s", height, view, transaction.hash.hex(), error)
        return candidate.block.encoded

    def _build(self, transactions: Sequence[Transaction], votes: Sequence[Vote]) -> Candidate:
        assert self._key is not None and self._vrf_seed is not None
        parent = self.executor.head
        return self.executor.execute(
            parent,
            transactions,
            timestamp=max(parent.timestamp, int(self._clock())),
            proposer=self._key.account,
            vrf_proof=ecvrf.prove(self._vrf_seed, self.executor.vrf_alpha(parent)),
            strict=False,
            attendance=self._make_attendance(votes),
        )

    def _make_attendance(self, votes: Sequence[Vote]) -> bytes:
        """Of the head's height; nothing where everybody voted, or for genesis and a restart, which had no votes."""
        head = self.executor.head
        if head.height == 0 or self.executor.find_restart(head) is not None:
            return b""
        validators = _make_set(self.executor.served().before)
        certified = self._certified_votes(head.height, validators)
        return make_attendance(head.height, [*votes, *certified], validators, self._domain)

    def _certified_votes(self, height: int, validators: ValidatorSet) -> tuple[Vote, ...]:
        data = self.certificate_bytes(height)
        try:
            return () if data is None else votes_of(decode_certificate(data), validators)
        except InvalidRemote:  # tools and tests commit blocks without a real one
            return ()

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
            if fresh and not self._is_timely(decoded):
                self._warn_of_clocks(decoded)
                return BlockVerdict.LATER
            await self._execute(block)
        except InvalidRemote as error:
            log.warning("block at height %d refused: %s", self.head.height + 1, error)
            return BlockVerdict.INVALID
        return BlockVerdict.VALID

    def _is_timely(self, block: Block) -> bool:
        """A timestamp before the parent's is for the executor to refuse: it is wrong for everybody."""
        now, parameters = self._clock(), self.genesis.parameters
        oldest = int(now) - parameters.clock_slack_behind  # whole seconds, as the timestamp is
        return oldest <= block.timestamp <= now + parameters.clock_slack_ahead

    def _warn_of_clocks(self, block: Block) -> None:
        """A block a moment early is ordinary; one that stays untimely means that a clock is wrong, perhaps this one."""
        off, now = block.timestamp - self._clock(), trio.current_time()
        if abs(off) > CLOCK_WARNING_SECONDS and now - self._warned_at > CLOCK_WARNING_SECONDS:
            self._warned_at = now
            log.warning(
                "block %d of 0x%s is stamped %.0f s %s this machine's clock: not voting for it; check the clock here "
                "(is time synchronisation running?), and there if others say the same",
                *(block.height, block.proposer.hex(), abs(off), "after" if off > 0 else "before"),
            )

    async def _execute(self, block: bytes) -> Candidate:
        """Raises InvalidRemote naming the rule. No block is executed twice."""
        fault = self._candidates.get_fault(block)
        if fault is not None:
            raise InvalidBlock(fault)
        candidate = self._candidates.get(block)
        if candidate is None:
            try:
                candidate = await self._evm.run(lambda: self.executor.verify(block, known=self.mempool.get_known))
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

    async def flush(self) -> None:
        if self._store.is_durable:
            await trio.lowlevel.checkpoint()
        else:
            await self._evm.run(self._store.flush)

    async def _finalize(self, block: bytes, certificate: bytes, write: Callable[[Writes], None]) -> None:
        candidate = await self._execute(block)
        self._set_served(await self._evm.run(lambda: self._store_final(candidate, certificate, write)))
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
        self._committed_at = trio.current_time()
        self._candidates.clear()
        self._moment = None
        pokes = [row for row, raw in zip(candidate.receipts, candidate.block.transactions) if _is_poke(raw)]
        self._failed_pokes = self._failed_pokes + 1 if pokes and not any(row.status for row in pokes) else 0
        accepted = self.mempool.on_block(
            {receipt.hash for receipt in candidate.receipts},
            candidate.nonces,
            gas_left=header.gas_limit - header.gas_used,
            bytes_left=limit - HEADER_ROOM_BYTES - len(candidate.block.encoded),
        )
        self.finality.extend(self._committed_at - at for at in accepted)

    def _set_head(self) -> None:
        header = self.executor.head
        self._head = BlockInfo(header.height, header.id, header.timestamp, header.state_root)

    async def block_and_certificate(self, height: int) -> tuple[bytes, bytes] | None:
        await trio.lowlevel.checkpoint()
        block, certificate = self.block_bytes(height), self.certificate_bytes(height)
        return None if block is None or certificate is None else (block, certificate)

    # ---- demand
    async def work(self, now: float) -> float | None:
        """Seconds until a block is wanted; 0 for now. The heartbeat makes it finite always."""
        self._arrived = trio.Event()
        moment = await self._get_moment()
        return compute_delay(
            moment,
            self.parameters,
            now=now,
            waited=self._waited(),
            has_executable=self.mempool.has_executable(),
        )

    async def wait_work(self) -> None:
        """Returns once a transaction has arrived since `work` was last asked."""
        await self._arrived.wait()

    def _interval(self) -> float:
        return self.parameters.block_interval / 1_000

    def _waited(self) -> float:
        """Since the last block was stored; a whole interval after a start."""
        return min(trio.current_time() - self._committed_at, self._interval() * 1_000)

    async def _get_moment(self) -> Moment:
        """Read once a head."""
        if self._moment is None:
            head = self.head
            moment = await self._evm.run(self._read_moment)
            if head == self.head:
                self._moment = moment
            return moment
        return self._moment

    def _read_moment(self) -> Moment:
        head = self.executor.head
        chain_time = self.executor.view("Beacon", "chain_time")
        wakeup: object = NOTHING_DUE
        if "TaskBoard" in self.executor.contracts:
            wakeup = self.executor.view("TaskBoard", "wakeup")
        assert isinstance(chain_time, int) and isinstance(wakeup, int)
        return Moment(head.timestamp, chain_time, wakeup, self._failed_pokes)


def _is_poke(raw: bytes) -> bool:
    return raw[:1] == bytes((SYSTEM_TYPE,)) and decode_system_transaction(raw).to == BOARD


def _make_set(rows: Sequence[Validator]) -> ValidatorSet:
    return ValidatorSet(tuple((row.account, row.weight) for row in rows))


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
