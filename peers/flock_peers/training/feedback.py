"""What rounding to the task's grid took from this participant's last proposal, to be added to its next one. On disk.

Error feedback (Seide et al. 2014; Karimireddy et al., arXiv:1901.09847): nothing of a change is lost for good to few
bits, it only comes later. Knows vectors of one layout; no round, no format.
"""

import os
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

KEPT = 2  # files of a task: the rest of the last training, and of the one before, should the last be done again
_DIGITS = 16  # of hashes in names: a clash would only be a rest of another training


class Feedback:
    """`task`: whose files they are, such as the encoded task document. One process at a time uses a folder, and for one
    task: what was kept for another is removed."""

    def __init__(self, folder: Path, task: bytes, parameters: int) -> None:
        self._folder, self._parameters = folder, parameters
        self._task = sha256(task).hexdigest()[:_DIGITS]
        for path in folder.glob("rest-*"):
            if not path.name.startswith(f"rest-{self._task}-"):
                path.unlink(missing_ok=True)

    def read(self, key: bytes) -> NDArray[np.float32]:
        """What is left of the newest training but this one: a training that is done again begins with the same."""
        name = _name(key)
        for path in reversed(self._files()):
            if path.suffix != name and path.stat().st_size == 4 * self._parameters:
                rest = np.fromfile(path, np.float32)
                return rest if np.isfinite(rest).all() else np.zeros_like(rest)
        return np.zeros(self._parameters, np.float32)

    def keep(self, key: bytes, rest: NDArray[np.float32]) -> None:
        files = self._files()
        last = int(files[-1].stem.rpartition("-")[2]) if files else 0
        path = self._folder / f"rest-{self._task}-{last + 1:08d}{_name(key)}"
        part = path.with_suffix(".part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            rest.astype(np.float32, copy=False).tofile(file)
        for other in files:
            if other.suffix == path.suffix:
                other.unlink()
        part.replace(path)
        for other in self._files()[:-KEPT]:
            other.unlink()

    def _files(self) -> list[Path]:
        """The oldest first."""
        return sorted(path for path in self._folder.glob(f"rest-{self._task}-*") if path.suffix != ".part")


def _name(key: bytes) -> str:
    return "." + sha256(key).hexdigest()[:_DIGITS]
