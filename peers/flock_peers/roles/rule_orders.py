"""What a validator's owner orders over the local socket about the board's numbers. Knows no socket.

A call is tried on the final state first, so that what the board would refuse is said in its words and costs nothing.
"""

from collections.abc import Mapping
from typing import Any

from flock_chain.board_rules import MAX_NUMBER, NAMES
from flock_chain.crypto import Account
from flock_chain.errors import Misuse
from flock_peers.roles.staking import Caller, State

RULES_GAS = 4_000_000  # an approval reads what 150 members approved, and writes what was agreed on: 1.5 million
_LABELS = {"approve": "approve rules", "enact": "enact rules"}


class RuleOrders:
    def __init__(self, account: Account, state: State, sender: Caller) -> None:
        self._account, self._state, self._sender = account, state, sender

    async def order(self, action: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Raises Misuse for what is no order, CallReverted with the board's reason."""
        if action == "status":
            return await self._status()
        if action == "approve":
            return {"sent": await self._call(action, "approve_rules", _numbers(params))}
        if action == "enact":
            return {"sent": await self._call(action, "enact_rules")}
        raise Misuse(f"rules: no order {action!r}")

    async def _call(self, action: str, function: str, *arguments: Any) -> bool:
        await self._state.simulate("TaskBoard", function, *arguments, sender=self._account)
        return await self._sender.call(_LABELS[action], "TaskBoard", function, *arguments, gas=RULES_GAS)

    async def _status(self) -> dict[str, Any]:
        """Numbers as text, times in chain time; `next` None where nothing is agreed on."""
        view = self._state.view
        version, enact_at = await view("TaskBoard", "rules_version"), await view("TaskBoard", "enact_at")
        rows = await view("Stake", "validators")
        return {
            "version": version,
            "rules": _as_text(await view("TaskBoard", "rules", version)),
            "next": _as_text(await view("TaskBoard", "next_rules")) if enact_at else None,
            "enact_at": enact_at,
            "agreements": await view("TaskBoard", "agreements"),
            "chain_time": await view("Beacon", "chain_time"),
            "is_member": any(row["account"] == self._account for row in rows),
            "under_way": any(map(self._sender.is_pending, _LABELS.values())),
        }


def _as_text(rules: Mapping[str, int]) -> dict[str, str]:
    return {name: str(rules[name]) for name in NAMES}


def _numbers(params: Mapping[str, Any]) -> dict[str, int]:
    rows = params["rules"]
    if not isinstance(rows, dict) or set(rows) != set(NAMES):
        raise Misuse(f"rules: all numbers are named: {', '.join(NAMES)}")
    for name, text in rows.items():
        is_number = isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 78
        if not is_number or int(text) > MAX_NUMBER:
            raise Misuse(f"rules: {name} is no number in digits")
    return {name: int(rows[name]) for name in NAMES}
