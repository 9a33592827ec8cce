"""Transactions that wait for a block: by sender, in nonce order, bounded in every direction. Does no I/O.

A transaction is executable where its nonce follows on from the final state and what waits before it. It may pass
over three blocks that had room for it; then it is dropped, so that one bad transaction cannot keep a chain awake.
"""

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from flock_chain.crypto import Account, Digest
from flock_chain.errors import Refused
from flock_chain.execution.transactions import Transaction


@dataclass(frozen=True)
class Limits:
    per_sender: int = 64  # also how far ahead of the final nonce; twice what the roles of one peer send at once
    total: int = 4_096  # 40 full blocks of transfers
    bytes: int = 16 << 20  # of raw transactions: what the memory of a small machine can spare
    heights: int = 3  # that a transaction may pass over although the block had room
    waiting_heights: int = 64  # that one with a gap before it may stay: its predecessor does not come any more
    bump_percent: int = 10  # more fee for a replacement, so that a sender cannot make everybody gossip for free


@dataclass
class _Entry:
    transaction: Transaction
    arrived: int  # order
    accepted_at: float
    passed: int = 0  # heights that had room for it
    waited: int = 0  # heights with a gap before it


@dataclass
class _Queue:
    nonce: int  # the sender's next in final state
    entries: dict[int, _Entry] = field(default_factory=dict)

    def executable(self) -> Iterator[_Entry]:
        nonce = self.nonce
        while nonce in self.entries:
            yield self.entries[nonce]
            nonce += 1


class Mempool:
    def __init__(self, limits: Limits, *, base_fee: int, max_gas: int, max_transaction_bytes: int) -> None:
        self._limits = limits
        self._base_fee, self._max_gas, self._max_transaction_bytes = base_fee, max_gas, max_transaction_bytes
        self._queues: dict[Account, _Queue] = {}
        self._by_hash: dict[Digest, Transaction] = {}
        self._by_raw: dict[bytes, Transaction] = {}
        self._bytes = 0
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._by_hash)

    def __contains__(self, transaction_hash: object) -> bool:
        return transaction_hash in self._by_hash

    def get_known(self, raw: bytes) -> Transaction | None:
        """The decoded form of bytes that were checked before."""
        return self._by_raw.get(raw)

    def add(self, transaction: Transaction, *, nonce: int, balance: int, now: float) -> Digest:
        """`nonce` and `balance`: the sender's in final state. Adding what is here changes nothing.

        Raises Refused naming the rule.
        """
        if transaction.hash in self._by_hash:
            return transaction.hash
        self._check(transaction, nonce, balance)
        queue = self._queues.get(transaction.sender) or _Queue(nonce)
        queue.nonce = max(queue.nonce, nonce)
        replaced = queue.entries.get(transaction.nonce)
        if replaced is not None:
            self._check_replacement(replaced.transaction, transaction)
            self._remove(queue, replaced.transaction)
        elif len(queue.entries) >= self._limits.per_sender:
            raise Refused(f"mempool: {self._limits.per_sender} transactions of this sender wait already")
        elif not self._has_room(transaction) and not self._make_room(transaction, queue):
            raise Refused("mempool: full; try again after the next blocks")
        self._arrivals += 1
        queue.entries[transaction.nonce] = _Entry(transaction, self._arrivals, now)
        self._queues[transaction.sender] = queue
        self._by_hash[transaction.hash] = self._by_raw[transaction.raw] = transaction
        self._bytes += len(transaction.raw)
        return transaction.hash

    def _check(self, transaction: Transaction, nonce: int, balance: int) -> None:
        if transaction.nonce < nonce:
            raise Refused(f"mempool: nonce {transaction.nonce} is used, the sender's next is {nonce}")
        if transaction.nonce >= nonce + self._limits.per_sender:
            raise Refused(f"mempool: nonce {transaction.nonce} is too far ahead of the sender's next, {nonce}")
        if transaction.max_fee_per_gas < self._base_fee:
            raise Refused(f"mempool: fee {transaction.max_fee_per_gas} below the base fee {self._base_fee}")
        if transaction.gas > self._max_gas or len(transaction.raw) > self._max_transaction_bytes:
            raise Refused(f"mempool: above {self._max_gas} gas or {self._max_transaction_bytes} bytes")
        cost = transaction.gas * transaction.max_fee_per_gas + transaction.value
        if balance < cost:
            raise Refused(f"mempool: the sender has {balance} wei, gas and value may take {cost}")

    def _check_replacement(self, old: Transaction, new: Transaction) -> None:
        if new.max_fee_per_gas * 100 < old.max_fee_per_gas * (100 + self._limits.bump_percent):
            raise Refused(
                f"mempool: nonce {new.nonce} is taken; to replace it offer {self._limits.bump_percent} % more fee"
            )
        if self._bytes - len(old.raw) + len(new.raw) > self._limits.bytes:
            raise Refused("mempool: full; try again after the next blocks")

    def _has_room(self, transaction: Transaction) -> bool:
        return len(self._by_hash) < self._limits.total and self._bytes + len(transaction.raw) <= self._limits.bytes

    def _make_room(self, transaction: Transaction, queue: _Queue) -> bool:
        """Only for what can be executed, and only at the cost of what cannot: farthest nonces of others first."""
        if transaction.nonce != queue.nonce:
            return False
        for other in list(self._queues.values()):
            ready = {entry.transaction.nonce for entry in other.executable()}
            for nonce in sorted(set(other.entries) - ready, reverse=True):
                self._remove(other, other.entries[nonce].transaction)
                if self._has_room(transaction):
                    return True
        return False

    # ---- blocks
    def has_executable(self) -> bool:
        return any(queue.nonce in queue.entries for queue in self._queues.values())

    def take(self, *, max_count: int, max_bytes: int) -> list[Transaction]:
        """The best executable ones: highest tip, then first come; a sender's in nonce order. They stay here."""
        waiting = []
        for sender, queue in self._queues.items():
            entries = queue.executable()
            first = next(entries, None)
            if first is not None:
                waiting.append((-first.transaction.max_priority_fee_per_gas, first.arrived, sender, first, entries))
        heapq.heapify(waiting)
        taken: list[Transaction] = []
        while waiting and len(taken) < max_count:
            _, _, sender, entry, entries = waiting[0]
            max_bytes -= len(entry.transaction.raw)
            if max_bytes < 0:
                break
            taken.append(entry.transaction)
            following = next(entries, None)
            if following is None:
                heapq.heappop(waiting)
            else:
                tip = following.transaction.max_priority_fee_per_gas
                heapq.heapreplace(waiting, (-tip, following.arrived, sender, following, entries))
        return taken

    def on_block(
        self, hashes: set[Digest], nonces: Mapping[Account, int], *, gas_left: int, bytes_left: int
    ) -> list[float]:
        """A block is final: drop what it used up or what passed over too often.

        Returns when each transaction that it included had been accepted here.
        """
        accepted: list[float] = []
        for sender in list(self._queues):
            queue = self._queues[sender]
            queue.nonce = max(queue.nonce, nonces.get(sender, 0))
            for nonce in [nonce for nonce in queue.entries if nonce < queue.nonce]:
                entry = queue.entries[nonce]
                if entry.transaction.hash in hashes:
                    accepted.append(entry.accepted_at)
                self._remove(queue, entry.transaction)
            self._age(queue, gas_left, bytes_left)
            if not queue.entries:
                del self._queues[sender]
        return accepted

    def _age(self, queue: _Queue, gas_left: int, bytes_left: int) -> None:
        ready = list(queue.executable())
        for entry in ready:
            had_room = entry.transaction.gas <= gas_left and len(entry.transaction.raw) <= bytes_left
            entry.passed += had_room
        behind = {id(entry) for entry in ready}
        for entry in list(queue.entries.values()):
            if id(entry) not in behind:
                entry.waited += 1
            if entry.passed >= self._limits.heights or entry.waited >= self._limits.waiting_heights:
                self._remove(queue, entry.transaction)

    def _remove(self, queue: _Queue, transaction: Transaction) -> None:
        del queue.entries[transaction.nonce]
        del self._by_hash[transaction.hash]
        del self._by_raw[transaction.raw]
        self._bytes -= len(transaction.raw)
