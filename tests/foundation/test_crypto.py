"""Hashes, keys and signatures against known vectors and another library."""

import pickle

import pytest
from eth_keys import keys as eth_keys
from hypothesis import given, settings
from hypothesis import strategies as st

from flock_chain.crypto import Key, account_of_public_key, keccak256, recover
from flock_chain.errors import InvalidSignature, Misuse

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
KEY = Key(b"\0" * 31 + b"\1")
DIGEST = keccak256(b"what is signed")
secrets = st.integers(1, ORDER - 1).map(lambda number: number.to_bytes(32, "big"))


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (b"abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
    ],
)
def test_keccak_is_ethereum_s_and_not_the_standard_s_sha3(data, digest):
    assert keccak256(data).hex() == digest


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_hashing_parts_is_hashing_their_concatenation(parts):
    assert keccak256(*parts) == keccak256(b"".join(parts))


def test_known_keys_have_their_known_accounts():
    assert KEY.account.hex() == "7e5f4552091a69125d5dfcb7b8c2659029395bdf"
    assert Key(b"\0" * 31 + b"\2").account.hex() == "2b5ad5c4795c026514f8317c7a215e218dccd6cf"
    uncompressed = KEY.public_key, eth_keys.PrivateKey(KEY.secret).public_key.to_bytes()
    assert account_of_public_key(uncompressed[0]) == account_of_public_key(b"\4" + uncompressed[1]) == KEY.account


@given(secrets, st.binary(min_size=32, max_size=32))
@settings(max_examples=25, deadline=None)
def test_accounts_and_signatures_are_those_of_another_library(secret, digest):
    key, other = Key(secret), eth_keys.PrivateKey(secret)
    assert key.account == other.public_key.to_canonical_address()
    assert key.sign(digest) == other.sign_msg_hash(digest).to_bytes()  # RFC 6979: no chance takes part
    assert recover(digest, key.sign(digest)) == key.account


def test_a_signature_of_another_digest_recovers_somebody_else():
    assert recover(keccak256(b"another"), KEY.sign(DIGEST)) != KEY.account


def test_the_mirrored_signature_is_refused_as_malleable():
    signature = KEY.sign(DIGEST)
    s = ORDER - int.from_bytes(signature[32:64], "big")
    mirrored = signature[:32] + s.to_bytes(32, "big") + bytes([1 - signature[64]])
    with pytest.raises(InvalidSignature, match="upper half"):
        recover(DIGEST, mirrored)


def replace(start: int, piece: bytes) -> bytes:
    signature = KEY.sign(DIGEST)
    return signature[:start] + piece + signature[start + len(piece) :]


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        KEY.sign(DIGEST)[:64],
        KEY.sign(DIGEST) + b"\0",
        replace(64, b"\2"),
        replace(64, b"\x1b"),
        replace(0, bytes(32)),
        replace(32, bytes(32)),
        replace(0, ORDER.to_bytes(32, "big")),
        replace(0, b"\xff" * 32),
        bytes(65),
    ],
)
def test_a_signature_that_is_none_is_refused(signature):
    with pytest.raises(InvalidSignature):
        recover(DIGEST, signature)


@given(st.binary(min_size=65, max_size=65), st.binary(max_size=40))
@settings(deadline=None)
def test_any_bytes_as_a_signature_recover_an_account_or_raise_the_one_error(signature, digest):
    try:
        assert len(recover(digest, signature)) == 20
    except InvalidSignature:
        pass


@pytest.mark.parametrize("secret", [b"", b"\1" * 31, b"\1" * 33, bytes(32), ORDER.to_bytes(32, "big"), b"\xff" * 32])
def test_a_number_that_is_no_secret_is_misuse(secret):
    with pytest.raises(Misuse, match="secret") as caught:
        Key(secret)
    assert secret.hex() == "" or secret.hex() not in str(caught.value)


@pytest.mark.parametrize("digest", [b"", b"\1" * 31, b"\1" * 33])
def test_only_a_digest_is_signed(digest):
    with pytest.raises(Misuse, match="digest"):
        KEY.sign(digest)


def test_a_digest_of_another_length_is_refused():
    with pytest.raises(InvalidSignature):
        recover(b"short", KEY.sign(DIGEST))


@pytest.mark.parametrize(
    "public", [b"", b"\2" + b"\xff" * 32, b"\4" + bytes(64), b"\5" + KEY.public_key[1:], KEY.public_key[1:]]
)
def test_bytes_that_are_no_public_key_are_refused(public):
    with pytest.raises(InvalidSignature, match="point"):
        account_of_public_key(public)


def test_a_key_prints_its_account_and_never_its_secret():
    key = Key(b"\x5e" * 32)
    for text in (repr(key), str(key), f"{key}", f"{[key]}"):
        assert "5e5e5e" not in text and key.account.hex() in text
    with pytest.raises(TypeError):
        pickle.dumps(key)
