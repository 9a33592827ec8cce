"""The arguments of `send`."""

import argparse

from flock_p2p.arguments.command import Command, add_home


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    parser.add_argument("--to", required=True, metavar="ACCOUNT", help="whose coins they will be")
    parser.add_argument("--amount", required=True, metavar="COINS", help="how much")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--wait", type=float, default=15.0, help=argparse.SUPPRESS)


COMMAND = Command("send", "coins from a running peer's account to another one", add_arguments)
