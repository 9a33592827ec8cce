"""The pages of a mapped file that this process has looked at, given back: until then they count as its memory.

They stay in the kernel's cache, so that another look costs a fault and no reading. LMDB never does it by itself: a
peer's memory would grow with its chain, in what people see and in what the kernel goes by when memory ends. Linux only.
"""

import ctypes
from pathlib import Path

MAPS = Path("/proc/self/maps")
MADV_DONTNEED = 4  # of a shared mapping of a file it drops page tables, never contents: madvise(2)


class MappedFile:
    """Finds the mapping once; does nothing where there is none to be found."""

    def __init__(self, path: Path) -> None:
        self._place = _find(path)
        if self._place is not None:
            self._madvise = ctypes.CDLL(None).madvise
            self._madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    def give_back(self) -> None:
        if self._place is None:
            return
        self._madvise(*self._place, MADV_DONTNEED)  # where it fails, the pages stay


def _find(path: Path) -> tuple[int, int] | None:
    """Address and length of the file's shared, read-only mapping in this process."""
    try:
        rows = MAPS.read_text(errors="replace").splitlines()
    except OSError:
        return None
    name = str(path.resolve())
    for row in rows:
        fields = row.split(maxsplit=5)
        if len(fields) == 6 and fields[1] == "r--s" and fields[5] == name:
            start, end = (int(part, 16) for part in fields[0].split("-"))
            return start, end - start
    return None
