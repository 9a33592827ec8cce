"""The arguments of `claim`."""

import argparse

from flock_p2p.arguments.command import Command
from flock_p2p.arguments.stake import add_order


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_order(parser, "claim")
    what = "the validator of a delegation, to claim what that has earned, too"
    parser.add_argument("--account", metavar="ACCOUNT", help=what)


DETAILS = "The same as `stake claim`. What tasks pay, a running peer claims by itself."
COMMAND = Command("claim", "pay out what this peer has earned in consensus", add_arguments, DETAILS)
