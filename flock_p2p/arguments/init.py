"""The arguments of `init`."""

import argparse

from flock_p2p.arguments.command import Command, add_home, add_json, add_passphrase


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    parser.add_argument(
        "--new-network",
        metavar="NAME",
        help="write the genesis of a new network, too, with this home's key, which may be there already, as its "
        "first validator",
    )
    parser.add_argument(
        "--founder",
        action="append",
        default=[],
        metavar="ACCOUNT:VRFKEY",
        help="of a new network: one more first validator, as its `keys` prints it; may be given several times",
    )
    parser.add_argument(
        "--faucet", metavar="COINS", help="of a new network: what its faucet has for newcomers (default: 10000)"
    )
    parser.add_argument(
        "--delays",
        choices=("short", "long"),
        help="of a new network: short, as a demo's: stake is free after 10 minutes, each peer serves one newcomer of "
        "the faucet a minute (default); long: 7 days, and one an hour",
    )
    add_passphrase(parser)
    add_json(parser)


COMMAND = Command(
    "init",
    "make a home and its key, and where it is told to the genesis of a new network",
    add_arguments,
    "A home is of one network for ever: where it has a genesis, none is written. `join --home HOME` then starts the "
    "new network, and prints the address for others.",
)
