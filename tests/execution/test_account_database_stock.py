"""Our state beside unmodified py-evm's, on random blocks: equal roots, receipts and gas; and without its stall.

`python benchmarks/execution_fuzz.py` runs more of the same, and asks Ethereum's executable specification too.
"""

import gc
import sys
from collections.abc import Callable
from random import Random

import pytest
from eth.vm.forks.cancun.state import CancunState
from evm_fuzz_support import (
    CONTRACTS,
    Engine,
    OurState,
    Row,
    StockState,
    compare_with_stock,
    make_scenario,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flock_chain.execution.machine import run_system
from flock_chain.execution.state_cache import StateCache

CALLER, CALLEE, WRITER = CONTRACTS[:3]
# Calls CALLEE 20 times: PUSH0 x5, PUSH20 CALLEE, PUSH2 5000, CALL, POP
CALLS = (b"\x5f" * 5 + b"\x73" + CALLEE + b"\x61\x13\x88\xf1\x50") * 20
REVERTS = bytes.fromhex("5f5ffd")


@given(seed=st.integers(0, 1 << 32), nodes=st.sampled_from([1, 3, 1_000]))
@settings(max_examples=70, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_random_blocks_give_what_unmodified_pyevm_gives(seed: int, nodes: int) -> None:
    compare_with_stock(make_scenario(Random(seed)), StateCache(max_nodes=nodes, max_codes=2))


def test_the_random_blocks_reach_what_they_are_made_for() -> None:
    """Else the test above would compare nothing with nothing."""
    found: dict[str, int] = {"succeeded": 0, "reverted": 0, "refused": 0, "logged": 0, "ran out of gas": 0}
    for seed in range(25):
        scenario = make_scenario(Random(seed))
        ours = Engine(OurState, scenario.rows)
        for steps in scenario.blocks:
            for step, outcome in zip(steps, ours.run(steps), strict=True):
                if isinstance(outcome, str):
                    found["refused"] += 1
                    continue
                found["succeeded" if outcome.status else "reverted"] += 1
                found["logged"] += bool(outcome.logs)
                found["ran out of gas"] += outcome.gas_used == step.gas
    assert all(count >= 3 for count in found.values()), found


# WRITER, run by delegation, writes transient slot 0 and reverts; the caller keeps what it finds there afterwards.
FORGET = bytes.fromhex("60025f5d5f5ffd")
KEEP = bytes.fromhex("60015f5d5f5f5f5f73") + WRITER + bytes.fromhex("5af4505f5c5f55")


def test_transient_storage_is_undone_and_cleared_as_pyevm_does() -> None:
    found = []
    for state_class in (OurState, StockState):
        engine = Engine(state_class, {CALLER: Row(0, 1, KEEP), WRITER: Row(0, 1, FORGET)})
        state = engine._open()
        assert run_system(state, CALLER, b"", gas=200_000).status
        found.append((state.get_storage(CALLER, 0), state.get_transient_storage(CALLER, 0), state.make_state_root()))
    assert found[0] == found[1] and found[0][:2] == (1, b"")


def test_transient_storage_that_was_cleared_stays_so_when_the_transaction_is_undone() -> None:
    state = Engine(OurState, {})._open()
    state.set_transient_storage(CALLER, 0, b"\1")
    snapshot = state.snapshot()
    state.set_transient_storage(CALLER, 0, b"\2")
    state.clear_transient_storage()
    state.revert(snapshot)
    assert state.get_transient_storage(CALLER, 0) == b""


def count_function_calls(work: Callable[[], object]) -> int:
    """Work, not time: Python's own count of the functions that it entered, those of the garbage collector left out."""
    count = 0

    def profile(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.disable()  # test frameworks hook functions into it
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def measure_calls(state_class: type[CancunState], changed: int) -> int:
    """The work of a transaction of 20 failing calls, in a block that has changed so many contracts."""
    engine = Engine(state_class, {CALLER: Row(0, 1, CALLS), CALLEE: Row(0, 1, REVERTS)})
    state = engine._open()
    for index in range(changed):
        address = index.to_bytes(20, "little")
        state.set_nonce(address, 1)
        state.set_storage(address, 1, 1)
    run_system(state, CALLER, b"", gas=200_000)
    return count_function_calls(lambda: run_system(state, CALLER, b"", gas=200_000))


@pytest.mark.parametrize("changed", [30, 300])
def test_a_call_costs_the_same_however_many_contracts_the_block_has_changed(changed: int) -> None:
    assert measure_calls(OurState, changed) == measure_calls(OurState, 3)
    assert measure_calls(StockState, changed) > measure_calls(StockState, 3) * (1 + changed / 100)
