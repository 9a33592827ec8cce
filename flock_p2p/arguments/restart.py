"""The arguments of `restart`."""

import argparse
from pathlib import Path

from flock_p2p.arguments.command import Command, add_home, add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("propose", "apply"), help="make a document, or install an agreed one")
    add_home(parser)
    parser.add_argument("--document", type=Path, required=True, metavar="FILE", help="the restart document")
    parser.add_argument("--without", action="append", metavar="ACCOUNT", help="propose: a validator that is gone")
    parser.add_argument("--hash", metavar="HASH", help="apply: the document's hash, as the operators agreed on it")
    add_json(parser)


COMMAND = Command(
    "restart", "go on with a chain that halted because too many validators are gone for good", add_arguments
)
