"""The arguments of `unstake`."""

import argparse

from flock_p2p.arguments.command import Command
from flock_p2p.arguments.stake import add_order


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_order(parser, "remove", amount="how much; everything: leave the set")


DETAILS = (
    "The same as `stake remove`; `stake` shows when it is free, `stake withdraw` takes it back. Where less is left "
    "than a seat takes, the answer says until when the seat lasts, and what keeps it or gives it back."
)
COMMAND = Command("unstake", "start to take this peer's own stake out of consensus", add_arguments, DETAILS)
