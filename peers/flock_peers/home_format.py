"""The format number of a whole home, and how an older home becomes one of this release. Knows no key and no chain.

The file `version` stands for everything beneath it: key, genesis.json, upgrades.json, peer.toml, peers.json, chain,
consensus, blobs, rounds, training. Homes made before there was that file have format 0.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from flock_chain.errors import InvalidEncoding, Refused
from flock_chain.genesis import decode_genesis
from flock_peers.store.disk import disk_trouble

HOME_FORMAT = 1
VERSION_FILE = "version"
# What a migration may read and replace; never the key.
SMALL_FILES = ("genesis.json", "upgrades.json", "peer.toml", "peers.json")
MAX_VERSION_BYTES = 64
MAX_SMALL_BYTES = 1 << 20
_PREFIX = b"flock-p2p home "

Files = Mapping[str, bytes]
Migration = Callable[[Files], dict[str, bytes]]  # a pure function: the files of one format to those that change


def encode_version(number: int) -> bytes:
    return _PREFIX + str(number).encode() + b"\n"


def decode_version(data: bytes) -> int:
    """Raises InvalidEncoding for anything that `encode_version` would not have made."""
    digits = data.removeprefix(_PREFIX).removesuffix(b"\n")
    if len(data) > MAX_VERSION_BYTES or not digits.isdigit() or encode_version(int(digits)) != data:
        raise InvalidEncoding("version: not a line like 'flock-p2p home 1'")
    return int(digits)


def read_format(home: Path) -> int:
    """0 where there is no version file. Raises Refused for a newer format, or for a damaged file."""
    path = home / VERSION_FILE
    with disk_trouble(path):
        if not path.exists():
            return 0
        with path.open("rb") as file:
            data = file.read(MAX_VERSION_BYTES + 1)
    try:
        number = decode_version(data)
    except InvalidEncoding as error:
        raise Refused(f"{path}: {error}; restore it from your back-up") from error
    if number > HOME_FORMAT:
        raise Refused(
            f"{home}: a home of format {number}, this release knows formats up to {HOME_FORMAT}; use the newer release"
        )
    return number


def bring_up_to_date(home: Path, write: Callable[[Path, bytes], None], migrations: Mapping[int, Migration]) -> int:
    """Migrate one format after the other; returns the format that was found. `write`: whole or not at all.

    The version is written last, so after a crash in between a migration meets its own result, and must leave it so.
    Raises Refused where a home cannot be migrated; nothing in it was changed then.
    """
    found = read_format(home)
    for number in range(found, HOME_FORMAT):
        try:
            changed = migrations[number](_read_small(home))
        except Refused as error:
            raise Refused(f"{home}, of format {number}: {error}") from error
        for name in sorted(changed):
            write(home / name, changed[name])
        write(home / VERSION_FILE, encode_version(number + 1))
    return found


def _read_small(home: Path) -> dict[str, bytes]:
    files = {}
    for name in SMALL_FILES:
        path = home / name
        with disk_trouble(path):
            if path.exists():
                with path.open("rb") as file:
                    files[name] = file.read(MAX_SMALL_BYTES)
    return files


def migrate_0(files: Files) -> dict[str, bytes]:
    """The same files, so that nothing changes; but the networks of that time ran rules that are not in this release."""
    if "genesis.json" in files:
        try:
            decode_genesis(files["genesis.json"])
        except InvalidEncoding as error:
            raise Refused(
                f"this home belongs to a network that an older release made ({error}); go on with that release, or "
                "move everything but key and peer.toml away to join another network with the same key"
            ) from error
    return {}


MIGRATIONS: Mapping[int, Migration] = {0: migrate_0}
