"""`log`: a peer's log, whether it runs or not; followed through rotation. Reads files and asks no peer."""

import argparse
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from flock_chain.errors import Misuse, Unavailable
from flock_p2p.logs import KEPT_FILES
from flock_p2p.page.log_tail import parse_line
from flock_peers.home import Home

POLL_SECONDS = 0.3
MAX_LINES = 100_000  # the file and two rotated ones hold about as many
RANKS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}


def run(arguments: argparse.Namespace) -> int:
    if not 0 <= arguments.lines <= MAX_LINES:
        raise Misuse(f"--lines {arguments.lines}: 0 to {MAX_LINES}")
    path, filtered = Home(arguments.home).log_path, Filter(arguments.level)
    if not path.exists():
        raise Unavailable(f"{path}: there is no log yet; a peer writes it once it runs")
    lines, at = read_last(path, arguments.lines, filtered)
    try:
        _say(lines, is_json=arguments.json)
        if arguments.follow:
            for line in follow(path, at, lambda: time.sleep(POLL_SECONDS)):
                _say(filter(filtered, [line]), is_json=arguments.json)
    except KeyboardInterrupt:
        if not arguments.follow:  # which is meant to end so
            raise
    return 0


def _say(lines: Iterable[str], *, is_json: bool) -> None:
    for line in lines:
        sys.stdout.write(json.dumps(parse_line(line.rstrip("\n"))) + "\n" if is_json else line)
    sys.stdout.flush()


def read_last(path: Path, count: int, wanted: Callable[[str], bool]) -> tuple[Iterable[str], int]:
    """The last lines of the log and of those that were rotated, and where the log ends."""
    lines: deque[str] = deque(maxlen=count)
    for number in range(KEPT_FILES, 0, -1):
        with suppress(FileNotFoundError), _open(path.with_name(f"{path.name}.{number}")) as file:
            lines.extend(filter(wanted, file))
    with _open(path) as file:
        lines.extend(filter(wanted, file))
        return lines, file.tell()


def _open(path: Path) -> TextIO:
    return path.open(encoding="utf-8", errors="replace")


class Filter:
    """Lines of a level and above; what a line without a level belongs to (a traceback) goes with the one before."""

    def __init__(self, level: str) -> None:
        self._least, self._last = RANKS[level.upper()], True

    def __call__(self, line: str) -> bool:
        parts = line.split(maxsplit=2)
        rank = RANKS.get(parts[1]) if len(parts) > 1 and not line[0].isspace() else None
        if rank is not None:
            self._last = rank >= self._least
        return self._last


def follow(path: Path, at: int, wait: Callable[[], None]) -> Iterator[str]:
    """Whole lines written after the byte `at`, also after the file was rotated; for ever."""
    file = _open(path)
    file.seek(at)
    part = ""
    while True:
        line = file.readline()
        if line:
            part += line
            if part.endswith("\n"):
                yield part
                part = ""
            continue
        fresh = _reopen(path, file)
        if fresh is None:
            if os.fstat(file.fileno()).st_size < file.tell():  # cut short in place, as some tools rotate
                file.seek(0)
                part = ""
            else:
                wait()
            continue
        if rest := file.read():  # written between the last look and the rotation
            yield from (part + rest).splitlines(keepends=True)
        file.close()
        file, part = fresh, ""


def _reopen(path: Path, file: TextIO) -> TextIO | None:
    """The file that has its name now, where that is another one."""
    try:
        fresh = _open(path)
    except FileNotFoundError:  # in the middle of a rotation
        return None
    if _identity(fresh) == _identity(file):
        fresh.close()
        return None
    return fresh


def _identity(file: TextIO) -> tuple[int, int]:
    stat = os.fstat(file.fileno())
    return stat.st_dev, stat.st_ino
