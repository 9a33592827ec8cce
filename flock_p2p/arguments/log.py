"""The arguments of `log`."""

import argparse

from flock_p2p.arguments.command import Command, add_home

LEVELS = ("debug", "info", "warning", "error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    parser.add_argument("--lines", type=int, default=20, metavar="N", help="the last so many (default: %(default)s)")
    parser.add_argument("--level", choices=LEVELS, default="debug", help="that and above (default: %(default)s)")
    parser.add_argument("--follow", action="store_true", help="go on with what is written, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="a JSON object a line: at, level, source, text")


COMMAND = Command("log", "the last lines of a peer's log, and what comes next", add_arguments)
