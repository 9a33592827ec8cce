"""The arguments of `export`."""

import argparse
from pathlib import Path

from flock_p2p.arguments.command import Command, add_home, add_json, base_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="a new or empty folder for the PEFT adapter"
    )
    parser.add_argument("--task", type=int, help="task number (default: the last one whose adapter is here)")
    parser.add_argument("--round", type=int, help="the global adapter after this round (default: the last one)")
    parser.add_argument(
        "--base",
        type=base_folder,
        metavar="FOLDER",
        help="the base model's folder (default: as the peer was told, see join)",
    )
    add_json(parser)


COMMAND = Command("export", "write the global adapter as a PEFT folder", add_arguments)
