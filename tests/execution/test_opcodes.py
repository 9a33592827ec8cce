"""Our opcodes beside py-evm's own, one at a time: equal stack, memory, gas, place and failure."""

from typing import Any

import pytest
from eth.exceptions import VMError
from eth.vm.forks.cancun.opcodes import CANCUN_OPCODES
from eth.vm.message import Message
from evm_fuzz_support import CONTRACTS, KEYS, Engine, OurComputation, OurState, StockComputation
from hypothesis import given, settings
from hypothesis import strategies as st

from flock_chain.execution.opcodes import FAST_OPCODES, find_destinations

# Positions: 0 to 3 pushes, 4 a destination, 5 to 7 a push with 0x5b in it, 8 a destination, then a push cut short.
CODE = bytes.fromhex("5f5f5f5f5b615b5b5b7f010203")
EDGES = [0, 1, 2, 3, 4, 6, 7, 8, 12, 13, 31, 32, 33, 64, 255, 256, 5_000, 1 << 64, 1 << 255, (1 << 256) - 1]
numbers = st.sampled_from(EDGES) | st.integers(0, (1 << 256) - 1)
items = numbers | st.binary(max_size=32)
STATE = Engine(OurState, {})._open()


def run(computation_class: type[Any], opcode: Any, stack: list[int | bytes], gas: int, place: int) -> tuple[Any, ...]:
    message = Message(gas=gas, to=CONTRACTS[0], sender=KEYS[0].account, value=0, data=bytes(range(1, 41)), code=CODE)
    context = STATE.get_transaction_context_class()(gas_price=1, origin=KEYS[0].account)
    computation = computation_class(STATE, message, context)
    computation._stack.values.extend(stack)
    computation._memory.extend(0, 64)
    computation._memory.write(0, 64, bytes(range(64)))
    computation.code.program_counter = place
    try:
        opcode(computation=computation)
    except VMError as error:
        return (error.burns_gas, error.erases_return_data)
    left = [int.from_bytes(item, "big") if isinstance(item, bytes) else item for item in computation._stack.values]
    return left, bytes(computation._memory._bytes), computation.get_gas_remaining(), computation.code.program_counter


def compare(code: int, stack: list[int | bytes], gas: int, place: int) -> None:
    ours = run(OurComputation, FAST_OPCODES[code], stack, gas, place)
    assert ours == run(StockComputation, CANCUN_OPCODES[code], stack, gas, place)


@given(
    code=st.sampled_from(sorted(FAST_OPCODES)),
    stack=st.lists(items, max_size=18),
    gas=st.sampled_from([0, 1, 2, 3, 5, 8, 10, 30, 36, 42, 1_000_000]),
    place=st.integers(0, len(CODE) + 1),
)
@settings(max_examples=800, deadline=None, derandomize=True)
def test_an_opcode_does_what_pyevms_does(code: int, stack: list[int | bytes], gas: int, place: int) -> None:
    compare(code, stack, gas, place)


@pytest.mark.parametrize("code", sorted(FAST_OPCODES))
def test_an_opcode_at_its_edges_does_what_pyevms_does(code: int) -> None:
    for top in EDGES if code < 0x5F else ():  # the others move items and do not look at them
        for below in (0, 1, 33, (1 << 256) - 1):
            compare(code, [below, top], 1_000_000, 0)
    for size in (0, 1, 2, 3, 15, 16, 17, 1_023, 1_024):
        compare(code, [5] * size, 1_000_000, 0)
    for gas in range(13):
        compare(code, [b"\1"] * 17, gas, 0)


@given(
    st.binary(max_size=120) | st.lists(st.sampled_from([0x5B, 0x5F, 0x60, 0x61, 0x7F, 0x0A]), max_size=80).map(bytes)
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_jump_leads_to_what_is_no_pushed_byte(code: bytes) -> None:
    found, position = set(), 0
    while position < len(code):
        if code[position] == 0x5B:
            found.add(position)
        position += code[position] - 0x5F + 1 if 0x60 <= code[position] <= 0x7F else 1
    assert find_destinations(code) == found
