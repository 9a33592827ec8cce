"""The arguments of `task`."""

import argparse
from pathlib import Path

from flock_p2p.arguments.command import Command, add_home, base_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shown, new = ("list", "show", "status", "reference"), ("create", "open")
    own = (*shown, *new, "leave", "withdraw", "claim", "pot", "stop", "terms")
    others = ("delegate", "undelegate", "withdraw-delegation", "claim-delegation")
    what = "list: all tasks; show, status: yours (default); reference: its public text; create, open: a new one; "
    what += "leave: be drawn no more, and let the bond unbond; withdraw: pay out what has unbonded; claim: what it "
    what += "earned; pot: the rest of yours that has ended; stop: no extra rounds of yours; terms, and what follows it "
    what += "here: delegation (docs/validators.md)"
    parser.add_argument("action", nargs="?", default="status", choices=own + others, help=what)
    add_home(parser)
    parser.add_argument("--pot", metavar="COINS", help="create: what its rounds pay, from this peer's account")
    keys = "name, terms, budget, lora, targets, data, bits, server_lr_thousandths"
    what = f"create: JSON with some of {keys} (docs/models.md); what it leaves out has a default"
    parser.add_argument("--document", type=Path, metavar="FILE", help=what)
    what = "create: publish the base model in this transformers folder, or NAME@REVISION of the Hugging Face hub from "
    what += "this machine's cache, and train it (default: join's --base)"
    parser.add_argument("--model", type=base_folder, metavar="FOLDER", help=what)
    what = "create: the rows that a participant brings (default: any, or the document's)"
    parser.add_argument("--data-format", choices=("any", "text", "completions", "chat"), help=what)
    what = "create: publish this plain text, at most 64 KiB: a few rows of each domain that the task is about. What it "
    what += "repeats no audit takes for a backdoor"
    parser.add_argument("--reference", type=Path, metavar="FILE", help=what)
    parser.add_argument("--rounds", type=int, metavar="N", help="create: of training (default: 3, or the document's)")
    what = "create: an audit for backdoors after every N rounds (default: none, or the document's)"
    parser.add_argument("--audit-rounds", type=int, metavar="N", help=what)
    parser.add_argument("--name", help="create: of the task, for people (default: the document's)")
    amount = "how much; terms: the most that others may bond with this account; undelegate: without it all"
    parser.add_argument("--amount", metavar="COINS", help=amount)
    parser.add_argument("--account", metavar="ACCOUNT", help="of a delegation: the participant")
    parser.add_argument("--commission", type=int, metavar="BPS", help="terms: of the delegators' pay, in 1/10000")
    what = "task number (default: your newest that the order is about; reference: the newest of all)"
    parser.add_argument("--task", type=int, metavar="N", help=what)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--wait", type=float, default=3.0, help=argparse.SUPPRESS)


HELP = "open a task; what a running peer has in one, orders to take it back, and to delegate"
COMMAND = Command("task", HELP, add_arguments)
