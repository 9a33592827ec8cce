"""How long this process has run, the interpreter's own start included where the system says when that was."""

import os
import time
from pathlib import Path

_IMPORTED_AT = time.monotonic()
_START_FIELD = 19  # of /proc/self/stat, counted behind the command's name: clock ticks since boot


def seconds_since_start() -> float:
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        began = int(fields[_START_FIELD]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began
    except (AttributeError, IndexError, OSError, ValueError):  # no Linux: the imports before this one are not counted
        return time.monotonic() - _IMPORTED_AT
