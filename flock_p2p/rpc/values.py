"""Ethereum's two hexadecimal forms, in and out; which block a parameter names, which call. Raises RpcError in words."""

import re
from collections.abc import Sequence
from typing import Any

from flock_chain.crypto import Account
from flock_chain.execution.caller import Call
from flock_chain.execution.transactions import MAX_TRANSACTION_BYTES, AccessList
from flock_p2p.rpc.errors import RESOURCE_NOT_FOUND, RpcError, invalid
from flock_peers.ledger.queries import MAX_CALL_GAS, ChainView

_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}\Z")
_DATA = re.compile(r"0x(?:[0-9a-fA-F]{2})*\Z")
HEAD_TAGS = ("latest", "safe", "finalized", "pending")  # one and the same here: every block is final
_CALL_FIELDS = {
    "from", "to", "gas", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "value", "data", "input",
    "nonce", "type", "chainId", "accessList",
    # Wallets' own notes on a transaction, which nodes pass over.
    "gasLimit", "gasUsed", "estimatedBaseFee", "estimateGasError", "estimateSuggested", "estimateUsed",
}  # fmt: skip


def quantity(value: int) -> str:
    return hex(value)


def data(value: bytes) -> str:
    return "0x" + value.hex()


def parse_quantity(value: Any, what: str, limit: int = 1 << 256) -> int:
    if not isinstance(value, str) or not _QUANTITY.match(value) or (number := int(value, 16)) >= limit:
        raise invalid(f"{what}: not a quantity such as 0x1f")
    return number


def parse_data(value: Any, what: str, length: int | None = None) -> bytes:
    if not isinstance(value, str) or not _DATA.match(value):
        raise invalid(f"{what}: not bytes such as 0x0a1b")
    parsed = bytes.fromhex(value[2:])
    if length is not None and len(parsed) != length:
        raise invalid(f"{what}: {length} bytes are needed, not {len(parsed)}")
    return parsed


def parse_account(value: Any, what: str = "address") -> Account:
    return Account(parse_data(value, what, 20))


def parse_bool(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise invalid(f"{what}: neither true nor false")
    return value


def parse_block(value: Any, view: ChainView) -> int | None:
    """The height that a tag, a number or an EIP-1898 object names; None where there is no such block here."""
    if value is None or (isinstance(value, str) and value in HEAD_TAGS):
        return view.head
    if isinstance(value, dict):
        if "blockHash" in value:
            return view.find_block(parse_data(value["blockHash"], "blockHash", 32))
        value = value.get("blockNumber")
    if value == "earliest":
        return 0
    height = parse_quantity(value, "block", 1 << 64)
    return height if height <= view.head else None


def need_block(value: Any, view: ChainView) -> int:
    height = parse_block(value, view)
    if height is None:
        raise RpcError(RESOURCE_NOT_FOUND, "header not found")
    return height


def parse_call(value: Any) -> tuple[Call, int]:
    """The call, and the gas that it may have."""
    if not isinstance(value, dict):
        raise invalid("transaction: not an object")
    if unknown := sorted(set(value) - _CALL_FIELDS):
        raise invalid(f"transaction: {unknown[0][:40]!r} is not understood here")
    if value.get("to") is None:
        raise invalid("transaction: without `to` it creates a contract; nobody deploys on this chain")
    payloads = {parse_data(value[name], name) for name in ("data", "input") if value.get(name) is not None}
    if len(payloads) > 1:
        raise invalid("transaction: `data` and `input` differ")
    payload = payloads.pop() if payloads else b""
    if len(payload) > MAX_TRANSACTION_BYTES:
        raise invalid(f"transaction: more than {MAX_TRANSACTION_BYTES} bytes of data")
    sender = Account(bytes(20)) if value.get("from") is None else parse_account(value["from"], "from")
    amount = 0 if value.get("value") is None else parse_quantity(value["value"], "value")
    gas = MAX_CALL_GAS if value.get("gas") is None else parse_quantity(value["gas"], "gas", 1 << 64)
    access = _parse_access_list(value.get("accessList") or [])
    return Call(sender, parse_account(value["to"], "to"), payload, amount, access), gas


def _parse_access_list(value: Any) -> AccessList:
    rows = []
    for entry in value if isinstance(value, list) else [None]:
        keys = entry.get("storageKeys") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(keys, list):
            raise invalid("accessList: not a list of objects with address and storageKeys")
        slots = tuple(int.from_bytes(parse_data(key, "storageKeys", 32), "big") for key in keys)
        rows.append((bytes(parse_account(entry.get("address"))), slots))
    return tuple(rows)


def take(parameters: Sequence[Any], least: int, most: int) -> list[Any]:
    """Positional parameters, those that were left out as None."""
    if not least <= len(parameters) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise invalid(f"{wanted} parameters are needed, not {len(parameters)}")
    return [*parameters, *[None] * (most - len(parameters))]
