"""The codec: one value, one encoding; any other bytes are refused with the one error."""

from enum import IntEnum

import msgpack
import pytest
from hexbytes import HexBytes
from hypothesis import given
from hypothesis import strategies as st

from flock_chain import codec
from flock_chain.errors import InvalidEncoding, Misuse

texts = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=40) | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)


@given(values)
def test_a_value_round_trips_through_one_encoding(value):
    data = codec.encode(value)
    assert codec.decode(data) == value
    assert codec.encode(codec.decode(data)) == data


@given(st.dictionaries(texts, st.integers(0, 9), max_size=8))
def test_the_order_of_a_dict_does_not_show(value):
    assert codec.encode(dict(reversed(value.items()))) == codec.encode(value)


@given(st.binary(max_size=60))
def test_any_bytes_decode_canonically_or_raise_the_one_error(data):
    try:
        value = codec.decode(data)
    except InvalidEncoding:
        return
    assert codec.encode(value) == data


@given(values, st.data())
def test_changed_bytes_are_refused_or_mean_something_else(value, choose):
    data = bytearray(codec.encode(value))
    index = choose.draw(st.integers(0, len(data) - 1))
    data[index] ^= choose.draw(st.integers(1, 255))
    try:
        other = codec.decode(bytes(data))
    except InvalidEncoding:
        return
    assert codec.encode(other) == data


def test_known_encodings_stay():
    value = {"b": [1, -1, None, True], "a": b"\x00", "c": "é"}
    assert codec.encode(value).hex() == "83a161c40100a1629401ffc0c3a163a2c3a9"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty", b""),
        ("trailing byte", b"\x01\x00"),
        ("one as uint8", b"\xcc\x01"),
        ("one as int8", b"\xd0\x01"),
        ("one as uint64", b"\xcf" + b"\0" * 7 + b"\x01"),
        ("short string as str8", b"\xd9\x01a"),
        ("short bytes as bin16", b"\xc5\x00\x01a"),
        ("short list as array16", b"\xdc\x00\x01\x01"),
        ("short dict as map16", b"\xde\x00\x01\xa1a\x01"),
        ("dict out of order", b"\x82\xa1b\x01\xa1a\x01"),
        ("duplicate key", b"\x82\xa1a\x01\xa1a\x02"),
        ("integer key", b"\x81\x01\x01"),
        ("bytes key", b"\x81\xc4\x01a\x01"),
        ("list as key", b"\x81\x90\x01"),
        ("float", b"\xca\x3f\x80\x00\x00"),
        ("NaN", b"\xcb\x7f\xf8" + b"\0" * 6),
        ("extension type", b"\xd4\x05\x00"),
        ("timestamp", b"\xd6\xff\x00\x00\x00\x01"),
        ("not UTF-8", b"\xa1\xff"),
        ("a surrogate", b"\xa3\xed\xa0\x80"),
        ("the code that means nothing", b"\xc1"),
        ("list longer than the data", b"\xdd\xff\xff\xff\xff"),
        ("bytes longer than the data", b"\xc6\xff\xff\xff\xff"),
        ("dict longer than the data", b"\xdf\xff\xff\xff\xff"),
        ("deep nesting", b"\x91" * 100_000),
    ],
)
def test_what_is_not_the_canonical_encoding_is_refused(name, data):
    with pytest.raises(InvalidEncoding, match="codec"):
        codec.decode(data)
    assert name


def test_nesting_and_size_bind_at_their_limits():
    def nest(depth: int, *inmost: object) -> object:
        value: object = inmost[0] if inmost else []
        for _ in range(depth):
            value = [value]
        return value

    assert codec.decode(codec.encode(nest(codec.MAX_DEPTH))) == nest(codec.MAX_DEPTH)
    assert codec.decode(codec.encode(nest(codec.MAX_DEPTH, 7))) == nest(codec.MAX_DEPTH, 7)
    for too_deep in (nest(codec.MAX_DEPTH + 1), nest(codec.MAX_DEPTH + 1, 7)):
        with pytest.raises(Misuse, match="nesting"):
            codec.encode(too_deep)
        with pytest.raises(InvalidEncoding, match="nesting"):
            codec.decode(msgpack.packb(too_deep))
    data = codec.encode(b"\0" * 95)
    assert codec.decode(data, limit=97)
    with pytest.raises(InvalidEncoding, match="at most 96"):
        codec.decode(data, limit=96)


@pytest.mark.parametrize(
    "value", [1.0, {1: 2}, {b"a": 1}, {1, 2}, 2**64, -(2**63) - 1, object(), bytearray(b"a"), "\ud800"]
)
def test_a_value_without_a_canonical_encoding_is_misuse(value):
    with pytest.raises(Misuse):
        codec.encode(value)


class Number(IntEnum):
    ONE = 1


class Name(str):
    __slots__ = ()


def test_a_value_of_a_class_of_its_own_encodes_as_what_it_is():
    named = codec.encode([Number.ONE, Name("a"), {Name("b"): HexBytes(b"c")}])
    assert named == codec.encode([1, "a", {"b": b"c"}]) and codec.decode(named) == [1, "a", {"b": b"c"}]


def test_tuples_encode_as_lists():
    assert codec.decode(codec.encode((1, (2, 3)))) == [1, [2, 3]]


def test_a_message_of_too_many_values_is_refused_before_they_are_all_looked_at():
    most = [[None] * (codec.MAX_VALUES // 2 - 1), {str(key): key for key in range(codec.MAX_VALUES // 4)}, None]
    most[0].pop()  # the three themselves
    most[0].pop()
    assert codec.decode(codec.encode(most)) == most
    for one_more in ([*most, None], [[*most[0], None], *most[1:]], [most[0], most[1] | {"x": 1}, None]):
        with pytest.raises(Misuse, match="more than 65536 values"):
            codec.encode(one_more)
        with pytest.raises(InvalidEncoding, match="more than 65536 values"):
            codec.decode(msgpack.packb(one_more))
