"""The arguments of `init`."""

import argparse

from flock_p2p.arguments.command import Command, add_home, add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    add_json(parser)


COMMAND = Command("init", "make a home and its key", add_arguments)
