"""The arguments of `status`."""

import argparse

from flock_p2p.arguments.command import Command, add_home


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


COMMAND = Command("status", "what a running peer does", add_arguments)
