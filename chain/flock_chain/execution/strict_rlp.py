"""RLP, strict and bounded in depth: one value, one encoding. Bytes and lists only; knows nothing of what they mean."""

from collections.abc import Sequence

from flock_chain.errors import InvalidEncoding, Misuse

Item = bytes | list["Item"]

MAX_DEPTH = 6  # block > header, transactions; transaction > access list > entry > keys


def encode(value: object) -> bytes:
    """Bytes, non-negative integers (big-endian without leading zeros), and sequences of these."""
    if isinstance(value, int):
        value = value.to_bytes((value.bit_length() + 7) // 8, "big")
    if isinstance(value, bytes):
        return value if len(value) == 1 and value[0] < 0x80 else _length(len(value), 0x80) + value
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise Misuse(f"rlp: {type(value).__name__} has no encoding")
    return encode_joined([encode(item) for item in value])


def encode_joined(items: Sequence[bytes]) -> bytes:
    """The list of items that are encoded already."""
    payload = b"".join(items)
    return _length(len(payload), 0xC0) + payload


def _length(length: int, offset: int) -> bytes:
    if length < 56:
        return bytes((offset + length,))
    written = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((offset + 55 + len(written),)) + written


def decode(data: bytes) -> Item:
    """Raises InvalidEncoding for anything but the one encoding of one value."""
    item, end = _read(data, 0, len(data), 0)
    if end != len(data):
        raise InvalidEncoding("rlp: bytes after the value")
    return item


def decode_list(data: bytes, what: str, width: int) -> list[Item]:
    """A list of exactly `width` items; raises InvalidEncoding naming `what`."""
    return to_list(decode(data), what, width)


def to_int(item: Item, what: str, bits: int) -> int:
    if not isinstance(item, bytes) or len(item) * 8 > bits or item[:1] == b"\0":
        raise InvalidEncoding(f"{what}: not an integer of {bits} bits without leading zeros")
    return int.from_bytes(item, "big")


def to_list(item: Item, what: str, width: int | None = None) -> list[Item]:
    if not isinstance(item, list) or (width is not None and len(item) != width):
        raise InvalidEncoding(f"{what}: not a list" if width is None else f"{what}: not a list of {width} fields")
    return item


def to_bytes(item: Item, what: str, length: int | None = None) -> bytes:
    if not isinstance(item, bytes) or (length is not None and len(item) != length):
        raise InvalidEncoding(f"{what}: not bytes" if length is None else f"{what}: not {length} bytes")
    return item


def _read(data: bytes, position: int, end: int, depth: int) -> tuple[Item, int]:
    if position >= end:
        raise InvalidEncoding("rlp: value cut short")
    prefix = data[position]
    if prefix < 0x80:
        return data[position : position + 1], position + 1
    is_list = prefix >= 0xC0
    start, stop = _bounds(data, position, end, prefix - (0xC0 if is_list else 0x80))
    if not is_list:
        if stop - start == 1 and data[start] < 0x80:
            raise InvalidEncoding("rlp: a small byte must be its own encoding")
        return data[start:stop], stop
    if depth >= MAX_DEPTH:
        raise InvalidEncoding(f"rlp: nested deeper than {MAX_DEPTH}")
    items: list[Item] = []
    while start < stop:
        item, start = _read(data, start, stop, depth + 1)
        items.append(item)
    return items, stop


def _bounds(data: bytes, position: int, end: int, length: int) -> tuple[int, int]:
    """Start and end of the payload; `length` is the prefix without its kind: below 56 the length itself."""
    start = position + 1
    if length >= 56:
        written = data[start : start + length - 55]
        start += length - 55
        length = int.from_bytes(written, "big")
        if start > end or written[:1] == b"\0" or length < 56:
            raise InvalidEncoding("rlp: length not in its shortest form")
    if start + length > end:
        raise InvalidEncoding("rlp: value longer than its container")
    return start, start + length
