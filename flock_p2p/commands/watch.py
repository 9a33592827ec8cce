"""`watch`: a running peer, followed on the terminal or line by line."""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from flock_chain.errors import Misuse
from flock_p2p.live_view import Pace, clean, describe_line, find_task, get_key, render
from flock_peers.control import request_control
from flock_peers.home import Home

TAIL_BYTES = 16 << 10  # of the log, read anew for each screen
SAY_ANYWAY_SECONDS = 30.0  # a line although nothing changed: it lives
_CLEAR, _HIDE, _SHOW = "\x1b[H\x1b[J", "\x1b[?25l", "\x1b[?25h"


def run(arguments: argparse.Namespace) -> int:
    if not 0.1 <= arguments.every <= 3_600:
        raise Misuse(f"--every {arguments.every}: between 0.1 and 3600 seconds")
    home, is_screen = Home(arguments.home), sys.stdout.isatty() and not arguments.json
    try:
        if is_screen:
            sys.stdout.write(_HIDE)
        _follow(home, arguments, is_screen)
    except KeyboardInterrupt:  # how it is meant to end
        return 0
    finally:
        if is_screen:
            sys.stdout.write(_SHOW)
            sys.stdout.flush()
    return 0


def _follow(home: Home, arguments: argparse.Namespace, is_screen: bool) -> None:
    pace, told, told_at = Pace(), None, 0.0
    while True:
        status, now = request_control(home.control_path, "status"), time.monotonic()
        pace.note(task := find_task(status), now)
        if arguments.json:
            print(json.dumps(status), flush=True)
        elif is_screen:
            _draw(home, status, pace, now)
        elif (key := get_key(status)) != told or now - told_at > SAY_ANYWAY_SECONDS:
            told, told_at = key, now
            print(f"{time.strftime('%H:%M:%S')}  {clean(describe_line(status, pace, now))}", flush=True)
        if arguments.until_ended and task is not None and task["is_ended"]:
            return
        time.sleep(arguments.every)


def _draw(home: Home, status: dict[str, Any], pace: Pace, now: float) -> None:
    width, height = shutil.get_terminal_size()
    lines = render(status, read_tail(home.log_path), pace, now, width=width, height=height)
    sys.stdout.write(_CLEAR + "\n".join(lines))
    sys.stdout.flush()


def read_tail(path: Path) -> list[str]:
    """The last lines of the log, whole ones; none where there is no log."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read(TAIL_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []
    return lines if size <= TAIL_BYTES else lines[1:]
