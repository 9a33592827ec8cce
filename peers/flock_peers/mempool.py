"""Transactions that wait for a block: by sender, in nonce order, bounded in every direction. Does no I/O.

A transaction is executable where its nonce follows on from the final state and what waits before it. It may pass
over three blocks that had room for it, or wait for 64; then it is dropped, so that none keeps a chain awake for ever.
Where the pool is full, what cannot be executed goes first, then the lowest tip. This peer's own stay.
"""

import heapq
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from flock_chain.crypto import Account, Digest
from flock_chain.errors import Refused
from flock_chain.execution.transactions import Transaction


@dataclass(frozen=True)
class Limits:
    per_sender: int = 64  # also how far ahead of the final nonce; twice what the roles of one peer send at once
    total: int = 4_096  # 40 full blocks of transfers
    bytes: int = 16 << 20  # of raw transactions: what the memory of a small machine can spare
    sender_bytes: int = (
        128 << 10
    )  # twice the largest transaction, 30 calls of a role; filling the pool takes 128 accounts
    heights: int = 3  # that a transaction may pass over although the block had room
    waiting_heights: int = 64  # that one with a gap before it, or that no block had room for, may stay: nothing comes
    bump_percent: int = 10  # more fee (or tip) to take another's place: nobody makes everybody gossip for free


@dataclass
class _Entry:
    transaction: Transaction
    arrived: int  # order
    accepted_at: float
    passed: int = 0  # heights that had room for it
    waited: int = 0  # heights with a gap before it, or without room for it


@dataclass
class _Queue:
    nonce: int  # the sender's next in final state
    entries: dict[int, _Entry] = field(default_factory=dict)

    def executable(self) -> Iterator[_Entry]:
        nonce = self.nonce
        while nonce in self.entries:
            yield self.entries[nonce]
            nonce += 1


def _cost(transaction: Transaction) -> int:
    """What it may take from its sender at most."""
    return transaction.gas * transaction.max_fee_per_gas + transaction.value


class Mempool:
    def __init__(
        self, limits: Limits, *, base_fee: int, max_gas: int, max_transaction_bytes: int, own: Account | None = None
    ) -> None:
        """`own`: this peer's account. Others' transactions never cost its own their place."""
        self._limits, self._own = limits, own
        self._base_fee, self._max_gas, self._max_transaction_bytes = base_fee, max_gas, max_transaction_bytes
        self._queues: dict[Account, _Queue] = {}
        self._by_hash: dict[Digest, Transaction] = {}
        self._by_raw: dict[bytes, Transaction] = {}
        self._bytes = 0
        self._arrivals = 0

    def set_max_gas(self, max_gas: int) -> None:
        """Of a block, when an upgrade changes it; what no longer fits is dropped as it ages."""
        self._max_gas = max_gas

    def __len__(self) -> int:
        return len(self._by_hash)

    def __contains__(self, transaction_hash: object) -> bool:
        return transaction_hash in self._by_hash

    def get(self, transaction_hash: bytes) -> Transaction | None:
        return self._by_hash.get(Digest(transaction_hash))

    def next_nonce(self, sender: bytes, nonce: int) -> int:
        """After what can be executed of this sender's; `nonce`: its next in final state."""
        queue = self._queues.get(Account(sender))
        while queue is not None and nonce in queue.entries:
            nonce += 1
        return nonce

    def get_known(self, raw: bytes) -> Transaction | None:
        """The decoded form of bytes that were checked before."""
        return self._by_raw.get(raw)

    def add(self, transaction: Transaction, *, nonce: int, balance: int, now: float) -> Digest:
        """`nonce` and `balance`: the sender's in final state. Adding what is here changes nothing.

        Raises Refused naming the rule.
        """
        if transaction.hash in self._by_hash:
            return transaction.hash
        self._check(transaction, nonce)
        queue = self._queues.get(transaction.sender) or _Queue(nonce)
        queue.nonce = max(queue.nonce, nonce)
        replaced = queue.entries.get(transaction.nonce)
        if replaced is not None:
            self._check_replacement(replaced.transaction, transaction)
        self._check_sender(queue, replaced, transaction, balance)
        self._make_room(queue, replaced, transaction)
        if replaced is not None:
            self._remove(queue, replaced.transaction)
        self._arrivals += 1
        queue.entries[transaction.nonce] = _Entry(transaction, self._arrivals, now)
        self._queues[transaction.sender] = queue
        self._by_hash[transaction.hash] = self._by_raw[transaction.raw] = transaction
        self._bytes += len(transaction.raw)
        return transaction.hash

    def _check(self, transaction: Transaction, nonce: int) -> None:
        if transaction.nonce < nonce:
            raise Refused(f"mempool: nonce too low: {transaction.nonce} is used, the sender's next is {nonce}")
        if transaction.nonce >= nonce + self._limits.per_sender:
            raise Refused(f"mempool: nonce {transaction.nonce} is too far ahead of the sender's next, {nonce}")
        if transaction.max_fee_per_gas < self._base_fee:
            raise Refused(f"mempool: fee {transaction.max_fee_per_gas} below the base fee {self._base_fee}")
        if transaction.gas > self._max_gas or len(transaction.raw) > self._max_transaction_bytes:
            raise Refused(f"mempool: above {self._max_gas} gas or {self._max_transaction_bytes} bytes")

    def _check_replacement(self, old: Transaction, new: Transaction) -> None:
        if new.max_fee_per_gas * 100 < old.max_fee_per_gas * (100 + self._limits.bump_percent):
            raise Refused(
                f"mempool: replacement transaction underpriced: nonce {new.nonce} is taken; to replace it offer "
                f"{self._limits.bump_percent} % more fee"
            )

    def _check_sender(self, queue: _Queue, replaced: _Entry | None, new: Transaction, balance: int) -> None:
        """All that waits together: one balance pays it, so no tip is offered that cannot be paid."""
        waiting = [entry.transaction for entry in queue.entries.values() if entry is not replaced]
        if len(waiting) >= self._limits.per_sender:
            raise Refused(f"mempool: {self._limits.per_sender} transactions of this sender wait already")
        if sum(len(row.raw) for row in waiting) + len(new.raw) > self._limits.sender_bytes:
            raise Refused(f"mempool: more than {self._limits.sender_bytes} bytes of this sender would wait")
        cost, before = _cost(new), sum(_cost(row) for row in waiting if row.nonce >= queue.nonce)
        if balance < before + cost:
            raise Refused(
                f"mempool: insufficient funds: the sender has {balance} wei, gas and value may take {cost}, "
                f"what waits already {before}"
            )

    # ---- room
    def _make_room(self, queue: _Queue, replaced: _Entry | None, new: Transaction) -> None:
        """At the cost of others, or not at all; raises Refused. Own ones need no room: `_check_sender` limits them."""
        count, size = (1, len(new.raw)) if replaced is None else (0, len(new.raw) - len(replaced.transaction.raw))
        count += len(self._by_hash) - self._limits.total
        size += self._bytes - self._limits.bytes
        victims = []
        candidates = self._list_victims(queue, new)
        while count > 0 or size > 0:
            victim = next(candidates, None)
            if victim is None:
                if new.sender == self._own:
                    break
                raise Refused("mempool: full; try again after the next blocks, or offer a higher tip")
            victims.append(victim)
            count, size = count - 1, size - len(victim.raw)
        for victim in victims:
            self._remove(self._queues[victim.sender], victim)

    def _list_victims(self, queue: _Queue, new: Transaction) -> Iterator[Transaction]:
        """Only for what can be executed: first what cannot, farthest nonces first, then the lowest tips."""
        offer = self._rank(queue, new)
        if offer is None:
            return
        others = {sender: other for sender, other in self._queues.items() if sender != self._own}
        for other in others.values():
            ready = {entry.transaction.nonce for entry in other.executable()}
            yield from (other.entries[n].transaction for n in sorted(set(other.entries) - ready, reverse=True))
        yield from self._list_cheapest([other for other in others.values() if other is not queue], offer)

    def _list_cheapest(self, others: list[_Queue], offer: int) -> Iterator[Transaction]:
        """The last executable one of whose sender has the lowest rank, again and again: so no gap is made."""
        heap = []
        for index, other in enumerate(others):
            ranked = self._rank_all(other)
            if ranked:
                heap.append((ranked[-1][0], index, ranked))
        heapq.heapify(heap)
        while heap:
            rank, index, ranked = heap[0]
            if offer <= rank or offer * 100 < rank * (100 + self._limits.bump_percent):
                return
            yield ranked.pop()[1]
            if ranked:
                heapq.heapreplace(heap, (ranked[-1][0], index, ranked))
            else:
                heapq.heappop(heap)

    def _rank_all(self, queue: _Queue) -> list[tuple[int, Transaction]]:
        """In nonce order; one behind a lower tip has to wait for that, so it ranks no higher."""
        ranked: list[tuple[int, Transaction]] = []
        for entry in queue.executable():
            tip = self._tip(entry.transaction)
            ranked.append((min(tip, ranked[-1][0]) if ranked else tip, entry.transaction))
        return ranked

    def _rank(self, queue: _Queue, new: Transaction) -> int | None:
        """The rank that a new one would have in its sender's queue; None where it has to wait for another nonce."""
        before = [row for row in self._rank_all(queue) if row[1].nonce < new.nonce]
        if len(before) != new.nonce - queue.nonce:
            return None
        return min([rank for rank, _ in before] + [self._tip(new)])

    def _tip(self, transaction: Transaction) -> int:
        """What is paid on top of the base fee; a higher promise above the maximum fee is not kept."""
        return min(transaction.max_priority_fee_per_gas, transaction.max_fee_per_gas - self._base_fee)

    # ---- blocks
    def has_executable(self) -> bool:
        return any(queue.nonce in queue.entries for queue in self._queues.values())

    def find_senders(self, to: Account, among: Collection[Account]) -> frozenset[Account]:
        """Who of these has something executable for an address."""
        queues = {account: self._queues[account] for account in among if account in self._queues}
        return frozenset(
            account
            for account, queue in queues.items()
            if any(entry.transaction.to == to for entry in queue.executable())
        )

    def take(self, *, max_count: int, max_bytes: int) -> list[Transaction]:
        """The best executable ones: own, then highest tip, then first come; a sender's in nonce order. They stay here.

        Own ones first, so that nobody outbids a validator's round work in its own blocks.
        """
        waiting = []
        for queue in self._queues.values():
            entries = queue.executable()
            first = next(entries, None)
            if first is not None:
                waiting.append((self._place(first), first, entries))
        heapq.heapify(waiting)
        taken: list[Transaction] = []
        while waiting and len(taken) < max_count:
            _, entry, entries = waiting[0]
            max_bytes -= len(entry.transaction.raw)
            if max_bytes < 0:
                break
            taken.append(entry.transaction)
            following = next(entries, None)
            if following is None:
                heapq.heappop(waiting)
            else:
                heapq.heapreplace(waiting, (self._place(following), following, entries))
        return taken

    def _place(self, entry: _Entry) -> tuple[bool, int, int]:
        transaction = entry.transaction
        return transaction.sender != self._own, -self._tip(transaction), entry.arrived

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
        ready = {id(entry) for entry in queue.executable()}
        for entry in list(queue.entries.values()):
            has_room = entry.transaction.gas <= gas_left and len(entry.transaction.raw) <= bytes_left
            if id(entry) in ready and has_room:
                entry.passed += 1
            else:
                entry.waited += 1
            if entry.passed >= self._limits.heights or entry.waited >= self._limits.waiting_heights:
                self._remove(queue, entry.transaction)

    def _remove(self, queue: _Queue, transaction: Transaction) -> None:
        del queue.entries[transaction.nonce]
        del self._by_hash[transaction.hash]
        del self._by_raw[transaction.raw]
        self._bytes -= len(transaction.raw)
