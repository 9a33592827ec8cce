"""The arguments of `experiment`."""

import argparse
from pathlib import Path

from flock_p2p.arguments.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="one seed, 8 rounds: about ten minutes of one core")
    parser.add_argument("--methods", metavar="LIST", help="default: fedavg,paper,ours; an unknown name lists them all")
    parser.add_argument("--attacks", metavar="LIST", help="default: none,shared; an unknown name lists them all")
    parser.add_argument("--malicious", default="28", metavar="LIST", help="per cent of the participants (default: 28)")
    parser.add_argument("--seeds", default="1", metavar="LIST", help="of data, draws and triggers (default: 1)")
    parser.add_argument("--rounds", type=int, metavar="N", help="of every run (default: 12, of slow attacks 20)")
    parser.add_argument("--steps", type=int, default=12, metavar="N", help="of a local training (default: %(default)s)")
    parser.add_argument(
        "--base", type=Path, metavar="FOLDER", help="the base model's transformers folder (default: the package's)"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="the rows as a JSON array on standard output")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("flock-experiment"),
        metavar="FOLDER",
        help="rows, CSV and plots; rows that are finished there are not run again (default: %(default)s)",
    )


COMMAND = Command("experiment", "attacks and defences on real trainings, in one process", add_arguments)
