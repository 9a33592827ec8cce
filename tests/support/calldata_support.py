"""Calldata that no honest caller would send: from noise to right calls with one word wrong. For tests of decoders."""

from collections.abc import Mapping, Sequence
from typing import Any

from contracts_support import ETHER, TERMS, account
from hypothesis import strategies as st
from stake_support import FOUNDERS as KEYS

from flock_contracts.addresses import BY_NAME
from flock_contracts.loader import load

WORD = 32
FOUNDERS = [key.account for key in KEYS]
CALLERS = [*(account(index) for index in range(12)), *FOUNDERS]  # creator, participants, others; never the system
ODD_WORDS = (
    0, 1, 2, 3, 4, 16, 31, 32, 33, 64, 96, 160, 192, 1_000, 2**31, 2**32 - 1, 2**64 - 1, 2**96, 2**128 - 1, 2**128,
    2**160, 2**160 + 1, 2**255 - 1, 2**255, 2**255 + 1, 2**256 - 32, 2**256 - 1,
)  # fmt: skip
VALUES = (0, 0, 0, 0, 1, 99, 100, 1_000, 10**18, 32 * 10**18)
MEANT = {  # numbers of arguments that are meant, by their names
    "task": (1, 1, 1, 1, 1, 1, 2, 0), "round": (1, 1, 1, 1, 1, 1, 2, 0),
    "amount": (1, 250, 1_000, ETHER, 0, 2**256 - 1), "guilty": (1, 1, 1, 0, 3), "innocent": (0, 0, 0, 1, 2),
}  # fmt: skip
Function = tuple[str, str, Mapping[str, Any]]  # contract, name, entry of its ABI
Call = tuple[bytes, str, bytes, int]  # sender, contract, calldata, value

words = st.one_of(
    st.sampled_from(ODD_WORDS).map(lambda number: number.to_bytes(WORD, "big")),
    st.sampled_from(CALLERS).map(lambda who: who.rjust(WORD, b"\0")),
    st.sampled_from(CALLERS).map(lambda who: who.rjust(WORD, b"\xff")),  # dirty above the address
    st.binary(min_size=WORD, max_size=WORD),
)


def _functions() -> list[Function]:
    """Everything that changes state, and every reading function whose arguments have a length."""
    found = []
    for name in BY_NAME:
        for entry in load(name).abi:
            if entry["type"] != "function" or entry["name"] == "initialize":
                continue
            if entry["stateMutability"] in ("nonpayable", "payable") or entry["inputs"]:
                found.append((name, entry["name"], entry))
    return found


FUNCTIONS = _functions()


def value_of(entry: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """A value that the loader encodes, mostly one that could be meant."""
    kind: str = entry["type"]
    if kind.endswith("]"):
        head, _, length = kind.rpartition("[")
        element = value_of({**entry, "type": head})
        size = int(length[:-1]) if length != "]" else None
        return st.lists(element, min_size=size or 0, max_size=size or 3)
    if entry["name"] == "terms":
        return st.just(tuple(TERMS.values()))
    if kind == "tuple":
        return st.tuples(*(value_of(field) for field in entry["components"]))
    if kind == "address":
        return st.sampled_from(CALLERS)
    if kind == "bool":
        return st.booleans()
    if kind == "bytes":
        return st.binary(max_size=70)
    if kind.startswith("bytes"):
        return st.binary(min_size=WORD, max_size=WORD)
    if kind.startswith("int"):
        return st.sampled_from((0, 1, -1, -300, 10**9, -(2**255), 2**255 - 1))
    others = (1, 1, 1, 0, 2, 3, 7, 15, 27, 1_000, 2**16 - 1, 2**128, 2**256 - 1)
    return st.sampled_from(MEANT.get(entry["name"], others))


def _encoded(function: Function) -> st.SearchStrategy[bytes]:
    name, word, entry = function
    values = st.tuples(*(value_of(field) for field in entry["inputs"]))
    return values.map(lambda args: load(name).encode(word, *args))


@st.composite
def spoil(draw: st.DrawFn, data: bytes) -> bytes:
    """One thing wrong with it: a word (an offset, a length), its end, or a byte."""
    kind = draw(st.sampled_from(("word", "word", "word", "cut", "longer", "byte", "swap")))
    count = (len(data) - 4) // WORD
    if kind == "cut":
        return data[: draw(st.integers(0, len(data)))]
    if kind == "longer":
        return data + draw(st.binary(max_size=100))
    if count == 0:
        return data + draw(words)
    at = 4 + WORD * draw(st.integers(0, count - 1))
    if kind == "word":
        return data[:at] + draw(words) + data[at + WORD :]
    if kind == "byte":
        spoilt = bytearray(data)
        spoilt[at + draw(st.integers(0, WORD - 1))] ^= draw(st.integers(1, 255))
        return bytes(spoilt)
    other = 4 + WORD * draw(st.integers(0, count - 1))
    return data[:at] + data[other : other + WORD] + data[at + WORD :]


@st.composite
def calls(
    draw: st.DrawFn,
    functions: Sequence[Function] = FUNCTIONS,
    callers: Sequence[bytes] = CALLERS,
) -> Call:
    sender, value = draw(st.sampled_from(callers)), draw(st.sampled_from(VALUES))
    function = draw(st.sampled_from(functions))
    name = function[0]
    kind = draw(st.sampled_from(("right", "right", "right", "spoilt", "spoilt", "words", "noise")))
    if kind == "noise":
        return sender, name, draw(st.binary(max_size=300)), value
    data = draw(_encoded(function))
    if kind == "words":
        data = data[:4] + b"".join(draw(st.lists(words, max_size=12)))
    elif kind == "spoilt":
        data = draw(spoil(data))
    elif function[2]["stateMutability"] != "payable":
        value = 0  # a right call that is not refused for its coins
    return sender, name, data, value
