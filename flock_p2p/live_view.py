"""What `watch` shows of a peer's status: one screen, or one line for each change. Words alone; asks nobody."""

import re
from typing import Any

from flock_p2p.commands.peers import format_age, format_bytes
from flock_peers.coins import count_coins, format_exact
from flock_peers.plural import plural

MAX_LINE = 400  # characters of a line of the log, before it is cut to the screen
HEAD_ROWS = 12  # of the screen at most, before the log
LEAST_WIDTH = 40
LEAVING = "leaving: drawn no more, and the bond unbonds by itself when it is free, some rounds from now"
_LOG_LINE = re.compile(r"\S+T(?P<time>[\d:]{8})\S* (?P<level>[A-Z]+) +\S+: (?P<text>.*)")


class Pace:
    """How long rounds take, by those whose beginning was seen here."""

    def __init__(self) -> None:
        self._task = self._round = self._first = 0
        self._began: float | None = None  # of the first round whose beginning was seen
        self._latest = 0.0  # when the running one began

    def note(self, task: dict[str, Any] | None, now: float) -> None:
        if task is None:
            return
        if task["task"] != self._task:
            self._task, self._round, self._began = task["task"], task["round"], None
        elif task["round"] != self._round:
            self._round, self._latest = task["round"], now
            if self._began is None:
                self._began, self._first = now, task["round"]

    def estimate(self, task: dict[str, Any], now: float) -> float | None:
        """Seconds until the task's last round is over; None before a whole round was seen, and in extra ones."""
        done = self._round - self._first
        if self._began is None or done < 1 or task["is_ended"] or self._round > int(task["rounds"]):
            return None
        each = (self._latest - self._began) / done
        return max(0.0, each * (int(task["rounds"]) - self._round + 1) - (now - self._latest))


def find_task(status: dict[str, Any]) -> dict[str, Any] | None:
    """The one that the peer takes part in; else one that it looks on at."""
    task: dict[str, Any] | None = status["task"]
    other = status.get("other_task")
    return other | {"joined": False, "awaited": []} if task is None and other else task


def describe_line(status: dict[str, Any], pace: Pace, now: float) -> str:
    """For a pipe or a file."""
    parts = [f"height {status['height']}", plural(len(status["peers"]), "peer"), _describe_task(find_task(status))]
    parts += [text for text in (describe_training(status["training"]), _describe_left(status, pace, now)) if text]
    if (pay := (find_task(status) or {}).get("pay")) is not None:
        parts.append(f"earned {count_coins(int(pay['total']))}")
    if status["sync"]:
        parts.append(f"catching up to {status['sync']['target']}")
    return ", ".join([*parts, *_list_warnings(status)])


def get_key(status: dict[str, Any]) -> tuple[Any, ...]:
    """Two statuses with the same key are one line."""
    task = find_task(status) or {}
    return (
        *(task.get(name) for name in ("task", "round", "phase", "joined", "is_ended")),
        (task.get("pay") or {}).get("total"),
        len(status["peers"]),
        status["sync"] is not None,
        status["not_signing"],
        describe_halt(status),
    )


def render(status: dict[str, Any], log: list[str], pace: Pace, now: float, *, width: int, height: int) -> list[str]:
    """The lines of one screen, none longer than it is wide."""
    width = max(LEAST_WIDTH, width)
    task = find_task(status)
    lines = [
        f"flock-p2p  {status['network']}  {status['account']}",
        f"height {status['height']}, {plural(len(status['peers']), 'peer')}, up {format_age(status['up_seconds'])}",
        "",
        _describe_task(task),
    ]
    lines += [f"warning: {text}" for text in _list_warnings(status)]  # first: of many rows the last ones are cut off
    if task is not None and not task["is_ended"]:
        lines.append(_bar((task["round"] - 0.5) / task["rounds"] if task["round"] else 0.0, width))
        if task["awaited"]:
            lines.append("waiting for " + describe_awaited(status["account"], task))
    if task is not None and task.get("pay") is not None:
        lines.append(f"earned {describe_pay(task['pay'])}")
    if task is not None and task.get("skipped"):
        lines.append(f"skipped {describe_skipped(task['skipped'])}")
    lines += [text for text in (describe_training(status["training"]), _describe_left(status, pace, now)) if text]
    if status["sync"]:
        lines.append(f"catching up: height {status['sync']['height']} of {status['sync']['target']}")
    if (base := status.get("base_model")) is not None:
        sizes = f"{format_bytes(base['done'])} of {format_bytes(base['bytes'])}"
        files = f"{base['files_done']} of {plural(base['files'], 'file')}"
        lines.append(f"fetching the base model of task {base['task']}: {sizes}, {files}")
    lines += [_describe_transfer(row) for row in status["transfers"]]
    lines = [*lines[:HEAD_ROWS], "", "log"]
    room = max(1, height - len(lines) - 1)
    return [clean(line)[:width] for line in [*lines, *map(shorten, log[-room:])]]


def shorten(line: str) -> str:
    """A line of the log without its date, its level where that is INFO, and the part that wrote it."""
    found = _LOG_LINE.match(line)
    if found is None:
        return line
    level = "" if found["level"] == "INFO" else f"{found['level']} "
    return f"{found['time']} {level}{found['text']}"


def clean(text: str) -> str:
    """A log quotes strangers; a terminal obeys control characters."""
    return clean_all(text[:MAX_LINE])


def clean_all(text: str) -> str:
    """Of what is bounded already, and must be seen whole."""
    return "".join(c if c.isprintable() else "?" for c in text)


def describe_round(task: dict[str, Any]) -> str:
    """Beyond those that are guaranteed a task goes on for as long as its terms and its pot allow."""
    number, rounds = int(task["round"]), int(task["rounds"])
    return f"round {number} of {rounds}" if number <= rounds else f"extra round {number - rounds} after {rounds}"


def _describe_task(task: dict[str, Any] | None) -> str:
    if task is None:
        return "no task yet"
    if task["is_ended"]:
        return f"task {task['task']} has ended"
    part = "taking part" if task["joined"] else "looking on"
    return f"task {task['task']}, {describe_round(task)}, {task['phase']}, {part}"


def describe_halt(status: dict[str, Any]) -> str:
    """Empty where blocks come, or may still come."""
    if not status["is_silent"] or status["has_quorum"]:
        return ""
    count = plural(status["validators"], "validator")
    return f"no new block, and no quorum: {len(status['away'])} of {count} not connected (`status` names them)"


def _list_warnings(status: dict[str, Any]) -> list[str]:
    found = [describe_halt(status)]
    if status["not_signing"]:
        found.append(f"this validator does not sign: {status['not_signing']}")
    return [text for text in found if text]


def describe_awaited(own: str, task: dict[str, Any]) -> str:
    """Whoever was drawn and has not acted yet."""
    is_skipped = (task.get("skipped") or {}).get("round") == task["round"] and task["phase"] == "COMMIT"
    here = "this peer, which skips this round" if is_skipped else "this peer"
    return ", ".join(here if account == own else account[:10] for account in task["awaited"])


def describe_skipped(skipped: dict[str, Any]) -> str:
    """The last round in which this peer was drawn, and had nothing to propose."""
    return f"round {skipped['round']}: {clean(skipped['why'])}"


def describe_pay(pay: dict[str, Any]) -> str:
    """What this peer's seats in the task have earned."""
    return f"{count_coins(int(pay['total']))}, of that {format_exact(int(pay['amount']))} in round {pay['round']}"


def describe_training(training: dict[str, Any]) -> str:
    if "loss" not in training:
        return ""
    return f"training step {training.get('step', '?')} of {training.get('steps', '?')}, loss {training['loss']:.4f}"


def _describe_left(status: dict[str, Any], pace: Pace, now: float) -> str:
    task = find_task(status)
    left = None if task is None else pace.estimate(task, now)
    return "" if left is None else f"about {format_age(left)} left"


def _describe_transfer(row: dict[str, Any]) -> str:
    left = "" if row["eta_seconds"] is None else f", {format_age(row['eta_seconds'])} left"
    rate = f"{format_bytes(int(row['bytes_per_second']))}/s from {plural(len(row['providers']), 'peer')}"
    return f"fetching {row['file'][:12]}: {format_bytes(row['done'])} of {format_bytes(row['bytes'])}, {rate}{left}"


def _bar(share: float, width: int) -> str:
    room, share = min(60, width - 8), max(0.0, min(1.0, share))  # in extra rounds it is full
    full = round(share * room)
    return f"[{'#' * full}{'.' * (room - full)}] {share:4.0%}"
