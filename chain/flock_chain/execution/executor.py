"""Executes blocks: one function builds and verifies. Pure but for reading final state through `KeyValues`.

Knows no network, mempool or certificate; who calls stores a candidate's writes once it is final, and then advances.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from flock_chain.crypto import Account, Digest
from flock_chain.errors import FlockError, InvalidBlock, InvalidEncoding, InvalidRemote, Misuse
from flock_chain.execution import records, schedule, validators
from flock_chain.execution.blocks import (
    HEADER_ROOM_BYTES,
    Block,
    Header,
    Receipt,
    compute_bloom,
    decode_block,
    encode_receipt,
    make_header,
)
from flock_chain.execution.genesis_state import build_genesis, load_pinned
from flock_chain.execution.machine import (
    Context,
    KeyValues,
    Outcome,
    Overlay,
    State,
    Writes,
    make_context,
    open_state,
    run_system,
    run_transaction,
    run_view,
)
from flock_chain.execution.ordered_trie import compute_ordered_root
from flock_chain.execution.state_cache import StateCache
from flock_chain.execution.transactions import (
    SYSTEM_TYPE,
    SystemTransaction,
    Transaction,
    decode_system_transaction,
    decode_transaction,
)
from flock_chain.execution.validators import AttendanceRule, Served, refuse_attendance
from flock_chain.genesis import Genesis
from flock_chain.parameters import Parameters
from flock_chain.restart import Restart
from flock_chain.upgrades import Schedule

MAX_ANCESTORS = 256  # how far back the EVM can ask for block hashes
CALL_GAS = 50_000_000  # of a read-only call; who asks is this peer itself
_LIST_PREFIX_BYTES = 4  # what a transaction's length takes in a block, at most


class CallReverted(FlockError):
    """A read-only call that the contract refused."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"call reverted: {reason}")
        self.reason = reason


class NotNow(InvalidBlock):
    """A transaction that is valid but finds no room in this block."""


@dataclass(frozen=True)
class Candidate:
    """An executed block, not yet final."""

    block: Block
    receipts: tuple[Receipt, ...]
    rejected: tuple[tuple[Transaction, InvalidRemote], ...]  # left out while building; NotNow: try again
    nonces: Mapping[Account, int]  # the next nonce of every account that sent a transaction in it
    writes: Writes  # everything to store in one transaction, less the certificate
    changes_set: bool  # another set may serve the next height


@dataclass(frozen=True)
class AccountView:
    nonce: int
    balance: int


class Executor:
    """The chain's state machine. One thread at a time."""

    def __init__(
        self,
        genesis: Genesis,
        reader: KeyValues,
        *,
        attendance: AttendanceRule = refuse_attendance,
        restarts: Sequence[Restart] = (),
        upgrades: Schedule | None = None,
    ) -> None:
        """`attendance`: how the votes that a block shows are judged. `restarts`, `upgrades`: agreed on, if any."""
        self.genesis = genesis
        self._reader = reader
        self._cache = StateCache()
        self._contracts = load_pinned(genesis)
        self._attendance = attendance
        self._restarts = {restart.height: restart for restart in restarts}
        self._upgrades = upgrades or Schedule(genesis.hash)
        self._served: tuple[Digest, Served] | None = None  # by the id of the parent
        self._head: Header | None = None
        self._view_state: tuple[Digest, State] | None = None

    # ---- final state
    def genesis_writes(self) -> Writes:
        """Everything to store before the first use, as one transaction."""
        return build_genesis(self.genesis).writes

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

    def advance(self, candidate: Candidate) -> None:
        """The candidate's writes are stored: it is the head now."""
        if candidate.block.parent_id != self.head.id:
            raise Misuse("executor: only a child of the head can become the head")
        known = self._served
        self._head = candidate.block.header
        self._view_state = None
        self._served = None
        if known is not None and known[0] == candidate.block.parent_id and not candidate.changes_set:
            self._served = (self._head.id, replace(known[1], before=known[1].rows))

    # ---- validators
    def served(self, parent: Header | None = None) -> Served:
        """Who decides about the child of a final block, the head by default. In the state, or in a restart document."""
        parent = parent or self.head
        if self._served is not None and self._served[0] == parent.id:
            return self._served[1]
        served = validators.read_served(self._state_of(parent), self._contracts["Stake"], parent.height)
        restart = self.find_restart(parent)
        if restart is not None:
            served = validators.restarted(served, restart)
        self._served = (parent.id, served)
        return served

    def find_restart(self, parent: Header) -> Restart | None:
        """The document that the child of this block begins anew with; raises Misuse where it names another block."""
        restart = self._restarts.get(parent.height)
        if restart is not None and restart.block_id != parent.id:
            raise Misuse(
                f"restart document {restart.hash.hex()}: block {parent.height} is {restart.block_id.hex()} there and "
                f"{parent.id.hex()} here"
            )
        return restart

    def parameters(self, parent: Header | None = None) -> Parameters:
        """What holds for the child of a final block; raises Refused where this release does not contain its rules."""
        return self._upgrades.parameters_at(self.genesis.parameters, self.served(parent).epoch)

    # ---- blocks
    def vrf_alpha(self, parent: Header) -> bytes:
        """What the proposer of the next block must prove."""
        return schedule.compute_alpha(self.genesis.chain_id, parent.height + 1, parent.mix_hash)

    def execute(
        self,
        parent: Header,
        transactions: Sequence[Transaction],
        *,
        timestamp: int,
        proposer: bytes,
        vrf_proof: bytes,
        strict: bool,
        attendance: bytes = b"",
    ) -> Candidate:
        """The block that follows from these inputs, and no other.

        `strict`: a transaction that cannot be included makes the block invalid; else it is left out and reported.
        `attendance`: votes of the parent's height, where somebody's are missing. Raises InvalidBlock naming the rule.
        """
        if timestamp < parent.timestamp:
            raise InvalidBlock(f"block: timestamp {timestamp} before its parent's {parent.timestamp}")
        served = self.served(parent)
        validator = served.find(proposer)
        if validator is None:
            raise InvalidBlock(f"block: the proposer 0x{proposer.hex()} is no validator")
        mix = schedule.verify_randomness(validator.vrf_key, self.vrf_alpha(parent), parent.mix_hash, vrf_proof)
        gas_limit = self.parameters(parent).block_gas_limit
        run = _BlockRun(self, parent, served, timestamp=timestamp, proposer=proposer, mix=mix, gas_limit=gas_limit)
        run.call_system("Beacon", "on_block", mix, vrf_proof, gas=schedule.ON_BLOCK_GAS)
        run.serve(attendance)
        if "TaskBoard" in self._contracts:
            floor = schedule.compute_poke_floor(gas_limit)
            for task in schedule.get_due_tasks(run.state, self._contracts["TaskBoard"]):
                if run.gas_left >= floor:
                    run.call_system("TaskBoard", "poke", task, gas=min(schedule.POKE_GAS, run.gas_left))
        for transaction in transactions:
            try:
                run.include(transaction)
            except InvalidRemote as error:
                if strict:
                    raise
                run.rejected.append((transaction, error))
        return run.seal()

    def verify(self, data: bytes, *, known: Callable[[bytes], Transaction | None] = lambda _: None) -> Candidate:
        """Rebuild a child of the head from its bytes and compare; raises InvalidBlock naming the field.

        `known`: transactions that were decoded and whose signature was checked before, by their raw bytes.
        """
        block = decode_block(data, max_bytes=self.genesis.parameters.max_block_bytes)
        header, parent = block.header, self.head
        if header.height != parent.height + 1 or header.parent_hash != parent.id:
            raise InvalidBlock(f"block: parent_hash or height: not a child of the head at {parent.height}")
        system = [raw for raw in block.transactions if raw[:1] == bytes((SYSTEM_TYPE,))]
        if not system:
            raise InvalidBlock("block: transactions: without the beacon's call")
        proof = schedule.extract_proof(decode_system_transaction(system[0]).data)
        attendance = b""
        if len(system) > 1:
            second = decode_system_transaction(system[1])
            attendance = validators.extract_attendance(self._contracts["Stake"], second.to, second.data)
        transactions = [
            known(raw) or decode_transaction(raw, self.genesis.chain_id) for raw in block.transactions[len(system) :]
        ]
        rebuilt = self.execute(
            parent,
            transactions,
            timestamp=header.timestamp,
            proposer=header.coinbase,
            vrf_proof=proof,
            strict=True,
            attendance=attendance,
        )
        _compare(block, rebuilt.block)
        return rebuilt

    # ---- reading
    def call(
        self,
        to: bytes,
        data: bytes,
        *,
        height: int | None = None,
        timestamp: int | None = None,
        sender: bytes = bytes(20),
        value: int = 0,
    ) -> bytes:
        """A read-only call on a final state. At the head it sees the block that would come next, at `timestamp`.

        Raises CallReverted with the contract's reason.
        """
        if height is None or height == self.head.height:
            state = self._head_state(self.head.timestamp if timestamp is None else timestamp)
        else:
            state = self._state_of(records.read_block(self._reader, height).header)  # raises where no state is here
        outcome = run_view(state, to, data, gas=CALL_GAS, value=value, sender=sender)
        if not outcome.status:
            raise CallReverted(outcome.reason)
        return outcome.output

    def view(
        self, contract: str, function: str, *arguments: object, height: int | None = None, timestamp: int | None = None
    ) -> object:
        """`call` on a genesis contract by name, decoded."""
        entry = self._contracts.get(contract)
        if entry is None:
            raise Misuse(f"view: this network has no contract {contract!r}")
        output = self.call(entry.address, entry.encode(function, *arguments), height=height, timestamp=timestamp)
        result: object = entry.decode(function, output)
        return result

    def account(self, account: bytes) -> AccountView:
        state = self._head_state(self.head.timestamp)
        return AccountView(state.get_nonce(account), state.get_balance(account))

    def _head_state(self, timestamp: int) -> State:
        """Kept from call to call: the reads that py-evm caches are the dear part."""
        head = self.head
        if self._view_state is None or self._view_state[0] != head.id:
            context = self._next_context(head, timestamp)
            self._view_state = (head.id, open_state(Overlay(self._reader, self._cache), head.state_root, context, ()))
        state = self._view_state[1]
        state.execution_context = make_context(self._next_context(head, timestamp), self._ancestors(head))
        return state

    def _next_context(self, parent: Header, timestamp: int, proposer: bytes = bytes(20), mix: bytes = b"") -> Context:
        return Context(
            height=parent.height + 1,
            timestamp=max(timestamp, parent.timestamp),
            proposer=proposer,
            mix=mix or parent.mix_hash,
            gas_limit=self.genesis.parameters.block_gas_limit,
            base_fee=self.genesis.parameters.base_fee,
            chain_id=self.genesis.chain_id,
        )

    def _state_of(self, header: Header) -> State:
        context = self._next_context(header, header.timestamp)
        context = replace(context, height=header.height, proposer=header.coinbase)
        return open_state(Overlay(self._reader, self._cache), header.state_root, context, ())

    def _ancestors(self, header: Header) -> Iterator[bytes]:
        for _ in range(MAX_ANCESTORS):
            yield header.id
            if header.height == 0:
                return
            header = self.header(header.height - 1)

    @property
    def contracts(self) -> Mapping[str, object]:
        return self._contracts


class _BlockRun:
    """One block while it is being executed."""

    def __init__(
        self, executor: Executor, parent: Header, served: Served, *, timestamp: int, proposer: bytes, mix: bytes,
        gas_limit: int,
    ) -> None:  # fmt: skip
        self._executor = executor
        self._genesis = executor.genesis
        self._parent = parent
        self._served = served
        self._changes_set = False
        self._overlay = Overlay(executor._reader, executor._cache)
        self._context = replace(executor._next_context(parent, timestamp, proposer, mix), gas_limit=gas_limit)
        self.state = open_state(self._overlay, parent.state_root, self._context, executor._ancestors(parent))
        self.rejected: list[tuple[Transaction, InvalidRemote]] = []
        self._raws: list[bytes] = []
        self._encoded_receipts: list[bytes] = []
        self._receipts: list[Receipt] = []
        self._nonces: dict[Account, int] = {}
        self._gas_used = 0
        self._bloom = 0
        self._bytes_left = self._genesis.parameters.max_block_bytes - HEADER_ROOM_BYTES

    @property
    def gas_left(self) -> int:
        return self._context.gas_limit - self._gas_used

    def serve(self, attendance: bytes) -> None:
        """The calls that the validator set needs: a restart, or who was absent, and the end of the epoch."""
        restart = self._executor.find_restart(self._parent)
        if restart is not None:
            if attendance:
                raise InvalidBlock("block: attendance: the first block after a restart shows none")
            arguments = (bytes(restart.hash), [row.account for row in self._served.rows])
            self._changes_set |= self.call_system("Stake", "on_restart", *arguments, gas=validators.RESTART_GAS)
        elif attendance:
            absent = self._executor._attendance(attendance, self._parent.height, self._served.before)
            self.call_system("Stake", "on_attendance", absent, attendance, gas=validators.ATTENDANCE_GAS)
        stake, blocks = self._executor._contracts["Stake"], self._genesis.parameters.epoch_blocks
        if validators.is_epoch_over(self.state, stake, self._served, self._context.height, blocks):
            self._changes_set |= self.call_system("Stake", "end_epoch", gas=validators.END_EPOCH_GAS)

    def call_system(self, contract: str, function: str, *arguments: object, gas: int) -> bool:
        """Always included; where it fails, its receipt says so and the chain goes on."""
        entry = self._executor._contracts[contract]
        transaction = SystemTransaction(
            chain_id=self._genesis.chain_id,
            height=self._context.height,
            index=len(self._raws),
            to=entry.address,
            gas=gas,
            data=entry.encode(function, *arguments),
        )
        outcome = run_system(self.state, transaction.to, transaction.data, gas=gas)
        self._add(transaction.raw, transaction.hash, SYSTEM_TYPE, outcome)
        return outcome.status

    def include(self, transaction: Transaction) -> None:
        """Raises InvalidBlock and changes nothing where it cannot be included."""
        if transaction.gas > self.gas_left:
            raise NotNow(f"transaction: gas limit {transaction.gas}, {self.gas_left} left in the block")
        if len(transaction.raw) + _LIST_PREFIX_BYTES > self._bytes_left:
            raise NotNow(f"transaction: {len(transaction.raw)} bytes, {self._bytes_left} left in the block")
        outcome = run_transaction(self.state, transaction)
        self._add(transaction.raw, transaction.hash, transaction.type_id, outcome)
        self._nonces[transaction.sender] = transaction.nonce + 1

    def _add(self, raw: bytes, digest: Digest, type_id: int, outcome: Outcome) -> None:
        bloom = compute_bloom(outcome.logs)
        self._gas_used += outcome.gas_used
        self._bloom |= bloom
        self._bytes_left -= len(raw) + _LIST_PREFIX_BYTES
        self._receipts.append(
            Receipt(
                hash=digest,
                height=self._context.height,
                index=len(self._raws),
                status=outcome.status,
                gas_used=outcome.gas_used,
                logs=outcome.logs,
                reason=outcome.reason,
            )
        )
        self._encoded_receipts.append(encode_receipt(type_id, outcome, self._gas_used, bloom))
        self._raws.append(raw)

    def seal(self) -> Candidate:
        self.state.lock_changes()
        self.state.persist()
        header = make_header(
            parent_hash=self._parent.id,
            coinbase=self._context.proposer,
            height=self._context.height,
            timestamp=self._context.timestamp,
            mix_hash=self._context.mix,
            gas_limit=self._context.gas_limit,
            base_fee=self._context.base_fee,
            certificate_commitment=schedule.compute_certificate_commitment(self._parent.id, self._served.before),
            state_root=self.state.state_root,
            transaction_root=compute_ordered_root(self._raws),
            receipt_root=compute_ordered_root(self._encoded_receipts),
            bloom=self._bloom.to_bytes(256, "big"),
            gas_used=self._gas_used,
        )
        block, receipts = Block(header, tuple(self._raws)), tuple(self._receipts)
        writes = self._overlay.writes | records.make_rows(block, receipts)
        return Candidate(block, receipts, tuple(self.rejected), self._nonces, writes, self._changes_set)


def _compare(claimed: Block, rebuilt: Block) -> None:
    """Transactions first: where they differ, the roots do too, and the list says more."""
    if claimed.transactions != rebuilt.transactions:
        raise InvalidBlock("block: transactions: not the system's calls that this height prescribes, in their order")
    for field in fields(Header):
        if getattr(claimed.header, field.name) != getattr(rebuilt.header, field.name):
            raise InvalidBlock(f"block: {field.name} is not what executing it gives")
    if claimed.encoded != rebuilt.encoded:
        raise InvalidEncoding("block: not the canonical encoding")
