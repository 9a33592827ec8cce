"""`rules`: the numbers of the task board, and a validator's voice for others."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from flock_chain.board_rules import MAX_DOCUMENT_BYTES, NAMES, BoardRules, decode_board_rules
from flock_chain.errors import Misuse, Refused
from flock_peers.control import request_control
from flock_peers.home import Home, write_new

POLL_SECONDS = 0.3


def run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    home = Home(arguments.home)
    if arguments.action == "propose":
        return _propose(home, arguments)
    if arguments.action == "approve":
        document = _read(arguments.document, home, arguments.hash)
        return _order(home, arguments, rules={name: str(document.numbers[name]) for name in NAMES})
    if arguments.action == "enact":
        return _order(home, arguments)
    return _show(home, arguments)


def _check(arguments: argparse.Namespace) -> None:
    action = arguments.action
    for option, value, actions in (
        ("--set NAME=NUMBER", arguments.set, ("propose",)),
        ("--document FILE", arguments.document, ("propose", "approve")),
        ("--hash HASH", arguments.hash, ("approve",)),
    ):
        if action in actions and not value:
            raise Misuse(f"rules {action} needs {option}")
        if action not in actions and value:
            raise Misuse(f"rules {action} takes no {option.split()[0]}; only {', '.join(actions)}")


def _propose(home: Home, arguments: argparse.Namespace) -> int:
    genesis = home.load_genesis()
    status = request_control(home.control_path, "rules", action="status")
    present = BoardRules(genesis.hash, {name: int(status["rules"][name]) for name in NAMES})
    wanted = present.change(dict(map(_parse_change, arguments.set)))
    if wanted == present:
        raise Misuse("rules propose: these numbers are in force already")
    write_new(arguments.document, wanted.encode())
    print(f"network   {genesis.network}, genesis {genesis.hash.hex()}")
    for name in NAMES:
        if wanted.numbers[name] != present.numbers[name]:
            print(f"changes   {name} from {present.numbers[name]} to {wanted.numbers[name]}")
    print(f"document  {arguments.document}\nhash      {wanted.hash.hex()}\n")
    print("Nothing has changed yet. More than two thirds of the serving set must approve the same document, by")
    print(f"python -m flock_p2p rules approve --home HOME --document FILE --hash {wanted.hash.hex()}")
    return 0


def _parse_change(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not number.isascii() or not number.isdigit() or len(number) > 77:
        raise Misuse(f"{text!r} is no change of a number, such as missed_reveal_slash=200")
    return name, int(number)


def _read(path: Path, home: Home, wanted: str) -> BoardRules:
    try:
        with path.expanduser().open("rb") as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise Misuse(f"{path}: {error.strerror}") from error
    document = decode_board_rules(data)
    if document.hash.hex() != wanted.lower().removeprefix("0x"):
        raise Refused(f"{path}: its hash is {document.hash.hex()}, not the one that you gave")
    if document.genesis_hash != home.load_genesis().hash:
        raise Refused(f"{path}: it is for another network, genesis {document.genesis_hash.hex()}")
    return document


def _order(home: Home, arguments: argparse.Namespace, **params: Any) -> int:
    sent = request_control(home.control_path, "rules", action=arguments.action, **params)["sent"]
    said = "sent" if sent else "the same order is under way already"
    deadline = time.monotonic() + arguments.wait
    while (status := request_control(home.control_path, "rules", action="status"))["under_way"]:
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    said += "; not final yet: `rules` shows what it changed" if status["under_way"] else "; it is final"
    print(said, file=sys.stderr if arguments.json else sys.stdout)
    return _print(status, arguments)


def _show(home: Home, arguments: argparse.Namespace) -> int:
    return _print(request_control(home.control_path, "rules", action="status"), arguments)


def _print(status: dict[str, Any], arguments: argparse.Namespace) -> int:
    print(json.dumps(status, indent=2) if arguments.json else format_rules(status))
    return 0


def format_rules(status: dict[str, Any]) -> str:
    lines = [f"version    {status['version']}, in force for rounds that begin now"]
    following = status["next"] or status["rules"]
    for name in NAMES:
        now, later = status["rules"][name], following[name]
        lines.append(f"  {name:<20} {now}" + (f"  ->  {later}" if later != now else ""))
    if status["next"] is None:
        lines.append("agreed     on no others")
    else:
        wait = max(0, status["enact_at"] - status["chain_time"])
        when = "`rules enact` puts them in force" if wait == 0 else f"possible to enact in {wait} s of chain time"
        lines.append(f"agreed     on the numbers at the right; {when}")
    lines.append(f"agreements {status['agreements']} so far")
    if not status["is_member"]:
        lines.append("voice      none: this account is not in the serving set")
    return "\n".join(lines)
