"""Arguments of `abi`."""

import argparse

from flock_contracts.addresses import BY_NAME
from flock_p2p.arguments.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("contract", nargs="?", help=f"one of {', '.join(BY_NAME)} (default: all of them)")


COMMAND = Command("abi", "the genesis contracts' addresses and ABIs, as JSON for Ethereum tools", add_arguments)
