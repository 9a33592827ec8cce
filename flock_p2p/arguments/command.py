"""What a command is to the parser, and the arguments that many have. Imports nothing of the project."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DEFAULT_HOME = Path("~/.flock")
MAX_DESCRIPTOR_DIGITS = 7  # fewer than any passphrase has characters

Adder = Callable[[argparse.ArgumentParser], None]


@dataclass(frozen=True)
class Command:
    """What `run` of the module flock_p2p.commands.NAME does, and what it is told."""

    name: str
    help: str
    add_arguments: Adder
    details: str = ""  # of its own --help


def add_home(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--home", type=Path, default=DEFAULT_HOME, help="the peer's directory (default: %(default)s)")


def add_passphrase(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passphrase-fd",
        type=_descriptor,
        metavar="N",
        help="file descriptor to read the passphrase from, a line for each one asked (default: the terminal)",
    )


def _descriptor(text: str) -> int:
    """What is typed here by mistake may be the passphrase, of digits alone, too: it is not repeated."""
    if not (text.isascii() and text.isdigit()) or len(text) > MAX_DESCRIPTOR_DIGITS:
        raise argparse.ArgumentTypeError("the number of a file descriptor is needed, not what can be read from it")
    return int(text)


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def base_folder(text: str) -> Path:
    """Of `--base`: a folder, or NAME@REVISION of the hub, from the local cache."""
    from flock_chain.errors import Misuse
    from flock_peers.training.hub import find_base

    try:
        return find_base(text)
    except Misuse as error:
        raise argparse.ArgumentTypeError(str(error)) from error
