"""`task`: opens a task; what a running peer has in one, and orders to take it back."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from flock_chain.bounded_json import loads
from flock_chain.errors import Misuse, Unavailable
from flock_p2p.cli import parse_coins
from flock_peers.control import request_control
from flock_peers.home import Home

MAX_DOCUMENT_BYTES = 64 << 10  # every term takes 600 bytes; the control socket takes a megabyte
DOCUMENT_KEYS = ("name", "terms", "budget", "lora", "targets")
POLL_SECONDS = 0.5


def run(arguments: argparse.Namespace) -> int:
    path = Home(arguments.home).control_path
    if arguments.action == "open":
        return _open(path, arguments)
    if arguments.pot is not None or arguments.document is not None:
        raise Misuse(f"task {arguments.action} takes neither --pot nor --document; only open")
    named = {} if arguments.task is None else {"task": arguments.task}
    answer = request_control(path, "task", action=arguments.action, **named)
    if arguments.action != "status":
        sent = answer["sent"]
        print("sent; it is final in a moment" if sent else "nothing to send, or the same order is under way already")
        time.sleep(arguments.wait)
        answer = request_control(path, "task", action="status", task=answer["task"])
    print(json.dumps(answer, indent=2) if arguments.json else format_task(answer))
    return 0


def _open(path: Path, arguments: argparse.Namespace) -> int:
    if arguments.pot is None or arguments.task is not None:
        raise Misuse("task open needs --pot COINS, and takes no --task: its number is the next one")
    wanted = read_wanted(arguments.document) if arguments.document is not None else {}
    document = request_control(path, "open_task", pot=str(parse_coins(arguments.pot)), **wanted)["document"]
    print(f"document   {document}; sent with pot and fee")
    deadline = time.monotonic() + max(arguments.wait, 15.0)
    while (row := _newest(path)) is None or row["document"] != document:
        if time.monotonic() > deadline:
            print("not final yet: `task` shows it when it is")
            return 0
        time.sleep(POLL_SECONDS)
    print(json.dumps(row, indent=2) if arguments.json else format_task(row))
    return 0


def _newest(path: Path) -> dict[str, Any] | None:
    """None where this account has nothing in any task yet."""
    try:
        row: dict[str, Any] = request_control(path, "task", action="status")
    except Unavailable as error:
        if "nothing in any task" in str(error):
            return None
        raise
    return row


def read_wanted(file: Path) -> dict[str, Any]:
    """What the task is to be, as JSON; the peer looks at each name and number."""
    try:
        with file.expanduser().open("rb") as opened:
            data = opened.read(MAX_DOCUMENT_BYTES + 1)
        wanted = loads(data, depth=4) if len(data) <= MAX_DOCUMENT_BYTES else None
    except OSError as error:
        raise Misuse(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise Misuse(f"{file}: not JSON: {error}") from error
    if not isinstance(wanted, dict) or set(wanted) - set(DOCUMENT_KEYS):
        raise Misuse(f"{file}: an object with some of {', '.join(DOCUMENT_KEYS)}, at most {MAX_DOCUMENT_BYTES} bytes")
    return wanted


def format_task(row: dict[str, Any]) -> str:
    coins = {name: f"{int(row[name]) / 1e18:.4f}" for name in ("bond", "claimable", "unbonding", "pot")}
    state = "leaving" if row["is_leaving"] else "drawn no more, absent for too long" if row["is_unseated"] else ""
    lines = [
        f"task       {row['task']}, round {row['round']}, {row['phase']}",
        f"bond       {coins['bond']} coins" + (f" ({state})" if state else ""),
        f"claimable  {coins['claimable']} coins",
        f"unbonding  {coins['unbonding']} coins",
    ]
    if int(row["unbonding"]):
        wait = max(0, row["release_at"] - row["chain_time"])
        lines.append(f"withdraw   {'now' if wait == 0 else f'in {wait} s of chain time'}")
    if row["missed"]:
        lines.append(f"missed     {row['missed']} seats in a row")
    if row["is_creator"]:
        lines.append(f"pot        {coins['pot']} coins left; `task pot` takes them back when the task has ended")
    return "\n".join(lines)
