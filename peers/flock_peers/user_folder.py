"""One folder of this user on this machine, for what all their processes must find under the same name, wherever each
has its home: locks of keys, and sockets of homes with long paths. Knows no lock and no socket.

Not named by the environment, which differs from process to process: two that looked in two places would not meet.
"""

import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

from flock_chain.errors import Refused
from flock_peers.store.disk import disk_trouble

IN_HOME = Path(".local/state/flock-p2p")
COMMON = Path("/tmp")


def user_folder() -> Path:
    """Exists, is this user's, and nobody else can write or read it. Raises Refused where that cannot be had."""
    home = find_own_home()
    path = COMMON / f"flock-p2p-{os.getuid()}" if home is None else home / IN_HOME
    with disk_trouble(path):
        for part in reversed([path, *path.parents[: len(IN_HOME.parts) - 1]] if home else [path]):
            with suppress(FileExistsError):
                part.mkdir(mode=0o700)  # whatever the umask of a service is: who can write above it can put it aside
        found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise Refused(
            f"{path}: must be a folder of user {os.getuid()} that nobody else can open, and is not: another user may "
            f"have put it there; remove it, or `chmod 700` it where it is yours"
        )
    return path


def find_own_home() -> Path | None:
    """Of the user database; None for accounts of services and containers, which have none that they could write."""
    try:
        path = Path(pwd.getpwuid(os.getuid()).pw_dir)
        found = path.stat()
    except (KeyError, OSError):
        return None
    is_own = found.st_uid == os.getuid() and not found.st_mode & 0o022 and os.access(path, os.W_OK | os.X_OK)
    return path if path.is_absolute() and stat.S_ISDIR(found.st_mode) and is_own else None
