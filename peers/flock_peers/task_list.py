"""The tasks of the board, the newest first, as `task list` shows them: who opened each, how far it is, what it pays."""

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from flock_chain.crypto import Account
from flock_peers.roles.board import Phase, RoundResult, Views, as_account, read_result

log = logging.getLogger(__name__)

MAX_LOOKED_AT = 4  # tasks: whoever asks for a status waits for as many calls of the board
MAX_LISTED = 100  # tasks, or rounds of one: each is one call of the board, and anybody may open one


class Board(Views, Protocol):
    """The ledger."""


async def list_tasks(board: Board, *, last: int = MAX_LISTED) -> dict[str, Any]:
    count: int = await board.view("TaskBoard", "task_count")
    first = max(0, count - min(last, MAX_LISTED))
    rows = [_describe(task, await board.view("TaskBoard", "task_view", task)) for task in range(count, first, -1)]
    return {"count": count, "tasks": rows}


async def choose_other(board: Board, account: Account) -> dict[str, Any] | None:
    """What a peer without a part in a task may look on at: of the newest few the newest that runs and holds a bond of
    its account, else the newest that runs, else the newest; with how many there are."""
    found = await list_tasks(board, last=MAX_LOOKED_AT)
    running: list[dict[str, Any]] = [row for row in found["tasks"] if not row["is_ended"]]
    for row in running:
        bond = (await board.view("TaskBoard", "participant", row["task"], account))["bond"]
        if bond:
            return row | {"count": found["count"], "bond": str(bond)}
    rows = running or found["tasks"]
    return None if not rows else rows[0] | {"count": found["count"], "bond": "0"}


async def warn_of_bond(board: Board, account: Account) -> None:
    """Of a peer that is told to look on: who was bonded before is still drawn."""
    row = await choose_other(board, account)
    if row is not None and int(row["bond"]):
        log.warning(
            "this account is bonded in task %d, in which this peer takes no part now: %s", row["task"], idle_bond(row)
        )


def idle_bond(row: Mapping[str, Any]) -> str:
    return f"seats that stay empty cost some of the bond; `task leave --task {row['task']}` begins to take it back"


async def list_rounds(board: Board, task: int) -> list[dict[str, Any]]:
    """The newest rounds of a task in their order: who proposed, and what became of it as far as it is known."""
    last, _ = await board.view("TaskBoard", "progress", task)
    first = max(1, last - MAX_LISTED + 1)
    return [_describe_round(await read_result(board, task, number)) for number in range(first, last + 1)]


def _describe_round(result: RoundResult) -> dict[str, Any]:
    return {
        "round": result.round,
        "proposers": ["0x" + account.hex() for account in result.proposers],
        "verdicts": [verdict.name for verdict in result.verdicts],
        "adapter_before": result.adapter_before.hex(),
        "adapter_after": result.adapter_after.hex(),
    }


def _describe(task: int, row: Any) -> dict[str, Any]:
    return {
        "task": task,
        "creator": "0x" + as_account(row["creator"]).hex(),
        "document": bytes(row["document"]).hex(),
        "adapter": bytes(row["adapter"]).hex(),
        "round": row["round"],
        "rounds": row["terms"]["rounds"],
        "phase": Phase.ENDED.name if row["ended"] else Phase(row["phase"]).name,
        "is_ended": bool(row["ended"]),
        "pot": str(row["pot"]),
        "min_bond": str(row["terms"]["min_bond"]),
        "participants": row["participants"],
    }
