"""The end of a peer's log as rows, each with where it ends in the file: a page is told only what it does not have."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TAIL_BYTES = 64 << 10  # read at most, and only where the file has changed
MAX_LINES = 200
MAX_LINE_CHARS = 500  # of one event's text; a traceback is several lines
_LINE = re.compile(r"(?P<at>\d{4}-\d\d-\d\dT[\d:.]+) (?P<level>[A-Z]+) +(?P<source>[\w.]+): (?P<text>.*)")

Row = dict[str, Any]


@dataclass(frozen=True)
class Tail:
    """`file` and `size` name what was read; `rows` are in order, each with `id`, the place of its end in the file."""

    file: int = 0
    size: int = 0
    rows: tuple[Row, ...] = ()


def read_tail(path: Path, last: Tail) -> Tail:
    """`last` itself where nothing was written since. Blocks for the disk."""
    try:
        with path.open("rb") as file:
            inode, size = os.fstat(file.fileno()).st_ino, file.seek(0, 2)  # of what is read: the name may move on
            if (inode, size) == (last.file, last.size):
                return last
            start = max(0, size - TAIL_BYTES)
            file.seek(start)
            data = file.read(TAIL_BYTES)
    except OSError:
        return last
    return Tail(inode, size, tuple(_parse(data, start)[-MAX_LINES:]))


def _parse(data: bytes, start: int) -> list[Row]:
    rows, at = [], start
    for index, line in enumerate(data.splitlines(keepends=True)):
        at += len(line)
        if (index or not start) and line.endswith(b"\n"):  # neither the first half of a line nor the last one
            rows.append({"id": at, **describe_line(line.decode(errors="replace").rstrip("\r\n"))})
    return rows


def describe_line(line: str) -> Row:
    """As `parse_line`, and bounded."""
    row = parse_line(line)
    return row | {"text": row["text"][:MAX_LINE_CHARS]}


def parse_line(line: str) -> Row:
    """What is no event of its own, such as a line of a traceback, has a text alone."""
    found = _LINE.fullmatch(line)
    return found.groupdict() if found else {"at": None, "level": None, "source": None, "text": line}
