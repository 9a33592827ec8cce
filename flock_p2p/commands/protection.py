"""`protection`: what a stopped validator signed, as a document that moves with its key to another home."""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

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
        found = _export(home, log, path, key) if arguments.action == "export" else _import(home, log, path, key)
    told = format_export if arguments.action == "export" else format_import
    print(json.dumps(found, indent=2) if arguments.json else "\n".join(told(found)))
    return 0


def _export(home: Home, log: Path, path: Path, key: Key) -> dict[str, Any]:
    write_new(path, export_protection(log, key, home.load_genesis()))
    return {"file": str(path), "account": "0x" + key.account.hex()}


def format_export(row: dict[str, Any]) -> list[str]:
    return [f"exported  {row['file']}  (do not start this home again once another one signs with its key)"]


def _import(home: Home, log: Path, path: Path, key: Key) -> dict[str, Any]:
    """Before the first `join`, after which the validator signs: so the home need not belong to a network yet."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise Misuse(f"{path}: {error.strerror}") from error
    genesis = home.load_genesis() if home.genesis_path.exists() else None
    mark, is_contradiction, network = import_protection(log, data, key, genesis)
    return {
        "home": str(home.path), "account": "0x" + key.account.hex(), "genesis": network.hex(), "signs_from": mark,
        "is_contradiction": is_contradiction, "is_of_a_network": genesis is not None,
    }  # fmt: skip


def format_import(row: dict[str, Any]) -> list[str]:
    mark = row["signs_from"]
    lines = [
        f"imported  this validator signs nothing below height {mark}, and nothing against what is remembered there"
    ]
    if row["is_contradiction"]:
        lines.insert(0, f"the document and this home contradict each other: height {mark - 1} is closed for good")
    if not row["is_of_a_network"]:
        join = f"join --home {shlex.quote(row['home'])} --bootstrap ADDRESS --genesis {row['genesis']}"
        lines.append(f"next      python -m flock_p2p {join}")
    return lines
