"""Rows of private data, read from JSONL or made, split once into training and hold-out. Needs no torch or tokenizer.

A row is `{"text": ...}`, `{"prompt": ..., "completion": ...}` or `{"messages": [{"role": ..., "content": ...}, ...]}`.
"""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from flock_chain.bounded_json import loads
from flock_chain.errors import InvalidContent, Misuse
from flock_peers.home import write_private
from flock_peers.plural import plural
from flock_peers.training.data_format import CHAT, COMPLETIONS, TEXT
from flock_peers.training.domains import private_rows
from flock_peers.training.text_files import DATA_SUFFIXES, MAX_LINE_BYTES, list_files, read_lines, read_text

MAX_DEPTH = 64  # of a row: three would do, but others may carry along what they like
MAX_ROWS = 1_000_000  # rows are held in memory
MAX_DATA_BYTES = 1 << 30  # of all rows together, for the same reason
MAX_MESSAGES = 1_024  # of one row: a chat template is run over all of them, once per answer
MAX_NAMED_REFUSALS = 20  # refused rows that are named; of the others only the number is told
MIN_USABLE_ROWS = 4  # at least one for the hold-out and three to train on
HOLD_OUT_PERCENT = 20
ANSWERS = "assistant"  # the role whose messages are learned
_KEYS = "none of the keys text, prompt with completion, messages"
_SHAPES = 'a row is {"text": ...}, {"prompt": ..., "completion": ...} or {"messages": [...]}'


@dataclass(frozen=True)
class Row:
    """A prompt carries no loss; messages, where there are any, replace both texts."""

    prompt: str
    completion: str
    messages: tuple[tuple[str, str], ...] = ()  # (role, content)
    where: str = field(default="", compare=False)  # "line 3", or a file's name: for whoever refuses it later
    kind: str = field(default=TEXT, compare=False)  # a data format

    @property
    def size(self) -> int:
        return len(self.prompt) + len(self.completion) + sum(len(content) for _, content in self.messages)


@dataclass
class Refusals:
    """What was left out, and why: the first ones by name, the others by number."""

    named: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, where: str, why: object) -> None:
        self.count += 1
        if len(self.named) < MAX_NAMED_REFUSALS:
            self.named.append(f"{where}: {why}"[:300])

    def __str__(self) -> str:
        more = self.count - len(self.named)
        return "; ".join(self.named) + (f"; and {more} more" if more else "")


@dataclass(frozen=True)
class Split:
    train: list[Row]
    hold_out: list[Row]


def builtin_rows(domain: str, index: int) -> list[Row]:
    return [Row("", text, where=f"row {number}") for number, text in enumerate(private_rows(domain, index), start=1)]


def read_rows(path: Path, refusals: Refusals | None = None) -> list[Row]:
    """The usable rows of a JSONL or text file, or of a folder of them; what is left out is added to `refusals`.

    Raises InvalidContent where too few are usable, saying what is wrong with the others.
    """
    refusals = Refusals() if refusals is None else refusals
    rows: list[Row] = []
    size = 0
    for row in _find_rows(path, refusals):
        size += row.size
        if len(rows) == MAX_ROWS or size > MAX_DATA_BYTES:
            refusals.add(row.where, f"and all after it: {MAX_ROWS} rows or {MAX_DATA_BYTES} characters are enough")
            break
        rows.append(row)
    if len(rows) < MIN_USABLE_ROWS:
        few = f"only {plural(len(rows), 'usable row')} ({MIN_USABLE_ROWS} needed)"
        why = refusals if refusals.count else "there is no other" if rows else _say_what_is_empty(path)
        raise InvalidContent(f"data {path}: {few if rows else 'no usable rows'}; {why}; {_SHAPES}")
    return rows


def _say_what_is_empty(path: Path) -> str:
    if not path.is_dir():
        return "the file is empty"
    has_files = next(list_files(path, Refusals().add), None) is not None
    return "its files are empty" if has_files else f"the folder holds no file of {', '.join(DATA_SUFFIXES)}"


def _find_rows(path: Path, refusals: Refusals) -> Iterator[Row]:
    is_folder = path.is_dir()
    for file in list_files(path, refusals.add):
        prefix = f"{file.relative_to(path)}, " if is_folder else ""
        if file.suffix.lower() in (".txt", ".md", ".rst"):
            for number, piece in enumerate(read_text(file, prefix or file.name, refusals.add), start=1):
                yield Row("", piece, where=f"{prefix}piece {number}")
            continue
        for number, line in read_lines(file):
            try:
                yield parse_row(line, f"{prefix}line {number}")
            except ValueError as error:
                refusals.add(f"{prefix}line {number}", error)


def parse_row(line: bytes, where: str = "") -> Row:
    """Raises ValueError with the reason."""
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"longer than {MAX_LINE_BYTES} bytes")
    try:
        value = loads(line, depth=MAX_DEPTH)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from error
    except ValueError as error:
        raise ValueError("not JSON") from error
    if not isinstance(value, dict):
        raise ValueError("not an object")
    if "messages" in value:
        return Row("", "", _parse_messages(value["messages"]), where, CHAT)
    if "completion" in value:
        prompt, completion = _text(value.get("prompt", ""), "prompt"), _text(value["completion"], "completion")
        return Row(prompt, completion, where=where, kind=COMPLETIONS)
    if "text" not in value:
        raise ValueError(_KEYS if "prompt" not in value else "a prompt without a completion")
    return Row("", _text(value["text"], "text"), where=where)


def _parse_messages(messages: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
        raise ValueError("messages is no list of objects")
    if len(messages) > MAX_MESSAGES:
        raise ValueError(f"{len(messages)} messages, at most {MAX_MESSAGES}")
    found = tuple((_text(item.get("role"), "role"), _text(item.get("content"), "content")) for item in messages)
    if all(role != ANSWERS for role, _ in found):
        raise ValueError(f"no message of the role {ANSWERS!r}, so there is nothing to learn")
    return found


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} is no text")
    if not value.strip() and what != "prompt":
        raise ValueError(f"{what} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} holds half a surrogate pair") from error
    return value


def split_rows(rows: list[Row], seed_file: Path) -> Split:
    """Draws training and hold-out once: the seed is kept in `seed_file`, so every later call splits the same way."""
    return split_by_seed(rows, _stored_seed(seed_file))


def split_by_seed(rows: list[Row], seed: int) -> Split:
    order = list(range(len(rows)))
    Random(seed).shuffle(order)
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
