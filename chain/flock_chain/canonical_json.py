"""Documents that people exchange and pin by their hash: JSON of one form, sorted, without spaces, ASCII. No schema."""

import json
from collections.abc import Mapping
from typing import Any

from flock_chain.bounded_json import loads
from flock_chain.errors import InvalidEncoding


def encode(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def decode(data: bytes, what: str, *, max_bytes: int, depth: int) -> Any:
    """Any JSON within the bounds, canonical or not; raises InvalidEncoding naming `what`."""
    if len(data) > max_bytes:
        raise InvalidEncoding(f"{what}: larger than {max_bytes} bytes")
    try:
        return loads(data, depth=depth)
    except ValueError as error:
        raise InvalidEncoding(f"{what}: not JSON") from error


def check_form(data: bytes, encoded: bytes, what: str) -> None:
    """`encoded`: what the parsed document encodes to; raises InvalidEncoding where that is not where it came from."""
    if encoded != data:
        raise InvalidEncoding(f"{what}: not the canonical form (order, spaces, duplicates, case)")


def parse_hex(text: object, length: int, what: str) -> bytes:
    """`what` names the document and the field."""
    try:
        value = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        value = b""
    if len(value) != length:
        raise InvalidEncoding(f"{what} is not {length} bytes in hex")
    return value
