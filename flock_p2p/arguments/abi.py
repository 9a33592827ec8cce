"""Arguments of `abi`."""

import argparse

from flock_contracts.addresses import BY_NAME
from flock_p2p.arguments.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = f"one of {', '.join(BY_NAME)} (default: all of them)"
    parser.add_argument("contract", nargs="?", metavar="CONTRACT", choices=tuple(BY_NAME), help=what)


COMMAND = Command("abi", "the genesis contracts' addresses and ABIs, as JSON for Ethereum tools", add_arguments)
