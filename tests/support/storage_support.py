"""Where a contract keeps what: the slots of a value, by the compiler's layout and the types that the sources declare.

A value is as an indexer keeps it: a HashMap is a dict, a struct a dict of its fields, an array a list; what is absent
is 0. Words of an array beyond its length are nobody's: Vyper leaves there what it left.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from vyper.compiler import compile_from_file_input
from vyper.compiler.input_bundle import FilesystemInputBundle

from flock_chain.crypto import keccak256
from flock_contracts.build_artifacts import SOURCES


@cache
def _text(module: str) -> str:
    found: str = (SOURCES / f"{module}.vy").read_text("utf-8")
    return found


@cache
def _constant(module: str, name: str) -> int:
    """A number, or the name of a constant of this module or of another."""
    if name.isdigit():
        return int(name)
    owner, _, word = name.rpartition(".")
    found = re.search(rf"^{word}: constant\(uint256\) = (\d[\d_]*)", _text(owner or module), re.MULTILINE)
    assert found, name
    return int(found[1])


@cache
def _fields(module: str, name: str) -> dict[str, tuple[str, str, int]] | None:
    """Of a struct: module and type of each field, and its place; None for what is no struct."""
    owner, _, word = name.rpartition(".")
    module = owner or module
    found = re.search(rf"^struct {word}:\n((?:    .+\n)+)", _text(module), re.MULTILINE)
    if found is None:
        return None
    fields, place = {}, 0
    for field, kind in re.findall(r"^    (\w+): ([^#\n]+?)\s*(?:#.*)?$", found[1], re.MULTILINE):
        fields[field] = module, kind, place
        place += size(module, kind)
    return fields


@cache
def shape(module: str, kind: str) -> tuple[Any, ...]:
    """What a type is: ("map", module, type), ("array", module, type, width, count, 1 where the length is stored),
    ("struct", fields) or ("word",)."""
    if found := re.fullmatch(r"HashMap\[(\w+), (.+)\]", kind):
        return "map", module, found[2]
    if found := re.fullmatch(r"DynArray\[(.+), ([\w.]+)\]", kind):
        return "array", module, found[1], size(module, found[1]), _constant(module, found[2]), 1
    if found := re.fullmatch(r"([\w.]+)\[([\w.]+)\]", kind):
        return "array", module, found[1], size(module, found[1]), _constant(module, found[2]), 0
    fields = _fields(module, kind)
    return ("struct", fields) if fields else ("word",)


@cache
def size(module: str, kind: str) -> int:
    """In slots."""
    tag, *rest = shape(module, kind)
    if tag == "array":
        width, count, has_length = rest[2:]
        return int(has_length + count * width)
    return sum(size(owner, one) for owner, one, _ in rest[0].values()) if tag == "struct" else 1


def _word(value: Any) -> int:
    return int.from_bytes(value, "big") if isinstance(value, bytes) else int(value) % (1 << 256)


def fill(module: str, kind: str, value: Any, slot: int, found: dict[int, int], unused: set[int]) -> None:
    """Each slot that the value takes, and with what; and those of its arrays that say nothing."""
    tag, *rest = shape(module, kind)
    if tag == "map":
        for key, row in value.items():
            place = keccak256(slot.to_bytes(32, "big"), _word(key).to_bytes(32, "big"))
            fill(rest[0], rest[1], row, int.from_bytes(place, "big"), found, unused)
    elif tag == "array":
        owner, element, width, count, has_length = rest
        items = value or ()
        if has_length:
            found[slot] = len(items)
            unused.update(range(slot + 1 + len(items) * width, slot + 1 + count * width))
        for index, row in enumerate(items):
            fill(owner, element, row, slot + has_length + index * width, found, unused)
    elif tag == "struct":
        fields = rest[0]
        assert set(value or ()) <= set(fields), f"{kind} has no {set(value) - set(fields)}"
        for name, (owner, one, place) in fields.items():
            row = (value or {}).get(name, 0)
            if row or "[" in one:
                fill(owner, one, row, slot + place, found, unused)
    else:
        found[slot] = _word(value)


@cache
def layout(contract: str) -> dict[str, tuple[str, str, int]]:
    """Module, type and first slot of every variable, by "module.name", or the name alone for the contract's own."""
    bundle = FilesystemInputBundle([SOURCES])
    with warnings.catch_warnings(), bundle.search_path(SOURCES):
        warnings.simplefilter("ignore")
        source = bundle.load_file(Path(f"{contract}.vy"))
        found = compile_from_file_input(source, input_bundle=bundle, output_formats=["layout"])["layout"]
    return dict(_variables(contract, found["storage_layout"]))


def _variables(contract: str, rows: dict[str, Any]) -> Iterator[tuple[str, tuple[str, str, int]]]:
    for name, row in rows.items():
        if "slot" in row:
            yield name, (contract, _declared(contract, name), row["slot"])
            continue
        for inner, place in row.items():
            yield f"{name}.{inner}", (name, _declared(name, inner), place["slot"])


def _declared(module: str, name: str) -> str:
    found = re.search(rf"^{name}: (.+?)\s*(?:#.*)?$", _text(module), re.MULTILINE)
    assert found, (module, name)
    return re.sub(r"^public\((.*)\)$", r"\1", found[1])


def differences(
    contract: str, variables: dict[str, Any], written: Iterable[int], read: Callable[[int], int]
) -> list[str]:
    """Where the contract's storage is not what these values are, of all slots that were ever written.

    `read`: what a slot holds. A variable that has no value here is a difference, too.
    """
    places = layout(contract)
    assert set(places) == set(variables), set(places) ^ set(variables)
    wanted, names, unused = dict[int, int](), dict[int, str](), set[int]()
    for name, (module, kind, slot) in places.items():
        filled: dict[int, int] = {}
        fill(module, kind, variables[name], slot, filled, unused)
        wanted |= filled
        names |= dict.fromkeys(filled, name)
    found = []
    for slot in {*wanted, *written} - unused:
        held, follows = read(slot), wanted.get(slot, 0)
        if held != follows:
            found.append(f"{contract} {names.get(slot, 'unknown')} at {slot:x}: {held:x}, not {follows:x}")
    return sorted(found)
