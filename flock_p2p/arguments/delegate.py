"""The arguments of `delegate`."""

import argparse

from flock_p2p.arguments.command import Command
from flock_p2p.arguments.stake import add_order


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_order(parser, "delegate", amount="how much", account="the validator")


DETAILS = (
    "The same as `stake delegate`; `stake undelegate` begins the way back. With a task's participant: `task delegate`."
)
COMMAND = Command("delegate", "bond coins with a validator, and share what it earns and loses", add_arguments, DETAILS)
