"""An undo log over plain dictionaries: a checkpoint costs nothing, undoing costs what was written since.

Knows nothing of accounts: it is told a dictionary, a key and a new value, and remembers what was there before.
"""

from typing import Any

from flock_chain.errors import Misuse

_ABSENT: Any = object()


class Journal:
    def __init__(self) -> None:
        self._log: list[tuple[dict[Any, Any], Any, Any]] = []
        self._checkpoints: list[tuple[int, int]] = []  # number, length of the log; in the order of both
        self._next = 0  # never used twice, so that a checkpoint from before `forget` cannot be mistaken

    def write(self, rows: dict[Any, Any], key: Any, value: Any) -> None:
        self._log.append((rows, key, rows.get(key, _ABSENT)))
        rows[key] = value

    def record(self) -> int:
        number = self._next
        self._next = number + 1
        self._checkpoints.append((number, len(self._log)))
        return number

    def discard(self, checkpoint: int) -> None:
        """Undo everything since; later checkpoints go with it. Raises Misuse where it is not open."""
        length = self._close(checkpoint)
        log = self._log
        while len(log) > length:
            rows, key, before = log.pop()
            if before is _ABSENT:
                del rows[key]
            else:
                rows[key] = before

    def commit(self, checkpoint: int) -> None:
        """What was written since belongs to the checkpoint before. Raises Misuse where it is not open."""
        self._close(checkpoint)

    def forget(self) -> None:
        """Nothing written so far can be undone any more."""
        self._log.clear()
        self._checkpoints.clear()

    def _close(self, checkpoint: int) -> int:
        checkpoints = self._checkpoints
        for index in range(len(checkpoints) - 1, -1, -1):
            if checkpoints[index][0] == checkpoint:
                length = checkpoints[index][1]
                del checkpoints[index:]
                return length
        raise Misuse(f"journal: checkpoint {checkpoint} is not open")
