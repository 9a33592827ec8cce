"""`task`: what a running peer has in a task, and orders to take it back."""

import argparse
import json
import time
from typing import Any

from flock_peers.control import request_control
from flock_peers.home import Home


def run(arguments: argparse.Namespace) -> int:
    path = Home(arguments.home).control_path
    named = {} if arguments.task is None else {"task": arguments.task}
    answer = request_control(path, "task", action=arguments.action, **named)
    if arguments.action != "status":
        sent = answer["sent"]
        print("sent; it is final in a moment" if sent else "nothing to send, or the same order is under way already")
        time.sleep(arguments.wait)
        answer = request_control(path, "task", action="status", task=answer["task"])
    print(json.dumps(answer, indent=2) if arguments.json else format_task(answer))
    return 0


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
