"""The arguments of `peers`."""

import argparse

from flock_p2p.arguments.command import Command, add_home, add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    add_json(parser)


COMMAND = Command("peers", "who is connected to a running peer, from where, and with how much traffic", add_arguments)
