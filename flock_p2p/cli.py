"""The command line: parses, runs one command, and makes an exit code of what went wrong.

Imports nothing heavy; the table of commands is flock_p2p.arguments, and each loads what it needs when it runs.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from flock_chain.errors import FlockError, InvalidRemote, Misuse, Refused, Unavailable
from flock_p2p import __version__
from flock_p2p.advice import explain
from flock_p2p.arguments import load_commands
from flock_p2p.suggestions import SuggestingParser
from flock_peers.declined import Declined
from flock_peers.store.disk import find_trouble

EXIT_CHECK_FAILED, EXIT_MISUSE, EXIT_UNAVAILABLE, EXIT_REFUSED, EXIT_REMOTE = 1, 2, 3, 4, 5
EXIT_PIPE_CLOSED = 141  # as a shell has it for SIGPIPE
EXIT_CODES = """\
exit codes:
  0    done
  1    a check failed (verify, demo, doctor)
  2    wrong usage, or something here to be mended first
  3    a peer, port or file is not available
  4    refused, to protect key, stake or disk
  5    another peer sent something wrong
  130  stopped by Ctrl-C before it was done
"""
PROGRAM = "flock-p2p"  # as a package installs it, and so as it can be typed
COMMANDS = load_commands()


class _Formatter(argparse.HelpFormatter):
    """Wraps a description at the terminal's width; the table of exit codes stays as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text.rstrip() if text == EXIT_CODES else super()._fill_text(text, width, indent)


def build_parser() -> argparse.ArgumentParser:
    parser = SuggestingParser(
        prog=PROGRAM,
        description="Fine-tune a language model together with people you do not trust, with no server in the middle.",
        epilog=EXIT_CODES,
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_arguments(
            commands.add_parser(
                command.name,
                help=command.help,
                description=f"{command.help[:1].upper()}{command.help[1:]}. {command.details}".strip(),
                epilog=EXIT_CODES,
                formatter_class=_Formatter,
            )
        )
    return parser


def _exit_code(error: FlockError) -> int:
    found = error.kind if isinstance(error, Declined) else type(error)
    for kind, code in ((InvalidRemote, EXIT_REMOTE), (Refused, EXIT_REFUSED), (Unavailable, EXIT_UNAVAILABLE)):
        if issubclass(found, kind):
            return code
    return EXIT_MISUSE


def find_cause(error: BaseException) -> FlockError | None:
    """The first error of ours, or of the disk, in an error or in a group of them."""
    if isinstance(error, FlockError):
        return error
    if isinstance(error, OSError):
        return find_trouble(error)
    if isinstance(error, BaseExceptionGroup):
        return next((found for part in error.exceptions if (found := find_cause(part))), None)
    return None


def _is_interrupt(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_is_interrupt(part) for part in error.exceptions)
    return isinstance(error, KeyboardInterrupt)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run one command; returns the exit code. An error of ours is one line, never a traceback."""
    arguments = build_parser().parse_args(argv)
    try:
        code: int = import_module(f"flock_p2p.commands.{arguments.command}").run(arguments)
        sys.stdout.flush()  # where nobody reads any more, this says so, not the end of the interpreter
        return code
    except BrokenPipeError:  # such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE_CLOSED
    except (FlockError, OSError, KeyboardInterrupt, BaseExceptionGroup) as error:
        if _is_interrupt(error):
            return 130
        cause = find_cause(error)
        if cause is None:
            raise
        said = str(cause).removeprefix(f"{arguments.command}: ")  # a peer's answer names the command, too
        print(f"{PROGRAM} {arguments.command}: {explain(said)}", file=sys.stderr)
        return _exit_code(cause)


def parse_coins(text: str) -> int:
    """An amount in coins, such as 5 or 2.5, in wei."""
    whole, _, part = text.partition(".")
    if not (whole.isascii() and (whole + part).isdigit() and part.isascii()) or len(part) > 18 or len(whole) > 20:
        raise Misuse(f"{text!r} is no amount in coins, such as 5 or 2.5")
    return int(whole or 0) * 10**18 + int(part.ljust(18, "0") or 0)


def _parse_hex(text: str, size: int) -> bytes | None:
    """`size` bytes, with or without 0x; None where it is anything else."""
    try:
        value = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        return None
    return value if len(value) == size else None


def parse_genesis_hash(text: str | None) -> bytes | None:
    """Of --genesis: 64 hex digits, with or without 0x."""
    if text is None:
        return None
    value = _parse_hex(text, 32)
    if value is None:
        raise Misuse(f"--genesis {text}: a genesis hash is 64 hex digits")
    return value


def parse_account(text: str) -> bytes:
    """40 hex digits, with or without 0x."""
    value = _parse_hex(text, 20)
    if value is None:
        raise Misuse(f"{text!r} is no account: 40 hex digits")
    return value
