"""The arguments of `doctor`."""

import argparse

from flock_p2p.arguments.command import Command, add_home, base_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    parser.add_argument("--genesis", metavar="HASH", help="the network that the home must belong to (64 hex digits)")
    parser.add_argument(
        "--bootstrap",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="ask this peer, whether or not the home's own runs; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--package", action="store_true", help="only check that the installed package is whole")
    parser.add_argument(
        "--base", type=base_folder, metavar="FOLDER", help="what training on this base model takes of memory"
    )
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
    parser.add_argument("--gpus", type=int, default=0, metavar="N", help="GPUs to share it (default: one, if any)")


DETAILS = (
    "Looks at the package, the memory, the disk, the home, its port, the clock (of a running peer, against the blocks "
    "of others), the local network and the peers that it was told of, and says what to do. Exit code 1 where something "
    "would keep a peer from its work. With --base only the package, and what training on that model takes."
)

COMMAND = Command("doctor", "find out what keeps a peer from its work, and what to do", add_arguments, DETAILS)
