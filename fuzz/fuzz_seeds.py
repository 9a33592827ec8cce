"""Where the seeds come from: the golden vectors, one of every format that peers exchange."""

import json
from functools import cache
from pathlib import Path

_GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"


@cache
def _load(group: str) -> dict[str, str]:
    vectors: dict[str, str] = json.loads((_GOLDEN / f"{group}.json").read_text())
    return vectors


def golden(group: str, *names: str) -> list[bytes]:
    return [bytes.fromhex(_load(group)[name]) for name in names]
