"""The chain and the stakes as a page shows them: the last blocks, the serving set, what this account has in it."""

from functools import partial
from typing import Any

from flock_chain.crypto import Account
from flock_chain.errors import Unavailable
from flock_chain.execution.transactions import SYSTEM_TYPE
from flock_peers.ledger.queries import ChainView, Queries
from flock_peers.roles.board import Views, as_account
from flock_peers.roles.staking import NEVER

MAX_BLOCKS = 60  # shown: a minute of a busy chain

Row = dict[str, Any]


class ChainSection:
    def __init__(self, queries: Queries, views: Views) -> None:
        self._queries, self._views = queries, views
        self._blocks: dict[int, Row] = {}

    async def blocks(self, head: int, base: int) -> list[Row]:
        """The oldest first."""
        wanted = range(max(base, 1, head - MAX_BLOCKS + 1), head + 1)
        missing = [height for height in wanted if height not in self._blocks]
        found = await self._queries.run(lambda view: _read_blocks(view, missing)) if missing else []
        known = self._blocks | {row["height"]: row for row in found}
        self._blocks = {height: known[height] for height in wanted if height in known}
        return list(self._blocks.values())

    async def stakes(self, account: Account, height: int) -> Row:
        """Of consensus, in one block. Amounts in wei as text, times in chain time."""
        view = partial(self._views.view, height=height)
        rows = await view("Stake", "validators")
        names = ("stake_of", "staked_with", "unbonding_of", "reward_of", "jailed_until", "missed")
        own = {name: await view("Stake", name, account) for name in names}
        release_at = await view("Stake", "release_at", account)
        return {
            "validators": [{"account": _hex(row["account"]), "weight": str(row["weight"])} for row in rows],
            "total": str(sum(row["weight"] for row in rows)),
            "stake": str(own["stake_of"]),
            "delegated": str(own["staked_with"] - own["stake_of"]),
            "unbonding": str(own["unbonding_of"]),
            "release_at": None if release_at == NEVER else release_at,
            "reward": str(own["reward_of"]),
            "jailed_until": own["jailed_until"],
            "missed": own["missed"],
        }


def _read_blocks(view: ChainView, heights: list[int]) -> list[Row]:
    rows = []
    for height in heights:
        try:
            block = view.block(height)
        except Unavailable:
            continue
        rows.append(
            {
                "height": height,
                "timestamp": block.timestamp,
                "proposer": "0x" + bytes(block.proposer).hex(),
                "transactions": sum(1 for raw in block.transactions if raw[0] != SYSTEM_TYPE),
                "gas": block.header.gas_used,
            }
        )
    return rows


def _hex(value: Any) -> str:
    return "0x" + as_account(value).hex()
