"""The arguments of `simulate`."""

import argparse

from flock_p2p.arguments.command import Command

SIMULATED_FAULTS = (
    "drop", "duplicate", "delay", "partition", "rounds", "laggard", "crash", "blackout", "corrupt", "lost-signer",
    "slow-disk", "skew", "set-change", "on-demand", "late-work", "bad-blocks", "colluders", "flush",
    "twins", "silent", "mutate", "liar", "split", "flood", "forge",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule (default: %(default)s)")
    parser.add_argument("--schedules", type=int, metavar="N", help="how many (default: 100)")
    parser.add_argument("--validators", type=int, metavar="N", help="in every schedule (default: 4 to 7, mixed)")
    parser.add_argument(
        "--faults",
        metavar="LIST",
        help="'all' for a mix (default), 'none', or names to have exactly those: " + ", ".join(SIMULATED_FAULTS),
    )
    parser.add_argument("--executor", action="store_true", help="real keys, contracts and EVM: about one a second")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    parser.add_argument("--log", action="store_true", help="print every event of the schedules (default: of one)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--prove", action="store_true", help="instead: explore the abstract protocol exhaustively")
    mode.add_argument("--mutants", action="store_true", help="instead: wrong validators, and what convicts each")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


COMMAND = Command("simulate", "try to break consensus: seeded faults, all properties checked", add_arguments)
