"""Delta and global adapter files: one vector, one file; everything else is refused by name of the check."""

import json
import struct

import numpy as np
import pytest
from aggregation_support import FORMAT, SMALL, TINY, make_adapter, make_delta
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from flock_chain import codec
from flock_chain.aggregation import (
    GRID_LIMIT,
    Format,
    Layout,
    compute_delta_file_bytes,
    compute_global_file_bytes,
    encode_delta,
    encode_global,
    parse_delta,
    parse_global,
)
from flock_chain.aggregation.tensor_file import MAX_HEADER_BYTES, TensorSpec, encode_tensors
from flock_chain.content import compute_chunk_list, split_chunks
from flock_chain.errors import InvalidContent, InvalidEncoding, Misuse

DELTA = encode_delta(make_delta(TINY, 1))
ADAPTER = encode_global(make_adapter(TINY))


def parse(data: bytes) -> None:
    parse_delta(data, TINY, FORMAT)


def split(data: bytes) -> tuple[dict, bytes]:
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(header: object, payload: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + payload


def with_blocks(mantissas: list[list[int]], exponents: list[int]) -> bytes:
    tensors = {"w.m": np.array(mantissas, np.int8), "w.k": np.array(exponents, np.uint8)}
    return encode_tensors(tensors, [TensorSpec("w.m", "I8", (2, 32)), TensorSpec("w.k", "U8", (2,))])


def test_the_safetensors_library_reads_the_same_tensors():
    delta, adapter = make_delta(SMALL, 4), make_adapter(SMALL)
    tensors, first = load(encode_delta(delta)), 0
    for (name, _), blocks in zip(SMALL.tensors, SMALL.block_counts(32), strict=True):
        assert (tensors.pop(f"{name}.m") == delta.mantissas[first : first + blocks]).all()
        assert (tensors.pop(f"{name}.k") == delta.exponents[first : first + blocks]).all()
        first += blocks
    assert not tensors
    tensors = load(encode_global(adapter))
    assert {name: array.shape for name, array in tensors.items()} == dict(SMALL.tensors)
    assert np.concatenate([tensors[name].reshape(-1) for name, _ in SMALL.tensors]).tolist() == adapter.grid.tolist()


def test_files_round_trip_and_have_the_size_that_the_layout_foretells():
    for layout in (SMALL, TINY, Layout.of({"a": (1,), "a.b": (1, 1), "a.k": (2,), "a.m": (31,)})):
        delta, adapter = encode_delta(make_delta(layout, 2)), encode_global(make_adapter(layout, 2))
        assert encode_delta(parse_delta(delta, layout, FORMAT)) == delta
        assert encode_global(parse_global(adapter, layout, FORMAT)) == adapter
        assert len(delta) == compute_delta_file_bytes(layout, FORMAT)
        assert len(adapter) == compute_global_file_bytes(layout)
        assert len(adapter) % 8 == 0  # the header is padded, so that every int64 is aligned


def test_a_flipped_bit_is_refused_or_is_another_delta_with_another_id():
    accepted = 0
    for index in range(len(DELTA)):
        for bit in range(8):
            data = bytearray(DELTA)
            data[index] ^= 1 << bit
            try:
                delta = parse_delta(bytes(data), TINY, FORMAT)
            except InvalidContent:
                continue
            accepted += 1
            assert encode_delta(delta) == data
            assert compute_chunk_list(split_chunks(bytes(data))) != compute_chunk_list(split_chunks(DELTA))
    assert accepted > 40  # most mantissa bits say something


@given(st.integers(0, len(DELTA)), st.binary(max_size=40), st.integers(0, 40))
@settings(max_examples=300, deadline=None)
def test_a_spliced_file_is_refused_with_the_one_error_or_is_canonical(start, piece, removed):
    data = DELTA[:start] + piece + DELTA[start + removed :]
    try:
        delta = parse_delta(data, TINY, FORMAT)
    except InvalidContent as error:
        assert len(str(error)) < 400
    else:
        assert encode_delta(delta) == data


@given(st.binary(max_size=200))
def test_any_bytes_as_a_header_are_refused_with_the_one_error(text):
    for data in (text, struct.pack("<Q", len(text)) + text, struct.pack("<Q", len(text)) + text + DELTA):
        with pytest.raises(InvalidContent):
            parse(data)
        with pytest.raises(InvalidContent):
            parse_global(data, TINY, FORMAT)


@pytest.mark.parametrize(
    ("length", "check"),
    [
        (0, "no JSON"),
        (len(DELTA), "past the end"),
        (MAX_HEADER_BYTES + 1, "at most"),
        (2**63, "at most"),
        (2**64 - 1, "at most"),
    ],
)
def test_a_lying_header_length_is_refused(length, check):
    with pytest.raises(InvalidContent, match=check):
        parse(struct.pack("<Q", length) + DELTA[8:])


def test_a_file_shorter_than_a_header_length_is_refused():
    for size in range(8):
        with pytest.raises(InvalidContent, match="shorter"):
            parse(DELTA[:size])


def change_header(change) -> bytes:
    header, payload = split(DELTA)
    change(header)
    return join(header, payload)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda h: h.update(__metadata__={"a": "b"}), "metadata"),
        (lambda h: h.update(x={"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}), "names differ"),
        (lambda h: h.pop("w.k"), "names differ"),
        (lambda h: h.update({"v.k": h.pop("w.k")}), "names differ"),
        (lambda h: h["w.m"].update(dtype="U8"), "dtype of w.m"),
        (lambda h: h["w.m"].update(dtype="F32"), "dtype of w.m"),
        (lambda h: h["w.m"].update(shape=[64]), "shape of w.m"),
        (lambda h: h["w.m"].update(shape=[1, 64]), "shape of w.m"),
        (lambda h: h["w.m"].update(shape="x" * 10_000), "shape of w.m"),
        (lambda h: h["w.m"].update(data_offsets=[0, 64]), "data_offsets of w.m"),
        (lambda h: h["w.k"].update(data_offsets=[-2, 0]), "data_offsets of w.k"),
        (lambda h: h["w.k"].update(data_offsets=[0, 2**64]), "data_offsets of w.k"),
        (lambda h: h["w.m"].update(data_offsets=[2, 2.5]), "data_offsets of w.m"),
        (lambda h: h["w.m"].update(comment=1), "header entry"),
        (lambda h: h["w.m"].pop("dtype"), "header entry"),
        (lambda h: h.update({"w.m": None}), "header entry"),
        (lambda h: h["w.m"].update(data_offsets=[2.0, 66.0]), "not canonical"),
    ],
)
def test_a_hostile_header_is_refused_by_name_of_the_check(change, check):
    with pytest.raises(InvalidContent, match=check) as caught:
        parse(change_header(change))
    assert len(str(caught.value)) < 300


def test_another_spelling_of_the_same_header_is_refused():
    header, payload = split(DELTA)
    reordered = dict(reversed(header.items()))
    for text in (
        json.dumps(header, sort_keys=True).encode(),
        json.dumps(reordered, separators=(",", ":")).encode(),
        json.dumps(header, sort_keys=True, separators=(",", ":")).encode() + b" " * 64,
        json.dumps(header, sort_keys=True, separators=(",", ":")).replace("w.m", "w\\u002em").encode(),
    ):
        with pytest.raises(InvalidContent, match="not canonical"):
            parse(join(text, payload))


def test_duplicate_names_deep_nesting_and_giant_numbers_are_refused():
    header, payload = split(DELTA)
    entry = json.dumps(header["w.m"])
    for text in (
        f'{{"w.m":{entry},"w.m":{entry},"w.k":{json.dumps(header["w.k"])}}}'.encode(),
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"a":' + b"9" * 10_000 + b"}",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"NaN",
    ):
        with pytest.raises(InvalidContent, match="JSON"):
            parse(join(text, payload))


def test_bytes_left_over_or_missing_are_refused():
    for data in (DELTA + b"\0", DELTA[:-1], DELTA + DELTA):
        with pytest.raises(InvalidContent, match="bytes of tensors, exactly 66 expected"):
            parse(data)
    with pytest.raises(InvalidContent, match="bytes of tensors"):
        parse_global(ADAPTER[:-8], TINY, FORMAT)


GOOD = [64] + [1] * 31
TAIL = [100] + [0] * 31  # TINY's second block holds 8 parameters


@pytest.mark.parametrize(
    ("mantissas", "exponents", "check"),
    [
        ([[-128] + [1] * 31, TAIL], [3, 0], "mantissa"),
        ([GOOD, TAIL], [16, 0], "window"),
        ([GOOD, TAIL], [3, 255], "window"),
        ([[63] * 32, TAIL], [3, 0], "smallest"),
        ([[-63] * 32, TAIL], [1, 0], "smallest"),
        ([[0] * 32, TAIL], [3, 0], "smallest"),
        ([GOOD, [100] + [0] * 7 + [1] + [0] * 23], [3, 0], "padding"),
        ([GOOD, [100] + [0] * 30 + [-1]], [3, 0], "padding"),
    ],
)
def test_blocks_that_are_not_canonical_are_refused_by_name_of_the_check(mantissas, exponents, check):
    parse(with_blocks([GOOD, TAIL], [3, 0]))
    with pytest.raises(InvalidContent, match=check):
        parse(with_blocks(mantissas, exponents))


FOUR = Format.of_bits(4)
PACKED = {"k": np.array([0x03], np.uint8), "m": np.zeros((2, 16), np.uint8)}


def packed(**changes) -> bytes:
    """TINY's two blocks: 4, -7, then zeros with the exponent 3; and one number of the second."""
    tensors = {name: array.copy() for name, array in PACKED.items()}
    tensors["m"][0, 0], tensors["m"][1, 0] = 0x94, 0x07
    for name, (place, value) in changes.items():
        tensors[name][place] = value
    return encode_tensors(tensors, [TensorSpec("k", "U8", (1,)), TensorSpec("m", "U8", (2, 16))])


def test_a_packed_file_holds_two_numbers_in_a_byte_and_exponents_too():
    delta = parse_delta(packed(), TINY, FOUR)
    assert delta.mantissas[0, :3].tolist() == [4, -7, 0] and delta.mantissas[1, :2].tolist() == [7, 0]
    assert delta.exponents.tolist() == [3, 0]
    assert encode_delta(delta) == packed()
    assert load(packed())["m"].shape == (2, 16)
    for layout in (SMALL, TINY, Layout.of({"k": (1,), "m": (65,)})):
        data = encode_delta(make_delta(layout, 3, format=FOUR))
        assert len(data) == compute_delta_file_bytes(layout, FOUR)
        assert encode_delta(parse_delta(data, layout, FOUR)) == data


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"m": ((0, 5), 0x80)}, "mantissa of w is outside -7..7"),  # -8
        ({"m": ((0, 0), 0x03)}, "exponent of w is not the smallest"),
        ({"m": ((0, 0), 0x0D)}, "exponent of w is not the smallest"),  # -3
        ({"m": ((1, 4), 0x01)}, "padding of w is not zero"),
        ({"m": ((1, 15), 0x10)}, "padding of w is not zero"),
    ],
)
def test_packed_blocks_that_are_not_canonical_are_refused(changes, check):
    with pytest.raises(InvalidContent, match=check):
        parse_delta(packed(**changes), TINY, FOUR)


def test_packed_exponents_stay_in_the_window_and_no_half_byte_stands_for_nothing():
    with pytest.raises(InvalidContent, match="above the window of 2"):
        parse_delta(packed(), TINY, Format(bits=4, elo=-20, window=2))
    odd = Layout.of({"w": (7,)})
    data = encode_delta(make_delta(odd, 1, format=FOUR))
    place = len(data) - 16 - 1
    assert data[place] < 16
    with pytest.raises(InvalidContent, match="padding of the exponents"):
        parse_delta(data[:place] + bytes([data[place] | 0x10]) + data[place + 1 :], odd, FOUR)
    nothing = encode_tensors(
        PACKED | {"k": np.zeros(1, np.uint8)}, [TensorSpec("k", "U8", (1,)), TensorSpec("m", "U8", (2, 16))]
    )
    with pytest.raises(InvalidContent, match="zero norm"):
        parse_delta(nothing, TINY, FOUR)
    with pytest.raises(InvalidContent, match="names differ"):
        parse_delta(DELTA, TINY, FOUR)


def test_a_packed_file_takes_a_seventh_and_a_half_of_float32_even_of_a_small_adapter():
    layout = Layout.of({f"{n}.lora_{part}": (8, 128) for n in range(29) for part in "AB"})  # 59,392 numbers
    assert 4 * layout.parameters / compute_delta_file_bytes(layout, FOUR) > 7.5


def test_a_delta_of_zeros_is_refused():
    with pytest.raises(InvalidContent, match="zero norm"):
        parse(with_blocks([[0] * 32] * 2, [0, 0]))


def test_a_window_of_the_task_narrower_than_the_file_s_is_refused():
    with pytest.raises(InvalidContent, match="window of 2"):
        parse_delta(with_blocks([[64] * 32, [0] * 32], [3, 0]), TINY, Format(window=2))


@pytest.mark.parametrize("value", [GRID_LIMIT, -GRID_LIMIT, 2**63 - 1, -(2**63)])
def test_a_global_weight_off_the_grid_is_refused(value):
    data = ADAPTER[:-8] + struct.pack("<q", value)
    with pytest.raises(InvalidContent, match="leaves the grid"):
        parse_global(data, TINY, FORMAT)
    largest = ADAPTER[:-8] + struct.pack("<q", GRID_LIMIT - 1)
    assert encode_global(parse_global(largest, TINY, FORMAT)) == largest


def test_a_delta_is_no_global_adapter_and_not_of_another_task():
    for data, layout in ((ADAPTER, TINY), (DELTA, SMALL)):
        with pytest.raises(InvalidContent, match="names differ"):
            parse_delta(data, layout, FORMAT)
    with pytest.raises(InvalidContent, match="names differ"):
        parse_global(DELTA, TINY, FORMAT)
    with pytest.raises(InvalidContent, match="shape of w"):
        parse_global(ADAPTER, Layout.of({"w": (5, 8)}), FORMAT)


def test_the_writer_refuses_an_array_of_another_dtype_or_shape():
    spec = [TensorSpec("a", "I8", (2, 3))]
    transposed = np.arange(6, dtype=np.int8).reshape(3, 2).T
    assert load(encode_tensors({"a": transposed}, spec))["a"].tolist() == transposed.tolist()
    for array in (np.zeros((2, 3), np.int16), np.zeros((3, 2), np.int8)):
        with pytest.raises(Misuse):
            encode_tensors({"a": array}, spec)


def test_layouts_and_formats_round_trip_through_the_task_document():
    for layout in (SMALL, TINY):
        assert Layout.from_dict(codec.decode(codec.encode(layout.to_dict()))) == layout
    assert Format.from_dict(codec.decode(codec.encode(FORMAT.to_dict()))) == FORMAT
    twice = Format(server_lr_thousandths=2_000)
    assert Format.from_dict(codec.decode(codec.encode(twice.to_dict()))) == twice


@pytest.mark.parametrize(
    "rows",
    [
        [],
        None,
        "ab",
        [["b", [1]], ["a", [1]]],
        [["a", [1]], ["a", [1]]],
        [["a", []]],
        [["a", [0]]],
        [["a", [-1]]],
        [["a", [True]]],
        [["a", [1.5]]],
        [["a", [1] * 5]],
        [["a", 1]],
        [["a"]],
        [["", [1]]],
        [["a b", [1]]],
        [["é", [1]]],
        [["a\n", [1]]],
        [["x" * 161, [1]]],
        [[1, [1]]],
        [["a", [2**31]]],
        [["a", [2**20, 2**20]]],
        [["a", [2**30]], ["b", [1]]],
        [["a", [1]]] * 5_000,
    ],
)
def test_a_layout_that_is_not_well_formed_is_refused(rows):
    with pytest.raises(InvalidEncoding, match="layout"):
        Layout.from_dict({"tensors": rows})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bits", 2),
        ("bits", 16),
        ("block", 16),
        ("elo", 1),
        ("elo", -41),
        ("window", 16),
        ("window", -1),
        ("bits", 8.0),
        ("extra", 1),
        ("server_lr_thousandths", 1_000),  # of a rate of one nothing is said
        ("server_lr_thousandths", 99),
        ("server_lr_thousandths", 4_001),
        ("server_lr_thousandths", 2_000.0),
        ("server_lr_thousandths", True),
    ],
)
def test_a_format_that_is_not_supported_is_refused(field, value):
    with pytest.raises(InvalidEncoding, match="format"):
        Format.from_dict({**FORMAT.to_dict(), field: value})
    with pytest.raises(InvalidEncoding):
        Format.from_dict([])


def test_tensors_flatten_in_name_order_and_split_back():
    tensors = {name: np.full(shape, index, np.float32) for index, (name, shape) in enumerate(SMALL.tensors)}
    vector = SMALL.flatten(dict(reversed(tensors.items())))
    assert vector.tolist() == [float(i) for i, size in enumerate(SMALL.sizes) for _ in range(size)]
    again = SMALL.split(vector)
    assert list(again) == sorted(again)
    assert all((again[name] == tensors[name]).all() for name in tensors)
    for bad in (
        {**tensors, "more": tensors["z"]},
        {**tensors, "z": tensors["z"].astype(np.float64)},
        {**tensors, "z": tensors["z"].reshape(-1)},
    ):
        with pytest.raises(Misuse):
            SMALL.flatten(bad)
    with pytest.raises(Misuse):
        SMALL.split(vector[1:])
