"""The arguments of `watch`."""

import argparse

from flock_p2p.arguments.command import Command, add_home

DETAILS = (
    "On a terminal one screen that is drawn anew; elsewhere one line for each change. It asks the peer and changes "
    "nothing; Ctrl-C ends it, the peer goes on."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line, as `status --json` has it")
    parser.add_argument(
        "--every", type=float, default=1.0, metavar="SECONDS", help="between two questions (default: %(default)s)"
    )
    parser.add_argument("--until-ended", action="store_true", help="end when the task has ended")


COMMAND = Command("watch", "follow a running peer: round, phase, loss, peers, transfers, log", add_arguments, DETAILS)
