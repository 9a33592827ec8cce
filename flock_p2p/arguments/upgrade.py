"""The arguments of `upgrade`."""

import argparse
from pathlib import Path

from flock_p2p.arguments.command import Command, add_home, add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    parser.add_argument(
        "--install", type=Path, metavar="FILE", help="an upgrade schedule that this network's operators agreed on"
    )
    add_json(parser)


COMMAND = Command("upgrade", "which rules hold from which epoch on; install what was agreed on", add_arguments)
