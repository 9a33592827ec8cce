"""The command line: a table of commands. Imports nothing heavy; each command loads what it needs when it runs.

Exit codes: 0 done; 1 a check failed (verify, demo); 2 wrong usage, or something here to be mended first;
3 a peer, port or file is not available; 4 refused, to protect key, stake or disk; 5 another peer sent something wrong.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from flock_chain.errors import FlockError, InvalidRemote, Misuse, Refused, Unavailable
from flock_p2p import __version__
from flock_peers.store.disk import find_trouble

EXIT_CHECK_FAILED, EXIT_MISUSE, EXIT_UNAVAILABLE, EXIT_REFUSED, EXIT_REMOTE = 1, 2, 3, 4, 5
EXIT_PIPE_CLOSED = 141  # as a shell has it for SIGPIPE
DEFAULT_HOME = Path("~/.flock")

SIMULATED_FAULTS = (
    "drop", "duplicate", "delay", "partition", "rounds", "laggard", "crash", "blackout", "corrupt", "lost-signer",
    "slow-disk", "skew", "set-change", "on-demand", "late-work", "bad-blocks", "colluders", "flush",
    "twins", "silent", "mutate", "liar", "split", "flood", "forge",
)  # fmt: skip

Adder = Callable[[argparse.ArgumentParser], None]


@dataclass(frozen=True)
class Command:
    name: str
    help: str
    add_arguments: Adder


def _home(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--home", type=Path, default=DEFAULT_HOME, help="the peer's directory (default: %(default)s)")


def _init(parser: argparse.ArgumentParser) -> None:
    _home(parser)


def _join(parser: argparse.ArgumentParser) -> None:
    _home(parser)
    parser.add_argument(
        "--bootstrap",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="a running peer's address, as it prints it; may be given several times; kept for the next start",
    )
    parser.add_argument(
        "--genesis", metavar="HASH", help="refuse any network but the one with this genesis hash (64 hex digits)"
    )
    parser.add_argument(
        "--checkpoint",
        metavar="HEIGHT:HASH",
        help="a block that you trust, as `status` prints it: start from a snapshot before it, not from the genesis",
    )
    parser.add_argument(
        "--listen", metavar="IP", help="address to listen on; 127.0.0.1: this machine only (default: 0.0.0.0, all)"
    )
    parser.add_argument(
        "--port", type=int, help="TCP port to listen on, 0 for any, the same at the next start (default: 4200)"
    )
    parser.add_argument(
        "--mdns", action=argparse.BooleanOptionalAction, help="find peers of the local network, and be found (default)"
    )
    parser.add_argument(
        "--dht",
        action=argparse.BooleanOptionalAction,
        help="say and ask who has a content in a Kademlia DHT: for networks too large for a full mesh (default: no)",
    )
    parser.add_argument(
        "--relay",
        action=argparse.BooleanOptionalAction,
        help="lend peers that cannot be dialed connections through this one (default: no)",
    )
    parser.add_argument(
        "--via",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="a peer with --relay, through which others reach this one; may be given several times; kept",
    )
    parser.add_argument(
        "--guests", type=int, metavar="N", help="IPFS tools that may fetch manifests and task documents (default: 0)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="private rows: JSONL with text, prompt/completion or messages"
    )
    parser.add_argument(
        "--domain",
        help="instead of --data: made or found text: python, docs, arithmetic, records, logs (default: python)",
    )
    parser.add_argument(
        "--domain-slice",
        type=int,
        metavar="N",
        help="which participant's slice of the domain, 0 to 15 (default: from the account)",
    )
    parser.add_argument("--bond", metavar="COINS", help="how much to bond to the task (default: the task's minimum)")
    parser.add_argument(
        "--observe", action="store_true", default=None, help="follow the chain and serve contents, but bond to no task"
    )
    parser.add_argument("--seed", type=int, help="of local training (default: from the key)")
    parser.add_argument(
        "--disk-quota",
        metavar="GB",
        help="room for adapters, proposals and snapshots (default: 8.6); kept for the next start",
    )
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    parser.add_argument("--until-stdin-closes", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--quiet", action="store_true", help="log to the home's peer.log only")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", type=int, default=6, help="processes on this machine (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of training (default: %(default)s)")
    parser.add_argument("--poisoners", type=int, default=1, help="peers that plant a backdoor (default: %(default)s)")
    parser.add_argument(
        "--voting-rule",
        choices=("proposals", "paper"),
        default="proposals",
        help="what voters judge: each proposal, or the aggregate alone as in the FLock papers, where a rejected round "
        "slashes all its proposers; of the latter only equal states are promised (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, help="of keys and local training (default: random, printed)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the outcome as JSON")
    parser.add_argument("--home", type=Path, help="where the peers' homes go (default: flock-demo/TIME)")
    parser.add_argument("--keep-running", action="store_true", help="leave the network up at the end, until Ctrl-C")


def _status(parser: argparse.ArgumentParser) -> None:
    _home(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _export(parser: argparse.ArgumentParser) -> None:
    _home(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="a new or empty folder for the PEFT adapter"
    )
    parser.add_argument("--task", type=int, help="task number (default: the last one whose adapter is here)")
    parser.add_argument("--round", type=int, help="the global adapter after this round (default: the last one)")


def _verify(parser: argparse.ArgumentParser) -> None:
    _home(parser)
    parser.add_argument("--genesis", metavar="HASH", help="the genesis hash that the home must have (64 hex digits)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _stake(parser: argparse.ArgumentParser) -> None:
    own = ("status", "add", "remove", "withdraw", "unjail", "admit", "settle", "claim", "terms")
    others = ("delegate", "undelegate", "withdraw-delegation", "claim-delegation", "share")
    parser.add_argument("action", nargs="?", default="status", choices=own + others, help="default: status")
    _home(parser)
    amount = "how much; admit: up to which weight, 0 expels; terms: the most that others may bond with this validator"
    parser.add_argument("--amount", metavar="COINS", help=amount)
    account = "admit: whom; settle: who was convicted; of a delegation: the validator"
    parser.add_argument("--account", metavar="ACCOUNT", help=account)
    parser.add_argument("--commission", type=int, metavar="BPS", help="terms: of the delegators' rewards, in 1/10000")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--wait", type=float, default=15.0, help=argparse.SUPPRESS)


def _task(parser: argparse.ArgumentParser) -> None:
    actions = ("status", "open", "leave", "withdraw", "claim", "pot", "stop")
    parser.add_argument("action", nargs="?", default="status", choices=actions, help="default: status")
    _home(parser)
    parser.add_argument("--pot", metavar="COINS", help="open: what its rounds pay, from this peer's account")
    what = "open: JSON with some of name, terms, budget, lora, targets (README.md); what it leaves out has a default"
    parser.add_argument("--document", type=Path, metavar="FILE", help=what)
    parser.add_argument("--task", type=int, metavar="N", help="task number (default: your newest)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--wait", type=float, default=3.0, help=argparse.SUPPRESS)


def _rules(parser: argparse.ArgumentParser) -> None:
    actions = ("show", "propose", "approve", "enact")
    parser.add_argument("action", nargs="?", default="show", choices=actions, help="default: show")
    _home(parser)
    parser.add_argument("--document", type=Path, metavar="FILE", help="propose: to make; approve: as it was agreed on")
    parser.add_argument("--set", action="append", metavar="NAME=NUMBER", help="propose: a number to change; repeatable")
    parser.add_argument("--hash", metavar="HASH", help="approve: the document's hash, as the operators agreed on it")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--wait", type=float, default=15.0, help=argparse.SUPPRESS)


def _send(parser: argparse.ArgumentParser) -> None:
    _home(parser)
    parser.add_argument("--to", required=True, metavar="ACCOUNT", help="whose coins they will be")
    parser.add_argument("--amount", required=True, metavar="COINS", help="how much")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--wait", type=float, default=15.0, help=argparse.SUPPRESS)


def _protection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("export", "import"), help="write the document, or merge one into this home")
    parser.add_argument("file", type=Path, metavar="FILE", help="the document (JSON)")
    _home(parser)


def _restart(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("propose", "apply"), help="make a document, or install an agreed one")
    _home(parser)
    parser.add_argument("--document", type=Path, required=True, metavar="FILE", help="the restart document")
    parser.add_argument("--without", action="append", metavar="ACCOUNT", help="propose: a validator that is gone")
    parser.add_argument("--hash", metavar="HASH", help="apply: the document's hash, as the operators agreed on it")


def _simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule (default: %(default)s)")
    parser.add_argument("--schedules", type=int, metavar="N", help="how many (default: 100)")
    parser.add_argument("--validators", type=int, metavar="N", help="in every schedule (default: 4 to 7, mixed)")
    parser.add_argument(
        "--faults",
        metavar="LIST",
        help="'all' for a mix (default), 'none', or names to have exactly those: " + ", ".join(SIMULATED_FAULTS),
    )
    parser.add_argument("--executor", action="store_true", help="real keys, contracts and EVM: about one a second")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    parser.add_argument("--log", action="store_true", help="print every event of the schedules (default: of one)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--prove", action="store_true", help="instead: explore the abstract protocol exhaustively")
    mode.add_argument("--mutants", action="store_true", help="instead: wrong validators, and what convicts each")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _upgrade(parser: argparse.ArgumentParser) -> None:
    _home(parser)
    parser.add_argument(
        "--install", type=Path, metavar="FILE", help="an upgrade schedule that this network's operators agreed on"
    )


def _doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--package", action="store_true", help="check that the installed package is whole")


COMMANDS: tuple[Command, ...] = (
    Command("init", "make a home and its key", _init),
    Command("join", "join a network, or go on where this home stopped", _join),
    Command("demo", "a network on this machine that trains, votes and slashes", _demo),
    Command("status", "what a running peer does", _status),
    Command("export", "write the global adapter as a PEFT folder", _export),
    Command("verify", "replay a home's chain and recompute every verdict and adapter", _verify),
    Command("stake", "what a running peer has at stake in consensus, and orders to change it", _stake),
    Command("task", "open a task; what a running peer has in one, and orders to take it back", _task),
    Command("send", "coins from a running peer's account to another one", _send),
    Command("rules", "the task board's numbers, and a validator's voice for others", _rules),
    Command("protection", "what this validator signed, to move with its key to another home", _protection),
    Command("restart", "go on with a chain that halted because too many validators are gone for good", _restart),
    Command("simulate", "try to break consensus: seeded faults, all properties checked", _simulate),
    Command("upgrade", "which rules hold from which epoch on; install what was agreed on", _upgrade),
    Command("doctor", "check this installation", _doctor),
)  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flock_p2p",
        description="Fine-tune a language model together with people you do not trust, with no server in the middle.",
        epilog="Exit codes: 0 done, 1 check failed, 2 wrong usage, 3 not available, 4 refused, 5 another peer's fault.",
    )
    parser.add_argument("--version", action="version", version=f"flock_p2p {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_arguments(commands.add_parser(command.name, help=command.help, description=command.help))
    return parser


def _exit_code(error: FlockError) -> int:
    for kind, code in ((InvalidRemote, EXIT_REMOTE), (Refused, EXIT_REFUSED), (Unavailable, EXIT_UNAVAILABLE)):
        if isinstance(error, kind):
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
        print(f"flock_p2p {arguments.command}: {cause}", file=sys.stderr)
        return _exit_code(cause)


def parse_coins(text: str) -> int:
    """An amount in coins, such as 5 or 2.5, in wei."""
    whole, _, part = text.partition(".")
    if not (whole.isascii() and (whole + part).isdigit() and part.isascii()) or len(part) > 18 or len(whole) > 20:
        raise Misuse(f"{text!r} is no amount in coins, such as 5 or 2.5")
    return int(whole) * 10**18 + int(part.ljust(18, "0") or 0)


def format_coins(wei: int) -> str:
    return f"{wei / 10**18:.4f}"


def parse_account(text: str) -> bytes:
    """40 hex digits, with or without 0x."""
    try:
        value = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        value = b""
    if len(value) != 20:
        raise Misuse(f"{text!r} is no account: 40 hex digits")
    return value
