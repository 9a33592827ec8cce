"""`protection`: what a stopped validator signed, as a document that moves with its key to another home."""

import argparse
import shlex
from pathlib import Path

from flock_chain.crypto import Key
from flock_chain.errors import Misuse
from flock_p2p.passphrase import Passphrases
from flock_peers.home import Home, write_new
from flock_peers.store.protection import MAX_DOCUMENT_BYTES, export_protection, import_protection


def run(arguments: argparse.Namespace) -> int:
    home, path = Home(arguments.home), arguments.file.expanduser()
    home.read_key()  # says what is missing before the lock makes a folder
    with home.lock():  # a running peer signs on: its export would be old at once
        key = home.load_key(Passphrases(arguments.passphrase_fd).ask)
        log = home.folder("consensus") / "signer.log"
        lines = _export(home, log, path, key) if arguments.action == "export" else _import(home, log, path, key)
    print("\n".join(lines))
    return 0


def _export(home: Home, log: Path, path: Path, key: Key) -> list[str]:
    write_new(path, export_protection(log, key, home.load_genesis()))
    return [f"exported  {path}  (do not start this home again once another one signs with its key)"]


def _import(home: Home, log: Path, path: Path, key: Key) -> list[str]:
    """Before the first `join`, after which the validator signs: so the home need not belong to a network yet."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise Misuse(f"{path}: {error.strerror}") from error
    genesis = home.load_genesis() if home.genesis_path.exists() else None
    mark, is_contradiction, network = import_protection(log, data, key, genesis)
    lines = [
        f"imported  this validator signs nothing below height {mark}, and nothing against what is remembered there"
    ]
    if is_contradiction:
        lines.insert(0, f"the document and this home contradict each other: height {mark - 1} is closed for good")
    if genesis is None:
        join = f"join --home {shlex.quote(str(home.path))} --bootstrap ADDRESS --genesis {network.hex()}"
        lines.append(f"next      python -m flock_p2p {join}")
    return lines
