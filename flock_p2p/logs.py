"""Where log lines go: one per event, to the home's peer.log, and to the terminal unless told to be quiet."""

import logging
import logging.handlers
import sys

from flock_peers.home import Home

MAX_LOG_BYTES = 8 << 20  # then it is rotated; two old ones are kept
LOG_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s"


def start_logging(home: Home, *, quiet: bool) -> None:
    home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = logging.handlers.RotatingFileHandler(home.log_path, maxBytes=MAX_LOG_BYTES, backupCount=2)
    file.setFormatter(logging.Formatter(LOG_FORMAT, "%Y-%m-%dT%H:%M:%S"))
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(file)
    if not quiet:
        terminal = logging.StreamHandler(sys.stderr)
        terminal.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S"))
        root.addHandler(terminal)
