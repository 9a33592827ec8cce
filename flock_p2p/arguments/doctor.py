"""The arguments of `doctor`."""

import argparse
from pathlib import Path

from flock_p2p.arguments.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--package", action="store_true", help="only check that the installed package is whole")
    parser.add_argument("--base", type=Path, metavar="FOLDER", help="what training on this base model takes of memory")
    parser.add_argument("--rank", type=int, default=8, help="of the LoRA adapter (default: %(default)s)")
    parser.add_argument("--batch", type=int, metavar="N", help="sequences a step (default: a task's default)")
    parser.add_argument("--seq-len", type=int, metavar="N", help="tokens of a sequence (default: a task's default)")
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "int8", "int4"),
        default="auto",
        help="of the base model in memory (default: %(default)s)",
    )
    parser.add_argument("--checkpointing", action="store_true", help="compute layers twice instead of keeping them")


COMMAND = Command("doctor", "check this installation, and whether a base model fits", add_arguments)
