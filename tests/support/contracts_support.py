"""A bare EVM with the genesis contracts, for tests of the contracts alone: no signatures, no blocks, no trie.

Calls go through `apply_message`, of bytecode turned into Python (compiled_evm_support), on the account database that
peers run: what stock py-evm does, in an eighth of its time; FLOCK_STOCK_EVM=1 runs all of it on stock py-evm. Every
world starts from one prebuilt genesis and writes to none.
"""

import os

os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from compiled_evm_support import CompiledComputation, CompiledState
from eth.db.atomic import AtomicDB
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.cancun.state import CancunState
from eth.vm.message import Message
from eth_abi import decode

from flock_chain.crypto import keccak256
from flock_chain.execution.machine import KeyValues, Overlay
from flock_chain.execution.state_cache import StateCache
from flock_contracts.addresses import BY_NAME, SYSTEM
from flock_contracts.loader import load, load_all

CHAIN_ID = 77
GENESIS_TIME = 1_000_000
GAS = 30_000_000
ETHER = 10**18
PARAMETERS = {
    "seed_delay": 2,
    "phase_min_blocks": 3,
    "invalid_bytes_slash": 10_000,
    "norm_slash": 5_000,
    "missed_reveal_slash": 100,
    "bond_unlock_rounds": 2,
    "unbonding_delay": 600,
    "seat_absence_slash": 10,
    "seat_absence_limit": 3,
    "task_fee": 1_000,
    "rules_delay": 600,
}
FAUCET = {"amount": 10 * ETHER, "deposit": ETHER, "lock": 60}
FAUCET_FUNDS = 25 * ETHER
CHAIN_TIME_GAP = 90
VALIDATORS = tuple((bytes([0xA0 + i]) * 20, 40 * ETHER, bytes([0xB0 + i]) * 32) for i in range(3))
MIN_VALIDATOR_STAKE = 32 * ETHER
GENESIS_HASH = keccak256(b"genesis of the contract tests")
STAKING = {  # in the order of `initialize`
    "min_validator_stake": MIN_VALIDATOR_STAKE,
    "unbonding_delay": PARAMETERS["unbonding_delay"],
    "evidence_window": 300,
    "epoch_blocks": 64,
    "epoch_seconds": 600,
    "absence_limit": 50,
    "jail_delay": 60,
    "open_staking": False,
    "genesis_hash": GENESIS_HASH,
}
RICH = 1_000_000 * ETHER  # what each test account starts with

# A changed board, for checking that these tests would notice the change.
BOARD_RUNTIME = bytes.fromhex(os.environ["FLOCK_BOARD_RUNTIME"]) if "FLOCK_BOARD_RUNTIME" in os.environ else None

WAITING, DRAW_PROPOSERS, COMMIT, DRAW_VOTERS, REVEAL, AVAILABILITY = range(6)
SCORE_COMMIT, SCORE_REVEAL, TALLY, ADOPT, AUDIT, ENDED = range(6, 12)
IS_STOCK = os.environ.get("FLOCK_STOCK_EVM") == "1"
_NODES = StateCache()  # decoded, by hash: the same in every world


class _CompiledCancun(CancunState):
    """py-evm's state, with the calls of `compiled_evm_support`."""

    computation_class = CompiledComputation


def account(index: int) -> bytes:
    """A test account's address."""
    return keccak256(b"test account", index.to_bytes(4, "big"))[12:]


@dataclass(frozen=True)
class Outcome:
    ok: bool
    reason: str  # of a revert; "" where it has none
    gas: int  # with the 21,000 of a transaction and its calldata
    output: bytes
    entries: tuple[tuple[bytes, tuple[int, ...], bytes], ...]  # address, topics, data

    @property
    def logs(self) -> list[tuple[str, dict[str, Any]]]:
        """Decoded; every event of a genesis contract is in its ABI."""
        by_address = {contract.address: contract for contract in load_all().values()}
        found = []
        for address, topics, data in self.entries:
            log = by_address[address].decode_log([topic.to_bytes(32, "big") for topic in topics], data)
            assert log is not None
            found.append(log)
        return found


class Reverted(Exception):
    """A call that a test meant to succeed."""


def make_context(height: int, timestamp: int) -> ExecutionContext:
    return ExecutionContext(
        coinbase=bytes(20),
        timestamp=timestamp,
        block_number=height,
        difficulty=0,
        mix_hash=bytes(32),
        gas_limit=GAS,
        prev_hashes=(),
        chain_id=CHAIN_ID,
        base_fee_per_gas=1,
        excess_blob_gas=0,
    )


def _calldata_gas(data: bytes) -> int:
    zeros = data.count(0)
    return 21_000 + 4 * zeros + 16 * (len(data) - zeros)


class BaseRows(KeyValues):
    def __init__(self, base: AtomicDB) -> None:
        self._base = base

    def get(self, key: bytes) -> bytes | None:
        found: bytes | None = self._base.get(key)
        return found


class World:
    """One chain: `next_block` does what the system does at a block's start, `act` sends a transaction."""

    def __init__(
        self,
        base: AtomicDB,
        root: bytes,
        board_runtime: bytes | None = None,
        *,
        is_fast: bool = True,
        is_stock: bool = IS_STOCK,
    ) -> None:
        """`is_fast`: on the project's own account database, too; `is_stock`: py-evm's interpreter and state."""
        self.base, self.height, self.timestamp = base, 0, GENESIS_TIME
        self.epoch_gas: list[int] = []  # what the end of each epoch took
        context = make_context(0, GENESIS_TIME)
        self.state: CancunState
        self.store = base if is_stock or not is_fast else Overlay(BaseRows(base), _NODES)
        if isinstance(self.store, Overlay):
            self.state = CompiledState(self.store, context, root)
        else:
            self.state = (CancunState if is_stock else _CompiledCancun)(base, context, root)
        self.contracts = load_all()
        self.codes = {name: contract.runtime for name, contract in self.contracts.items()}
        if board_runtime is not None:
            self.codes["TaskBoard"] = board_runtime

    def act(self, sender: bytes, name: str, function: str, *args: Any, value: int = 0) -> Outcome:
        return self.call(sender, name, self.contracts[name].encode(function, *args), value)

    def call(self, sender: bytes, name: str, data: bytes, value: int = 0) -> Outcome:
        """A transaction with these bytes, whatever they are."""
        self.state.lock_changes()
        self.state.clear_transient_storage()
        address = self.contracts[name].address
        message = Message(gas=GAS, to=address, sender=sender, value=value, data=data, code=self.codes[name])
        context = self.state.get_transaction_context_class()(gas_price=1, origin=sender)
        computation = self.state.computation_class.apply_message(self.state, message, context)
        if computation.is_error:
            return Outcome(False, _reason(computation.output), computation.get_gas_used(), computation.output, ())
        gas = computation.get_gas_used() + _calldata_gas(data)
        return Outcome(True, "", gas, computation.output, tuple(computation.get_log_entries()))

    def must(self, sender: bytes, name: str, function: str, *args: Any, value: int = 0) -> Outcome:
        outcome = self.act(sender, name, function, *args, value=value)
        if not outcome.ok:
            raise Reverted(f"{name}.{function}: {outcome.reason}")
        return outcome

    def view(self, name: str, function: str, *args: Any) -> Any:
        return self.contracts[name].decode(function, self.must(SYSTEM, name, function, *args).output)

    def board(self, function: str, *args: Any) -> Any:
        return self.view("TaskBoard", function, *args)

    def balance(self, address: bytes) -> int:
        return int(self.state.get_balance(address))

    def next_block(self, seconds: int = 1, *, pokes: bool = True, mix: bytes | None = None) -> list[int]:
        """A new block: the beacon first, then the due pokes. Returns the tasks poked."""
        self.begin_block(seconds, mix)
        if self.view("Stake", "is_epoch_over"):
            self.epoch_gas.append(self.must(SYSTEM, "Stake", "end_epoch").gas)
        due: list[int] = self.board("due_tasks") if pokes else []
        for task in due:
            self.must(SYSTEM, "TaskBoard", "poke", task)
        return due

    def begin_block(self, seconds: int = 1, mix: bytes | None = None) -> None:
        self.height += 1
        self.timestamp += seconds
        self.state.execution_context = make_context(self.height, self.timestamp)
        mix = keccak256(b"mix", self.height.to_bytes(8, "big")) if mix is None else mix
        self.must(SYSTEM, "Beacon", "on_block", mix, b"")

    def kept_root(self) -> bytes:
        """The state as it is now, written to the base: other worlds may start from its root."""
        self.state.persist()
        if isinstance(self.store, Overlay):
            for key, value in self.store.writes.items():
                assert value is not None, "a node of another world's state"
                self.base[key] = value
        return bytes(self.state.state_root)

    def blocks(self, count: int, seconds: int = 1) -> None:
        for _ in range(count):
            self.next_block(seconds)


def _reason(output: bytes) -> str:
    if output[:4] != bytes.fromhex("08c379a0"):
        return output.hex()
    return str(decode(["string"], output[4:])[0])


@cache
def _genesis(rich: int) -> tuple[AtomicDB, bytes]:
    return build_genesis(rich)


def build_genesis(
    rich: int, validators: Sequence[tuple[bytes, int, bytes]] | None = None, **staking: Any
) -> tuple[AtomicDB, bytes]:
    """The first state; `staking` changes rows of STAKING."""
    base = AtomicDB()
    state = CancunState(base, make_context(0, GENESIS_TIME), keccak256(b"\x80"))
    for name, address in BY_NAME.items():
        state.set_code(address, load(name).runtime)
        state.set_nonce(address, 1)
    for index in range(rich):
        state.set_balance(account(index), RICH)
    state.set_balance(SYSTEM, RICH)
    state.persist()
    world = World(base, state.state_root)
    stakes = sum(stake for _, stake, _ in (VALIDATORS if validators is None else validators))
    world.must(SYSTEM, "Beacon", "initialize", CHAIN_TIME_GAP)
    world.must(
        SYSTEM,
        "Stake",
        "initialize",
        *(STAKING | staking).values(),
        list(VALIDATORS if validators is None else validators),
        value=stakes,
    )
    world.must(SYSTEM, "Faucet", "initialize", *FAUCET.values(), value=FAUCET_FUNDS)
    world.must(SYSTEM, "TaskBoard", "initialize", *PARAMETERS.values())
    world.state.set_balance(SYSTEM, 0)
    return base, world.kept_root()


def new_world(*, accounts: int = 70, board_runtime: bytes | None = None) -> World:
    """A world right after genesis, with `accounts` rich test accounts."""
    base, root = _genesis(accounts)
    world = World(base, root, board_runtime or BOARD_RUNTIME)
    world.next_block(pokes=False)  # there are no transactions in block 0
    return world


TERMS = {
    "rounds": 2,
    "extra_rounds": 1,
    "proposers": 3,
    "voters": 3,
    "min_participants": 4,
    "min_bond": 100,
    "proposer_share": 6_000,
    "commit_seconds": 20,
    "reveal_seconds": 10,
    "availability_seconds": 10,
    "score_commit_seconds": 20,
    "score_reveal_seconds": 10,
    "tally_seconds": 10,
    "adopt_seconds": 10,
    "loss_limit": 20_000,
    "mad_multiple": 12,
    "wait_seconds": 300,
    "tolerance": 50_000,
    "voting_rule": 0,
    "rule_slash": 1_000,
    "rest_share": 0,
    "audit_rounds": 0,
    "audit_seconds": 15,
    "audit_slash": 10_000,
}
