"""Random EVM programs that do what journals find hard: nested calls that fail, creation, destruction, storage, logs.

Every choice comes from the `random.Random` that it is given, so a seed is a program.
"""

from random import Random

MAX_DEPTH = 2  # of programs inside programs (init code)
MAX_STATEMENTS = 9
_PUSH0, _POP, _SSTORE, _SLOAD, _MSTORE, _GAS = 0x5F, 0x50, 0x55, 0x54, 0x52, 0x5A
_TSTORE, _TLOAD, _JUMPI, _JUMPDEST, _ADD = 0x5D, 0x5C, 0x57, 0x5B, 0x01
_CREATE, _CREATE2, _CALL, _CALLCODE, _DELEGATECALL, _STATICCALL = 0xF0, 0xF5, 0xF1, 0xF2, 0xF4, 0xFA
_RETURN, _REVERT, _INVALID, _SELFDESTRUCT, _STOP = 0xF3, 0xFD, 0xFE, 0xFF, 0x00
_ASKING = (0x31, 0x3B, 0x3F)  # BALANCE, EXTCODESIZE, EXTCODEHASH of an address
_READING = (
    0x30,
    0x32,
    0x33,
    0x34,
    0x36,
    0x38,
    0x3A,
    0x3D,
    0x41,
    0x42,
    0x43,
    0x44,
    0x45,
    0x46,
    0x47,
    0x48,
    0x58,
    0x59,
    0x5A,
)
_COMPUTING = (*range(0x01, 0x08), *range(0x0A, 0x0C), *range(0x10, 0x15), *range(0x16, 0x19), *range(0x1A, 0x1E))
NUMBERS = (0, 1, 2, 3, 31, 32, 255, 256, 1 << 64, (1 << 255) - 1, 1 << 255, (1 << 256) - 2, (1 << 256) - 1)
# The stack's limit by push and by dup, its bottom, a push cut short, jumps into a push, beyond the end and to it.
EDGES = [
    bytes.fromhex(code)
    for code in (
        "5b5f5f56",
        "5f5b80600156",
        "5b5f505050",
        "60",
        "7f01",
        "60035660",
        "6003565b",
        "61ffff56",
        "7f" + "ff" * 32 + "56",
        "6004565b5b00",
        "600456615b5b5b00",
        "5f5f90915b00",
        "60016007575f5b5b005b",
        "600160005260205ff3",
        "3660006000373660002000",
    )
]
SLOTS = (0, 1, 2, 3, (1 << 255) + 7)
VALUES = (0, 0, 1, 2, 0xFFFF, (1 << 256) - 1)


class Program:
    """Writes one program; `addresses` are what it may name."""

    def __init__(self, random: Random, addresses: list[bytes], depth: int = 0) -> None:
        self._random, self._addresses, self._depth = random, addresses, depth
        self.code = bytearray()

    def write(self) -> bytes:
        if self._random.random() < 0.03:
            return self._random.randbytes(self._random.randrange(1, 60))
        if self._random.random() < 0.04:
            return self._random.choice(EDGES)
        for _ in range(self._random.randrange(MAX_STATEMENTS)):
            self._statement()
        self._end()
        return bytes(self.code)

    def _push(self, value: int | bytes) -> None:
        if value == 0:
            self.code.append(_PUSH0)
            return
        raw = value if isinstance(value, bytes) else value.to_bytes((value.bit_length() + 7) // 8, "big")
        self.code += bytes((_PUSH0 + len(raw),)) + raw

    def _do(self, opcode: int, *arguments: int | bytes) -> None:
        """`arguments` in the order of the yellow paper: the first on top."""
        for argument in reversed(arguments):
            self._push(argument)
        self.code.append(opcode)

    def _statement(self) -> None:
        kind = self._random.randrange(18)
        if kind <= 3:
            self._do(_SSTORE, self._random.choice(SLOTS), self._random.choice(VALUES))
        elif kind == 4:
            self._count()
        elif kind == 5:
            self._transient()
        elif kind <= 9:
            self._call()
        elif kind <= 11:
            self._create()
        elif kind == 12:
            self._log()
        elif kind == 13:
            self._keep(self._random.choice(_ASKING), self._random.choice(self._addresses))
        elif kind == 14:
            self._keep(self._random.choice(_READING))
        elif kind == 15:
            self._skip_if()
        else:
            self._compute()

    def _keep(self, opcode: int, *arguments: int | bytes) -> None:
        """What the opcode says goes into storage, where the root tells."""
        self._do(opcode, *arguments)
        self._do(_SSTORE, self._random.choice(SLOTS))

    def _count(self) -> None:
        slot = self._random.choice(SLOTS)
        self._do(_SLOAD, slot)
        self._do(_ADD, 1)
        self._do(_SSTORE, slot)

    def _transient(self) -> None:
        slot = self._random.choice(SLOTS)
        if self._random.random() < 0.5:
            self._do(_TSTORE, slot, self._random.choice(VALUES))
        else:
            self._keep(_TLOAD, slot)

    def _compute(self) -> None:
        """Numbers, memory and the stack's own opcodes; three items at least are always there."""
        for _ in range(3):
            self._push(self._random.choice(NUMBERS))
        for _ in range(self._random.randrange(6)):
            kind = self._random.randrange(5)
            if kind == 0:
                self._do(_MSTORE, self._random.choice((0, 1, 32, 60)), self._random.choice(NUMBERS))
            elif kind == 1:
                self._do(self._random.choice((0x51, 0x35)), self._random.choice((0, 1, 33, 70)))
            elif kind == 2:
                self._do(0x20, self._random.choice((0, 5)), self._random.choice((0, 31, 64)))
            elif kind == 3:
                self.code.append(self._random.choice((0x80, 0x81, 0x82, 0x90, 0x91, 0x15, 0x19)))
                continue
            self._push(self._random.choice(NUMBERS))
            self.code.append(self._random.choice(_COMPUTING))
        self._do(_SSTORE, self._random.choice(SLOTS))
        self.code += bytes((_POP, _POP))

    def _call(self) -> None:
        opcode = self._random.choice((_CALL, _CALL, _CALL, _CALLCODE, _DELEGATECALL, _STATICCALL))
        value = [self._random.choice((0, 0, 1, 1000, 10**19))] if opcode in (_CALL, _CALLCODE) else []
        out_size, in_size = self._random.choice((0, 0, 32)), self._random.choice((0, 0, 4, 40))
        for argument in (out_size, 0, in_size, 0, *value):
            self._push(argument)
        self._push(self._random.choice(self._addresses))
        self._push_gas()
        self.code.append(opcode)
        self._settle()

    def _push_gas(self) -> None:
        gas = self._random.choice((0, 2_300, 9_000, 40_000, None, None))
        if gas is None:
            self.code.append(_GAS)
        else:
            self._push(gas)

    def _settle(self) -> None:
        """What is on top, success or address, is dropped or kept."""
        if self._random.random() < 0.6:
            self.code.append(_POP)
        else:
            self._do(_SSTORE, self._random.choice(SLOTS))

    def _create(self) -> None:
        if self._depth >= MAX_DEPTH:
            return
        init = Program(self._random, self._addresses, self._depth + 1).write()[:320]
        for start in range(0, len(init), 32):
            self._do(_MSTORE, start, init[start : start + 32].ljust(32, b"\0"))
        value = self._random.choice((0, 0, 1))
        if self._random.random() < 0.5:
            self._do(_CREATE, value, 0, len(init))
        else:
            self._do(_CREATE2, value, 0, len(init), self._random.choice((0, 0, 1)))
        if self._random.random() < 0.5:  # call what was created: (out size, out, in size, in, value) below its address
            for _ in range(4):
                self.code.append(_PUSH0)
            self._push(self._random.choice((0, 1)))
            self.code.append(0x85)  # DUP6
            self._push_gas()
            self.code += bytes((_CALL, _POP))
        self._settle()

    def _log(self) -> None:
        topics = self._random.randrange(5)
        self._do(0xA0 + topics, 0, self._random.choice((0, 8, 32)), *range(topics))

    def _skip_if(self) -> None:
        """Over a statement, where the first word of the call data or a slot is not zero."""
        if self._random.random() < 0.5:
            self._do(0x35, 0)
        else:
            self._do(_SLOAD, self._random.choice(SLOTS))
        self.code += b"\x61\0\0" + bytes((_JUMPI,))
        place = len(self.code) - 3
        self._statement()
        wrong = self._random.random() < 0.02
        self.code[place : place + 2] = (len(self.code) + wrong).to_bytes(2, "big")
        self.code.append(_JUMPDEST)

    def _end(self) -> None:
        kind = self._random.randrange(10)
        if kind <= 2:
            self._do(_RETURN, 0, self._random.choice((0, 1, 32, 64)))
        elif kind <= 4:
            self._do(_REVERT, 0, self._random.choice((0, 32)))
        elif kind == 5:
            self.code.append(_INVALID)
        elif kind == 6:
            self._do(_SELFDESTRUCT, self._random.choice(self._addresses))
        elif kind == 7:
            self.code += bytes((0x38, _PUSH0, _PUSH0, 0x39))  # CODECOPY: deploys itself, where it is init code
            self.code += bytes((0x38, _PUSH0, _RETURN))
        else:
            self.code.append(_STOP)
