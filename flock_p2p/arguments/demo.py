"""The arguments of `demo`."""

import argparse
from pathlib import Path

from flock_p2p.arguments.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = "processes on this machine, 4 to 32 (default: %(default)s)"
    parser.add_argument("--peers", type=int, default=6, help=what)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of training (default: %(default)s)")
    parser.add_argument("--poisoners", type=int, default=1, help="peers that plant a backdoor (default: %(default)s)")
    parser.add_argument(
        "--voting-rule",
        choices=("proposals", "paper"),
        default="proposals",
        help="what voters judge: each proposal, or the aggregate alone as in the FLock papers, where a rejected round "
        "slashes all its proposers; of the latter only equal states are promised (default: %(default)s)",
    )
    what = "of each number of a change that peers exchange (default: %(default)s)"
    parser.add_argument("--bits", type=int, choices=(4, 8), default=8, help=what)
    parser.add_argument("--seed", type=int, help="of keys and local training (default: random, printed)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the outcome as JSON")
    parser.add_argument("--home", type=Path, help="where the peers' homes go (default: flock-demo/TIME)")
    until = "leave the network up at the end, until Ctrl-C or SIGTERM"
    parser.add_argument("--keep-running", action="store_true", help=until)


COMMAND = Command("demo", "a network on this machine that trains, votes and slashes", add_arguments)
