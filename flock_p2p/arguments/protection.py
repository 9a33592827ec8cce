"""The arguments of `protection`."""

import argparse
from pathlib import Path

from flock_p2p.arguments.command import Command, add_home, add_json, add_passphrase


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("export", "import"), help="write the document, or merge one into this home")
    add_home(parser)
    parser.add_argument("--file", type=Path, required=True, help="export: the new document (JSON); import: one")
    add_passphrase(parser)
    add_json(parser)


COMMAND = Command("protection", "what this validator signed, to move with its key to another home", add_arguments)
