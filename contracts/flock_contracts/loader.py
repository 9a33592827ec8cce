"""Typed access to a compiled genesis contract: address, runtime code, calldata in, values and logs out.

Knows the committed artifacts and the contract ABI; knows no chain, no EVM and no key.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from importlib import resources
from typing import Any

import eth_abi
import sha3
from eth_abi.exceptions import DecodingError

from flock_contracts.addresses import BY_NAME

_Entry = Mapping[str, Any]


class Contract:
    """One genesis contract. Raises ValueError for arguments or bytes that do not fit its ABI."""

    def __init__(self, name: str, artifact: _Entry) -> None:
        self.name = name
        self.address: bytes = BY_NAME[name]
        self.runtime: bytes = bytes.fromhex(artifact["runtime"])
        self.abi: Sequence[_Entry] = artifact["abi"]
        self._functions: dict[str, _Entry] = {entry["name"]: entry for entry in self.abi if entry["type"] == "function"}

    @cached_property
    def _events(self) -> dict[bytes, _Entry]:
        return {_keccak(_signature(entry)): entry for entry in self.abi if entry["type"] == "event"}

    @cached_property
    def _selectors(self) -> dict[str, bytes]:
        return {name: _keccak(_signature(entry))[:4] for name, entry in self._functions.items()}

    def encode(self, function: str, *args: Any) -> bytes:
        """Calldata. Accounts are 20 bytes, digests exactly 32, structs a mapping by field name or a tuple."""
        inputs = self._entry(function)["inputs"]
        if len(args) != len(inputs):
            raise ValueError(f"{self.name}.{function}: takes {len(inputs)} arguments, not {len(args)}")
        where = f"{self.name}.{function}"
        values = [_checked(entry, value, f"{where}: {entry['name']}") for entry, value in zip(inputs, args)]
        return self._selectors[function] + bytes(eth_abi.encode([_type(entry) for entry in inputs], values))

    def decode(self, function: str, output: bytes) -> Any:
        """A single value unwrapped, several as a tuple; a struct is a dict by field name, an array a list."""
        outputs = self._entry(function)["outputs"]
        values = _decode([_type(entry) for entry in outputs], output, f"{self.name}.{function}")
        shaped = tuple(_shaped(entry, value) for entry, value in zip(outputs, values))
        return shaped[0] if len(shaped) == 1 else shaped

    def decode_log(self, topics: Sequence[bytes], data: bytes) -> tuple[str, dict[str, Any]] | None:
        """Event name and values by name; None for an event that is not this contract's."""
        entry = self._events.get(bytes(topics[0])) if topics else None
        if entry is None:
            return None
        indexed = [field for field in entry["inputs"] if field["indexed"]]
        plain = [field for field in entry["inputs"] if not field["indexed"]]
        where = f"{self.name}.{entry['name']}"
        if len(topics) != 1 + len(indexed):
            raise ValueError(f"{where}: a log with {len(topics)} topics does not fit")
        found = dict(zip((f["name"] for f in plain), _decode([_type(f) for f in plain], data, where)))
        for field, topic in zip(indexed, topics[1:]):
            found[field["name"]] = _decode([_type(field)], topic, where)[0]
        name: str = entry["name"]
        return name, {field["name"]: _shaped(field, found[field["name"]]) for field in entry["inputs"]}

    def _entry(self, function: str) -> _Entry:
        if function not in self._functions:
            raise ValueError(f"{self.name}: no function {function!r}")
        return self._functions[function]


@cache
def load(name: str) -> Contract:
    """`name`: one of addresses.BY_NAME."""
    if name not in BY_NAME:
        raise ValueError(f"no genesis contract is named {name!r}; there are {', '.join(BY_NAME)}")
    text = resources.files("flock_contracts").joinpath("artifacts", f"{name}.json").read_text("utf-8")
    return Contract(name, json.loads(text))


def load_all() -> dict[str, Contract]:
    return {name: load(name) for name in BY_NAME}


def _keccak(text: str) -> bytes:
    return bytes(sha3.keccak_256(text.encode()).digest())


def _signature(entry: _Entry) -> str:
    return f"{entry['name']}({','.join(_type(field) for field in entry['inputs'])})"


def _type(entry: _Entry) -> str:
    kind: str = entry["type"]
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type(field) for field in entry['components'])}){kind[len('tuple') :]}"


def _element(entry: _Entry) -> dict[str, Any]:
    return {**entry, "type": entry["type"].rsplit("[", 1)[0]}


def _decode(types: list[str], data: bytes, where: str) -> tuple[Any, ...]:
    try:
        return tuple(eth_abi.decode(types, bytes(data)))
    except DecodingError as error:
        raise ValueError(f"{where}: bytes that do not fit the ABI") from error


def _checked(entry: _Entry, value: Any, where: str) -> Any:
    """The value for eth_abi, which itself would pad short digests and take text for bytes in silence."""
    kind: str = entry["type"]
    if kind.endswith("]"):
        return _checked_array(entry, value, where)
    if kind == "tuple":
        return _checked_struct(entry, value, where)
    if kind.startswith(("uint", "int")):
        bits, signed = int(kind.lstrip("uint")), kind.startswith("int")
        low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value < high:
            raise ValueError(f"{where}: {value!r} is no {kind}")
    elif kind == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"{where}: {value!r} is no bool")
    else:
        length = {"address": 20, "bytes32": 32}.get(kind)
        if not isinstance(value, bytes) or (length is not None and len(value) != length):
            raise ValueError(f"{where}: {kind} takes {'bytes' if length is None else f'exactly {length} bytes'}")
    return value


def _checked_array(entry: _Entry, value: Any, where: str) -> list[Any]:
    fixed = entry["type"].rsplit("[", 1)[1][:-1]
    if not isinstance(value, list | tuple) or (fixed and len(value) != int(fixed)):
        raise ValueError(f"{where}: takes a list{f' of {fixed}' if fixed else ''}")
    element = _element(entry)
    return [_checked(element, item, f"{where}[{index}]") for index, item in enumerate(value)]


def _checked_struct(entry: _Entry, value: Any, where: str) -> tuple[Any, ...]:
    fields = entry["components"]
    names = [field["name"] for field in fields]
    if isinstance(value, Mapping):
        if set(value) != set(names):
            raise ValueError(f"{where}: fields differ: {sorted(set(value) ^ set(names))}")
        value = [value[name] for name in names]
    if not isinstance(value, list | tuple) or len(value) != len(names):
        raise ValueError(f"{where}: takes the fields {', '.join(names)}")
    return tuple(_checked(field, item, f"{where}.{field['name']}") for field, item in zip(fields, value))


def _shaped(entry: _Entry, value: Any) -> Any:
    kind: str = entry["type"]
    if kind.endswith("]"):
        element = _element(entry)
        return [_shaped(element, item) for item in value]
    if kind == "tuple":
        return {field["name"]: _shaped(field, item) for field, item in zip(entry["components"], value)}
    return bytes.fromhex(value[2:]) if kind == "address" else value
