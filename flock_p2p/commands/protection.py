"""`protection`: what a stopped validator signed, as a document that moves with its key to another home."""

import argparse

from flock_chain.errors import Misuse
from flock_p2p.passphrase import Passphrases
from flock_peers.home import Home, write_new
from flock_peers.store.protection import MAX_DOCUMENT_BYTES, export_protection, import_protection


def run(arguments: argparse.Namespace) -> int:
    home = Home(arguments.home)
    home.read_key()  # says what is missing before the lock makes a folder
    with home.lock():  # a running peer signs on: its export would be old at once
        key, genesis = home.load_key(Passphrases(arguments.passphrase_fd).ask), home.load_genesis()
        log = home.folder("consensus") / "signer.log"
        if arguments.action == "export":
            write_new(arguments.file.expanduser(), export_protection(log, key, genesis))
            print(f"exported  {arguments.file}  (do not start this home again once another one signs with its key)")
            return 0
        try:
            with arguments.file.expanduser().open("rb") as file:
                data = file.read(MAX_DOCUMENT_BYTES + 1)
        except OSError as error:
            raise Misuse(f"{arguments.file}: {error.strerror}") from error
        mark, is_contradiction = import_protection(log, data, key, genesis)
    if is_contradiction:
        print(f"the document and this home contradict each other: height {mark - 1} is closed for good")
    print(f"imported  this validator signs nothing below height {mark}, and nothing against what is remembered there")
    return 0
