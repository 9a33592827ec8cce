"""The arguments of `merge`."""

import argparse
from pathlib import Path

from flock_p2p.arguments.command import Command, add_json, base_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--adapter", type=Path, required=True, metavar="FOLDER", help="what `export` wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new or empty folder for the model")
    parser.add_argument(
        "--base",
        type=base_folder,
        metavar="FOLDER",
        help="the base model's transformers folder (default: the package's)",
    )
    parser.add_argument(
        "--precision",
        choices=("base", "float32"),
        default="base",
        help="of the weights that are written: the base model's own, or float32, which rounds nothing "
        "(default: %(default)s)",
    )
    add_json(parser)


COMMAND = Command("merge", "write base model and adapter as one plain transformers folder", add_arguments)
