"""`status`: what a running peer says of itself."""

import argparse
import json
from typing import Any

from flock_p2p.commands.peers import format_bytes
from flock_p2p.live_view import (
    LEAVING,
    clean_all,
    describe_awaited,
    describe_pay,
    describe_round,
    describe_skipped,
    describe_training,
)
from flock_peers.coins import count_coins
from flock_peers.control import request_control
from flock_peers.home import Home
from flock_peers.plural import plural
from flock_peers.task_list import idle_bond

HALT_BELOW = 4  # two or three validators stop when one leaves
MAX_NAMED = 8  # validators that are away, in one line
MAX_LEFT = 8  # ended tasks in which this account has something, a line each


def run(arguments: argparse.Namespace) -> int:
    home = Home(arguments.home)
    status = request_control(home.control_path, "status")
    print(json.dumps(status, indent=2) if arguments.json else format_status(status))
    return 0


def format_status(status: dict[str, Any]) -> str:
    finality = status["finality_seconds"]
    rows = [
        ("account", status["account"]),
        ("address", status["address"]),
        ("page", status.get("page") or "none; `join --http 0` serves one"),
        ("network", f"{status['network']}, genesis {status['genesis']}"),
        ("height", f"{status['height']}  state root {status['state_root'][:16]}"),
        ("block", f"{status['height']}:{status['block']}  (a checkpoint, for who trusts this peer)"),
        ("peers", str(len(status["peers"]))),
        ("balance", count_coins(int(status["balance"]))),
        ("role", "validator" if status["is_validator"] else "observer of consensus"),
    ]
    if finality["p50"] is not None:
        rows.append(("finality", f"p50 {finality['p50']:.2f} s, p95 {finality['p95']:.2f} s"))
    if status["sync"]:
        rows.append(("sync", _format_sync(status["sync"])))
    rows.append(("disk", _format_disk(status["disk"])))
    if status["base_model"] is not None:
        rows.append(("base", _format_base(status["base_model"])))
    if status.get("publishing"):
        rows.append(("publish", f"base model {status['publishing']}"))
    rows += [("transfer", _format_transfer(row)) for row in status["transfers"]]
    rows += [("not in", f"task {task} {clean_all(text)}") for task, text in status["not_joined"].items()]
    task = status["task"]
    if task is not None:
        rows.append(("task", f"{task['task']}, {describe_round(task)}, {task['phase']}"))
        if task["awaited"]:
            rows.append(("awaited", describe_awaited(status["account"], task)))
        rows.append(("bonded", _format_bond(task["bonds"].get(status["account"]), task)))
    else:
        other = status.get("other_task")
        rows.append(("task", _format_other(other)))
        if other is not None and int(other.get("bond", "0")):
            where = f"in task {other['task']}, in which this peer takes no part now"
            rows.append(("bonded", f"{count_coins(int(other['bond']))} {where}: {idle_bond(other)}"))
    if task is not None and task.get("skipped"):
        rows.append(("skipped", describe_skipped(task["skipped"])))
    if (pay := (task or status.get("other_task") or {}).get("pay")) is not None:
        rows.append(("earned", describe_pay(pay)))
    rows += [("left", text) for text in _format_left(status)]
    if status["training"]:
        rows.append(("trainer", _format_trainer(status["training"])))
    text = "\n".join(f"{name:<9}{value}" for name, value in rows)
    if status["not_signing"]:
        text += f"\nwarning  this validator does not sign: {status['not_signing']}"
    if status["is_silent"] and not status["has_quorum"]:
        text += f"\nwarning  no new block, and no quorum: {_format_away(status['away'])} not connected here; the chain "
        text += "goes on when they come back; if they are gone for good, see `restart` (docs/validators.md)"
    if status["stops_before"] is not None:
        text += f"\nwarning  epoch {status['epoch']} runs; this release stops before epoch {status['stops_before']}"
    if status["validators"] < HALT_BELOW:
        text += f"\nwarning  only {plural(status['validators'], 'validator')}: the chain stops when one of them leaves"
    return text


def _format_bond(wei: str | None, task: dict[str, Any]) -> str:
    if wei is None:
        return "no"
    back = "; the task has ended: `task leave` begins to take it back, and so does joining another task"
    if task.get("is_leaving"):
        return f"{count_coins(int(wei))}; {LEAVING}"
    return count_coins(int(wei)) + (back if task.get("is_ended") and int(wei) else "")


def _format_trainer(training: dict[str, Any]) -> str:
    state = {
        "loading": "opens the base model",
        "ready": "ready; has trained nothing since it was opened",
        "died": "its process has died; another is opened (the log says why)",
        "failed": "none: it could not be opened (the log says why)",
    }
    told = ", ".join(f"{key} {value}" for key, value in sorted(training.items()))
    return describe_training(training).removeprefix("training ") or state.get(str(training.get("state")), told)


def _format_other(row: dict[str, Any] | None) -> str:
    if row is None:
        return "none: nobody has opened one on this network yet; `task create` does"
    where = "has ended" if row["is_ended"] else f"is in {describe_round(row)}, {row['phase']}"
    return f"none of this peer's; task {row['task']} {where} (`task list`: {row['count']} in all)"


def _format_left(status: dict[str, Any]) -> list[str]:
    """In ended tasks, with the orders that fetch it. Of the one that is shown above the bond is said there, and the
    part in it claims what it earned."""
    shown, rows = (status["task"] or {}).get("task"), []
    for row in status.get("left_behind", []):
        left = row | {"bond": "0", "claimable": "0"} if row["task"] == shown else row
        rows += [left] if any(int(left[name]) for name in ("bond", "unbonding", "claimable", "pot")) else []
    more = [f"and in {plural(len(rows) - MAX_LEFT, 'older task')} (--json names all)"] if len(rows) > MAX_LEFT else []
    return [f"in task {row['task']}, which has ended: {_format_amounts(row)}" for row in rows[:MAX_LEFT]] + more


def _format_amounts(row: dict[str, Any]) -> str:
    when = f"in {row['free_in']} s of chain time" if row["free_in"] else "now"
    told = (
        ("bond", "bonded", "`task leave --task {}` begins to take back"),
        ("unbonding", "unbonding", f"`task withdraw --task {{}}` pays out {when}"),
        ("claimable", "earned and not claimed", "`task claim --task {}` pays out"),
        ("pot", "of its pot", "`task pot --task {}` takes back"),
    )
    return "; ".join(
        f"{count_coins(int(row[name]))} {what}, which {order.format(row['task'])}"
        for name, what, order in told
        if int(row[name])
    )


def _format_away(accounts: list[str]) -> str:
    more = f" and {len(accounts) - MAX_NAMED} more (--json names all)" if len(accounts) > MAX_NAMED else ""
    return ", ".join(accounts[:MAX_NAMED]) + more + (" is" if len(accounts) == 1 else " are")


def _format_disk(disk: dict[str, Any]) -> str:
    kept = ", ".join(f"{format_bytes(size)} by {owner or 'an older release'}" for owner, size in disk["kept"].items())
    text = f"{format_bytes(disk['used'])} of {format_bytes(disk['quota'])} for contents"
    return f"{text}; needed: {kept}" if kept else text


def _format_base(row: dict[str, Any]) -> str:
    return (
        f"fetching that of task {row['task']}: {row['done'] / 1e6:.0f} of {row['bytes'] / 1e6:.0f} MB, "
        f"{row['files_done']} of {plural(row['files'], 'file')} ({row['base']})"
    )


def _format_transfer(row: dict[str, Any]) -> str:
    left = "" if row["eta_seconds"] is None else f", {row['eta_seconds']:.0f} s left"
    return (
        f"{row['file'][:12]}: {row['done'] / 1e6:.0f} of {row['bytes'] / 1e6:.0f} MB, "
        f"{row['bytes_per_second'] / 1e6:.1f} MB/s from {plural(len(row['providers']), 'peer')}{left}"
    )


def _format_sync(sync: dict[str, Any]) -> str:
    left = "" if sync["eta_seconds"] is None else f", {sync['eta_seconds']:.0f} s left"
    speed = f"{sync['blocks_per_second']:.0f} blocks/s from {plural(sync['providers'], 'peer')}"
    return f"height {sync['height']} of {sync['target']}, {speed}{left}"
