"""Random blocks, run on our state and on unmodified py-evm's: roots, receipts and gas must be equal.

A scenario is data alone: what is there first, and blocks of signed transactions, calls by the system and views.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from eth.vm.forks.cancun.computation import CancunComputation
from eth.vm.forks.cancun.state import CancunState, CancunTransactionExecutor
from evm_program_support import SLOTS, Program

from flock_chain.crypto import Key, keccak256
from flock_chain.errors import InvalidBlock
from flock_chain.execution.machine import (
    OPCODES,
    Computation,
    Context,
    MemoryStore,
    Outcome,
    Overlay,
    State,
    check_transaction,
    make_context,
    run_system,
    run_transaction,
    run_view,
)
from flock_chain.execution.ordered_trie import EMPTY_ROOT
from flock_chain.execution.state_cache import StateCache
from flock_chain.execution.transactions import Transaction, decode_transaction, sign_call

CHAIN_ID = 771177
BASE_FEE = 7
GAS_LIMIT = 30_000_000
KEYS = [Key(keccak256(b"fuzz key", bytes([index]))) for index in range(4)]
CONTRACTS = [keccak256(b"fuzz contract", bytes([index]))[12:] for index in range(5)]
GHOSTS = [keccak256(b"fuzz ghost", bytes([index]))[12:] for index in range(2)]
PRECOMPILES = [bytes(19) + bytes([index]) for index in range(1, 5)]
PROPOSER = b"\xfe" * 20
ADDRESSES = [
    *CONTRACTS,
    *CONTRACTS,
    *(key.account for key in KEYS[:2]),
    *GHOSTS,
    PRECOMPILES[1],
    PRECOMPILES[3],
    PROPOSER,
]


# ---- unmodified py-evm, but for what our chain leaves out
class StockComputation(CancunComputation):
    _precompiles = Computation._precompiles


class StockExecutor(CancunTransactionExecutor):
    def validate_transaction(self, transaction: Transaction) -> None:
        check_transaction(self.vm_state, transaction)


class StockState(CancunState):
    computation_class = StockComputation
    transaction_executor_class = StockExecutor

    def set_system_contracts(self) -> None:
        """None, as in ours."""


# ---- ours, with the creation of contracts that our chain leaves out
class OurComputation(Computation):
    opcodes = OPCODES


class OurState(State):
    computation_class = OurComputation


# ---- scenarios
@dataclass(frozen=True)
class Row:
    balance: int
    nonce: int = 0
    code: bytes = b""
    storage: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """By the system, or a view: no signature, no nonce."""

    to: bytes
    data: bytes
    gas: int
    value: int
    is_view: bool


Step = Transaction | Call


@dataclass(frozen=True)
class Scenario:
    rows: dict[bytes, Row]
    blocks: tuple[tuple[Step, ...], ...]


def make_scenario(random: Random, *, blocks: int = 2, steps: int = 5, only_transactions: bool = False) -> Scenario:
    """`only_transactions`: what any Ethereum client can run too."""
    rows: dict[bytes, Row] = {key.account: Row(10**20) for key in KEYS}
    for address in CONTRACTS:
        storage = {slot: random.randrange(1, 5) for slot in SLOTS if random.random() < 0.4}
        code = Program(random, ADDRESSES).write()
        rows[address] = Row(random.choice((0, 5, 10**18)), 1, code, storage)
    nonces = [0] * len(KEYS)
    made = []
    for _ in range(blocks):
        made.append(tuple(_make_step(random, nonces, only_transactions) for _ in range(random.randrange(1, steps + 1))))
    return Scenario(rows, tuple(made))


def _make_step(random: Random, nonces: list[int], only_transactions: bool) -> Step:
    to = random.choice(CONTRACTS) if random.random() < 0.8 else random.choice(ADDRESSES)
    data = random.choice((b"", bytes(32), b"\1" * 36))
    value = random.choice((0, 0, 1, 10**17))
    if not only_transactions and random.random() < 0.2:
        return Call(to, data, random.choice((30_000, 200_000)), 0, random.random() < 0.5)
    who = random.randrange(len(KEYS))
    nonce = nonces[who]
    if not only_transactions and random.random() < 0.05:
        nonce += 1  # cannot be included, and must change nothing
    else:
        nonces[who] += 1
    access = [(random.choice(ADDRESSES), (random.choice(SLOTS),))] if random.random() < 0.2 else []
    gas = random.choice((40_000, 120_000, 400_000)) + 5_000 * len(access)
    raw = sign_call(
        KEYS[who],
        chain_id=CHAIN_ID,
        nonce=nonce,
        to=to,
        data=data,
        value=value,
        gas=gas,
        fee=20,
        tip=random.choice((0, 3)),
        access_list=access,
    )
    return decode_transaction(raw, CHAIN_ID)


def make_block_context(number: int) -> Context:
    mix = keccak256(b"mix", bytes([number]))
    return Context(number, 1_700_000_000 + number, PROPOSER, mix, GAS_LIMIT, BASE_FEE, CHAIN_ID)


class Engine:
    """Runs a scenario block by block on one kind of state."""

    def __init__(self, state_class: type[CancunState], rows: dict[bytes, Row], cache: StateCache | None = None) -> None:
        self._state_class, self._cache = state_class, cache
        self.store = MemoryStore()
        self.root, self.number = EMPTY_ROOT, 0
        state = self._open()
        for address, row in rows.items():
            state.set_balance(address, row.balance)
            state.set_nonce(address, row.nonce)
            if row.code:
                state.set_code(address, row.code)
            for slot, value in row.storage.items():
                state.set_storage(address, slot, value)
        self._close(state)

    def run(self, steps: tuple[Step, ...]) -> Iterator[Outcome | str]:
        state = self._open()
        for step in steps:
            try:
                yield self._run_step(state, step)
            except InvalidBlock as error:
                yield str(error)
        self._close(state)

    def _run_step(self, state: CancunState, step: Step) -> Outcome:
        if isinstance(step, Transaction):
            return run_transaction(state, step)
        return (run_view if step.is_view else run_system)(state, step.to, step.data, gas=step.gas, value=step.value)

    def _open(self) -> CancunState:
        self.overlay = Overlay(self.store, self._cache)
        return self._state_class(self.overlay, make_context(make_block_context(self.number), ()), self.root)

    def _close(self, state: CancunState) -> None:
        state.lock_changes()
        state.persist()
        self.root, self.number = state.state_root, self.number + 1
        self.store.commit(self.overlay.writes)


def compare_with_stock(scenario: Scenario, cache: StateCache | None = None) -> list[list[Outcome | str]]:
    """What each step gave, by block; raises AssertionError where ours and unmodified py-evm differ."""
    ours, stock = Engine(OurState, scenario.rows, cache), Engine(StockState, scenario.rows)
    assert ours.root == stock.root, "genesis: state roots differ"
    outcomes = []
    for number, steps in enumerate(scenario.blocks, 1):
        mine, theirs = list(ours.run(steps)), list(stock.run(steps))
        for index, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            assert one == other, f"block {number}, step {index}: {one} is not stock's {other}"
        assert ours.root == stock.root, f"block {number}: state roots differ"
        outcomes.append(mine)
    return outcomes
