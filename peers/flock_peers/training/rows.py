"""Private data: built-in rows or a JSONL file, split once into training and hold-out. Needs no torch or tokenizer.

A row is `{"text": ...}`, `{"prompt": ..., "completion": ...}` or `{"messages": [{"role": ..., "content": ...}, ...]}`.
"""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from flock_chain.bounded_json import loads
from flock_chain.errors import InvalidContent, Misuse
from flock_peers.home import write_private
from flock_peers.training.domains import private_rows

MAX_LINE_BYTES = 1 << 20  # a row longer than this fits no context
MAX_DEPTH = 64  # of a row: three would do, but others may carry along what they like
MAX_ROWS = 1_000_000  # rows are held in memory
MIN_USABLE_ROWS = 4  # at least one for the hold-out and three to train on
HOLD_OUT_PERCENT = 20
_SHAPES = 'a row is {"text": ...}, {"prompt": ..., "completion": ...} or {"messages": [...]}'


@dataclass(frozen=True)
class Row:
    """A prompt carries no loss; messages, where there are any, replace both texts."""

    prompt: str
    completion: str
    messages: tuple[tuple[str, str], ...] = ()  # (role, content)


@dataclass(frozen=True)
class Split:
    train: list[Row]
    hold_out: list[Row]


def builtin_rows(domain: str, index: int) -> list[Row]:
    return [Row("", text) for text in private_rows(domain, index)]


def read_rows(path: Path) -> list[Row]:
    """The usable rows of a JSONL file; raises InvalidContent where there are too few, saying what is wrong with it."""
    rows: list[Row] = []
    problem = "the file is empty"
    for number, line in enumerate(_lines(path), start=1):
        try:
            rows.append(_parse_row(line))
        except ValueError as error:
            problem = f"line {number}: {error}" if problem == "the file is empty" else problem
        if len(rows) == MAX_ROWS:
            break
    if len(rows) < MIN_USABLE_ROWS:
        what = "no usable rows" if not rows else f"only {len(rows)} usable rows ({MIN_USABLE_ROWS} needed)"
        raise InvalidContent(f"data {path}: {what}; {problem}; {_SHAPES}")
    return rows


def _lines(path: Path) -> Iterator[bytes]:
    """Lines that are not blank, each cut one byte past the limit so that the parser refuses it."""
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                while not line.endswith(b"\n") and (more := file.readline(MAX_LINE_BYTES)):
                    line = line[:MAX_LINE_BYTES] + b"x" + (b"\n" if more.endswith(b"\n") else b"")
                if line.strip():
                    yield line
    except OSError as error:
        raise Misuse(f"data {path}: cannot be read ({error.strerror}); name an existing JSONL file") from error


def _parse_row(line: bytes) -> Row:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"longer than {MAX_LINE_BYTES} bytes")
    try:
        value = loads(line, depth=MAX_DEPTH)
    except ValueError as error:
        raise ValueError("not JSON") from error
    if not isinstance(value, dict):
        raise ValueError("not an object")
    if "messages" in value:
        return Row("", "", _parse_messages(value["messages"]))
    if "completion" in value:
        return Row(_text(value.get("prompt", ""), "prompt"), _text(value["completion"], "completion"))
    return Row("", _text(value.get("text"), "text"))


def _parse_messages(messages: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
        raise ValueError("messages is no list of objects")
    return tuple((_text(item.get("role"), "role"), _text(item.get("content"), "content")) for item in messages)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or (not value.strip() and what != "prompt"):
        raise ValueError(f"{what} is no text")
    return value


def split_rows(rows: list[Row], seed_file: Path) -> Split:
    """Draws training and hold-out once: the seed is kept in `seed_file`, so every later call splits the same way."""
    order = list(range(len(rows)))
    Random(_stored_seed(seed_file)).shuffle(order)
    held = max(1, len(rows) * HOLD_OUT_PERCENT // 100)
    return Split([rows[i] for i in order[held:]], [rows[i] for i in order[:held]])


def _stored_seed(path: Path) -> int:
    if not path.exists():
        write_private(path, json.dumps({"seed": secrets.randbits(53)}).encode() + b"\n")
    try:
        seed = json.loads(path.read_text())["seed"]
        if isinstance(seed, int):
            return seed
    except (ValueError, KeyError, TypeError):
        pass
    raise Misuse(f"split seed {path}: damaged; restore it, since another split would mix hold-out into training")
