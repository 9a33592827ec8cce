"""The rules of stake and of epochs once more, in plain Python, to be compared with the compiled contract step by step.

Written from the rules, not from the contract: whole lists, no packing, no rings, no gas.
"""

from dataclasses import dataclass, field

ONE = 10**18
LIMITS = {"candidates": 300, "validators": 150}


class Refused(Exception):
    """The model would not do it; the contract must not either."""


@dataclass
class Account:
    stake: int = 0
    allowance: int = 0
    weight: int = 0
    peak: int = 0
    vrf_key: bytes = b""
    unbonding: int = 0
    requested_at: int = 0
    last_epoch: int = 0
    jailed_until: int = 0
    tombstoned_at: int = 0
    missed: set[int] = field(default_factory=set)
    ballot: int = 0
    reporter: bytes = b""
    is_settled: bool = False
    reward: int = 0


@dataclass
class StakeModel:
    min_stake: int
    unbonding_delay: int
    evidence_window: int
    epoch_blocks: int
    epoch_seconds: int
    absence_limit: int
    jail_delay: int
    is_open: bool
    height: int = 0
    now: int = 0
    epoch: int = 0
    started_at: int = 0
    accounts: dict[bytes, Account] = field(default_factory=dict)
    candidates: list[bytes] = field(default_factory=list)
    sets: dict[int, list[tuple[bytes, int]]] = field(default_factory=dict)
    first_heights: dict[int, int] = field(default_factory=dict)
    ended_at: dict[int, int] = field(default_factory=dict)
    approvals: dict[tuple[bytes, int, int, bytes], int] = field(default_factory=dict)  # when
    offences: list[tuple[int, int]] = field(default_factory=list)
    burned: int = 0
    paid: int = 0
    received: int = 0

    def start(self, rows: list[tuple[bytes, int, bytes]]) -> None:
        for account, stake, key in rows:
            self.accounts[account] = Account(stake, stake, stake, stake, key)
            self.candidates.append(account)
            self.received += stake
        self.sets[0] = self.sets[1] = [(account, stake) for account, stake, _ in rows]
        self.first_heights[0], self.started_at = self.height + 1, self.now

    def of(self, account: bytes) -> Account:
        return self.accounts.setdefault(account, Account())

    def target(self, account: bytes) -> int:
        row = self.of(account)
        if row.jailed_until or row.tombstoned_at:
            return 0
        weight = row.stake if self.is_open else min(row.stake, row.allowance)
        return weight if weight >= self.min_stake else 0

    def enlist(self, account: bytes) -> None:
        if account not in self.candidates and self.target(account):
            self.candidates.append(account)

    # ---- what accounts do

    def bond(self, account: bytes, amount: int, key: bytes) -> None:
        row = self.of(account)
        is_served = row.weight > 0 or (row.last_epoch > 0 and row.last_epoch >= self.epoch)
        if row.tombstoned_at or (is_served and row.vrf_key != key):
            raise Refused
        row.vrf_key = key
        row.stake += amount
        self.received += amount
        self.enlist(account)

    def unbond(self, account: bytes, amount: int) -> None:
        row = self.of(account)
        if not 0 < amount <= row.stake:
            raise Refused
        row.stake -= amount
        row.unbonding += amount
        row.requested_at = self.now

    def release_at(self, account: bytes) -> int | None:
        row = self.of(account)
        if row.weight > row.stake or (row.last_epoch and row.last_epoch >= self.epoch):
            return None
        ended = self.ended_at[row.last_epoch] if row.last_epoch else 0
        return max(row.requested_at, ended) + self.unbonding_delay

    def withdraw(self, account: bytes) -> int:
        row, release_at = self.of(account), self.release_at(account)
        if row.unbonding == 0 or release_at is None or self.now < release_at:
            raise Refused
        if row.tombstoned_at and not row.is_settled:
            self.settle(account)
        amount, row.unbonding = row.unbonding, 0
        self.paid += amount
        return amount

    def admit(self, voter: bytes, account: bytes, weight: int) -> None:
        serving = dict(self.sets[self.epoch])
        if voter not in serving:
            raise Refused
        row = self.of(account)
        self.approvals[account, weight, row.ballot, voter] = self.now
        oldest = self.now - self.unbonding_delay
        agreed = sum(
            mine
            for member, mine in serving.items()
            if self.approvals.get((account, weight, row.ballot, member), -1) >= oldest
        )
        if 3 * agreed > 2 * sum(serving.values()):
            row.ballot += 1
            row.allowance = weight
            self.enlist(account)

    def unjail(self, account: bytes) -> None:
        row = self.of(account)
        if not row.jailed_until or row.tombstoned_at or self.now < row.jailed_until:
            raise Refused
        row.jailed_until, row.missed = 0, set()
        self.enlist(account)

    def report(self, reporter: bytes, account: bytes, height: int, epoch: int) -> None:
        row = self.of(account)
        last = self.first_heights.get(epoch + 1, 1 << 60) - 1
        in_epoch = epoch in self.first_heights and self.first_heights[epoch] <= height <= min(last, self.height)
        is_late = epoch in self.ended_at and self.now > self.ended_at[epoch] + self.evidence_window
        at_risk = min(row.stake + row.unbonding, row.peak)
        if not in_epoch or is_late or row.tombstoned_at or at_risk == 0:
            raise Refused
        total = sum(weight for _, weight in self.sets[epoch])
        self.offences.append((self.now, at_risk * ONE // total))
        row.tombstoned_at, row.reporter = self.now, reporter
        row.unbonding, row.stake, row.requested_at = row.unbonding + row.stake, 0, self.now

    def settle(self, account: bytes) -> None:
        row, release_at = self.of(account), self.release_at(account)
        if not row.tombstoned_at or row.is_settled or release_at is None or self.now < release_at:
            raise Refused
        delay = self.unbonding_delay
        near = sum(share for at, share in self.offences if abs(at - row.tombstoned_at) < delay)
        slashed = row.unbonding * min(ONE, max(ONE // 20, 3 * near)) // ONE
        row.is_settled = True
        row.unbonding -= slashed
        self.of(row.reporter).reward += slashed // 20
        self.burned += slashed - slashed // 20

    def claim(self, account: bytes) -> int:
        row = self.of(account)
        if not row.reward:
            raise Refused
        amount, row.reward = row.reward, 0
        self.paid += amount
        return amount

    # ---- what the system does

    def set_of(self, height: int) -> list[tuple[bytes, int]]:
        """Who decided about the head, or decides about the height after it."""
        is_new = height >= self.first_heights[self.epoch] or not self.epoch
        return self.sets[self.epoch if is_new else self.epoch - 1]

    def miss(self, absent: list[int]) -> None:
        height = self.height - 1
        for index in absent:
            row = self.of(self.set_of(height)[index][0])
            row.missed = {at for at in row.missed if at > height - 100} | {height}
            if len(row.missed) >= self.absence_limit and not row.jailed_until:
                row.jailed_until = self.now + self.jail_delay

    def is_over(self) -> bool:
        is_long = self.height + 1 - self.first_heights[self.epoch] >= self.epoch_blocks
        return is_long and self.now >= self.started_at + self.epoch_seconds

    def end_epoch(self) -> None:
        weights = self.next_weights()
        number = self.epoch + 2
        for account in self.candidates:
            row = self.of(account)
            if weights[account] < row.weight:
                row.last_epoch = number - 1
            row.weight = weights[account]
            row.peak = max(row.peak, row.weight)
        self.sets[number] = [(account, weights[account]) for account in self.candidates if weights[account]]
        self.candidates = [a for a in self.candidates if weights[a] or self.target(a)]
        self.ended_at[self.epoch] = self.started_at = self.now
        self.epoch += 1
        self.first_heights[self.epoch] = self.height + 1

    def next_weights(self) -> dict[bytes, int]:
        new = {account: self.of(account).weight for account in self.candidates}
        total = sum(new.values())
        budget, average = total // 10, total // sum(weight > 0 for weight in new.values())
        used = 0

        def rank(account: bytes) -> int:
            row = self.of(account)
            return 0 if row.tombstoned_at else 1 if row.jailed_until else 2

        def within(change: int) -> int:
            return min(change, budget - used) if used else change

        turn = (self.epoch + 2) % len(self.candidates)
        order = self.candidates[turn:] + self.candidates[:turn]
        falling = [account for account in order if self.target(account) < new[account]]
        for account in sorted(falling, key=rank):
            change = within(new[account] - self.target(account))
            if 0 < change < sum(new.values()):
                used += change
                new[account] -= change
        for account in order:
            before = self.of(account).weight
            change = within(min(self.target(account) - before, max(budget, average)))
            is_full = not before and sum(weight > 0 for weight in new.values()) >= LIMITS["validators"]
            if change > 0 and not is_full:
                used += change
                new[account] = before + change
        return new

    def liabilities(self) -> int:
        rows = self.accounts.values()
        return sum(row.stake + row.unbonding + row.reward for row in rows) + self.burned
