"""`completion`: a script for the shell."""

import argparse
import sys

from flock_p2p.arguments.walk import walk
from flock_p2p.cli import build_parser
from flock_p2p.completion import render


def run(arguments: argparse.Namespace) -> int:
    sys.stdout.write(render(arguments.shell, walk(build_parser())))
    return 0
