"""The arguments of `verify`."""

import argparse
from pathlib import Path

from flock_p2p.arguments.command import Command, add_home


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    parser.add_argument(
        "--provenance",
        type=Path,
        metavar="PATH",
        help="instead of a home: an exported folder, or the provenance.json in it; needs neither network nor home",
    )
    parser.add_argument("--genesis", metavar="HASH", help="the genesis hash that it must have (64 hex digits)")
    parser.add_argument(
        "--restart",
        action="append",
        default=[],
        metavar="HASH",
        help="with --provenance and --genesis: a restart document of that network that you trust, too; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


COMMAND = Command("verify", "replay a home's chain and recompute every verdict and adapter", add_arguments)
