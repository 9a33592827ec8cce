"""The EVM of this chain: Cancun rules on py-evm, less deployment and dear precompiles, plus calls by the system.

Runs one message or transaction on a state. Knows nothing of blocks, contracts' meaning or storage on disk.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from eth import precompiles
from eth._utils.address import force_bytes_to_address
from eth.constants import SYSTEM_ADDRESS
from eth.db.atomic import AtomicDBWriteBatch
from eth.db.backends.base import BaseAtomicDB
from eth.exceptions import VMError
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.cancun.computation import CancunComputation
from eth.vm.forks.cancun.state import CancunState, CancunTransactionExecutor
from eth.vm.forks.spurious_dragon._utils import collect_touched_accounts
from eth.vm.interrupt import EVMMissingData
from eth.vm.message import Message
from eth_utils import get_extended_debug_logger

from flock_chain.errors import FlockError, InvalidBlock
from flock_chain.execution.account_database import AccountDatabase
from flock_chain.execution.opcodes import FAST_OPCODES, compute_memory_gas
from flock_chain.execution.state_cache import StateCache
from flock_chain.execution.state_trie import DamagedNode
from flock_chain.execution.transactions import Transaction

SYSTEM: bytes = SYSTEM_ADDRESS
MAX_REASON_BYTES = 256  # of a revert, kept for people; the contracts' are shorter
# A fault of this peer's own store, never of a transaction: it must stop this peer, not shape a block.
# FlockError: what a store, or the chain's rows in it, raises by the words of the project.
STORE_FAULTS = (EVMMissingData, DamagedNode, FlockError, MemoryError, OSError)
OPCODES: Mapping[int, Any] = {**CancunComputation.opcodes, **FAST_OPCODES}  # all of Cancun's
_CREATE, _CREATE2 = 0xF0, 0xF5


class KeyValues(Protocol):
    """Where final state is read from."""

    def get(self, key: bytes) -> bytes | None: ...


Writes = dict[bytes, bytes | None]


class Overlay(BaseAtomicDB):
    """The writes of one candidate block over final state: stored in one transaction, or dropped."""

    def __init__(self, base: KeyValues, cache: StateCache | None = None) -> None:
        """`cache`: of the base's state, kept by who opens overlays on it again and again."""
        self.base = base
        self.cache = cache or StateCache()
        self.writes: Writes = {}

    def __getitem__(self, key: bytes) -> bytes:
        value = self.writes[key] if key in self.writes else self.base.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self.writes[key] = value

    def __delitem__(self, key: bytes) -> None:
        self.writes[key] = None

    def _exists(self, key: bytes) -> bool:
        return (self.writes[key] if key in self.writes else self.base.get(key)) is not None

    @contextmanager
    def atomic_batch(self) -> Iterator[AtomicDBWriteBatch]:
        with AtomicDBWriteBatch._commit_unless_raises(self) as batch:
            yield batch


class Computation(CancunComputation):
    """No deployment; precompiles whose Python cost is in line with their gas: no pairing, modexp, blake2, kzg."""

    opcodes = {code: op for code, op in OPCODES.items() if code not in (_CREATE, _CREATE2)}
    _precompiles = {
        force_bytes_to_address(b"\x01"): precompiles.ecrecover,
        force_bytes_to_address(b"\x02"): precompiles.sha256,
        force_bytes_to_address(b"\x03"): precompiles.ripemd160,
        force_bytes_to_address(b"\x04"): precompiles.identity,
    }

    def extend_memory(self, start_position: int, size: int) -> None:
        """As py-evm's, less its debug text; most calls find the memory there already."""
        end = start_position + size
        before = len(self._memory)
        if size and end > before:
            self._gas_meter.consume_gas(compute_memory_gas(end) - compute_memory_gas(before), "memory")
            self._memory.extend(start_position, size)


class Executor(CancunTransactionExecutor):
    """py-evm's own, on our transactions: validation is ours, and no text is made for a log that nobody reads."""

    def validate_transaction(self, transaction: Transaction) -> None:
        check_transaction(self.vm_state, transaction)

    def build_evm_message(self, transaction: Transaction) -> Message:
        state = self.vm_state
        state.delta_balance(transaction.sender, -transaction.gas * state.get_gas_price(transaction))
        state.increment_nonce(transaction.sender)
        return Message(
            gas=transaction.gas - transaction.intrinsic_gas,
            to=transaction.to,
            sender=transaction.sender,
            value=transaction.value,
            data=transaction.data,
            code=state.get_code(transaction.to),
        )


class State(CancunState):
    """One undo log for accounts, storage, transient storage and access lists: a snapshot is a number."""

    account_db_class = AccountDatabase
    computation_class = Computation
    transaction_executor_class = Executor
    logger = get_extended_debug_logger("eth.vm.state.State")  # py-evm's property looks it up at each use

    def __init__(self, db: Overlay, execution_context: ExecutionContext, state_root: bytes) -> None:
        super().__init__(db, execution_context, state_root)
        self._transient: dict[tuple[bytes, int], bytes] = {}

    def set_system_contracts(self) -> None:
        """None: what exists is in the genesis document (py-evm's would deploy nothing anyway)."""

    def snapshot(self) -> tuple[bytes, int]:
        return self._account_db.state_root, self._account_db.record()

    def commit(self, snapshot: tuple[bytes, int]) -> None:
        self._account_db.commit(snapshot[1])

    def revert(self, snapshot: tuple[bytes, int]) -> None:
        self._account_db.state_root = snapshot[0]
        self._account_db.discard(snapshot[1])

    def get_transient_storage(self, address: bytes, slot: int) -> bytes:
        return self._transient.get((address, slot), b"")

    def set_transient_storage(self, address: bytes, slot: int, value: bytes) -> None:
        self._account_db.journal.write(self._transient, (address, slot), value)

    def clear_transient_storage(self) -> None:
        self._transient = {}  # a new one: what the journal may still undo belongs to the old


@dataclass(frozen=True)
class Context:
    """What a contract can ask about its block."""

    height: int
    timestamp: int
    proposer: bytes
    mix: bytes
    gas_limit: int
    base_fee: int
    chain_id: int


@dataclass(frozen=True)
class Outcome:
    """What one transaction did."""

    status: bool
    gas_used: int
    logs: tuple[tuple[bytes, tuple[int, ...], bytes], ...]  # contract, topics, data
    output: bytes

    @property
    def reason(self) -> str:
        return "" if self.status else decode_reason(self.output)


def open_state(store: Overlay, root: bytes, context: Context, ancestors: Iterator[bytes] | tuple[bytes, ...]) -> State:
    return State(store, make_context(context, ancestors), root)


def make_context(context: Context, ancestors: Iterator[bytes] | tuple[bytes, ...]) -> ExecutionContext:
    """`ancestors`: block ids from the parent backwards, read only where a contract asks."""
    return ExecutionContext(
        coinbase=context.proposer,
        timestamp=context.timestamp,
        block_number=context.height,
        difficulty=0,
        mix_hash=context.mix,
        gas_limit=context.gas_limit,
        prev_hashes=ancestors,
        chain_id=context.chain_id,
        base_fee_per_gas=context.base_fee,
        excess_blob_gas=0,
    )


def check_transaction(state: State, transaction: Transaction) -> None:
    """The rules that need the sender's account; raises InvalidBlock naming the one that is broken."""
    sender = transaction.sender
    nonce = state.get_nonce(sender)
    if transaction.nonce != nonce:
        raise InvalidBlock(f"transaction: nonce {transaction.nonce}, the sender's next is {nonce}")
    if transaction.max_fee_per_gas < state.base_fee:
        raise InvalidBlock(f"transaction: fee {transaction.max_fee_per_gas} below the base fee {state.base_fee}")
    cost = transaction.gas * transaction.max_fee_per_gas + transaction.value
    if state.get_balance(sender) < cost:
        raise InvalidBlock(f"transaction: the sender cannot afford gas and value of {cost} wei")
    if state.get_code(sender):
        raise InvalidBlock("transaction: the sender is a contract (EIP-3607)")


def run_transaction(state: State, transaction: Transaction) -> Outcome:
    """All or nothing: raises InvalidBlock where it cannot be in a block, and leaves the state as it was."""
    with _undone_on_error(state):
        try:
            computation = state.apply_transaction(transaction)
        except STORE_FAULTS:  # or InvalidBlock, by our own rules
            raise
        except Exception as error:  # whatever py-evm raises, the transaction cannot be included
            raise InvalidBlock(f"transaction: cannot be executed ({type(error).__name__}: {error})") from error
        used = transaction.gas - computation.get_gas_remaining()
        used -= Executor.calculate_gas_refund(computation, used)
        return _outcome(computation, used)


def run_system(state: State, to: bytes, data: bytes, *, gas: int, value: int = 0) -> Outcome:
    """A call from the system: never fails to be included; where it fails, it changes nothing but its receipt."""
    try:
        with _undone_on_error(state):
            computation = _apply(state, to, data, gas=gas, value=value, sender=SYSTEM)
            for account in computation.get_accounts_for_deletion():
                state.delete_account(account)
            for account in collect_touched_accounts(computation):
                if state.account_exists(account) and state.account_is_empty(account):
                    state.delete_account(account)
            state.clear_transient_storage()
            return _outcome(computation, gas - computation.get_gas_remaining())
    except VMError as error:
        return Outcome(False, gas, (), encode_reason(str(error)))


def run_view(state: State, to: bytes, data: bytes, *, gas: int, value: int = 0, sender: bytes = SYSTEM) -> Outcome:
    """A call whose every effect is undone."""
    state.lock_changes()
    snapshot = state.snapshot()
    try:
        computation = _apply(state, to, data, gas=gas, value=value, sender=sender)
        return _outcome(computation, gas - computation.get_gas_remaining())
    except VMError as error:
        return Outcome(False, gas, (), encode_reason(str(error)))
    finally:
        state.revert(snapshot)
        state.clear_transient_storage()


def _apply(state: State, to: bytes, data: bytes, *, gas: int, value: int, sender: bytes) -> Any:
    """`apply_message`, not `apply_computation`: only the first takes a snapshot, so that a failure writes nothing."""
    message = Message(gas=gas, to=to, sender=sender, value=value, data=data, code=state.get_code(to))
    state.mark_address_warm(sender)
    state.mark_address_warm(to)
    context = state.get_transaction_context_class()(gas_price=state.base_fee, origin=sender)
    return state.computation_class.apply_message(state, message, context)


@contextmanager
def _undone_on_error(state: State) -> Iterator[None]:
    """py-evm locks changes when it applies; locking first is what makes our snapshot revertible."""
    state.lock_changes()
    snapshot = state.snapshot()
    try:
        yield
    except BaseException:
        state.revert(snapshot)
        state.clear_transient_storage()
        raise
    state.commit(snapshot)


def _outcome(computation: Any, gas_used: int) -> Outcome:
    return Outcome(computation.is_success, gas_used, computation.get_log_entries(), bytes(computation.output))


_ERROR_SELECTOR, _PANIC_SELECTOR = bytes.fromhex("08c379a0"), bytes.fromhex("4e487b71")


def encode_reason(text: str) -> bytes:
    raw = text.encode()[:MAX_REASON_BYTES]
    padded = raw + bytes(-len(raw) % 32)
    return _ERROR_SELECTOR + (32).to_bytes(32, "big") + len(raw).to_bytes(32, "big") + padded


def decode_reason(output: bytes) -> str:
    """The text of a revert; made of bytes that a contract chose, so bounded and printable."""
    if output[:4] == _PANIC_SELECTOR and len(output) == 36:
        return f"panic {int.from_bytes(output[4:], 'big'):#x}"
    if output[:4] != _ERROR_SELECTOR or len(output) < 68:
        return f"reverted with {len(output)} bytes" if output else "failed without a reason"
    length = min(int.from_bytes(output[36:68], "big"), MAX_REASON_BYTES)
    text = output[68 : 68 + length].decode(errors="replace")
    return "".join(character if character.isprintable() else "?" for character in text)


class MemoryStore:
    """A KeyValues in memory, for tools and tests that need no disk."""

    def __init__(self, rows: Mapping[bytes, bytes] | None = None) -> None:
        self.rows: MutableMapping[bytes, bytes] = dict(rows or {})

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def commit(self, writes: Writes) -> None:
        for key, value in writes.items():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
