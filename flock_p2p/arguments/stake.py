"""The arguments of `stake`."""

import argparse

from flock_p2p.arguments.command import Command, add_home

WAIT_SECONDS = 15.0  # for an order to be final


def add_arguments(parser: argparse.ArgumentParser) -> None:
    own = ("status", "add", "remove", "withdraw", "unjail", "admit", "settle", "claim", "terms")
    others = ("delegate", "undelegate", "withdraw-delegation", "claim-delegation", "share")
    what = "default: status; what each does: docs/validators.md#orders"
    parser.add_argument("action", nargs="?", default="status", choices=own + others, help=what)
    add_home(parser)
    amount = "how much; admit: up to which weight, 0 expels; terms: the most that others may bond with this validator"
    parser.add_argument("--amount", metavar="COINS", help=amount)
    account = "admit: whom; settle: who was convicted; of a delegation: the validator"
    parser.add_argument("--account", metavar="ACCOUNT", help=account)
    parser.add_argument("--commission", type=int, metavar="BPS", help="terms: of the delegators' rewards, in 1/10000")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--wait", type=float, default=WAIT_SECONDS, help=argparse.SUPPRESS)


def add_order(parser: argparse.ArgumentParser, action: str, *, amount: str = "", account: str = "") -> None:
    """Of a command that is one order of `stake`; what has a help is required."""
    add_home(parser)
    parser.set_defaults(action=action, amount=None, account=None, commission=None)
    if amount:
        parser.add_argument("--amount", metavar="COINS", required=True, help=amount)
    if account:
        parser.add_argument("--account", metavar="ACCOUNT", required=True, help=account)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--wait", type=float, default=WAIT_SECONDS, help=argparse.SUPPRESS)


COMMAND = Command("stake", "what a running peer has at stake in consensus, and orders to change it", add_arguments)
