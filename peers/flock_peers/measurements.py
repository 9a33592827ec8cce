"""What this peer measured in its tasks, for people: losses on its own rows, what its audits found, what its seats
earned, and which rounds it could not train in. Decides nothing.

Kept on disk, so that a restart loses no line of a plot; a file that cannot be read or written costs the plot alone.
"""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flock_chain.bounded_json import loads
from flock_chain.crypto import Account
from flock_chain.errors import FlockError
from flock_peers.home import write_private

log = logging.getLogger(__name__)

MAX_LOSSES = 512  # rounds: the width of a screen in points
MAX_AUDITS = 128
MAX_PAID = 128  # tasks
MAX_SKIPPED = 128  # rounds
MAX_REASON = 500  # characters
MAX_AUDITED = 64  # accounts of one audit: as many as a task has participants
MAX_DIGITS = 78  # of 256 bits
MAX_FILE_BYTES = 4 << 20  # all of the above takes a third of it
MAX_DEPTH = 5

Row = dict[str, Any]


class Measurements:
    def __init__(self, path: Path | None = None) -> None:
        """`path`: None keeps them in memory alone."""
        self._path = path
        self._losses: list[Row] = []
        self._audits: list[Row] = []
        self._pay: list[Row] = []  # a row for each task: in all, and of the last round that paid
        self._skipped: list[Row] = []
        if path is not None:
            self._load(path)

    def note_loss(self, task: int, number: int, role: str, before: float, after: float) -> None:
        """Nats per token on the own hold-out: of the adapter that the round begins with, and of what came of it here
        (the own proposal's training as a proposer, the candidate as a voter)."""
        row = {"task": task, "round": number, "role": role, "before": before, "after": after}
        self._losses = _replace(self._losses, row, ("task", "round", "role"), MAX_LOSSES)
        self._save()

    def note_audit(self, task: int, number: int, last_round: int, values: Mapping[Account, int]) -> None:
        """Millionths by account, as `flock_chain.audit_rule` has them; `last_round`: that the audit looked at."""
        worst = sorted(values.items(), key=lambda item: (-item[1], item[0]))[:MAX_AUDITED]
        named = {"0x" + account.hex(): value for account, value in worst}
        row = {"task": task, "audit": number, "round": last_round, "values": named}
        self._audits = _replace(self._audits, row, ("task", "audit"), MAX_AUDITS)
        self._save()

    def note_pay(self, task: int, number: int, wei: int) -> None:
        """What a seat earned in a round, when it is claimed. Once more for the same round in a row: sent again, where
        that claim was not seen to be final and it is no less; else the seat's part of what the pot left."""
        last = self.pay_of(task) or {"total": "0", "round": 0, "amount": "0"}
        before = int(last["amount"]) if last["round"] == number and not last["is_final"] else 0
        total = int(last["total"]) + wei - (before if before <= wei else 0)
        self._put_pay({"task": task, "round": number, "amount": str(wei), "total": str(total), "is_final": False})

    def note_claimed(self, task: int, number: int) -> None:
        """Nothing is due for that round: a claim of it is final."""
        row = self.pay_of(task)
        if row is not None and row["round"] == number and not row["is_final"]:
            self._put_pay(row | {"is_final": True})

    def _put_pay(self, row: Row) -> None:
        self._pay = _replace(self._pay, row, ("task",), MAX_PAID)
        self._save()

    def pay_of(self, task: int) -> Row | None:
        """Wei as text: `total` of the task, `amount` of `round`, the last one that paid, and whether its claim was seen
        to be final. None before any did."""
        return next((row for row in self._pay if row["task"] == task), None)

    def note_skipped(self, task: int, number: int, why: str) -> None:
        """A round in which this account was drawn as a proposer, and has nothing to propose. `why`: one line."""
        row = {"task": task, "round": number, "why": why[:MAX_REASON]}
        self._skipped = _replace(self._skipped, row, ("task", "round"), MAX_SKIPPED)
        self._save()

    def drop_skipped(self, task: int, number: int) -> None:
        """It is tried after all, by another process of this peer."""
        if self.skipped_of(task, number) is not None:
            self._skipped = [row for row in self._skipped if (row["task"], row["round"]) != (task, number)]
            self._save()

    def skipped_of(self, task: int, number: int | None = None) -> Row | None:
        """The last one, or this one: `round` and `why`."""
        rows = (row for row in reversed(self._skipped) if row["task"] == task and number in (None, row["round"]))
        return next(rows, None)

    def of(self, task: int) -> Row:
        """The oldest first."""
        losses = [row for row in self._losses if row["task"] == task]
        audits = [row for row in self._audits if row["task"] == task]
        return {"losses": losses, "audits": audits, "pay": self.pay_of(task), "skipped": self.skipped_of(task)}

    def _load(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                found = loads(file.read(MAX_FILE_BYTES), depth=MAX_DEPTH)
            losses = [_check_loss(row) for row in found["losses"][-MAX_LOSSES:]]
            audits = [_check_audit(row) for row in found["audits"][-MAX_AUDITS:]]
            pay = [_check_pay(row) for row in found.get("pay", [])[-MAX_PAID:]]
            skipped = [_check_skipped(row) for row in found.get("skipped", [])[-MAX_SKIPPED:]]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s: what was measured before cannot be read, and begins anew: %r", path, error)
            return
        self._losses, self._audits, self._pay, self._skipped = losses, audits, pay, skipped

    def _save(self) -> None:
        if self._path is None:
            return
        rows = {"losses": self._losses, "audits": self._audits, "pay": self._pay, "skipped": self._skipped}
        data = json.dumps(rows, allow_nan=False).encode()
        try:
            write_private(self._path, data)
        except FlockError as error:
            log.warning("what was measured is not kept: %s", error)


def _replace(rows: list[Row], row: Row, names: tuple[str, ...], most: int) -> list[Row]:
    """The new row instead of an older one of the same name. What is no number is no row: JSON has none for it."""
    numbers = [value for value in row.values() if isinstance(value, float)]
    if not all(map(math.isfinite, numbers)):
        return rows
    others = [each for each in rows if any(each[name] != row[name] for name in names)]
    return [*others, row][-most:]


def _check_loss(row: Row) -> Row:
    task, number, before, after = int(row["task"]), int(row["round"]), float(row["before"]), float(row["after"])
    if row["role"] not in ("proposer", "voter") or not (math.isfinite(before) and math.isfinite(after)):
        raise ValueError("no role, or no number")
    return {"task": task, "round": number, "role": row["role"], "before": before, "after": after}


def _check_pay(row: Row) -> Row:
    names = ("task", "round", "amount", "total")
    task, number, amount, total = (int(str(row[name])[:MAX_DIGITS]) for name in names)
    is_final = row.get("is_final") is True
    return {"task": task, "round": number, "amount": str(amount), "total": str(total), "is_final": is_final}


def _check_skipped(row: Row) -> Row:
    return {"task": int(row["task"]), "round": int(row["round"]), "why": str(row["why"])[:MAX_REASON]}


def _check_audit(row: Row) -> Row:
    values = {str(account)[:42]: int(value) for account, value in list(row["values"].items())[:MAX_AUDITED]}
    return {"task": int(row["task"]), "audit": int(row["audit"]), "round": int(row["round"]), "values": values}
