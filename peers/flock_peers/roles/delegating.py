"""What a peer's owner orders about bonds with others' participants, and about others' with its own. Knows no socket.

A call is tried on the final state first, so that what the contract would refuse is said in its words and costs nothing.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from flock_chain.crypto import Account
from flock_peers.roles.staking import Caller, State, parse_account, parse_bps, parse_wei

CONTRACT = "Delegation"


class Delegating:
    def __init__(self, account: Account, state: State, sender: Caller) -> None:
        self._account, self._state, self._sender = account, state, sender

    async def order(self, task: int, action: str, params: Mapping[str, Any]) -> bool | None:
        """Whether anything was sent; None for an order that is not about delegations. Raises as TaskOrders does."""
        orders: dict[str, Callable[[], Awaitable[bool]]] = {
            "terms": lambda: self._call(task, "set_terms", parse_bps(params), parse_wei(params)),
            "delegate": lambda: self._call(task, "delegate", parse_account(params), value=parse_wei(params)),
            "undelegate": lambda: self._undelegate(task, parse_account(params), params),
            "withdraw-delegation": lambda: self._call(task, "withdraw_delegation", parse_account(params)),
            "claim-delegation": lambda: self._call(task, "claim_delegation", parse_account(params)),
        }
        return await orders[action]() if action in orders else None

    async def _undelegate(self, task: int, account: Account, params: Mapping[str, Any]) -> bool:
        """Without an amount: what is leaving already and can go on; all, where nothing is leaving."""
        row = await self._state.view(CONTRACT, "delegation_of", task, account, self._account)
        amount = parse_wei(params) if "amount" in params else 0 if row["leaving"] else row["stake"]
        return await self._call(task, "undelegate", account, amount)

    async def _call(self, task: int, function: str, *arguments: Any, value: int = 0) -> bool:
        await self._state.simulate(CONTRACT, function, task, *arguments, sender=self._account, value=value)
        return await self._sender.call(f"{function} {task}", CONTRACT, function, task, *arguments, value=value)

    async def has_any(self, task: int, account: Account) -> bool:
        """Whether this account has anything with that participant."""
        row = await self._state.view(CONTRACT, "delegation_of", task, account, self._account)
        return any(row[name] for name in ("stake", "leaving", "unbonding", "free", "earned"))

    async def own(self, task: int) -> dict[str, Any]:
        """What others have bonded with this account, and its terms; amounts in wei as text."""
        return _offer(await self._state.view(CONTRACT, "offer_of", task, self._account))

    async def status(self, task: int, account: Account) -> dict[str, Any]:
        """What this account has with a participant, and that one's terms; times in chain time."""
        row = await self._state.view(CONTRACT, "delegation_of", task, account, self._account)
        amounts = {name: str(row[name]) for name in ("stake", "leaving", "unbonding", "free", "earned")}
        offer = _offer(await self._state.view(CONTRACT, "offer_of", task, account))
        bond = (await self._state.view("TaskBoard", "participant", task, account))["bond"]
        return {
            "participant": "0x" + account.hex(),
            "bond": str(bond),
            **amounts,
            "is_out": row["is_out"],
            "release_at": row["release_at"],
            "offer": offer,
        }


def _offer(row: Mapping[str, Any]) -> dict[str, Any]:
    amounts = {name: str(row[name]) for name in ("limit", "pool", "weighing", "room")}
    return {name: row[name] for name in ("commission", "next_commission", "next_at")} | amounts
