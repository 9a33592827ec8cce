"""Transactions: sign, decode, check all that needs no state. Knows nothing of balances, nonces or blocks.

Ethereum's types 0 (with EIP-155), 1 and 2, and 0x7e: an unsigned call by the system, which only a block may hold.
Stricter than py-evm on purpose: chain id, tip within fee, calldata floor, no deployment, one encoding each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from flock_chain.crypto import Account, Digest, Key, keccak256, recover
from flock_chain.errors import InvalidBlock, InvalidEncoding, Misuse
from flock_chain.execution import strict_rlp as rlp

SYSTEM_TYPE = 0x7E
MAX_TRANSACTION_BYTES = 64 << 10  # a quarter of the default block; our largest call takes under 4 KB
MAX_NONCE = (1 << 64) - 2  # EIP-2681
DEFAULT_GAS = 2_000_000  # the dearest call of the genesis contracts costs less; what is left over is returned
_GAS_BASE = 21_000
_GAS_BYTE = 4  # per token: a zero byte is one, another byte four (EIP-2028)
_GAS_FLOOR_TOKEN = 10  # EIP-7623
_GAS_ACCESS_ADDRESS = 2_400
_GAS_ACCESS_KEY = 1_900

AccessList = tuple[tuple[bytes, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Transaction:
    """A decoded transaction; where it came from `decode_transaction`, its sender has signed it."""

    raw: bytes
    hash: Digest
    type_id: int
    chain_id: int
    sender: Account
    nonce: int
    max_priority_fee_per_gas: int
    max_fee_per_gas: int
    gas: int
    to: bytes
    value: int
    data: bytes
    access_list: AccessList
    intrinsic_gas: int


@dataclass(frozen=True, slots=True)
class SystemTransaction:
    """A call that consensus prescribes; identified by its place, so no two have one hash."""

    chain_id: int
    height: int
    index: int
    to: bytes
    gas: int
    data: bytes

    @property
    def raw(self) -> bytes:
        fields = [self.chain_id, self.height, self.index, self.to, self.gas, self.data]
        return bytes((SYSTEM_TYPE,)) + rlp.encode(fields)

    @property
    def hash(self) -> Digest:
        return keccak256(self.raw)


def sign_call(
    key: Key,
    *,
    chain_id: int,
    nonce: int,
    to: bytes,
    data: bytes = b"",
    value: int = 0,
    gas: int = DEFAULT_GAS,
    fee: int,
    tip: int = 0,
    access_list: Sequence[tuple[bytes, Sequence[int]]] = (),
) -> bytes:
    """An EIP-1559 transaction, encoded. `fee` and `tip` are wei per gas, at most and on top of the base fee."""
    if len(to) != 20:
        raise Misuse("transaction: the callee is an address of 20 bytes; nobody deploys contracts")
    access = [[address, [slot.to_bytes(32, "big") for slot in slots]] for address, slots in access_list]
    fields: list[object] = [chain_id, nonce, tip, fee, gas, to, value, data, access]
    signature = key.sign(keccak256(b"\x02", rlp.encode(fields)))
    fields += [signature[64], int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")]
    return b"\x02" + rlp.encode(fields)


def decode_transaction(raw: bytes, chain_id: int) -> Transaction:
    """Bytes from anywhere to a signed transaction of this chain.

    Raises InvalidEncoding (not one of the three types in canonical form), InvalidSignature, or InvalidBlock where a
    rule is broken that needs no state.
    """
    if not 0 < len(raw) <= MAX_TRANSACTION_BYTES:
        raise InvalidBlock(f"transaction: {len(raw)} bytes, at most {MAX_TRANSACTION_BYTES} allowed")
    if raw[0] == SYSTEM_TYPE:
        raise InvalidBlock("transaction: type 0x7e is the system's alone")
    if raw[0] == 2:
        return _decode_typed(raw, chain_id, width=12)
    if raw[0] == 1:
        return _decode_typed(raw, chain_id, width=11)
    if raw[0] >= 0xC0:
        return _decode_legacy(raw, chain_id)
    raise InvalidBlock(f"transaction: type {raw[0]:#x} is not allowed here")


def read_signature(raw: bytes) -> tuple[int, int, int]:
    """v, as it was signed, r and s, of bytes that `decode_transaction` took."""
    width = {1: 11, 2: 12}.get(raw[0], 9)
    fields = rlp.decode_list(raw if raw[0] >= 0xC0 else raw[1:], "transaction", width)
    v, r, s = (rlp.to_int(item, "transaction: signature", 256) for item in fields[-3:])
    return v, r, s


def decode_system_transaction(raw: bytes) -> SystemTransaction:
    """For readers of final blocks; execution rebuilds these and never parses them."""
    if raw[:1] != bytes((SYSTEM_TYPE,)):
        raise InvalidEncoding("system transaction: not of type 0x7e")
    chain_id, height, index, to, gas, data = rlp.decode_list(raw[1:], "system transaction", 6)
    numbers = [rlp.to_int(item, "system transaction", 64) for item in (chain_id, height, index, gas)]
    callee, calldata = rlp.to_bytes(to, "system transaction", 20), rlp.to_bytes(data, "system transaction")
    return SystemTransaction(numbers[0], numbers[1], numbers[2], callee, numbers[3], calldata)


def _decode_typed(raw: bytes, chain_id: int, width: int) -> Transaction:
    fields = rlp.decode_list(raw[1:], "transaction", width)
    unsigned = raw[:1] + rlp.encode(fields[:-3])
    if width == 11:  # one price: it is fee and tip at once
        fields.insert(3, fields[2])
    parity = rlp.to_int(fields[9], "transaction: parity", 8)
    claimed = rlp.to_int(fields[0], "transaction: chain id", 64)
    return _build(raw, raw[0], claimed, chain_id, unsigned, parity, fields[1:9], fields[10:12])


def _decode_legacy(raw: bytes, chain_id: int) -> Transaction:
    fields = rlp.decode_list(raw, "transaction", 9)
    v = rlp.to_int(fields[6], "transaction: v", 64)
    if v < 35:
        raise InvalidBlock("transaction: signed for no chain id (EIP-155); it could be replayed anywhere")
    claimed, parity = divmod(v - 35, 2)
    unsigned = rlp.encode([*fields[:6], claimed.to_bytes((claimed.bit_length() + 7) // 8, "big"), b"", b""])
    nonce, price, gas, to, value, data = fields[:6]
    return _build(
        raw, 0, claimed, chain_id, unsigned, parity, [nonce, price, price, gas, to, value, data, []], fields[7:9]
    )


def _build(
    raw: bytes,
    type_id: int,
    claimed_chain: int,
    chain_id: int,
    unsigned: bytes,
    parity: int,
    fields: list[rlp.Item],
    signature: list[rlp.Item],
) -> Transaction:
    """`fields`: nonce, tip, fee, gas, to, value, data, access list. The signature is recovered last: it costs most."""
    if claimed_chain != chain_id:
        raise InvalidBlock(f"transaction: signed for chain id {claimed_chain}, this is {chain_id}")
    nonce = rlp.to_int(fields[0], "transaction: nonce", 64)
    tip, fee = (rlp.to_int(item, "transaction: fee", 256) for item in fields[1:3])
    gas = rlp.to_int(fields[3], "transaction: gas", 64)
    to, data = rlp.to_bytes(fields[4], "transaction: to"), rlp.to_bytes(fields[6], "transaction: data")
    value = rlp.to_int(fields[5], "transaction: value", 256)
    access_list = _decode_access_list(fields[7])
    if nonce > MAX_NONCE:
        raise InvalidBlock("transaction: nonce above its limit (EIP-2681)")
    if tip > fee:
        raise InvalidBlock("transaction: priority fee above the maximum fee")
    if not to:
        raise InvalidBlock("transaction: creates a contract; nobody deploys on this chain")
    rlp.to_bytes(to, "transaction: to", 20)
    intrinsic = _check_gas(gas, data, access_list)
    r, s = (rlp.to_int(item, "transaction: signature", 256).to_bytes(32, "big") for item in signature)
    sender = recover(keccak256(unsigned), r + s + bytes((min(parity, 255),)))
    return Transaction(
        raw, keccak256(raw), type_id, chain_id, sender, nonce, tip, fee, gas, to, value, data, access_list, intrinsic
    )


def compute_gas_bounds(data: bytes, access_list: AccessList) -> tuple[int, int]:
    """What a transaction pays before it begins, and the least limit that its calldata asks for (EIP-7623)."""
    tokens = 4 * len(data) - 3 * data.count(0)
    keys = sum(len(slots) for _, slots in access_list)
    intrinsic = _GAS_BASE + _GAS_BYTE * tokens + _GAS_ACCESS_ADDRESS * len(access_list) + _GAS_ACCESS_KEY * keys
    return intrinsic, _GAS_BASE + _GAS_FLOOR_TOKEN * tokens


def _check_gas(gas: int, data: bytes, access_list: AccessList) -> int:
    """The intrinsic gas; raises InvalidBlock where the limit does not cover it and the calldata floor."""
    intrinsic, floor = compute_gas_bounds(data, access_list)
    if gas < intrinsic:
        raise InvalidBlock(f"transaction: gas {gas} below the intrinsic {intrinsic}")
    if gas < floor:
        raise InvalidBlock(f"transaction: gas {gas} below the calldata floor {floor} (EIP-7623)")
    return intrinsic


def _decode_access_list(item: rlp.Item) -> AccessList:
    entries = []
    for entry in rlp.to_list(item, "transaction: access list"):
        address, keys = rlp.to_list(entry, "transaction: access list entry", 2)
        slots = [rlp.to_bytes(key, "transaction: access key", 32) for key in rlp.to_list(keys, "transaction: keys")]
        numbers = tuple(int.from_bytes(slot, "big") for slot in slots)
        entries.append((rlp.to_bytes(address, "transaction: access address", 20), numbers))
    return tuple(entries)
