"""Transactions: what we sign and decode is what py-evm says it is; what is malformed is refused."""

import random

import pytest
from eth.vm.forks.cancun.transactions import CancunTransactionBuilder as Builder
from eth_keys import keys
from execution_support import CHAIN_ID, KEYS

from flock_chain.crypto import Key, keccak256
from flock_chain.errors import InvalidBlock, InvalidEncoding, InvalidRemote, InvalidSignature, Misuse
from flock_chain.execution import strict_rlp
from flock_chain.execution.transactions import (
    MAX_TRANSACTION_BYTES,
    SystemTransaction,
    decode_system_transaction,
    decode_transaction,
    sign_call,
)

TO = KEYS[1].account


def signed(**changes: object) -> bytes:
    fields = {"chain_id": CHAIN_ID, "nonce": 0, "to": TO, "gas": 100_000, "fee": 10} | changes
    return sign_call(KEYS[0], **fields)  # type: ignore[arg-type] # each value has its field's type


def test_what_is_signed_here_is_what_pyevm_reads() -> None:
    chance = random.Random(1)
    for _ in range(40):
        access = [(chance.randbytes(20), [chance.getrandbits(256) for _ in range(chance.randrange(3))])] * 2
        raw = sign_call(
            Key(keccak256(chance.randbytes(8))),
            chain_id=CHAIN_ID,
            nonce=chance.choice([0, 1, 127, 128, 2**40]),
            to=chance.randbytes(20),
            data=chance.choice([b"", bytes(200), chance.randbytes(300)]),
            value=chance.choice([0, 1, 10**30]),
            gas=500_000,
            fee=chance.randrange(5, 10**12),
            tip=chance.randrange(5),
            access_list=chance.choice([[], access]),
        )
        ours, theirs = decode_transaction(raw, CHAIN_ID), Builder.decode(raw)
        for name in ("hash", "sender", "nonce", "to", "value", "gas", "data", "intrinsic_gas", "chain_id", "type_id"):
            assert getattr(ours, name) == getattr(theirs, name), name
        assert ours.max_fee_per_gas == theirs.max_fee_per_gas
        assert ours.max_priority_fee_per_gas == theirs.max_priority_fee_per_gas
        assert [tuple(entry) for entry in theirs.access_list] == [tuple(entry) for entry in ours.access_list]


def test_older_types_of_wallets_are_read_as_pyevm_reads_them() -> None:
    signer = keys.PrivateKey(KEYS[0].secret)
    legacy = Builder.create_unsigned_transaction(nonce=3, gas_price=7, gas=60_000, to=TO, value=5, data=b"\1\0")
    listed = Builder.new_unsigned_access_list_transaction(CHAIN_ID, 3, 7, 60_000, TO, 5, b"\1\0", [(TO, [1, 2])])
    for theirs in (legacy.as_signed_transaction(signer, chain_id=CHAIN_ID), listed.as_signed_transaction(signer)):
        ours = decode_transaction(theirs.encode(), CHAIN_ID)
        assert (ours.sender, ours.hash, ours.nonce) == (KEYS[0].account, theirs.hash, 3)
        assert ours.intrinsic_gas == theirs.intrinsic_gas
        assert ours.max_fee_per_gas == ours.max_priority_fee_per_gas == 7


def test_a_transaction_has_one_form() -> None:
    raw = signed(data=b"data", value=3)
    with pytest.raises(InvalidEncoding):
        decode_transaction(raw + b"\0", CHAIN_ID)
    fields = strict_rlp.to_list(strict_rlp.decode(raw[1:]), "test")
    for index in (0, 1, 2, 3, 4, 6, 9, 10, 11):  # a leading zero in any number
        changed = [b"\0" + item if at == index else item for at, item in enumerate(fields)]  # type: ignore[operator]
        with pytest.raises(InvalidRemote):
            decode_transaction(b"\x02" + strict_rlp.encode(changed), CHAIN_ID)
    for bad in ([*fields, b""], fields[:-1], [*fields[:8], b"", *fields[9:]], [[], *fields[1:]]):
        with pytest.raises(InvalidEncoding):
            decode_transaction(b"\x02" + strict_rlp.encode(bad), CHAIN_ID)


def test_the_mirrored_signature_is_refused() -> None:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    fields = strict_rlp.to_list(strict_rlp.decode(signed()[1:]), "test")
    parity, s = strict_rlp.to_int(fields[9], "", 8), strict_rlp.to_int(fields[11], "", 256)
    mirrored = [*fields[:9], 1 - parity, fields[10], order - s]
    with pytest.raises(InvalidSignature):
        decode_transaction(b"\x02" + strict_rlp.encode(mirrored), CHAIN_ID)
    with pytest.raises(InvalidSignature):
        decode_transaction(b"\x02" + strict_rlp.encode([*fields[:9], 2, *fields[10:]]), CHAIN_ID)
    with pytest.raises(InvalidSignature):
        decode_transaction(b"\x02" + strict_rlp.encode([*fields[:10], b"", b""]), CHAIN_ID)


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (b"", "bytes"),
        (bytes(MAX_TRANSACTION_BYTES + 1), "at most"),
        (b"\x03\xc0", "type 0x3"),
        (b"\x04\xc0", "type 0x4"),
        (b"\x7e\xc0", "0x7e"),
        (b"\x00\xc0", "type 0x0"),
        (b"\xc0", "9 fields"),
        (b"\x02\xc0", "12 fields"),
        (b"\x02" + b"\xc1" * 60_000 + b"\xc0", "rlp"),
        (b"\x02\xf9\xff\xff" + b"\xc0" * 100, "rlp"),
    ],
)
def test_bytes_that_are_no_transaction_of_ours_are_refused(raw: bytes, rule: str) -> None:
    with pytest.raises(InvalidRemote, match=rule):
        decode_transaction(raw, CHAIN_ID)


def test_limits_are_named() -> None:
    with pytest.raises(InvalidBlock, match="EIP-2681"):
        decode_transaction(signed(nonce=2**64 - 1), CHAIN_ID)
    with pytest.raises(InvalidBlock, match="intrinsic 21000"):
        decode_transaction(signed(gas=20_999), CHAIN_ID)
    with pytest.raises(InvalidEncoding, match="20 bytes"):
        decode_transaction(with_short_callee(), CHAIN_ID)
    with pytest.raises(Misuse, match="nobody deploys"):
        signed(to=b"")


def with_short_callee() -> bytes:
    fields = strict_rlp.to_list(strict_rlp.decode(signed()[1:]), "test")
    return b"\x02" + strict_rlp.encode([*fields[:5], bytes(19), *fields[6:]])


def test_random_bytes_never_raise_anything_but_our_errors() -> None:
    chance = random.Random(2)
    good = signed(data=b"data", value=3, access_list=[(TO, [1])])
    for _ in range(3_000):
        raw = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        if chance.random() < 0.2:
            del raw[chance.randrange(len(raw)) :]
        try:
            decoded = decode_transaction(bytes(raw), CHAIN_ID)
        except InvalidRemote:
            continue
        assert decoded.raw == raw and (raw == good or decoded.sender != KEYS[0].account)


def test_a_system_transaction_reads_back_and_differs_by_its_place() -> None:
    call = SystemTransaction(CHAIN_ID, 7, 0, TO, 500_000, b"data")
    assert decode_system_transaction(call.raw) == call
    assert SystemTransaction(CHAIN_ID, 8, 0, TO, 500_000, b"data").hash != call.hash
    assert SystemTransaction(CHAIN_ID, 7, 1, TO, 500_000, b"data").hash != call.hash
    with pytest.raises(InvalidEncoding):
        decode_system_transaction(signed())
