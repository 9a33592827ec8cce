"""A new folder for a result: whole or not at all, and never over what is there."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flock_chain.errors import Misuse, Refused


def check_destination(destination: Path) -> None:
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise Misuse(f"{destination} is not empty; name a new or an empty folder, so that nothing is overwritten")


@contextmanager
def new_folder(destination: Path) -> Iterator[Path]:
    """Written beside the destination, then put in its place."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    try:
        part.chmod(0o755)
        yield part
        try:
            os.replace(part, destination)
        except OSError as error:
            raise Refused(f"{destination}: cannot be put in place ({error.strerror}); name a new folder") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
