"""The manifest's strictness and the commitments against eth_abi, which is not what computes them."""

import pytest
from eth_abi import encode as abi_encode
from hypothesis import given
from hypothesis import strategies as st

from flock_chain import codec
from flock_chain.crypto import keccak256
from flock_chain.errors import InvalidEncoding, Misuse
from flock_chain.proposal import (
    MAX_COUNT,
    MAX_DELTA_BYTES,
    MAX_ID,
    Manifest,
    compute_proposal_commitment,
    compute_score_commitment,
    decode_manifest,
)

MANIFEST = Manifest(
    chain=bytes(range(32)),
    task=3,
    round=7,
    account=b"\x11" * 20,
    parent=b"\x22" * 32,
    delta=b"\x33" * 32,
    delta_bytes=1_234_567,
    steps=80,
    tokens=163_840,
)
uints = st.integers(0, 2**256 - 1)
addresses = st.binary(min_size=20, max_size=20)
words = st.binary(min_size=32, max_size=32)
HEAD = ["uint256", "address", "uint256", "uint256", "address"]


def fields() -> dict:
    return codec.decode(MANIFEST.encode())


def test_a_manifest_round_trips_and_has_a_known_digest():
    data = MANIFEST.encode()
    assert decode_manifest(data) == MANIFEST
    assert keccak256(data).hex() == GOLDEN


GOLDEN = "9831e2b983817ebe0fd0d292ce1040dfa9ba1b8f2482d2518ecf50e4a60dbfc3"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("format", True),
        ("format", None),
        ("chain", b"\0" * 31),
        ("chain", "0" * 32),
        ("account", b"\0" * 21),
        ("parent", b""),
        ("delta", None),
        ("task", 0),
        ("task", MAX_ID + 1),
        ("task", True),
        ("round", -1),
        ("round", "1"),
        ("delta_bytes", 0),
        ("delta_bytes", MAX_DELTA_BYTES + 1),
        ("steps", 0),
        ("steps", MAX_COUNT + 1),
        ("tokens", -5),
        ("note", "free text"),
    ],
)
def test_a_manifest_with_a_wrong_field_is_refused_by_name(field, value):
    with pytest.raises(InvalidEncoding, match=f"manifest.*{field}"):
        decode_manifest(codec.encode({**fields(), field: value}))


@pytest.mark.parametrize("name", sorted(fields()))
def test_a_manifest_without_a_field_is_refused(name):
    document = fields()
    del document[name]
    with pytest.raises(InvalidEncoding, match="manifest"):
        decode_manifest(codec.encode(document))


def test_a_manifest_that_is_not_canonical_or_too_long_is_refused():
    data = MANIFEST.encode()
    for bad in (data + b"\0", data[:-1], b"", codec.encode([]), codec.encode({**fields(), "x": b"\0" * 2_000})):
        with pytest.raises(InvalidEncoding):
            decode_manifest(bad)


@given(uints, addresses, uints, uints, addresses, words, words)
def test_a_proposal_s_commitment_equals_the_contract_s_packing(chain_id, board, task, round, account, manifest, salt):
    packed = abi_encode([*HEAD, "bytes32", "bytes32"], [chain_id, board, task, round, account, manifest, salt])
    result = compute_proposal_commitment(chain_id, board, task, round, account, manifest, salt)
    assert result == keccak256(packed)


@given(
    uints,
    addresses,
    uints,
    uints,
    addresses,
    st.lists(st.integers(-(2**255), 2**255 - 1), min_size=16, max_size=16),
    st.lists(uints, min_size=16, max_size=16),
    words,
)
def test_a_score_commitment_equals_the_contract_s_packing(chain_id, board, task, round, account, scores, filters, salt):
    values = [chain_id, board, task, round, account, scores, filters, salt]
    packed = abi_encode([*HEAD, "int256[16]", "uint256[16]", "bytes32"], values)
    result = compute_score_commitment(chain_id, board, task, round, account, scores, filters, salt)
    assert result == keccak256(packed)


def test_a_commitment_changes_with_every_part():
    parts = [1, b"\1" * 20, 2, 3, b"\2" * 20, b"\3" * 32, b"\4" * 32]
    others = [2, b"\5" * 20, 3, 4, b"\6" * 20, b"\7" * 32, b"\x08" * 32]
    digests = {compute_proposal_commitment(*parts)}
    for index, other in enumerate(others):
        digests.add(compute_proposal_commitment(*parts[:index], other, *parts[index + 1 :]))
    assert len(digests) == 8


def test_a_part_of_the_wrong_size_is_misuse():
    good = (1, b"\1" * 20, 2, 3, b"\2" * 20)
    for call in (
        lambda: compute_proposal_commitment(*good, b"\3" * 31, b"\4" * 32),
        lambda: compute_proposal_commitment(*good, b"\3" * 32, b"\4" * 33),
        lambda: compute_proposal_commitment(-1, *good[1:], b"\3" * 32, b"\4" * 32),
        lambda: compute_proposal_commitment(1, b"\1" * 32, *good[2:], b"\3" * 32, b"\4" * 32),
        lambda: compute_score_commitment(*good, [0] * 15, [0] * 16, b"\4" * 32),
        lambda: compute_score_commitment(*good, [2**255] + [0] * 15, [0] * 16, b"\4" * 32),
        lambda: compute_score_commitment(*good, [0] * 16, [-1] + [0] * 15, b"\4" * 32),
    ):
        with pytest.raises(Misuse, match="commitment"):
            call()
