"""From a genesis document to the first state: contracts in place, balances, one `initialize` call each."""

from dataclasses import dataclass, replace
from typing import Any

from flock_chain.crypto import Digest, keccak256
from flock_chain.errors import InvalidEncoding
from flock_chain.execution.blocks import ZERO_32, Block, make_header
from flock_chain.execution.machine import (
    SYSTEM,
    Context,
    KeyValues,
    Overlay,
    State,
    Writes,
    open_state,
    run_system,
)
from flock_chain.execution.records import make_rows
from flock_chain.genesis import Genesis
from flock_contracts import loader
from flock_contracts.addresses import BY_NAME

INITIALIZE_GAS = 60_000_000  # 150 validators take 35 M; nobody pays, and every peer does it once
# Of the calls; later ones may ask earlier ones. The delegation contract has nothing to initialize.
_ORDER = ("Beacon", "Stake", "Faucet", "TaskBoard")


@dataclass(frozen=True)
class GenesisState:
    block: Block
    writes: Writes


def compute_contract_hashes() -> tuple[tuple[str, Digest], ...]:
    """For who writes a genesis document: name and keccak of the runtime code of every contract of this release."""
    return tuple(sorted((name, keccak256(contract.runtime)) for name, contract in loader.load_all().items()))


def genesis_mix(genesis: Genesis) -> Digest:
    return keccak256(b"flock-mix", genesis.hash)


def build_genesis(genesis: Genesis) -> GenesisState:
    """The first block and everything to store for it.

    Raises InvalidEncoding naming the contract where this release's code is not what the document pins, or where a
    contract refuses the parameters.
    """
    contracts = load_pinned(genesis)
    parameters = genesis.parameters
    context = Context(
        height=0,
        timestamp=genesis.timestamp,
        proposer=bytes(20),
        mix=genesis_mix(genesis),
        gas_limit=parameters.block_gas_limit,
        base_fee=parameters.base_fee,
        chain_id=genesis.chain_id,
    )
    overlay = Overlay(_Nothing())
    header = make_header(
        parent_hash=ZERO_32,
        coinbase=context.proposer,
        height=0,
        timestamp=context.timestamp,
        mix_hash=context.mix,
        gas_limit=context.gas_limit,
        base_fee=context.base_fee,
        extra_data=genesis.hash,
    )
    state = open_state(overlay, header.state_root, context, ())
    for account, balance in genesis.accounts:
        state.delta_balance(account, balance)
    for contract in contracts.values():
        state.set_code(contract.address, contract.runtime)
        state.set_nonce(contract.address, 1)  # as after a deployment (EIP-161)
    for name in _ORDER:
        if name in contracts:
            _initialize(state, genesis, contracts[name])
    state.lock_changes()
    state.persist()
    block = Block(replace(header, state_root=state.state_root), ())
    return GenesisState(block, overlay.writes | make_rows(block, ()))


def load_pinned(genesis: Genesis) -> dict[str, loader.Contract]:
    """This release's contracts that the document names, compared with the hashes that it pins."""
    contracts = {}
    for name, digest in genesis.contracts:
        if name not in BY_NAME:
            raise InvalidEncoding(f"genesis: contract {name!r} is unknown to this release")
        contract = loader.load(name)
        if keccak256(contract.runtime) != digest:
            raise InvalidEncoding(f"genesis: this release's code of contract {name} is not what the document pins")
        contracts[name] = contract
    for name in ("Beacon", "Stake"):
        if name not in contracts:
            raise InvalidEncoding(f"genesis: without contract {name} no block can be made")
    return contracts


def _initialize(state: State, genesis: Genesis, contract: loader.Contract) -> None:
    arguments, value = _arguments(genesis, contract)
    state.delta_balance(SYSTEM, value)
    outcome = run_system(
        state, contract.address, contract.encode("initialize", *arguments), gas=INITIALIZE_GAS, value=value
    )
    if not outcome.status:
        raise InvalidEncoding(f"genesis: {contract.name}.initialize refused the document: {outcome.reason}")


def _arguments(genesis: Genesis, contract: loader.Contract) -> tuple[list[Any], int]:
    """The arguments of `initialize` and the wei that go with it."""
    p = genesis.parameters
    if contract.name == "Beacon":
        return [p.chain_time_gap], 0
    if contract.name == "Stake":
        return _stake_arguments(genesis), sum(row.stake for row in genesis.validators)
    if contract.name == "Faucet":
        return [p.faucet_amount, p.faucet_deposit, p.faucet_deposit_lock], 0
    # The board names its arguments as the table of parameters does.
    entry = next(entry for entry in contract.abi if entry.get("name") == "initialize")
    values = p.to_dict()
    missing = [argument["name"] for argument in entry["inputs"] if argument["name"] not in values]
    if missing:
        raise InvalidEncoding(f"genesis: {contract.name}.initialize asks for {missing}, which is no parameter")
    return [values[argument["name"]] for argument in entry["inputs"]], 0


def _stake_arguments(genesis: Genesis) -> list[Any]:
    p = genesis.parameters
    numbers = [p.min_validator_stake, p.unbonding_delay, p.evidence_window, p.epoch_blocks, p.epoch_seconds]
    rows = [(row.account, row.stake, row.vrf_key) for row in genesis.validators]
    return [*numbers, p.absence_limit, p.jail_delay, bool(p.open_staking), bytes(genesis.hash), rows]


class _Nothing(KeyValues):
    def get(self, key: bytes) -> bytes | None:  # noqa: ARG002 - the port's signature
        return None
