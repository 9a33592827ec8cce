"""What a disk refuses, in words: which file, why, and what to do. Knows no format.

Whoever cannot write does not go on as if it had: the peer ends, and nothing that it signed or acknowledged is lost.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flock_chain.errors import Unavailable

_FULL = "the disk is full; free some space and start again: nothing that was signed or acknowledged is lost"
_READ_ONLY = "the disk is read-only; a failing disk is often set so: check it, make it writable and start again"
_CAUSES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL.replace("the disk is full", "this user's disk quota is used up"),
    errno.EFBIG: "the limit of a file's size is reached (ulimit -f); raise it and start again",
    errno.EROFS: _READ_ONLY,
    errno.EIO: "the disk fails to read or write; check it, restore the home from it if need be, and start again",
}


class DiskTrouble(Unavailable):
    """This machine's disk takes no more; never another peer's fault, and no reason to try again at once."""


def explain(error: OSError, path: Path) -> str:
    return f"{path}: {_CAUSES.get(error.errno or 0) or error.strerror or error}"


@contextmanager
def disk_trouble(path: Path) -> Iterator[None]:
    """Raises DiskTrouble naming `path` for any OSError inside."""
    try:
        yield
    except OSError as error:
        raise DiskTrouble(explain(error, path)) from error


def find_trouble(error: OSError) -> DiskTrouble | None:
    """For the edge of a process: an error of the system that is the disk's, wherever it arose."""
    if error.errno not in _CAUSES:
        return None
    return DiskTrouble(explain(error, Path(error.filename or "the home")))
