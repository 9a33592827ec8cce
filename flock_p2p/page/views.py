"""The contracts' views on the final chain, asked in the thread for outsiders' questions: a page holds up no block."""

from typing import Any

from flock_chain.execution.caller import Call
from flock_chain.execution.machine import SYSTEM
from flock_contracts.loader import load
from flock_peers.ledger.queries import MAX_CALL_GAS, ChainView, Queries


class FinalViews:
    """As the roles see the board (`flock_peers.roles.board.Views`)."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def view(self, contract: str, function: str, *args: Any, height: int | None = None) -> Any:
        """Decoded. Raises Reverted with the contract's reason, Unavailable where too many questions wait."""
        target = load(contract)
        call = Call(SYSTEM, target.address, target.encode(function, *args))  # type: ignore[arg-type]

        def ask(chain: ChainView) -> bytes:
            return chain.call(chain.head if height is None else height, call, MAX_CALL_GAS)

        return target.decode(function, await self._queries.run(ask))
