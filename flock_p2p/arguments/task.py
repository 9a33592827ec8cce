"""The arguments of `task`."""

import argparse
from pathlib import Path

from flock_p2p.arguments.command import Command, add_home


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = ("status", "open", "leave", "withdraw", "claim", "pot", "stop")
    parser.add_argument("action", nargs="?", default="status", choices=actions, help="default: status")
    add_home(parser)
    parser.add_argument("--pot", metavar="COINS", help="open: what its rounds pay, from this peer's account")
    what = "open: JSON with some of name, terms, budget, lora, targets (README.md); what it leaves out has a default"
    parser.add_argument("--document", type=Path, metavar="FILE", help=what)
    parser.add_argument("--task", type=int, metavar="N", help="task number (default: your newest)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--wait", type=float, default=3.0, help=argparse.SUPPRESS)


COMMAND = Command("task", "open a task; what a running peer has in one, and orders to take it back", add_arguments)
