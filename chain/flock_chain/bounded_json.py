"""JSON from strangers: the nesting is bounded before the parser sees it. Knows no schema.

The C parser recurses, and only the interpreter's recursion limit stops it; py-evm raises that limit to 100,000, far
above what a thread's stack holds. So a header of brackets would end the process, where an exception was meant.
"""

import json
import re
from collections.abc import Callable
from typing import Any

# A string that is not closed ends with the data, and nothing is ever given back: else each quote would be a new start,
# and time would grow with the square of the length (a day for a header of 4 MiB).
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def loads(data: bytes, *, depth: int, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Parse UTF-8 JSON of at most `depth` nested arrays and objects; raises ValueError for anything else."""
    level = 0
    for found in _STRING_OR_BRACKET.finditer(data):
        kind = found[0][:1]
        if kind in b"[{":
            level += 1
            if level > depth:
                raise ValueError(f"nested deeper than {depth}")
        elif kind in b"]}":
            level -= 1
    return json.loads(data.decode(), object_pairs_hook=pairs)
