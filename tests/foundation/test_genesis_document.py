"""Genesis and parameters: one document, one hash; anything else is refused by name."""

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flock_chain.crypto import keccak256
from flock_chain.errors import InvalidEncoding
from flock_chain.genesis import MAX_GENESIS_BYTES, Genesis, GenesisValidator, decode_genesis
from flock_chain.parameters import DEFAULT, DEMO, TABLE, Parameters, parse_parameters

GENESIS = Genesis(
    network="test",
    chain_id=7_357,
    timestamp=1_700_000_000,
    parameters=DEMO,
    accounts=((b"\1" * 20, 10**18), (b"\2" * 20, 0)),
    validators=(GenesisValidator(b"\1" * 20, 32 * 10**18, b"\3" * 32), GenesisValidator(b"\2" * 20, 5, b"\4" * 32)),
    contracts=(("Beacon", b"\5" * 32), ("TaskBoard", b"\6" * 32)),
)


def document() -> dict:
    return json.loads(GENESIS.encode())


def dump(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def test_a_genesis_document_round_trips_and_its_hash_is_of_its_bytes():
    data = GENESIS.encode()
    assert decode_genesis(data) == GENESIS
    assert dump(document()) == data
    assert GENESIS.hash == keccak256(data)


def test_every_change_of_a_value_changes_the_hash():
    hashes = {GENESIS.hash}
    for change in (
        {"network": "other"},
        {"chain_id": 1},
        {"timestamp": 1},
        {"accounts": []},
        {"validators": document()["validators"][:1]},
        {"contracts": {}},
        {"parameters": {**document()["parameters"], "base_fee": 2}},
    ):
        hashes.add(decode_genesis(dump({**document(), **change})).hash)
    assert len(hashes) == 8


ROW = ["01" * 20, "5", "03" * 32]


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"format": 1}, "format 1, this release reads format 2"),
        ({"format": 3}, "format 3, this release reads format 2"),
        ({"extra": 1}, "format 2"),
        ({"format": True}, "format 2"),
        ({"format": 2.0}, "canonical"),
        ({"network": ""}, "network"),
        ({"network": "x" * 65}, "network"),
        ({"network": 5}, "network"),
        ({"network": "a\ud800"}, "network"),
        ({"network": "a\nb"}, "network"),
        ({"chain_id": 0}, "chain_id"),
        ({"chain_id": True}, "chain_id"),
        ({"chain_id": "1"}, "chain_id"),
        ({"chain_id": 2**53}, "chain_id"),
        ({"timestamp": 1.5}, "timestamp"),
        ({"timestamp": -1}, "timestamp"),
        ({"parameters": []}, "objects"),
        ({"contracts": []}, "objects"),
        ({"contracts": {"Beacon": "05" * 31}}, "Beacon"),
        ({"contracts": {"Beacon": "zz" * 32}}, "Beacon"),
        ({"contracts": {"Beacon": None}}, "Beacon"),
        ({"accounts": {}}, "rows"),
        ({"accounts": [["01" * 20]]}, "rows of 2"),
        ({"accounts": ["ab"]}, "rows of 2"),
        ({"accounts": [["01" * 19, "1"]]}, "account"),
        ({"accounts": [["0x" + "01" * 20, "1"]]}, "account"),
        ({"accounts": [["01" * 20, 1]]}, "wei"),
        ({"accounts": [["01" * 20, "-1"]]}, "wei"),
        ({"accounts": [["01" * 20, "1e5"]]}, "wei"),
        ({"accounts": [["01" * 20, "²"]]}, "wei"),
        ({"accounts": [["01" * 20, str(2**128)]]}, "2\\^128"),
        ({"accounts": [["01" * 20, str(2**127)], ["02" * 20, str(2**127)]]}, "together are above 2\\^128"),
        ({"accounts": [["01" * 20, "1" * 5_000]]}, "wei"),
        ({"accounts": [["01" * 20, "01"]]}, "canonical"),
        ({"accounts": [["AB" * 20, "1"]]}, "canonical"),
        ({"accounts": [["01 " * 20, "1"]]}, "canonical"),
        ({"accounts": [["02" * 20, "1"], ["01" * 20, "1"]]}, "sorted"),
        ({"accounts": [["01" * 20, "1"], ["01" * 20, "1"]]}, "sorted"),
        ({"validators": []}, "validator"),
        ({"validators": [ROW, ROW]}, "sorted"),
        ({"validators": [ROW[:2]]}, "rows of 3"),
        ({"validators": [[*ROW[:2], "03" * 33]]}, "vrf key"),
    ],
)
def test_a_wrong_value_is_refused_by_name(change, check):
    with pytest.raises(InvalidEncoding, match=check):
        decode_genesis(dump({**document(), **change}))


@pytest.mark.parametrize("name", sorted(document()))
def test_a_document_without_a_part_is_refused(name):
    parts = document()
    del parts[name]
    with pytest.raises(InvalidEncoding):
        decode_genesis(dump(parts))


def test_another_spelling_of_the_same_document_is_refused():
    data = GENESIS.encode()
    for other in (
        json.dumps(document(), sort_keys=True).encode(),
        json.dumps(dict(reversed(document().items())), separators=(",", ":")).encode(),
        data + b"\n",
        b" " + data,
        data.replace(b'"network":"test"', b'"network":"t\\u0065st"'),
        data.replace(b'"network":"test"', b'"network":"other","network":"test"'),
        data.decode().encode("utf-16"),
    ):
        with pytest.raises(InvalidEncoding):
            decode_genesis(other)


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"\xff", b"[" * 100_000, b"9" * 5_000, b" " * (MAX_GENESIS_BYTES + 1)]
)
def test_what_is_no_document_is_refused_with_the_one_error(data):
    with pytest.raises(InvalidEncoding, match="genesis"):
        decode_genesis(data)


@given(st.integers(0, len(GENESIS.encode()) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_is_another_genesis(index, change):
    data = bytearray(GENESIS.encode())
    data[index] ^= change
    try:
        other = decode_genesis(bytes(data))
    except InvalidEncoding:
        return
    assert other != GENESIS and other.encode() == data


def test_the_table_and_the_parameters_name_the_same_things_and_are_in_range():
    assert [row.name for row in TABLE] == [field.name for field in fields(Parameters)]
    assert all(row.low <= row.default <= row.high and row.low <= row.demo <= row.high for row in TABLE)
    assert all(row.unit and row.reason for row in TABLE)
    assert parse_parameters(DEFAULT.to_dict()) == DEFAULT


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_parameter_out_of_range_of_the_wrong_type_or_missing_is_refused(row):
    values = DEMO.to_dict()
    assert parse_parameters({**values, row.name: row.low}) and parse_parameters({**values, row.name: row.high})
    for bad in (row.low - 1, row.high + 1, True, str(row.demo), None, float(row.demo)):
        with pytest.raises(InvalidEncoding, match=row.name):
            parse_parameters({**values, row.name: bad})
    del values[row.name]
    with pytest.raises(InvalidEncoding, match=row.name):
        parse_parameters(values)
    with pytest.raises(InvalidEncoding, match="unknown"):
        parse_parameters({**DEMO.to_dict(), "unknown": 1})
