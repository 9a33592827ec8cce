"""`log`: a peer's log, whether it runs or not; followed through rotation. Reads one file and asks no peer."""

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from flock_chain.errors import Misuse, Unavailable
from flock_peers.home import Home

POLL_SECONDS = 0.3
MAX_LINES = 100_000  # two rotated files hold about as many
RANKS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}


def run(arguments: argparse.Namespace) -> int:
    if not 0 <= arguments.lines <= MAX_LINES:
        raise Misuse(f"--lines {arguments.lines}: 0 to {MAX_LINES}")
    path, filtered = Home(arguments.home).log_path, Filter(arguments.level)
    if not path.exists():
        raise Unavailable(f"{path}: there is no log yet; a peer writes it once it runs")
    with path.open(errors="replace") as file:
        for line in deque(filter(filtered, file), maxlen=arguments.lines):
            sys.stdout.write(line)
        sys.stdout.flush()
        if not arguments.follow:
            return 0
        at = file.tell()
    for line in follow(path, at, lambda: time.sleep(POLL_SECONDS)):
        if filtered(line):
            sys.stdout.write(line)
            sys.stdout.flush()
    return 0


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
    file: TextIO = path.open(errors="replace")
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
            wait()
            continue
        if rest := file.read():  # written between the last look and the rotation
            yield from (part + rest).splitlines(keepends=True)
        file.close()
        file, part = fresh, ""


def _reopen(path: Path, file: TextIO) -> TextIO | None:
    """The file that has its name now, where that is another one."""
    try:
        fresh = path.open(errors="replace")
    except FileNotFoundError:  # in the middle of a rotation
        return None
    if _identity(fresh) == _identity(file):
        fresh.close()
        return None
    return fresh


def _identity(file: TextIO) -> tuple[int, int]:
    stat = os.fstat(file.fileno())
    return stat.st_dev, stat.st_ino
