"""A task's rounds as the board left them: who proposed, what was measured, verdicts, slashes; many rows at once."""

from collections import OrderedDict
from typing import Any

from flock_chain.errors import Misuse
from flock_chain.tally import Verdict
from flock_p2p.page.history import History
from flock_peers.roles.board import Views, as_account

ROUNDS_AT_ONCE = 32  # rows of one answer: 30 KB of an ordinary task, 160 KB where all 16 seats are taken
MAX_CACHED = 1_024  # rows, about 3 MB

Row = dict[str, Any]


class Rounds:
    def __init__(self, views: Views, history: History) -> None:
        self._views, self._history = views, history
        self._known: OrderedDict[tuple[int, int], Row] = OrderedDict()  # that cannot change any more

    async def page(self, task: int, *, before: int | None = None, count: int = ROUNDS_AT_ONCE) -> Row:
        """Rounds below `before`, or up to the running one, the newest first. Raises Misuse or Reverted."""
        if not 1 <= task < 1 << 53 or (before is not None and not 1 <= before < 1 << 53):
            raise Misuse("rounds: a task and a round are whole numbers from 1 on")
        last, _ = await self._views.view("TaskBoard", "progress", task)
        if not last:
            raise Misuse(f"rounds: there is no task {task}")
        top = last if before is None else min(last, before - 1)
        least = max(1, top - min(count, ROUNDS_AT_ONCE) + 1)
        rows = [await self.read(task, number, last) for number in range(top, least - 1, -1)]
        return {"task": task, "last": last, "rounds": rows, "slashes_since": self._history.since}

    async def read(self, task: int, number: int, last: int) -> Row:
        """`last`: the running round, or the last one of an ended task."""
        row = self._known.get((task, number))
        if row is None:
            result = await self._views.view("TaskBoard", "round_result", task, number)
            case = await self._views.view("TaskBoard", "case_view", task, number)
            row = describe_round(number, result, case)
            if number < last and row["settled"] and not case["open"]:
                self._known[task, number] = row
                while len(self._known) > MAX_CACHED:
                    self._known.popitem(last=False)
        return row | {"proposers": [self._with_slash(task, number, seat) for seat in row["proposers"]]}

    def _with_slash(self, task: int, number: int, seat: Row) -> Row:
        return seat | {"slashed": str(self._history.slashed(task, number).get(seat["account"], 0))}


def describe_round(number: int, result: Any, case: Any) -> Row:
    return {
        "round": number,
        "proposers": [_describe_proposer(result, case, index) for index in range(len(result["proposers"]))],
        "voters": [
            {"account": _hex(account), "revealed": _has(result["scores_revealed"], index)}
            for index, account in enumerate(result["voters"])
        ],
        "tallied": bool(result["tallied"]),
        "settled": bool(result["settled"]),
        "adapter_before": bytes(result["adapter_before"]).hex(),
        "adapter_after": bytes(result["adapter_after"]).hex(),
        "share": str(result["share"]),
        "per_proposer": str(result["per_proposer"]),
        "per_voter": str(result["per_voter"]),
    }


def _describe_proposer(result: Any, case: Any, index: int) -> Row:
    verdicts = result["verdicts"]
    verdict = Verdict(verdicts[index]) if index < len(verdicts) else Verdict.NONE
    is_held = _has(result["held_set"], index)
    return {
        "account": _hex(result["proposers"][index]),
        "verdict": verdict.name,
        "manifest": bytes(result["manifests"][index]).hex() if any(result["manifests"][index]) else "",
        "median": result["medians"][index] if result["tallied"] and is_held else None,  # millionths; negative is better
        "accusation": _describe_accusation(case, index),
    }


def _describe_accusation(case: Any, index: int) -> Row | None:
    if not _has(case["named"], index):
        return None
    state = "convicted" if _has(case["convicted"], index) else "open" if _has(case["open"], index) else "cleared"
    return {
        "state": state,
        "held": str(case["held"][index]),
        "guilty": case["guilty"][index],
        "innocent": case["innocent"][index],
        "total": case["total"],
    }


def _has(bitmap: int, index: int) -> bool:
    return bool(bitmap >> index & 1)


def _hex(value: Any) -> str:
    return "0x" + as_account(value).hex()
