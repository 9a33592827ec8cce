"""Every method by its name: reads in the chain's thread, and what touches the mempool, filters or the network."""

import platform
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import trio

from flock_p2p import __version__
from flock_p2p.rpc.errors import METHOD_NOT_FOUND, RpcError, invalid
from flock_p2p.rpc.filters import Filters
from flock_p2p.rpc.logs import find_logs, parse_range
from flock_p2p.rpc.objects import Row, transaction_row
from flock_p2p.rpc.reads import READS, find_transaction
from flock_p2p.rpc.sources import Sources
from flock_p2p.rpc.values import data, parse_account, parse_data, quantity, take
from flock_peers.ledger.queries import ChainView

MAX_AT_ONCE = 4  # calls at the chain's thread: who waits here can still be told that it takes too long
LONG_SECONDS = 0.1  # of a call: more than any that a wallet makes
T = TypeVar("T")
Method = Callable[[Sequence[Any]], Awaitable[Any]]


class Methods:
    def __init__(self, sources: Sources) -> None:
        self._sources, self._ledger, self._queries = sources, sources.ledger, sources.queries
        self._filters = Filters()
        self._turns = trio.CapacityLimiter(MAX_AT_ONCE)
        self.long_seconds = 0.0  # that the long ones of all calls have taken
        self._others: Mapping[str, Method] = {
            "eth_chainId": self._chain_id,
            "net_version": self._version,
            "net_listening": self._listening,
            "net_peerCount": self._peer_count,
            "web3_clientVersion": self._client_version,
            "eth_syncing": self._syncing,
            "eth_accounts": self._accounts,
            "eth_maxPriorityFeePerGas": self._max_priority_fee,
            "eth_getTransactionCount": self._transaction_count,
            "eth_getTransactionByHash": self._transaction_by_hash,
            "eth_sendRawTransaction": self._send_raw,
            "eth_newFilter": self._new_filter,
            "eth_newBlockFilter": self._new_block_filter,
            "eth_getFilterChanges": self._filter_changes,
            "eth_getFilterLogs": self._filter_logs,
            "eth_uninstallFilter": self._uninstall,
        }

    def names(self) -> list[str]:
        return sorted({*READS, *self._others})

    async def call(self, name: str, parameters: Sequence[Any]) -> Any:
        """Raises RpcError, or an error of ours."""
        other, read = self._others.get(name), READS.get(name)
        if other is not None:
            return await other(parameters)
        if read is None:
            raise RpcError(METHOD_NOT_FOUND, f"the method {name[:60]} does not exist or is not available")
        return await self._ask(lambda view: read(view, parameters))

    async def _ask(self, question: Callable[[ChainView], T]) -> T:
        async with self._turns:
            return await self._queries.run(lambda view: self._time(question, view))

    def _time(self, question: Callable[[ChainView], T], view: ChainView) -> T:
        """In the chain's thread."""
        began = time.perf_counter()
        try:
            return question(view)
        finally:
            if (taken := time.perf_counter() - began) > LONG_SECONDS:
                self.long_seconds += taken

    # ---- the network
    async def _chain_id(self, parameters: Sequence[Any]) -> str:
        take(parameters, 0, 0)
        return quantity(self._ledger.genesis.chain_id)

    async def _version(self, parameters: Sequence[Any]) -> str:
        take(parameters, 0, 0)
        return str(self._ledger.genesis.chain_id)

    async def _listening(self, parameters: Sequence[Any]) -> bool:
        take(parameters, 0, 0)
        return True

    async def _peer_count(self, parameters: Sequence[Any]) -> str:
        take(parameters, 0, 0)
        return quantity(self._sources.count_peers())

    async def _client_version(self, parameters: Sequence[Any]) -> str:
        take(parameters, 0, 0)
        return f"flock-p2p/v{__version__}/python{platform.python_version()}"

    async def _syncing(self, parameters: Sequence[Any]) -> Row | bool:
        take(parameters, 0, 0)
        target = self._sources.sync_target()
        if target is None:
            return False
        here = quantity(self._ledger.head.height)
        return {"startingBlock": here, "currentBlock": here, "highestBlock": quantity(target)}

    async def _accounts(self, parameters: Sequence[Any]) -> list[str]:
        """None: the peer's key signs nothing for whoever can reach a port."""
        take(parameters, 0, 0)
        return []

    async def _max_priority_fee(self, parameters: Sequence[Any]) -> str:
        """Nothing: a tip only decides who waits where blocks are full."""
        take(parameters, 0, 0)
        return "0x0"

    # ---- transactions
    async def _transaction_count(self, parameters: Sequence[Any]) -> str:
        account, block = take(parameters, 1, 2)
        count = await self._ask(lambda view: READS["eth_getTransactionCount"](view, parameters))
        if block != "pending":
            return str(count)
        return quantity(self._ledger.mempool.next_nonce(parse_account(account), int(count, 16)))

    async def _transaction_by_hash(self, parameters: Sequence[Any]) -> Row | None:
        digest = parse_data(take(parameters, 1, 1)[0], "transaction hash", 32)
        waiting = self._ledger.mempool.get(digest)  # asked first: it leaves the mempool after it is final
        found = await self._ask(lambda view: find_transaction(view, digest))
        return transaction_row(waiting, None, 0) if found is None and waiting is not None else found

    async def _send_raw(self, parameters: Sequence[Any]) -> str:
        """Its signature is its permission: this changes nothing that its sender did not sign."""
        (raw,) = take(parameters, 1, 1)
        return data(await self._sources.submit(parse_data(raw, "transaction")))

    # ---- filters
    async def _new_filter(self, parameters: Sequence[Any]) -> str:
        (wanted,) = take(parameters, 1, 1)
        return self._filters.add(wanted, self._ledger.head.height)

    async def _new_block_filter(self, parameters: Sequence[Any]) -> str:
        take(parameters, 0, 0)
        return self._filters.add(None, self._ledger.head.height)

    async def _filter_changes(self, parameters: Sequence[Any]) -> list[Any]:
        row = self._filters.get(take(parameters, 1, 1)[0])
        row.told, found = await self._ask(row.changes)
        return list(found)

    async def _filter_logs(self, parameters: Sequence[Any]) -> list[Row]:
        row = self._filters.get(take(parameters, 1, 1)[0])
        wanted, criteria = row.wanted, row.criteria
        if wanted is None or criteria is None:
            raise invalid("eth_getFilterLogs: this filter is of blocks")
        return await self._ask(lambda view: find_logs(view, criteria, parse_range(wanted, view)))

    async def _uninstall(self, parameters: Sequence[Any]) -> bool:
        return self._filters.remove(take(parameters, 1, 1)[0])
