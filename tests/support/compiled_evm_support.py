"""The project's EVM with bytecode turned into Python, block by block, when first reached: for campaigns of many calls.

A block begins at a jump destination and ends where control cannot go on. Inside, the stack is Python's local variables;
gas of a stretch is taken at once, before it: who runs out of gas loses everything anyway. What is not translated here
runs as the project's own opcode. The results, gas included, are those of the interpreter (tests compare them).
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from eth.exceptions import FullStack, Halt, InsufficientStack, InvalidJumpDestination, OutOfGas
from eth.vm.logic.invalid import InvalidOpcode

from flock_chain.crypto import keccak256
from flock_chain.execution.machine import OPCODES, Computation, State
from flock_chain.execution.opcodes import find_destinations

Block = Callable[[Any, list[Any], bytearray, Any], int]
WORD = (1 << 256) - 1
SIGN = 1 << 255
MAX_CODES = 64
STACK_LIMIT = 1_024

BINARY = {  # opcode: gas, expression of the top (a) and what is below it (b)
    0x01: (3, "({a} + {b}) & WORD"), 0x02: (5, "({a} * {b}) & WORD"), 0x03: (3, "({a} - {b}) & WORD"),
    0x04: (5, "{a} // {b} if {b} else 0"), 0x06: (5, "{a} % {b} if {b} else 0"),
    0x10: (3, "1 if {a} < {b} else 0"), 0x11: (3, "1 if {a} > {b} else 0"),
    0x12: (3, "1 if {a} ^ SIGN < {b} ^ SIGN else 0"), 0x13: (3, "1 if {a} ^ SIGN > {b} ^ SIGN else 0"),
    0x14: (3, "1 if {a} == {b} else 0"), 0x16: (3, "{a} & {b}"), 0x17: (3, "{a} | {b}"), 0x18: (3, "{a} ^ {b}"),
    0x1B: (3, "{b} << {a} & WORD if {a} < 256 else 0"), 0x1C: (3, "{b} >> {a} if {a} < 256 else 0"),
}  # fmt: skip
UNARY = {0x15: (3, "0 if {a} else 1"), 0x19: (3, "{a} ^ WORD")}
READING = {  # of the message and the block
    0x30: "int.from_bytes(c.msg.storage_address, 'big')", 0x33: "int.from_bytes(c.msg.sender, 'big')",
    0x34: "c.msg.value", 0x36: "len(c.msg.data)", 0x42: "c.state.timestamp", 0x43: "c.state.block_number",
}  # fmt: skip
ENDING = {0x00, 0xF3, 0xFD, 0xFE, 0xFF}  # stop, return, revert, invalid, self-destruction
PUSHING = {  # how many items an untranslated opcode leaves on the stack: what it pushes may be bytes
    **dict.fromkeys((0x20, 0x31, 0x3B, 0x3F, 0x54, 0x5C, 0xF0, 0xF1, 0xF2, 0xF4, 0xF5, 0xFA), 1),
    **dict.fromkeys((*range(0x01, 0x1E), *range(0x30, 0x37), 0x38, 0x3A, 0x3D, *range(0x40, 0x4B), 0x59, 0x5A), 1),
}


class _Writer:
    """Writes the Python of one block."""

    def __init__(self, code: bytes, start: int) -> None:
        self.code, self.destinations = code, find_destinations(code)
        self.lines: list[str] = []
        self.stack: list[str] = []  # on top of the real one
        self.count = 0
        self.open_stretch()
        self.write_all(start)
        self.close_stretch()

    # ---- stretches: what is paid for at once
    def open_stretch(self) -> None:
        self.at, self.gas = len(self.lines), 0
        self.popped, self.most = 0, 0  # of the real stack; items more than at the beginning

    def close_stretch(self) -> None:
        head = []
        if self.gas:
            head += [f"g = m.gas_remaining - {self.gas}", "if g < 0: raise OutOfGas", "m.gas_remaining = g"]
        if self.most > 0:
            head.append(f"if len(s) > {STACK_LIMIT - self.most}: raise FullStack")
        self.lines[self.at : self.at] = head

    def new_stretch(self) -> None:
        self.close_stretch()
        self.open_stretch()

    # ---- the stack
    def pop(self) -> str:
        if self.stack:
            return self.stack.pop()
        self.popped += 1
        return self.assign("s.pop()")

    def push(self, item: str) -> None:
        self.stack.append(item)
        self.most = max(self.most, len(self.stack) - self.popped)

    def assign(self, expression: str) -> str:
        self.count += 1
        self.lines.append(f"t{self.count} = {expression}")
        return f"t{self.count}"

    def need(self, count: int) -> None:
        while len(self.stack) < count:
            self.stack.insert(0, self.assign("s.pop()"))
            self.popped += 1

    def flushed(self) -> list[str]:
        return [f"s += ({', '.join(self.stack)},)"] if self.stack else []

    # ---- opcodes
    def write_all(self, pc: int) -> None:
        first = pc
        while pc < len(self.code):
            opcode = self.code[pc]
            if opcode == 0x5B:
                if pc != first:
                    self.lines += [*self.flushed(), f"return {pc}"]
                    return
                self.gas += 1
                pc += 1
                continue
            if 0x5F <= opcode <= 0x7F:
                size = opcode - 0x5F
                raw = self.code[pc + 1 : pc + 1 + size].ljust(size, b"\0")
                self.gas += 3 if size else 2
                self.push(str(int.from_bytes(raw, "big")))
                pc += 1 + size
                continue
            if self.write(opcode, pc):
                return
            pc += 1
        self.untranslated(0x00)

    def write(self, opcode: int, pc: int) -> bool:
        """Whether the block ends here."""
        if 0x80 <= opcode <= 0x8F:
            self.gas += 3
            self.need(opcode - 0x7F)
            self.push(self.stack[0x7F - opcode])
        elif 0x90 <= opcode <= 0x9F:
            self.gas += 3
            at = 0x90 - opcode - 2
            self.need(-at)
            self.stack[-1], self.stack[at] = self.stack[at], self.stack[-1]
        elif opcode in BINARY:
            gas, expression = BINARY[opcode]
            self.gas += gas
            top, below = self.pop(), self.pop()
            self.push(self.assign(expression.format(a=top, b=below)))
        elif opcode in UNARY:
            gas, expression = UNARY[opcode]
            self.gas += gas
            self.push(self.assign(expression.format(a=self.pop())))
        elif opcode in READING:
            self.gas += 2
            self.push(self.assign(READING[opcode]))
        elif opcode == 0x50:
            self.gas += 2
            self.pop()
        elif opcode == 0x58:
            self.gas += 2
            self.push(str(pc))
        elif opcode in (0x20, 0x35, 0x37, 0x39, 0x51, 0x52, 0x54, 0x5E):
            getattr(self, f"write_{opcode:02x}")()
        elif opcode == 0x56:
            self.gas += 8
            self.jump(self.pop(), "")
            return True
        elif opcode == 0x57:
            self.gas += 10
            target, condition = self.pop(), self.pop()
            self.jump(target, f"if {condition}: ")
            self.new_stretch()
        else:
            self.untranslated(opcode)
            return opcode in ENDING or opcode not in OPCODES
        return False

    def jump(self, target: str, condition: str) -> None:
        lines = self.flushed()
        if target.isdigit():
            known = int(target) in self.destinations
            lines.append(f"return {target}" if known else "raise InvalidJumpDestination")
        else:
            lines += [f"if {target} not in destinations: raise InvalidJumpDestination", f"return {target}"]
        if condition:
            self.lines.append(condition.rstrip())
            lines = ["    " + line for line in lines]
        self.lines += lines

    def write_35(self) -> None:
        self.gas += 3
        start = self.pop()
        self.push(self.assign(f"int.from_bytes(bytes(c.msg.data[{start} : {start} + 32]).ljust(32, b'\\0'), 'big')"))

    def room(self, start: str) -> str:
        """The end of a word in memory, after which that is there."""
        end = str(int(start) + 32) if start.isdigit() else self.assign(f"{start} + 32")
        self.lines.append(f"if {end} > len(d): c.extend_memory({start}, 32)")
        return end

    def write_51(self) -> None:
        self.gas += 3
        start = self.pop()
        end = self.room(start)
        self.push(self.assign(f"int.from_bytes(d[{start}:{end}], 'big')"))

    def write_52(self) -> None:
        self.gas += 3
        start, value = self.pop(), self.pop()
        end = self.room(start)
        self.lines.append(f"d[{start}:{end}] = ({value}).to_bytes(32, 'big')")

    def write_54(self) -> None:
        self.push(self.assign(f"load(c, {self.pop()})"))

    def write_20(self) -> None:
        start, size = self.pop(), self.pop()
        self.push(self.assign(f"digest(c, d, {start}, {size})"))

    def write_37(self) -> None:
        self.copy("bytes(c.msg.data)")

    def write_39(self) -> None:
        self.copy("code")

    def write_5e(self) -> None:
        self.copy("d")

    def copy(self, source: str) -> None:
        self.gas += 3
        to, start, size = self.pop(), self.pop(), self.pop()
        self.lines.append(f"copy(c, d, {to}, {source}, {start}, {size})")

    def untranslated(self, opcode: int) -> None:
        self.lines += self.flushed()
        self.stack.clear()
        self.close_stretch()
        self.lines.append(f"run_{opcode:02x}(computation=c)")
        if opcode in PUSHING:
            self.lines.append("if type(s[-1]) is bytes: s[-1] = int.from_bytes(s[-1], 'big')")
        self.open_stretch()


def _load(computation: Any, slot: int) -> int:
    state, address, meter = computation.state, computation.msg.storage_address, computation._gas_meter
    is_warm = state.is_storage_warm(address, slot)
    if not is_warm:
        state.mark_storage_warm(address, slot)
    gas = meter.gas_remaining - (100 if is_warm else 2_100)
    if gas < 0:
        raise OutOfGas
    meter.gas_remaining = gas
    value: int = state.get_storage(address, slot)
    return value


def _digest(computation: Any, data: bytearray, start: int, size: int) -> int:
    meter = computation._gas_meter
    gas = meter.gas_remaining - 30 - 6 * ((size + 31) >> 5)
    if gas < 0:
        raise OutOfGas
    meter.gas_remaining = gas
    if size and start + size > len(data):
        computation.extend_memory(start, size)
    return int.from_bytes(keccak256(data[start : start + size]), "big")


def _copy(computation: Any, data: bytearray, to: int, source: bytes, start: int, size: int) -> None:
    meter = computation._gas_meter
    gas = meter.gas_remaining - 3 * ((size + 31) >> 5)
    if gas < 0:
        raise OutOfGas
    meter.gas_remaining = gas
    if size:
        computation.extend_memory(max(to, start) if source is data else to, size)
        data[to : to + size] = source[start : start + size].ljust(size, b"\0")


class Program:
    """One contract's code; a block is translated when it is first reached."""

    def __init__(self, code: bytes) -> None:
        self.code = code
        self.blocks: dict[int, Block] = {}
        self.names: dict[str, Any] = {
            "WORD": WORD, "SIGN": SIGN, "OutOfGas": OutOfGas, "FullStack": FullStack, "load": _load, "digest": _digest,
            "copy": _copy, "code": code,
            "InvalidJumpDestination": InvalidJumpDestination, "destinations": find_destinations(code),
            **{f"run_{opcode:02x}": OPCODES.get(opcode, InvalidOpcode(opcode)) for opcode in range(256)},
        }  # fmt: skip

    def run(self, computation: Any) -> None:
        """Until it halts, by an exception."""
        blocks, stack = self.blocks, computation._stack.values
        memory, meter = computation._memory._bytes, computation._gas_meter
        pc = 0
        try:
            while True:
                block = blocks.get(pc) or self.translate(pc)
                pc = block(computation, stack, memory, meter)
        except IndexError as error:
            raise InsufficientStack("stack items wanted") from error
        finally:
            assert computation._memory._bytes is memory

    def translate(self, pc: int) -> Block:
        lines = "\n    ".join(_Writer(self.code, pc).lines)
        exec(compile(f"def block(c, s, d, m):\n    {lines}\n", f"<block {pc}>", "exec"), self.names)
        block: Block = self.names.pop("block")
        self.blocks[pc] = block
        return block


program_of = lru_cache(MAX_CODES)(Program)


class CompiledComputation(Computation):
    opcodes = OPCODES

    @classmethod
    def apply_computation(
        cls, state: Any, message: Any, transaction_context: Any, parent_computation: Any = None
    ) -> Any:
        if message.is_create or message.code_address in cls._precompiles:
            return super().apply_computation(state, message, transaction_context, parent_computation)
        with cls(state, message, transaction_context) as computation:
            computation.contracts_created = parent_computation.contracts_created if parent_computation else []
            try:
                program_of(message.code).run(computation)
            except Halt:
                pass
        return computation


class CompiledState(State):
    computation_class = CompiledComputation
