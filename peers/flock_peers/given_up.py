"""The tasks that this peer's owner ordered it to leave, until the owner names one of them again. Knows no board.

Kept on disk: whoever stops a peer and starts it again has not changed their mind.
"""

import json
import logging
from pathlib import Path

from flock_chain.bounded_json import loads
from flock_peers.home import write_private

log = logging.getLogger(__name__)

MAX_GIVEN_UP = 1_000  # tasks, the last that were named: a network runs 64 at a time
MAX_FILE_BYTES = 1 << 16  # all of them, with the largest numbers, take a third of it
MAX_DEPTH = 2


class GivenUp:
    def __init__(self, path: Path | None = None) -> None:
        """`path`: None keeps them in memory alone."""
        self._path = path
        self._tasks: dict[int, None] = {} if path is None else dict.fromkeys(_load(path))

    def __contains__(self, task: int) -> bool:
        return task in self._tasks

    def add(self, task: int) -> None:
        """On disk when it returns. Raises DiskTrouble: an order that a restart would forget is none."""
        if task not in self._tasks:
            self._keep([*self._tasks, task][-MAX_GIVEN_UP:])

    def discard(self, task: int) -> None:
        """Its owner wants it after all, or it has ended."""
        if task in self._tasks:
            self._keep([each for each in self._tasks if each != task])

    def _keep(self, tasks: list[int]) -> None:
        if self._path is not None:
            write_private(self._path, json.dumps(tasks).encode())
        self._tasks = dict.fromkeys(tasks)


def _load(path: Path) -> list[int]:
    try:
        with path.open("rb") as file:
            found = loads(file.read(MAX_FILE_BYTES), depth=MAX_DEPTH)
        return [int(task) for task in found[-MAX_GIVEN_UP:]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s: which tasks its owner left cannot be read, and is forgotten: %r", path, error)
        return []
