"""How the C library hands out memory in a process of many threads: from one arena. Knows nothing of who asks.

glibc gives each thread that meets another one an arena of its own, up to eight for each core, and what was freed in
one serves no other thread. A peer's short-lived threads (disk, snapshots) leave holes in all of them: 6 MiB of an idle
one's memory after forty rounds, and more as its state grows. Python's lock lets one of them work at a time anyway.
"""

import ctypes
import sys

MAX_ARENAS = 1
_M_ARENA_MAX = -8  # mallopt(3)


def limit_arenas() -> bool:
    """Before the first thread starts; False where the C library is another one, which is left as it is."""
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_M_ARENA_MAX, MAX_ARENAS))
