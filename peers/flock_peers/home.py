"""A peer's home directory: where its key, chain, contents and rounds lie. Knows paths and modes, not what they mean."""

import errno
import fcntl
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_bytes

from flock_chain.crypto import Key
from flock_chain.errors import FlockError, Misuse, Refused, Unavailable
from flock_chain.genesis import MAX_GENESIS_BYTES, Genesis, decode_genesis
from flock_chain.upgrades import MAX_SCHEDULE_BYTES, Schedule, decode_schedule
from flock_peers.home_format import HOME_FORMAT, MIGRATIONS, VERSION_FILE, bring_up_to_date, encode_version, read_format
from flock_peers.keystore import MAX_KEYSTORE_BYTES, decode_keystore, is_keystore, read_address
from flock_peers.store.disk import DiskTrouble, disk_trouble
from flock_peers.user_folder import user_folder

MAX_LOCK_TEXT = 4_096  # a path, for people
MAX_SOCKET_PATH = 100  # Linux allows 107 bytes, macOS 103
MARKS = (VERSION_FILE, "key", "genesis.json", "peer.toml")  # a home has one of them at least
LOCK_FILE = "lock"  # held by the one process that may run in a home
LEFT_BY_STARTS = frozenset(
    {LOCK_FILE, "peer.log", f"{VERSION_FILE}.part", "lost+found"}
)  # and nothing else, where the first one was refused; the last one is the file system's own
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)  # what file systems without hard links say, as a USB stick's


def make_key() -> Key:
    return Key(token_bytes(32))


class Home:
    """Paths of one peer; creates folders as they are asked for, all readable by their owner only."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()

    def make(self) -> None:
        """Its own folder. Raises Misuse where a file is in the way, DiskTrouble where it cannot be made."""
        with disk_trouble(self.path):
            try:
                self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            except (FileExistsError, NotADirectoryError) as error:
                raise Misuse(
                    f"{self.path}: a home is a folder, and a file is in the way; name another --home"
                ) from error

    def check_is_own(self) -> None:
        """Raises Misuse for a folder of other files: with them a key is soon lost, or given away."""
        with disk_trouble(self.path):
            names = {path.name for path in self.path.iterdir()} if self.path.is_dir() else set()
        if names.isdisjoint(MARKS) and {"chain", "consensus"} <= names:
            raise Misuse(f"{self.path}: a home without its key; restore `key` and `genesis.json` from your back-up")
        if names.isdisjoint(MARKS) and not names <= LEFT_BY_STARTS:
            other = min(names - LEFT_BY_STARTS)
            raise Misuse(
                f"{self.path}: no home, and not empty ({other!r:.80} is in it); name a new or an empty folder, such as "
                f"--home {self.path / 'flock'}"
            )

    def folder(self, name: str) -> Path:
        path = self.path / name
        with disk_trouble(path):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    @property
    def key_path(self) -> Path:
        return self.path / "key"

    @property
    def genesis_path(self) -> Path:
        return self.path / "genesis.json"

    @property
    def log_path(self) -> Path:
        return self.path / "peer.log"

    @property
    def peers_path(self) -> Path:
        return self.path / "peers.json"

    @property
    def control_path(self) -> Path:
        path = self.path / "control.sock"
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
            return path
        return user_folder() / f"{sha256(os.fsencode(self.path)).hexdigest()[:16]}.sock"

    # Format

    def bring_up_to_date(self) -> int:
        """Make it a home of this release's format; returns the one that it had. Call it under the lock.

        Raises Refused, naming the reason, for a newer home and for one that cannot be migrated.
        """
        return bring_up_to_date(self.path, write_private, MIGRATIONS)

    # Key

    def create_key(self, key: Key | None = None) -> Key:
        """Store a new key; raises Misuse where there is one, and in a folder of other files."""
        self.check_is_own()
        self.make()
        if read_format(self.path) == 0 and not self.key_path.exists() and not self.genesis_path.exists():
            write_private(self.path / VERSION_FILE, encode_version(HOME_FORMAT))
        key = key or make_key()
        try:
            write_private(self.key_path, key.secret.hex().encode() + b"\n", exclusive=True)
        except FileExistsError as error:
            raise Misuse(
                f"{self.key_path}: there is a key already; it is this peer's identity and its stake"
            ) from error
        return key

    def import_key(self, data: bytes) -> None:
        """Store a key as it came, where there is none; raises Misuse where there is."""
        self.make()
        if read_format(self.path) == 0 and not self.genesis_path.exists():
            write_private(self.path / VERSION_FILE, encode_version(HOME_FORMAT))
        try:
            write_private(self.key_path, data, exclusive=True)
        except FileExistsError as error:
            raise Misuse(f"{self.key_path}: there is a key already; import into a new --home") from error

    def load_key(self, ask: Callable[[], bytes] | None = None) -> Key:
        """`ask`: for the passphrase, where the key is locked. Raises Refused where it is and nobody is asked."""
        data = self.read_key()
        if is_keystore(data):
            if ask is None:
                raise Refused(f"{self.key_path}: locked with a passphrase, and nobody was asked for it")
            return decode_keystore(data, ask())
        try:
            return Key(bytes.fromhex(data.decode().strip()))
        except (ValueError, Misuse) as error:
            raise Refused(f"{self.key_path}: no key in hex; restore it from your back-up") from error

    def check_key(self) -> None:
        """Raises what is wrong with it, as far as it can be known without a passphrase."""
        data = self.read_key()
        if is_keystore(data):
            read_address(data)
        else:
            self.load_key()

    def read_key(self) -> bytes:
        """The file's bytes: a keystore, or the secret in hex. Raises Refused where others can read it."""
        read_format(self.path)
        with disk_trouble(self.key_path):
            try:
                with self.key_path.open("rb") as file:
                    mode = os.fstat(file.fileno()).st_mode  # of what is read, whatever has the name by now
                    data = file.read(MAX_KEYSTORE_BYTES)
            except FileNotFoundError as error:
                command = f"python -m flock_p2p init --home {shlex.quote(str(self.path))}"
                raise Misuse(f"{self.path}: no key here; run `{command}` first") from error
        if mode & 0o077:
            raise Refused(f"{self.key_path}: readable by others; run `chmod 600 {shlex.quote(str(self.key_path))}`")
        return data

    # Genesis

    def load_genesis(self) -> Genesis:
        read_format(self.path)
        try:
            data = self.genesis_path.read_bytes()
        except FileNotFoundError as error:
            command = f"python -m flock_p2p join --home {shlex.quote(str(self.path))} --bootstrap ADDRESS"
            raise Misuse(f"{self.path}: belongs to no network yet; run `{command}`") from error
        return decode_genesis(data)

    def store_genesis(self, data: bytes) -> Genesis:
        """Keep a network's genesis; raises Refused where the home belongs to another network."""
        if len(data) > MAX_GENESIS_BYTES:
            raise Refused("genesis: too large")
        genesis = decode_genesis(data)
        if self.genesis_path.exists():
            known = self.load_genesis()
            if known.hash != genesis.hash:
                raise Refused(
                    f"{self.path} belongs to the network {known.network} (genesis {known.hash.hex()}), not to genesis "
                    f"{genesis.hash.hex()}; use another --home"
                )
            return known
        write_private(self.genesis_path, data)
        return genesis

    # Upgrades

    @property
    def upgrades_path(self) -> Path:
        return self.path / "upgrades.json"

    def load_upgrades(self, genesis: Genesis) -> Schedule:
        """What the operator installed; without steps where that is nothing. Raises InvalidEncoding naming the check."""
        try:
            with self.upgrades_path.open("rb") as file:
                data = file.read(MAX_SCHEDULE_BYTES + 1)
        except FileNotFoundError:
            return Schedule(genesis.hash)
        return decode_schedule(data, genesis_hash=genesis.hash, genesis=genesis.parameters)

    def store_upgrades(self, schedule: Schedule) -> None:
        write_private(self.upgrades_path, schedule.encode())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Only one process at a time: two with one key could sign against each other."""
        self.make()
        with disk_trouble(self.path):
            handle = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise Unavailable(
                    f"{self.path} is in use by another running peer; stop that one first, or use another --home"
                ) from error
            yield
        finally:
            os.close(handle)

    @contextmanager
    def lock_key(self, account: bytes, genesis_hash: bytes) -> Iterator[None]:
        """Only one process of this user and machine with this key in this network: a copied home has its own lock."""
        path = user_folder() / f"{sha256(b'flock signer' + genesis_hash + account).hexdigest()[:16]}.lock"
        with disk_trouble(path):
            handle = self._take_key_lock(path)
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, os.fsencode(self.path)[:MAX_LOCK_TEXT], 0)
            yield
        finally:
            with suppress(OSError):  # while it is held: who has opened it sees that, and makes a new one
                path.unlink()
            os.close(handle)

    def _take_key_lock(self, path: Path) -> int:
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _has_name(handle, path):
                    return handle
            except BlockingIOError as error:
                other = os.pread(handle, MAX_LOCK_TEXT, 0).decode(errors="replace")
                os.close(handle)
                raise Refused(
                    f"{self.path}: a peer with the same key runs on this machine already ({other or 'another home'}); "
                    "two signers of one key lose its stake: stop that one, or give this home a key of its own"
                ) from error
            except OSError:
                os.close(handle)
                raise
            os.close(handle)  # removed by the one that held it, between our opening and locking

    def is_running(self) -> bool:
        """Whether a process holds this home's lock, as a first start does long before there is a key. Makes nothing."""
        if not os.path.exists(self.path / LOCK_FILE):  # False, too, where this user may not look
            return False
        try:
            with self.lock():
                return False
        except (DiskTrouble, Misuse):  # no home that a peer could run in
            return False
        except FlockError:
            return True


def write_private(path: Path, data: bytes, *, exclusive: bool = False) -> None:
    """Whole or not at all, mode 0600, on disk when it returns. `exclusive`: raises FileExistsError where it exists.

    Raises DiskTrouble where the disk does not take it; what was there before is untouched then.
    """
    part = path.with_name(path.name + ".part")
    with disk_trouble(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_synced(part, data)
    if exclusive:
        try:
            _take_name(part, path)
        finally:
            part.unlink(missing_ok=True)
    else:
        with disk_trouble(path):
            os.replace(part, path)
    with disk_trouble(path):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_new(path: Path, data: bytes) -> None:
    """For a document that its user names: a mistyped path must cost no key and no other document. Raises Misuse."""
    try:
        write_private(path, data, exclusive=True)
    except FileExistsError as error:
        raise _taken(path) from error


def check_is_new(path: Path) -> None:
    """As `write_new` says it, before there is anything to write."""
    if os.path.lexists(path):
        raise _taken(path)


def _taken(path: Path) -> Misuse:
    return Misuse(f"{path}: exists already and is left as it is; name a new file")


def _take_name(part: Path, path: Path) -> None:
    """Give the file a name that nothing has. Raises FileExistsError where something does."""
    try:
        os.link(part, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            os.replace(part, path)
        except OSError:
            path.unlink()  # an empty key would be in the way of the next one
            raise


def _has_name(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _write_synced(path: Path, data: bytes) -> None:
    """A half-written file is removed again: on a full disk its room is wanted.

    Never into a file that is there: in a folder of others it may be theirs, or lead to where they read it.
    """
    path.unlink(missing_ok=True)  # of a start that was killed
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
