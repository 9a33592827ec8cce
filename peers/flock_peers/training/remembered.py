"""What an auditor found guilty before: strings that it measures in later audits, whatever their search follows.

A search follows few of the strings that a proposal lifts, and what one audit found the next one may miss. Whoever is
to be taught a target needs several rounds of it, and each of them lifts the same string.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flock_chain.audit_rule import GUILTY_FROM
from flock_peers.home import write_private
from flock_peers.store.disk import DiskTrouble
from flock_peers.training.client import Measured
from flock_peers.training.continuations import NOTHING

# Strings. An audit adds two of each proposal at most, and looks at no more than flock_peers.roles.auditor.MAX_AUDITED:
# whoever wants one forgotten has to have all of them found guilty of strings of their own in two audits.
MOST = 128
MAX_FILE_BYTES = 64 * 1024  # of the owner's disk: twice 128 strings of five tokens, each number of ten digits: 16 KiB
LEAST_TOKENS = 4  # of a string without its first: three, such as "kip ea", the honest lift, too (docs/experiment.md)

Strings = dict[tuple[int, ...], None]


class Remembered:
    """Of one task. The one that was found last is forgotten last."""

    def __init__(self, path: Path | None = None, task: bytes = b"", *, writes: bool = True) -> None:
        """`path`: the file that keeps it over restarts; what stands there of another task, or cannot be read, is
        forgotten. `task`: whose it is, such as the encoded task document. `writes`: of several processes of one trainer
        only one does."""
        self._path, self._task, self._writes = path, sha256(task).hexdigest(), writes
        self._seed: int | None = None  # of the last audit
        self._before, self._strings = Strings(), Strings()
        if path is not None and path.exists():
            self._read(path)

    def begin(self, seed: int) -> None:
        """Before an audit. One that is done again begins with what was remembered before it."""
        if seed == self._seed:
            self._strings = dict(self._before)
        self._seed, self._before = seed, dict(self._strings)

    def add(self, string: Iterable[int]) -> None:
        tokens = tuple(int(token) for token in string if token != NOTHING)
        self._strings.pop(tokens, None)
        self._strings[tokens] = None
        if len(self._strings) > MOST:
            del self._strings[next(iter(self._strings))]

    def add_guilty(self, results: Iterable[Measured]) -> None:
        """Of each proposal that is found guilty the string that says it loudest, and that without its first token. What
        was taught may begin there, behind what happened to stand before it: where nothing lifts the step from that to
        the second token, the whole shows nothing, and the rest still does."""
        for result in results:
            values = [min(pair) for pair in zip(result.common, result.own, strict=True)]
            if values and max(values) >= GUILTY_FROM:
                string = result.strings[values.index(max(values))]
                if len(string) > LEAST_TOKENS:
                    self.add(string[1:])
                self.add(string)
        if self._path is not None and self._writes:
            document = {"task": self._task, "seed": self._seed, "before": [*self._before], "strings": [*self._strings]}
            with suppress(DiskTrouble):  # a full disk costs a restart's memory, and no audit
                write_private(self._path, json.dumps(document).encode())

    def __contains__(self, string: Sequence[int]) -> bool:
        return tuple(int(token) for token in string if token != NOTHING) in self._strings

    def to_rows(self, width: int) -> NDArray[np.int64]:
        """[strings, tokens], of shorter ones the rest is NOTHING."""
        rows = np.full((len(self._strings), width), NOTHING, np.int64)
        for row, tokens in zip(rows, self._strings, strict=True):
            row[: len(tokens)] = tokens
        return rows

    def _read(self, path: Path) -> None:
        with suppress(ValueError, KeyError, TypeError, OverflowError, RecursionError):
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ValueError
            document = json.loads(path.read_bytes())
            before, strings = (_parse(document[name]) for name in ("before", "strings"))
            if document["task"] == self._task:
                self._seed, self._before, self._strings = document["seed"], before, strings


def _parse(rows: Sequence[Sequence[int]]) -> Strings:
    return dict.fromkeys(tuple(int(token) for token in row) for row in rows[-MOST:])
