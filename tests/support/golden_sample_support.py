"""One sample of a format, for the golden vectors."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """`again`: decodes the bytes and encodes what it found; None where a hash or a struct has nothing to decode."""

    data: bytes
    again: Callable[[bytes], bytes] | None = None
