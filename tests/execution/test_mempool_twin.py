"""The mempool against a slow twin: a plain list that is searched anew for every question, and the rules in words."""

from dataclasses import dataclass, field

from execution_support import CHAIN_ID, KEYS
from hypothesis import given, settings
from hypothesis import strategies as st

from flock_chain.crypto import Account, Key
from flock_chain.errors import Refused
from flock_chain.execution.transactions import Transaction, decode_transaction, sign_call
from flock_peers.mempool import Limits, Mempool

SENDERS = KEYS[:4]
LIMITS = Limits(per_sender=4, total=6, bytes=3_000, sender_bytes=1_500, heights=3, waiting_heights=5, bump_percent=10)
BASE_FEE, MAX_GAS, MAX_BYTES = 2, 100_000, 1_000
_cache: dict[tuple[int, int, int, int, int], Transaction] = {}


def make(sender: int, nonce: int, fee: int, tip: int, size: int) -> Transaction:
    key = (sender, nonce, fee, tip, size)
    if key not in _cache:
        who: Key = SENDERS[sender]
        raw = sign_call(
            who, chain_id=CHAIN_ID, nonce=nonce, to=KEYS[5].account, fee=fee, tip=min(tip, fee), data=bytes(size),
            gas=60_000,
        )  # fmt: skip
        _cache[key] = decode_transaction(raw, CHAIN_ID)
    return _cache[key]


@dataclass
class Row:
    transaction: Transaction
    arrived: int
    passed: int = 0
    waited: int = 0


@dataclass
class Twin:
    """Rows in order of arrival; nothing is indexed, nothing is counted along."""

    own: Account
    rows: list[Row] = field(default_factory=list)
    nonces: dict[Account, int] = field(default_factory=dict)
    order: list[Account] = field(default_factory=list)  # of senders, by their first row
    arrivals: int = 0

    def of(self, sender: Account) -> list[Row]:
        return sorted((r for r in self.rows if r.transaction.sender == sender), key=lambda r: r.transaction.nonce)

    def executable(self, sender: Account) -> list[Row]:
        found: list[Row] = []
        for row in self.of(sender):
            if row.transaction.nonce == self.nonces[sender] + len(found):
                found.append(row)
        return found

    @staticmethod
    def tip(t: Transaction) -> int:
        return min(t.max_priority_fee_per_gas, t.max_fee_per_gas - BASE_FEE)

    def rank(self, sender: Account, upto: int) -> int:
        """A transaction is worth no more than the worst before it, which must go first."""
        return min(self.tip(row.transaction) for row in self.executable(sender) if row.transaction.nonce <= upto)

    def add(self, t: Transaction, nonce: int, balance: int) -> bool:
        if any(row.transaction.hash == t.hash for row in self.rows):
            return True
        if not nonce <= t.nonce < nonce + LIMITS.per_sender or t.max_fee_per_gas < BASE_FEE:
            return False
        if t.gas > MAX_GAS or len(t.raw) > MAX_BYTES:
            return False
        mine = self.of(t.sender)
        old = next((row for row in mine if row.transaction.nonce == t.nonce), None)
        if old and t.max_fee_per_gas < old.transaction.max_fee_per_gas * (1 + LIMITS.bump_percent / 100):
            return False
        others = [row for row in mine if row is not old]
        if len(others) >= LIMITS.per_sender or sum(len(r.transaction.raw) for r in [*others]) + len(t.raw) > (
            LIMITS.sender_bytes
        ):
            return False
        before = self.nonces.get(t.sender, nonce)
        if mine:  # a sender that waits is known to be at least so far
            nonce = max(nonce, before)
        unused = [r.transaction for r in others if r.transaction.nonce >= nonce]
        if balance < sum(x.gas * x.max_fee_per_gas + x.value for x in [*unused, t]):
            return False
        if mine:
            self.nonces[t.sender] = nonce
        victims = self._find_victims(t, nonce, old)
        if victims is None:
            return False
        self.rows = [row for row in self.rows if row not in victims and row is not old]
        self.nonces[t.sender] = nonce
        if t.sender not in self.order:
            self.order.append(t.sender)
        self.arrivals += 1
        self.rows.append(Row(t, self.arrivals))
        return True

    def _find_victims(self, t: Transaction, nonce: int, old: Row | None) -> list[Row] | None:
        """None: there is no room for it."""
        victims: list[Row] = []
        ready = (
            [row for row in self.executable(t.sender) if row.transaction.nonce < t.nonce] if self.of(t.sender) else []
        )
        is_executable = nonce + len(ready) == t.nonce
        offer = min([self.tip(t), *(self.tip(row.transaction) for row in ready)])
        useless = [
            row
            for sender in self.order
            if sender != self.own
            for row in reversed(self.of(sender))
            if row not in self.executable(sender)
        ]
        while True:
            left = [row for row in self.rows if row not in victims]
            # Room is counted as the pool counts: the one that is replaced frees its own, victims or not.
            size = sum(len(r.transaction.raw) for r in left) - (len(old.transaction.raw) if old else 0) + len(t.raw)
            if len(left) - bool(old) + 1 <= LIMITS.total and size <= LIMITS.bytes:
                return victims
            chosen: Row | None = None
            if is_executable:
                chosen = next((row for row in useless if row not in victims), None) or self._cheapest(t, offer, victims)
            if chosen is None:
                return victims if t.sender == self.own else None
            victims.append(chosen)

    def _cheapest(self, t: Transaction, offer: int, victims: list[Row]) -> Row | None:
        best: tuple[int, int, Row] | None = None
        others = [sender for sender in self.order if sender not in (self.own, t.sender)]
        for index, sender in enumerate(others):
            left = [row for row in self.executable(sender) if row not in victims]
            if left:
                rank = self.rank(sender, left[-1].transaction.nonce)
                if best is None or (rank, index) < best[:2]:
                    best = (rank, index, left[-1])
        if best is None or offer <= best[0] or offer * 100 < best[0] * (100 + LIMITS.bump_percent):
            return None
        return best[2]

    def take(self, count: int, size: int) -> list[Transaction]:
        taken: list[Row] = []
        while len(taken) < count:
            firsts = [next((r for r in self.executable(s) if r not in taken), None) for s in self.order]
            best = min(
                (row for row in firsts if row is not None),
                key=lambda r: (r.transaction.sender != self.own, -self.tip(r.transaction), r.arrived),
                default=None,
            )
            if best is None or sum(len(r.transaction.raw) for r in [*taken, best]) > size:
                break
            taken.append(best)
        return [row.transaction for row in taken]

    def on_block(self, nonces: dict[Account, int], gas_left: int) -> None:
        for sender in self.order:
            self.nonces[sender] = max(self.nonces[sender], nonces.get(sender, 0))
        self.rows = [row for row in self.rows if row.transaction.nonce >= self.nonces[row.transaction.sender]]
        ready = [row for sender in self.order for row in self.executable(sender)]
        for row in self.rows:
            if row in ready and row.transaction.gas <= gas_left:
                row.passed += 1
            else:
                row.waited += 1
        self.rows = [r for r in self.rows if r.passed < LIMITS.heights and r.waited < LIMITS.waiting_heights]
        self.order = [sender for sender in self.order if self.of(sender)]


ADD = st.tuples(
    st.just("add"), st.integers(0, 3), st.integers(0, 4), st.integers(2, 40), st.integers(0, 20),
    st.sampled_from([0, 0, 0, 300]), st.sampled_from([10**18, 10**18, 4_000_000]),
)  # fmt: skip
BLOCK = st.tuples(st.just("block"), st.integers(0, 3), st.sampled_from([0, 10**6]))


@settings(max_examples=120, deadline=None, database=None)
@given(st.lists(st.one_of(ADD, ADD, ADD, ADD, BLOCK), min_size=15, max_size=40))
def test_the_mempool_holds_and_offers_what_its_slow_twin_does(actions: list[tuple]) -> None:  # type: ignore[type-arg]
    own = SENDERS[0].account
    pool = Mempool(LIMITS, base_fee=BASE_FEE, max_gas=MAX_GAS, max_transaction_bytes=MAX_BYTES, own=own)
    twin = Twin(own)
    final: dict[Account, int] = {}
    for action in actions:
        if action[0] == "add":
            _, sender, nonce, fee, tip, size, balance = action
            transaction = make(sender, nonce, fee, tip, size)
            at = final.get(transaction.sender, 0)
            accepted = twin.add(transaction, at, balance)
            try:
                pool.add(transaction, nonce=at, balance=balance, now=0.0)
                assert accepted, f"the twin refuses {transaction.nonce} of {sender}"
            except Refused as error:
                assert not accepted, f"the twin accepts: {error}"
        else:
            _, count, gas_left = action
            included = twin.take(count, 10**6)
            final |= {row.sender: row.nonce + 1 for row in included}
            nonces = {row.sender: row.nonce + 1 for row in included}
            pool.on_block({row.hash for row in included}, nonces, gas_left=gas_left, bytes_left=10**6)
            twin.on_block(nonces, gas_left)
        assert set(pool._by_hash) == {row.transaction.hash for row in twin.rows}
        assert pool._bytes == sum(len(row.transaction.raw) for row in twin.rows)
        for count, size in ((100, 10**6), (2, 10**6), (100, 700)):
            assert pool.take(max_count=count, max_bytes=size) == twin.take(count, size)
        assert pool.has_executable() == bool(twin.take(1, 10**6))
        others = [row for row in twin.rows if row.transaction.sender != own]
        assert len(others) <= LIMITS.total and sum(len(row.transaction.raw) for row in others) <= LIMITS.bytes
