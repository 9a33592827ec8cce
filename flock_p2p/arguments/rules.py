"""The arguments of `rules`."""

import argparse
from pathlib import Path

from flock_p2p.arguments.command import Command, add_home


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = ("show", "propose", "approve", "enact")
    parser.add_argument("action", nargs="?", default="show", choices=actions, help="default: show")
    add_home(parser)
    parser.add_argument("--document", type=Path, metavar="FILE", help="propose: to make; approve: as it was agreed on")
    parser.add_argument("--set", action="append", metavar="NAME=NUMBER", help="propose: a number to change; repeatable")
    parser.add_argument("--hash", metavar="HASH", help="approve: the document's hash, as the operators agreed on it")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--wait", type=float, default=15.0, help=argparse.SUPPRESS)


COMMAND = Command("rules", "the task board's numbers, and a validator's voice for others", add_arguments)
