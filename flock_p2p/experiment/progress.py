"""What a run says of itself while it runs: a bar on a terminal, else a line now and then. Knows no training."""

import time
from collections.abc import Callable
from typing import TextIO

from flock_p2p.experiment.pace import Pace
from flock_p2p.experiment.rows import STEPS, Row
from flock_peers.plural import plural

BAR = 30  # characters
LINE_SECONDS = 60.0  # between lines of one row, in a file
MINUTES_FROM = 120.0  # seconds


def describe(row: Row) -> str:
    share = f" {row.malicious} %" if row.malicious and row.attack != "domain" else ""  # a domain is as large as it is
    steps = "" if row.steps == STEPS else f", {plural(row.steps, 'step')}"
    return f"{row.method}, {row.attack}{share}, seed {row.seed}{steps}"


def format_left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"about {seconds:.0f} s left" if seconds < MINUTES_FROM else f"about {seconds / 60:.0f} min left"


class Progress:
    """Called when a row begins and after each of its rounds."""

    def __init__(self, out: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._out, self._now, self._is_terminal = out, now, out.isatty()
        self._said: dict[Row, float] = {}  # when a line was last written of it

    def __call__(self, pace: Pace, row: Row) -> None:
        if self._is_terminal:
            self._draw(pace, row)
        else:
            self._write(pace, row)

    def _draw(self, pace: Pace, row: Row) -> None:
        bar = "#" * (BAR * pace.done // pace.total)
        end = "\n" if pace.done >= pace.total else ""
        left = format_left(pace.seconds_left)
        line = f"\r[{bar:<{BAR}}] {pace.done}/{pace.total} rounds  {left:<18}  {describe(row):<50}"
        print(line, end=end, file=self._out, flush=True)

    def _write(self, pace: Pace, row: Row) -> None:
        """A row's beginning and its end, and between them at most one a minute."""
        rounds, now = pace.get_rounds(row), self._now()
        is_edge = row not in self._said or rounds == row.rounds
        if not is_edge and now - max(self._said.values()) < LINE_SECONDS:
            return
        self._said[row] = now
        what = "done" if rounds == row.rounds else f"round {rounds} of {row.rounds}" if rounds else "begins"
        left = format_left(pace.seconds_left) if pace.done < pace.total else ""
        said = f"{describe(row)}: {what}; {pace.done} of {pace.total} rounds in all{left and ', '}{left}"
        print(said, file=self._out, flush=True)
