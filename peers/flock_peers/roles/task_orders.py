"""What a peer's owner orders over the local socket about its tasks: leave, take back, claim, delegate. Knows no socket,
no round.

A call is tried on the final state first, so that what the board would refuse is said in its words and costs nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any

from flock_chain.crypto import Account
from flock_chain.errors import Misuse
from flock_peers.roles.board import Phase
from flock_peers.roles.delegating import Delegating
from flock_peers.roles.staking import Caller, State, parse_account

CLAIMS_AT_ONCE = 16  # calls in one order; the order is given again for more
LOOKS_AT_ONCE = 1_000  # rounds in one status or claim: a task may have had 100,000
_MEANT = {  # which of an account's tasks an order is for, where none is named
    "leave": "bond", "terms": "bond", "withdraw": "unbonding", "pot": "rest", "stop": "run",
}  # fmt: skip


class TaskOrders:
    """`on_leave` is told which task is no longer wanted, before anything is sent."""

    def __init__(self, account: Account, state: State, sender: Caller, on_leave: Callable[[int], None]) -> None:
        self._account, self._state, self._sender, self._on_leave = account, state, sender, on_leave
        self._delegating = Delegating(account, state, sender)

    async def order(self, action: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Raises Misuse for what is no order, CallReverted with the board's reason."""
        task = await self._task(action, params)
        if action == "status":
            status = await self._status(task)
            if "account" in params:
                status["delegation"] = await self._delegating.status(task, parse_account(params))
            return status
        if action == "claim":
            return {"task": task, "sent": await self._claim(task)}
        delegated = await self._delegating.order(task, action, params)
        if delegated is not None:
            return {"task": task, "sent": delegated}
        calls = {"leave": "leave_task", "withdraw": "withdraw_bond", "pot": "withdraw_pot", "stop": "stop_task"}
        if action not in calls:
            raise Misuse(f"task: no order {action!r}")
        await self._state.simulate("TaskBoard", calls[action], task, sender=self._account)
        if action == "leave":
            self._on_leave(task)
        return {"task": task, "sent": await self._sender.call(f"{action} {task}", "TaskBoard", calls[action], task)}

    async def _task(self, action: str, params: Mapping[str, Any]) -> int:
        """The one that is named, or the newest in which this account has what the order is about, or has anything; of
        an account that it delegates to, the newest with that."""
        count: int = await self._state.view("TaskBoard", "task_count")
        named = params.get("task")
        if named is not None:
            if not isinstance(named, int) or isinstance(named, bool) or not 1 <= named <= count:
                raise Misuse(f"task: there is no task {named}; {count} have been opened")
            return named
        other, newest = parse_account(params) if "account" in params else None, 0
        for task in range(count, max(0, count - LOOKS_AT_ONCE), -1):
            if other is not None:
                if await self._concerns(task, other):
                    return task
                continue
            found = await self._find(task)
            if _MEANT.get(action, "any") in found:
                return task
            newest = newest or (task if found else 0)
        if newest:
            return newest  # for the board's own words
        whose = "this account" if other is None else "that participant"
        raise Misuse(f"task: {whose} has nothing in any task; name one with --task")

    async def _find(self, task: int) -> set[str]:
        """What this account has there, by name."""
        row = await self._state.view("TaskBoard", "task_view", task)
        is_own, is_ended = _as_bytes(row["creator"]) == self._account, row["phase"] == Phase.ENDED
        has = {
            "bond": (await self._state.view("TaskBoard", "participant", task, self._account))["bond"],
            "unbonding": (await self._state.view("TaskBoard", "unbonding", task, self._account))["amount"],
            "rest": is_own and is_ended and row["pot"],
            "run": is_own and not is_ended,
            "opened": is_own,
        }
        found = {name for name, value in has.items() if value}
        return found | {"any"} if found else found

    async def _concerns(self, task: int, participant: Account) -> bool:
        bond = (await self._state.view("TaskBoard", "participant", task, participant))["bond"]
        return bool(bond) or await self._delegating.has_any(task, participant)

    async def _claim(self, task: int) -> int:
        """How many claims were sent."""
        sent = 0
        for round in await self._claimable(task):
            if sent == CLAIMS_AT_ONCE:
                break
            sent += await self._sender.call(f"claim {task}/{round}", "TaskBoard", "claim", task, round)
        return sent

    async def _claimable(self, task: int) -> dict[int, int]:
        """Wei by round, of the last rounds."""
        last: int = (await self._state.view("TaskBoard", "task_view", task))["round"]
        found = {}
        for round in range(max(1, last - LOOKS_AT_ONCE + 1), last + 1):
            amount = await self._state.view("TaskBoard", "claimable", task, round, self._account)
            if amount:
                found[round] = amount
        return found

    async def _status(self, task: int) -> dict[str, Any]:
        """Amounts in wei as text, times in chain time."""
        row = await self._state.view("TaskBoard", "task_view", task)
        mine = await self._state.view("TaskBoard", "participant", task, self._account)
        leaver = await self._state.view("TaskBoard", "unbonding", task, self._account)
        return {
            "task": task,
            "document": bytes(row["document"]).hex(),
            "round": row["round"],
            "rounds": row["terms"]["rounds"],
            "phase": Phase(row["phase"]).name,
            "pot": str(row["pot"]),
            "is_creator": _as_bytes(row["creator"]) == self._account,
            "bond": str(mine["bond"]),
            "is_leaving": bool(mine["leaving_at"]),
            "missed": mine["missed"],
            "is_unseated": mine["unseated"],
            "claimable": str(sum((await self._claimable(task)).values())),
            "unbonding": str(leaver["amount"]),
            "release_at": leaver["release_at"],
            "delegated": await self._delegating.own(task),
            "chain_time": await self._state.view("Beacon", "chain_time"),
        }


def _as_bytes(account: bytes | str) -> bytes:
    return account if isinstance(account, bytes) else bytes.fromhex(account.removeprefix("0x"))
