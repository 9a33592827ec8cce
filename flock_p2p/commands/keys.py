"""`keys`: what the key of a home is, and its way into and out of a keystore under a passphrase."""

import argparse
import json
from pathlib import Path
from typing import Any

from flock_chain.crypto import Key
from flock_chain.errors import Misuse, Refused
from flock_p2p.founding import make_founder
from flock_p2p.passphrase import Passphrases
from flock_peers.home import Home, check_is_new, write_new, write_private
from flock_peers.keystore import MAX_KEYSTORE_BYTES, decode_keystore, encode_keystore, is_keystore, read_address

WARNING = "back it up: it is this peer's identity and its stake, and nobody can make it again; never share it"


def run(arguments: argparse.Namespace) -> int:
    home, asked = Home(arguments.home), Passphrases(arguments.passphrase_fd)
    if (arguments.file is not None) != (arguments.action in ("export", "import")):
        raise Misuse("keys export and import need --file FILE, and no other action takes it")
    path, more = Path(arguments.file or "").expanduser(), dict[str, Any]()
    if arguments.action == "show":
        lines, more = _show(home, None if arguments.passphrase_fd is None else asked)
    elif arguments.action == "export":
        lines, more = _export(home, path, asked), {"exported": str(path)}
    elif arguments.action == "import":
        lines = _import(home, path, asked)
    else:
        home.read_key()  # says what is missing before the lock makes a folder
        with home.lock():  # a running peer's key stays as it is
            lines = _lock(home, asked) if arguments.action == "lock" else _unlock(home, asked)
    print(json.dumps(_describe(home) | more, indent=2) if arguments.json else "\n".join(lines))
    return 0


def _describe(home: Home) -> dict[str, Any]:
    """Nothing that is secret, and nothing that needs the passphrase."""
    data = home.read_key()
    is_locked = is_keystore(data)
    account = read_address(data) if is_locked else home.load_key().account.hex()
    return {"account": "0x" + account, "file": str(home.key_path), "is_locked": is_locked}


def _find_founder(home: Home, asked: Passphrases | None) -> str | None:
    """What names this key as a first validator, for which the secret is needed: of a locked one only where the
    passphrase is given unasked, for everything else can be shown without."""
    if is_keystore(home.read_key()) and asked is None:
        return None
    return str(make_founder(home.load_key(None if asked is None else asked.ask)))


def _show(home: Home, asked: Passphrases | None) -> tuple[list[str], dict[str, Any]]:
    row, founder = _describe(home), _find_founder(home, asked)
    told = "(public; for `init --new-network --founder` of another peer)"
    lines = [
        f"account  {row['account']}",
        f"key      {home.key_path}  ({WARNING})",
        f"founder  {founder}  {told}" if founder else "founder  locked, too: `keys --passphrase-fd N` shows it",
        f"locked   {'with a passphrase' if row['is_locked'] else 'no: `keys lock` puts it under a passphrase'}",
    ]
    return lines, {"founder": founder}


def _export(home: Home, path: Path, asked: Passphrases) -> list[str]:
    data = home.read_key()
    check_is_new(path)  # before anybody thinks of a passphrase
    if not is_keystore(data):
        data = encode_keystore(home.load_key(), asked.ask_new())
    write_new(path, data)  # a locked key goes out as it is, under its passphrase
    return [f"exported  {path}  (whoever has it and its passphrase is this peer; never run two of one key)"]


def _import(home: Home, path: Path, asked: Passphrases) -> list[str]:
    if home.key_path.exists():
        raise Misuse(f"{home.key_path}: there is a key already; import into a new --home")
    home.check_is_own()
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEYSTORE_BYTES)
    except OSError as error:
        raise Misuse(f"{path}: {error.strerror}") from error
    key = decode_keystore(data, asked.ask()) if is_keystore(data) else _parse_plain(path, data)
    with home.lock():  # makes the folder: what cannot be imported leaves none
        home.import_key(data if is_keystore(data) else key.secret.hex().encode() + b"\n")
    return [
        f"imported  0x{key.account.hex()} into {home.path}",
        "          stop the home that it came from for good first: two signers of one key lose its stake;",
        "          a validator takes along what it signed, by `protection`, before this home joins",
    ]


def _parse_plain(path: Path, data: bytes) -> Key:
    try:
        return Key(bytes.fromhex(data.decode().strip()))
    except (ValueError, Misuse) as error:
        raise Refused(f"{path}: neither a keystore nor a key file of a home") from error


def _lock(home: Home, asked: Passphrases) -> list[str]:
    if is_keystore(home.read_key()):
        raise Misuse(f"{home.key_path}: is locked already; unlock it first to change the passphrase")
    key, passphrase = home.load_key(), asked.ask_new()
    data = encode_keystore(key, passphrase)
    if decode_keystore(data, passphrase).account != key.account:  # before the only other copy goes
        raise Refused("keys: the new keystore does not open again; nothing was changed")
    write_private(home.key_path, data)
    return [f"locked   {home.key_path}  (`join` asks for the passphrase; without it the key is lost)"]


def _unlock(home: Home, asked: Passphrases) -> list[str]:
    if not is_keystore(home.read_key()):
        raise Misuse(f"{home.key_path}: is not locked")
    write_private(home.key_path, home.load_key(asked.ask).secret.hex().encode() + b"\n")
    return [f"unlocked {home.key_path}  (whoever can read this file is this peer)"]
