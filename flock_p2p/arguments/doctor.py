"""The arguments of `doctor`."""

import argparse

from flock_p2p.arguments.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--package", action="store_true", help="check that the installed package is whole")


COMMAND = Command("doctor", "check this installation", add_arguments)
