"""The commonest opcodes without py-evm's layers of calls, checks and debug text: a vote is 380 of them.

Same gas, same results, same failures (all of them take all gas). The stack may hold integers or bytes, as in py-evm,
whose opcodes run beside these. Knows nothing of state.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from eth import constants
from eth.exceptions import FullStack, InsufficientStack, InvalidJumpDestination, OutOfGas
from eth.vm import opcode_values

from flock_chain.crypto import keccak256

Opcode = Callable[..., None]  # called with the computation, by position or by name

MAX_ANALYSED_CODES = 64  # a set of a large contract's jump destinations takes 100 KB: at most 6 MB
_STACK_LIMIT = 1_024
_BASE, _VERYLOW, _LOW, _MID, _HIGH = (
    constants.GAS_BASE,
    constants.GAS_VERYLOW,
    constants.GAS_LOW,
    constants.GAS_MID,
    constants.GAS_HIGH,
)
_WORD = (1 << 256) - 1
# A jump destination, or a push with what it pushes (at the end of code perhaps less than that).
_STEPS = re.compile(
    b"\\x5b|" + b"|".join(b"%b.{0,%d}" % (re.escape(bytes([0x5F + size])), size) for size in range(1, 33)), re.DOTALL
)


@lru_cache(MAX_ANALYSED_CODES)
def find_destinations(code: bytes) -> frozenset[int]:
    """Where a jump may lead: every 0x5b that is not pushed."""
    return frozenset(step.start() for step in _STEPS.finditer(code) if step.group() == b"\x5b")


def compute_memory_gas(size: int) -> int:
    words = (size + 31) >> 5
    return words * constants.GAS_MEMORY + words * words // constants.GAS_MEMORY_QUADRATIC_DENOMINATOR


def _spend(computation: Any, gas: int) -> None:
    meter = computation._gas_meter
    if meter.gas_remaining < gas:
        raise OutOfGas("out of gas")
    meter.gas_remaining -= gas


def _to_int(item: int | bytes) -> int:
    return item if isinstance(item, int) else int.from_bytes(item, "big")


def _take(computation: Any, gas: int, count: int) -> list[int | bytes]:
    """The stack, of which at least `count` items can be popped."""
    meter = computation._gas_meter
    if meter.gas_remaining < gas:
        raise OutOfGas("out of gas")
    meter.gas_remaining -= gas
    values: list[int | bytes] = computation._stack.values
    if len(values) < count:
        raise InsufficientStack(f"{count} stack items wanted")
    return values


def _room(computation: Any, gas: int) -> list[int | bytes]:
    """The stack, to which an item can be pushed."""
    meter = computation._gas_meter
    if meter.gas_remaining < gas:
        raise OutOfGas("out of gas")
    meter.gas_remaining -= gas
    values: list[int | bytes] = computation._stack.values
    if len(values) >= _STACK_LIMIT:
        raise FullStack("stack limit reached")
    return values


# ---- stack
def _push_zero(computation: Any) -> None:
    _room(computation, _BASE).append(0)


def _make_push(size: int) -> Opcode:
    def push(computation: Any) -> None:
        values = _room(computation, _VERYLOW)
        code = computation.code
        start = code.program_counter
        code.program_counter = end = start + size
        raw = code._raw_code_bytes[start:end]
        value = int.from_bytes(raw, "big")
        values.append(value if len(raw) == size else value << 8 * (size - len(raw)))

    return push


def _make_dup(position: int) -> Opcode:
    def dup(computation: Any) -> None:
        values = _room(computation, _VERYLOW)
        if len(values) < position:
            raise InsufficientStack(f"{position} stack items wanted")
        values.append(values[-position])

    return dup


def _make_swap(position: int) -> Opcode:
    def swap(computation: Any) -> None:
        values = _take(computation, _VERYLOW, position + 1)
        values[-1], values[-1 - position] = values[-1 - position], values[-1]

    return swap


def _pop(computation: Any) -> None:
    _take(computation, _BASE, 1).pop()


# ---- numbers
def _make_unary(gas: int, compute: Callable[[int], int]) -> Opcode:
    def unary(computation: Any) -> None:
        values = _take(computation, gas, 1)
        values[-1] = compute(_to_int(values[-1]))

    return unary


def _make_binary(gas: int, compute: Callable[[int, int], int]) -> Opcode:
    def binary(computation: Any) -> None:
        values = _take(computation, gas, 2)
        top, below = values.pop(), values[-1]
        values[-1] = compute(
            top if isinstance(top, int) else int.from_bytes(top, "big"),
            below if isinstance(below, int) else int.from_bytes(below, "big"),
        )

    return binary


def _shift_left(shift: int, value: int) -> int:
    return value << shift & _WORD if shift < 256 else 0


# ---- memory and call data
def _mstore(computation: Any) -> None:
    values = _take(computation, _VERYLOW, 2)
    start, value = _to_int(values.pop()), values.pop()
    computation.extend_memory(start, 32)
    word = value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")
    computation._memory._bytes[start : start + 32] = word


def _mload(computation: Any) -> None:
    values = _take(computation, _VERYLOW, 1)
    start = _to_int(values[-1])
    computation.extend_memory(start, 32)
    values[-1] = int.from_bytes(computation._memory._bytes[start : start + 32], "big")


def _keccak(computation: Any) -> None:
    values = _take(computation, constants.GAS_SHA3, 2)
    start, size = _to_int(values.pop()), _to_int(values[-1])
    computation.extend_memory(start, size)
    _spend(computation, constants.GAS_SHA3WORD * ((size + 31) >> 5))
    values[-1] = int.from_bytes(keccak256(computation._memory._bytes[start : start + size]), "big")


def _calldataload(computation: Any) -> None:
    values = _take(computation, _VERYLOW, 1)
    start = _to_int(values[-1])
    values[-1] = int.from_bytes(bytes(computation.msg.data[start : start + 32]).ljust(32, b"\0"), "big")


# ---- flow
def _jump(computation: Any) -> None:
    _go(computation.code, _to_int(_take(computation, _MID, 1).pop()))


def _jump_if(computation: Any) -> None:
    values = _take(computation, _HIGH, 2)
    destination, condition = _to_int(values.pop()), _to_int(values.pop())
    if condition:
        _go(computation.code, destination)


def _go(code: Any, destination: int) -> None:
    if destination not in find_destinations(code._raw_code_bytes):
        raise InvalidJumpDestination("no jump destination")
    code.program_counter = destination


def _jumpdest(computation: Any) -> None:
    _spend(computation, constants.GAS_JUMPDEST)


FAST_OPCODES: Mapping[int, Opcode] = {
    opcode_values.ADD: _make_binary(_VERYLOW, lambda top, below: top + below & _WORD),
    opcode_values.SUB: _make_binary(_VERYLOW, lambda top, below: top - below & _WORD),
    opcode_values.MUL: _make_binary(_LOW, lambda top, below: top * below & _WORD),
    opcode_values.DIV: _make_binary(_LOW, lambda top, below: top // below if below else 0),
    opcode_values.MOD: _make_binary(_LOW, lambda top, below: top % below if below else 0),
    opcode_values.LT: _make_binary(_VERYLOW, lambda top, below: int(top < below)),
    opcode_values.GT: _make_binary(_VERYLOW, lambda top, below: int(top > below)),
    opcode_values.EQ: _make_binary(_VERYLOW, lambda top, below: int(top == below)),
    opcode_values.AND: _make_binary(_VERYLOW, lambda top, below: top & below),
    opcode_values.OR: _make_binary(_VERYLOW, lambda top, below: top | below),
    opcode_values.XOR: _make_binary(_VERYLOW, lambda top, below: top ^ below),
    opcode_values.SHL: _make_binary(_VERYLOW, _shift_left),
    opcode_values.SHR: _make_binary(_VERYLOW, lambda shift, value: value >> shift),
    opcode_values.ISZERO: _make_unary(_VERYLOW, lambda value: int(value == 0)),
    opcode_values.NOT: _make_unary(_VERYLOW, lambda value: value ^ _WORD),
    opcode_values.SHA3: _keccak,
    opcode_values.CALLDATALOAD: _calldataload,
    opcode_values.POP: _pop,
    opcode_values.MLOAD: _mload,
    opcode_values.MSTORE: _mstore,
    opcode_values.JUMP: _jump,
    opcode_values.JUMPI: _jump_if,
    opcode_values.JUMPDEST: _jumpdest,
    opcode_values.PUSH0: _push_zero,
    **{opcode_values.PUSH1 + size - 1: _make_push(size) for size in range(1, 33)},
    **{opcode_values.DUP1 + position - 1: _make_dup(position) for position in range(1, 17)},
    **{opcode_values.SWAP1 + position - 1: _make_swap(position) for position in range(1, 17)},
}
