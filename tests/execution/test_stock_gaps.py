"""Every gap of unmodified py-evm that would split, stall or rob this chain: shown on stock, and closed in ours."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import rlp
from eth.chains.base import MiningChain
from eth.db.atomic import AtomicDB
from eth.vm.forks import CancunVM
from eth.vm.forks.cancun.constants import BEACON_ROOTS_ADDRESS
from eth.vm.message import Message
from eth_keys import keys
from eth_utils import ValidationError
from execution_support import CHAIN_ID, ETHER, KEYS, Chain, make_genesis

from flock_chain.crypto import keccak256
from flock_chain.errors import InvalidBlock, InvalidEncoding
from flock_chain.execution import backends, strict_rlp
from flock_chain.execution.blocks import EMPTY_ROOT
from flock_chain.execution.genesis_state import genesis_mix, load_pinned
from flock_chain.execution.machine import (
    SYSTEM,
    Context,
    MemoryStore,
    Overlay,
    State,
    check_transaction,
    open_state,
    run_system,
    run_transaction,
)
from flock_chain.execution.transactions import decode_transaction, sign_call
from flock_chain.parameters import DEMO, parse_parameters

SENDER, RECEIVER = KEYS[0], KEYS[1].account
SIGNER = keys.PrivateKey(SENDER.secret)
CONTRACT = b"\xc0" * 20
# PUSH1 1 PUSH1 0 SSTORE, then PUSH1 0 PUSH1 0 REVERT: writes and fails
WRITE_AND_REVERT = bytes.fromhex("600160005560006000fd")


def stock_chain(base_fee: int = 10**9, gas_limit: int = 30_000_000, code: bytes = b"") -> MiningChain:
    cls = MiningChain.configure(__name__="Stock", vm_configuration=((0, CancunVM),), chain_id=CHAIN_ID)
    genesis = {"difficulty": 0, "gas_limit": gas_limit, "timestamp": 1, "base_fee_per_gas": base_fee}
    account = {"balance": 10**24, "nonce": 0, "code": code, "storage": {}}
    contract = {"balance": 0, "nonce": 1, "code": WRITE_AND_REVERT, "storage": {}}
    return cls.from_genesis(AtomicDB(), genesis, {SENDER.account: account, CONTRACT: contract})


def stock_call(chain: MiningChain, **changes: object) -> object:
    fields: dict[str, object] = dict(
        chain_id=CHAIN_ID,
        nonce=0,
        max_priority_fee_per_gas=0,
        max_fee_per_gas=3 * 10**9,
        gas=100_000,
        to=RECEIVER,
        value=1,
        data=b"",
        access_list=[],
    )
    builder = chain.get_vm().get_transaction_builder()
    return builder.new_unsigned_dynamic_fee_transaction(**(fields | changes)).as_signed_transaction(SIGNER)


def stock_legacy(chain: MiningChain, chain_id: int | None) -> object:
    builder = chain.get_vm().get_transaction_builder()
    unsigned = builder.create_unsigned_transaction(
        nonce=0, gas_price=2 * 10**9, gas=21_000, to=RECEIVER, value=1, data=b""
    )
    return unsigned.as_signed_transaction(SIGNER, chain_id=chain_id)


def our_state(code_of_sender: bytes = b"") -> State:
    context = Context(1, 1, bytes(20), bytes(32), 30_000_000, 1, CHAIN_ID)
    overlay = Overlay(MemoryStore())
    state = open_state(overlay, EMPTY_ROOT, context, ())
    state.set_balance(SENDER.account, 10**24)
    state.set_code(CONTRACT, WRITE_AND_REVERT)
    if code_of_sender:
        state.set_code(SENDER.account, code_of_sender)
    return state


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda c: stock_call(c, chain_id=1), "chain id 1"),
        (lambda c: stock_legacy(c, 1), "chain id 1"),
        (lambda c: stock_legacy(c, None), "no chain id"),
        (lambda c: stock_call(c, max_fee_per_gas=10**9, max_priority_fee_per_gas=2 * 10**9), "priority fee above"),
        (lambda c: stock_call(c, data=b"\1" * 1000, gas=37_000), "calldata floor"),
    ],
    ids=["another chain id", "legacy of another chain", "legacy of no chain", "tip above fee", "below the floor"],
)
def test_a_transaction_that_stock_includes_against_the_rules_is_refused(
    make: Callable[[MiningChain], object], rule: str
) -> None:
    stock = stock_chain()
    transaction = make(stock)
    receipts = stock.mine_all([transaction])[1]
    assert receipts[0].state_root == b"\x01"  # stock: included, and successful

    with pytest.raises(InvalidBlock, match=rule):
        decode_transaction(transaction.encode(), CHAIN_ID)  # type: ignore[attr-defined] # py-evm carries no types


def test_a_sender_with_code_is_refused() -> None:
    stock = stock_chain(code=b"\x00")
    assert stock.mine_all([stock_call(stock)])[1][0].state_root == b"\x01"

    raw = sign_call(SENDER, chain_id=CHAIN_ID, nonce=0, to=RECEIVER, value=1, gas=21_000, fee=1)
    with pytest.raises(InvalidBlock, match="EIP-3607"):
        check_transaction(our_state(code_of_sender=b"\x00"), decode_transaction(raw, CHAIN_ID))


def test_a_creation_with_too_much_code_is_refused_before_it_changes_anything() -> None:
    stock = stock_chain()
    creation = stock_call(stock, to=b"", value=0, data=bytes(50_000), gas=3_000_000)
    vm = stock.get_vm()
    with pytest.raises(Exception, match="EIP-3860"):
        vm.state.apply_transaction(creation)
    assert vm.state.get_nonce(SENDER.account) == 1  # stock: out of the executor, with nonce and balance changed
    assert vm.state.get_balance(SENDER.account) < 10**24

    with pytest.raises(InvalidBlock, match="nobody deploys"):
        decode_transaction(creation.encode(), CHAIN_ID)  # type: ignore[attr-defined]


def test_nobody_deploys_by_opcode_either() -> None:
    state = our_state()
    for opcode in ("f0", "f5"):  # PUSH1 0 (four times), CREATE or CREATE2, STOP
        state.set_code(CONTRACT, bytes.fromhex("60006000600060006000" + opcode + "00"))
        outcome = run_system(state, CONTRACT, b"", gas=200_000)
        assert not outcome.status and outcome.gas_used == 200_000


def test_what_the_genesis_document_names_is_deployed_where_stock_deploys_nothing() -> None:
    stock = stock_chain()
    assert stock.get_vm().state.get_code(BEACON_ROOTS_ADDRESS) == b""  # set_system_contracts compares the wrong way

    chain = Chain()
    state = chain.executor._final.head_state(0)
    for contract in load_pinned(chain.genesis).values():
        assert state.get_code(contract.address) == contract.runtime


def test_the_base_fee_is_constant_and_never_zero() -> None:
    stock = stock_chain(base_fee=0, gas_limit=100_000)
    for block in range(3):
        stock.mine_all([stock_call(stock, nonce=block * 3 + i, gas=21_000) for i in range(3)])
    assert stock.header.base_fee_per_gas > 0  # stock: drifts upward from zero

    with pytest.raises(InvalidEncoding, match="base_fee"):
        parse_parameters(DEMO.to_dict() | {"base_fee": 0})
    genesis = make_genesis(replace(DEMO, block_gas_limit=1_000_000))  # less than any network has: blocks that are full
    chain = Chain(genesis)
    for _ in range(3):
        transfers = [chain.call(SENDER, RECEIVER, value=1, gas=21_000) for _ in range(30)]
        assert chain.add(*transfers).block.header.base_fee == genesis.parameters.base_fee


def test_a_failed_transaction_can_be_undone() -> None:
    stock = stock_chain()
    vm = stock.get_vm()
    snapshot = vm.state.snapshot()
    vm.apply_transaction(vm.get_header(), stock_call(stock))
    with pytest.raises(ValidationError, match="heckpoint"):  # stock: locked its changes after our snapshot
        vm.state.revert(snapshot)

    ours = our_state()
    raw = sign_call(SENDER, chain_id=CHAIN_ID, nonce=7, to=RECEIVER, value=1, gas=21_000, fee=1)
    ours.set_balance(RECEIVER, 5)
    with pytest.raises(InvalidBlock, match="nonce 7"):
        run_transaction(ours, decode_transaction(raw, CHAIN_ID))
    assert ours.get_balance(RECEIVER) == 5 and ours.get_nonce(SENDER.account) == 0


def test_whatever_the_machine_raises_undoes_the_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = our_state()
    before = ours.make_state_root()

    def explode(computation: object) -> None:
        raise RuntimeError(f"a fault in an opcode of {computation}")

    opcodes = {**ours.computation_class.opcodes, 0xFD: explode}
    monkeypatch.setattr(ours.computation_class, "opcodes", opcodes)
    raw = sign_call(SENDER, chain_id=CHAIN_ID, nonce=0, to=CONTRACT, gas=100_000, fee=1)
    with pytest.raises(InvalidBlock, match="cannot be executed"):
        run_transaction(ours, decode_transaction(raw, CHAIN_ID))
    ours.lock_changes()
    assert ours.make_state_root() == before
    assert ours.get_storage(CONTRACT, 0) == 0 and ours.get_nonce(SENDER.account) == 0


def test_a_failed_system_call_leaves_no_partial_writes() -> None:
    state = stock_chain().get_vm().state
    message = Message(gas=100_000, to=CONTRACT, sender=SYSTEM, value=0, data=b"", code=WRITE_AND_REVERT)
    context = state.get_transaction_context_class()(gas_price=0, origin=SYSTEM)
    assert state.computation_class.apply_computation(state, message, context).is_error
    assert state.get_storage(CONTRACT, 0) == 1  # stock: apply_computation takes no snapshot

    ours = our_state()
    assert not run_system(ours, CONTRACT, b"", gas=100_000).status
    assert ours.get_storage(CONTRACT, 0) == 0


MALFORMED = {
    "a small byte in long form": "8105",
    "a length with leading zeros": "b90038" + "61" * 56,
    "a short string in long form": "b80161",
    "a short list in long form": "f80105",
    "bytes after the value": "8080",
    "a value cut short": "83aabb",
}


@pytest.mark.parametrize("encoded", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_rlp_is_refused(encoded: str) -> None:
    with pytest.raises(InvalidEncoding):
        strict_rlp.decode(bytes.fromhex(encoded))
    with pytest.raises(rlp.exceptions.DecodingError):  # the pure decoder agrees; rusty_rlp does not
        rlp.decode(bytes.fromhex(encoded))


def test_the_decoder_that_accepts_malformed_rlp_is_forbidden(tmp_path: Path) -> None:
    (tmp_path / "rusty_rlp.py").write_text("def decode_raw(*_):\n    return b'anything', []\nencode_raw = None\n")
    path = os.pathsep.join([str(tmp_path), *sys.path])  # with the code that is tested here
    stock = "import rlp; assert rlp.decode(bytes.fromhex('8105')) == b'anything'"
    assert run_python(stock, {"PYTHONPATH": path}).returncode == 0  # stock: taken in silence
    ours = run_python("import flock_chain.execution", {"PYTHONPATH": path})
    assert ours.returncode != 0 and "rusty_rlp is installed" in ours.stderr


def test_slow_signatures_are_refused_at_start() -> None:
    slow = {"ECC_BACKEND_CLASS": "eth_keys.backends.NativeECCBackend"}
    stock = "from eth_keys import keys; keys.PrivateKey(b'1' * 32).sign_msg(b'')"
    assert run_python(stock, slow).returncode == 0  # stock: falls back in silence
    ours = run_python("import flock_chain.execution", slow)
    assert ours.returncode != 0 and "install coincurve" in ours.stderr


def test_the_fast_keccak_is_bound_even_where_somebody_hashed_before() -> None:
    script = (
        "import os; os.environ['ETH_HASH_BACKEND'] = 'pycryptodome'\n"
        "from eth_hash.auto import keccak; keccak(b'')\n"
        "import flock_chain.execution\n"
        "assert keccak.hasher.__module__ == 'eth_hash.backends.pysha3', keccak.hasher.__module__\n"
    )
    result = run_python(script, {})
    assert result.returncode == 0, result.stderr
    backends.check_backends()  # and again is harmless


def run_python(script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


def test_the_genesis_mix_follows_from_the_document() -> None:
    genesis = make_genesis()
    assert genesis_mix(genesis) == keccak256(b"flock-mix", genesis.hash)
    assert Chain(genesis).executor.head.mix_hash == genesis_mix(genesis)
    assert Chain(genesis).executor.account(SENDER.account).balance == 1_000 * ETHER
