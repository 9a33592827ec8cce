"""Arguments of `abi`."""

import argparse

from flock_p2p.arguments.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("contract", nargs="?", help="Beacon, Stake, Faucet or TaskBoard (default: all of them)")


COMMAND = Command("abi", "the genesis contracts' addresses and ABIs, as JSON for Ethereum tools", add_arguments)
