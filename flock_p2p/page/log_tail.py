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
    """`rows` are in order, each with `id`: where it ends in the log, which a rotation does not begin anew."""

    file: int = 0  # with `size`, names what was read
    size: int = 0
    rows: tuple[Row, ...] = ()
    base: int = 0  # bytes of the log before this file
    series: int = 0  # another one where lines may be missing since the last look


@dataclass(frozen=True)
class _End:
    """Of one file; each row's `id` is its place in it."""

    file: int
    size: int
    rows: list[Row]


def read_tail(path: Path, last: Tail) -> Tail:
    """`last` itself where nothing was written since. Blocks for the disk."""
    try:
        seen = path.stat()
        if (seen.st_ino, seen.st_size) == (last.file, last.size):
            return last
        end = _read_end(path)
    except OSError:
        return last
    before = _read_rotated(path) if end.size < TAIL_BYTES else None
    if before is not None and before.file == end.file:  # rotated since it was opened
        before = None
    base, series = _place(end, before, last)
    older = _shift(before.rows, base - before.size) if before and base >= before.size else []
    return Tail(end.file, end.size, tuple([*older, *_shift(end.rows, base)][-MAX_LINES:]), base, series)


def _place(end: _End, before: _End | None, last: Tail) -> tuple[int, int]:
    """Where the file begins in the log, and the series that it goes on with."""
    if end.file == last.file:  # or cut short in place, as some tools rotate
        return last.base + (last.size if end.size < last.size else 0), last.series
    if before is not None and before.file == last.file:
        return last.base + before.size, last.series
    return (before.size if before else 0), last.series + 1


def _read_rotated(path: Path) -> _End | None:
    try:
        return _read_end(path.with_name(f"{path.name}.1"))
    except OSError:
        return None


def _read_end(path: Path) -> _End:
    with path.open("rb") as file:
        inode, size = os.fstat(file.fileno()).st_ino, file.seek(0, 2)  # of what is read: the name may move on
        start = max(0, size - TAIL_BYTES)
        file.seek(start)
        return _End(inode, size, _parse(file.read(TAIL_BYTES), start)[-MAX_LINES:])


def _shift(rows: list[Row], by: int) -> list[Row]:
    return [row | {"id": row["id"] + by} for row in rows]


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
