"""The table of commands: their names, in the order of `--help`; each module here holds the arguments of one.

Nothing here imports more than argparse. `flock_p2p.commands` holds what they do, loaded when one runs.
"""

from importlib import import_module

from flock_p2p.arguments.command import Command

NAMES = (
    "init",
    "join",
    "demo",
    "status",
    "log",
    "peers",
    "watch",
    "export",
    "merge",
    "verify",
    "stake",
    "unstake",
    "delegate",
    "claim",
    "task",
    "send",
    "rules",
    "keys",
    "protection",
    "restart",
    "simulate",
    "experiment",
    "upgrade",
    "abi",
    "doctor",
    "completion",
)


def load_commands() -> tuple[Command, ...]:
    return tuple(import_module(f"flock_p2p.arguments.{name}").COMMAND for name in NAMES)
