"""Where log lines go: one per event, to the home's peer.log, and to the terminal unless told to be quiet."""

import logging
import logging.handlers
import os
import sys
from typing import Any

from flock_peers.home import Home

MAX_LOG_BYTES = 8 << 20  # then it is rotated
KEPT_FILES = 2  # old ones: NAME.1, and before it NAME.2
TRACE_MARK = "    | "  # before each line of a traceback: no event begins so
LOG_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s"


class PrivateFileHandler(logging.handlers.RotatingFileHandler):
    """Readable by its owner only, whoever may enter the home; an event is one line, whatever text is in it."""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding="utf-8", errors="backslashreplace", opener=_open_private)


class LineFormatter(logging.Formatter):
    """What strangers sent may hold line breaks and terminal codes: no text of an event can pass for another event."""

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # another formatter's, which logging would take for this one's
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        return _clean(line)

    def formatException(self, ei: Any) -> str:
        """Lines of their own, each marked: an error quotes strangers, too."""
        return "\n".join(TRACE_MARK + _clean(line) for line in super().formatException(ei).splitlines())


def _clean(line: str) -> str:
    return line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def start_logging(home: Home, *, quiet: bool) -> None:
    home.make()
    file = PrivateFileHandler(home.log_path, maxBytes=MAX_LOG_BYTES, backupCount=KEPT_FILES)
    file.setFormatter(LineFormatter(LOG_FORMAT, "%Y-%m-%dT%H:%M:%S"))
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(file)
    if not quiet:
        terminal = logging.StreamHandler(sys.stderr)
        terminal.setFormatter(LineFormatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S"))
        root.addHandler(terminal)
