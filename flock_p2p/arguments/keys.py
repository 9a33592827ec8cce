"""The arguments of `keys`."""

import argparse
from pathlib import Path

from flock_p2p.arguments.command import Command, add_home, add_json, add_passphrase


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = ("show", "lock", "unlock", "export", "import")
    parser.add_argument("action", nargs="?", default="show", choices=actions, help="default: show")
    add_home(parser)
    parser.add_argument(
        "--file", type=Path, help="export: the new keystore; import: one, or a key file of another home"
    )
    add_passphrase(parser)
    add_json(parser)


COMMAND = Command(
    "keys",
    "show, lock, export or import a home's key",
    add_arguments,
    "A keystore is Ethereum's, version 3 with scrypt: other tools open it, and theirs are imported here. lock puts the "
    "home's own key under a passphrase, which `join` then asks for; unlock takes it away again.",
)
