"""The rules of stake and of epochs once more, in plain Python, to be compared with the compiled contract step by step.

Written from the rules, not from the contract: whole lists, loops over everybody, no packing, no rings, no gas.
"""

from dataclasses import dataclass, field

ONE = 10**18
LIMITS = {"candidates": 300, "validators": 150}


class Refused(Exception):
    """The model would not do it; the contract must not either."""


@dataclass
class Bond:
    """What an owner has with a validator; a validator's own stake is its bond with itself."""

    stake: int = 0
    leaving: int = 0
    held: int = 0  # by the validator's conviction, until its penalty is taken
    since: int = 0
    waits: bool = False  # for the weight to come down
    last: int = 0  # the last epoch that what is leaving secures
    is_settled: bool = False
    earned: int = 0  # in parts of ONE


@dataclass
class Account:
    allowance: int = 0
    weight: int = 0
    peak: int = 0
    vrf_key: bytes = b""
    last_epoch: int = 0
    is_needed_again: bool = False  # a restart gave back weight that is no longer bonded
    jailed_until: int = 0
    tombstoned_at: int = 0
    missed: set[int] = field(default_factory=set)
    ballot: int = 0
    reporter: bytes = b""
    reward: int = 0
    limit: int = 0
    commission: int | None = None  # None: no terms yet
    next_commission: int = 0
    next_at: int = 0


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
    bonds: dict[tuple[bytes, bytes], Bond] = field(default_factory=dict)
    burned: int = 0
    shared: int = 0  # given to delegators, in units
    share_count: int = 0
    paid: int = 0
    received: int = 0

    def start(self, rows: list[tuple[bytes, int, bytes]]) -> None:
        for account, stake, key in rows:
            self.accounts[account] = Account(stake, stake, stake, key)
            self.bonds[account, account] = Bond(stake)
            self.candidates.append(account)
            self.received += stake
        self.sets[0] = self.sets[1] = [(account, stake) for account, stake, _ in rows]
        self.first_heights[0], self.started_at = self.height + 1, self.now

    def of(self, account: bytes) -> Account:
        return self.accounts.setdefault(account, Account())

    def bond_of(self, validator: bytes, owner: bytes) -> Bond:
        return self.bonds.setdefault((validator, owner), Bond())

    def bonds_with(self, validator: bytes) -> list[Bond]:
        return [bond for (where, _), bond in self.bonds.items() if where == validator]

    def staked_with(self, validator: bytes) -> int:
        return sum(bond.stake for bond in self.bonds_with(validator))

    def leaving_with(self, validator: bytes) -> int:
        return sum(bond.leaving + bond.held for bond in self.bonds_with(validator))

    def total_leaving(self) -> int:
        return sum(bond.leaving + bond.held for bond in self.bonds.values())

    def target(self, account: bytes) -> int:
        row = self.of(account)
        if row.jailed_until or row.tombstoned_at or self.bond_of(account, account).stake < self.min_stake:
            return 0
        weight = self.staked_with(account) if self.is_open else min(self.staked_with(account), row.allowance)
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
        self.bond_of(account, account).stake += amount
        self.received += amount
        self.enlist(account)

    def set_terms(self, account: bytes, commission: int, limit: int) -> None:
        row = self.of(account)
        present = self.commission_of(account)
        is_change = row.commission is not None and commission != present
        row.next_at = self.now + (self.unbonding_delay if is_change else 0)
        row.commission, row.next_commission, row.limit = present, commission, limit

    def commission_of(self, account: bytes) -> int:
        row = self.of(account)
        return row.next_commission if self.now >= row.next_at else row.commission or 0

    def delegate(self, owner: bytes, validator: bytes, amount: int) -> None:
        row = self.of(validator)
        delegated = self.staked_with(validator) - self.bond_of(validator, validator).stake
        if owner == validator or row.tombstoned_at or delegated + amount > row.limit:
            raise Refused
        self.collect(validator, owner)
        self.bond_of(validator, owner).stake += amount
        self.received += amount

    def unbond(self, validator: bytes, owner: bytes, amount: int) -> None:
        row, bond = self.of(validator), self.bond_of(validator, owner)
        if not 0 < amount <= bond.stake:
            raise Refused
        self.collect(validator, owner)
        bond.stake -= amount
        bond.leaving += amount
        bond.since = self.now
        bond.waits = row.weight > self.staked_with(validator) or row.is_needed_again
        bond.last = row.last_epoch
        if row.weight > 0:
            bond.last = max(bond.last, self.epoch, 1)

    def free_at(self, bond: Bond) -> int | None:
        if bond.waits or (bond.last and bond.last >= self.epoch):
            return None
        return max(bond.since, self.ended_at[bond.last] if bond.last else 0) + self.unbonding_delay

    def release_at(self, validator: bytes, owner: bytes) -> int | None:
        row, bond = self.of(validator), self.bond_of(validator, owner)
        if row.tombstoned_at and not bond.is_settled and not bond.leaving:
            if row.weight or (row.last_epoch and row.last_epoch >= self.epoch):
                return None
            ended = self.ended_at[row.last_epoch] if row.last_epoch else 0
            return max(row.tombstoned_at, ended) + self.unbonding_delay
        if row.tombstoned_at:
            return row.tombstoned_at
        is_needed = row.weight > self.staked_with(validator) + self.leaving_with(validator) - bond.leaving
        return None if is_needed else self.free_at(bond)

    def withdraw(self, validator: bytes, owner: bytes) -> int:
        bond, release_at = self.bond_of(validator, owner), self.release_at(validator, owner)
        if bond.leaving + bond.held == 0 or release_at is None or self.now < release_at:
            raise Refused
        if not bond.leaving and bond.held:
            self.settle(validator, owner)
        amount, bond.leaving = bond.leaving, 0
        self.paid += amount
        return amount

    def share(self, validator: bytes, amount: int) -> None:
        total, own = self.staked_with(validator), self.bond_of(validator, validator).stake
        if not total:
            raise Refused
        delegated = total - own
        part = amount * delegated // total
        part -= part * self.commission_of(validator) // 10_000
        step = part * ONE // delegated if delegated else 0
        part = -(-step * delegated // ONE)
        for (where, owner), bond in self.bonds.items():
            if where == validator != owner:
                bond.earned += bond.stake * step
        self.of(validator).reward += amount - part
        self.shared += part
        self.share_count += 1
        self.received += amount

    def collect(self, validator: bytes, owner: bytes) -> None:
        bond = self.bond_of(validator, owner)
        units, bond.earned = divmod(bond.earned, ONE)
        self.of(owner).reward += units
        self.shared -= units

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
        at_risk = min(self.staked_with(account) + self.leaving_with(account), row.peak)
        if not in_epoch or is_late or row.tombstoned_at or at_risk == 0:
            raise Refused
        total = sum(weight for _, weight in self.sets[epoch])
        self.offences.append((self.now, at_risk * ONE // total))
        row.tombstoned_at, row.reporter = self.now, reporter
        for bond in self.bonds_with(account):
            free_at = self.free_at(bond)
            bond.held, bond.stake = bond.stake, 0
            if free_at is None or free_at > self.now:
                bond.held, bond.leaving = bond.held + bond.leaving, 0

    def settle(self, validator: bytes, owner: bytes) -> None:
        row, bond = self.of(validator), self.bond_of(validator, owner)
        free, bond.leaving = bond.leaving, 0  # what was free before the conviction is out of reach
        release_at = self.release_at(validator, owner)
        bond.leaving = free
        if not row.tombstoned_at or not bond.held or release_at is None or self.now < release_at:
            raise Refused
        delay = self.unbonding_delay
        near = sum(share for at, share in self.offences if abs(at - row.tombstoned_at) < delay)
        slashed = -(-bond.held * min(ONE, max(ONE // 20, 3 * near)) // ONE)
        reward = slashed // 20 if owner == validator else 0
        self.collect(validator, owner)
        bond.is_settled = True
        bond.leaving, bond.held = bond.leaving + bond.held - slashed, 0
        self.of(row.reporter).reward += reward
        self.burned += slashed - reward

    def claim(self, account: bytes) -> int:
        row = self.of(account)
        if not row.reward:
            raise Refused
        amount, row.reward = row.reward, 0
        self.paid += amount
        return amount

    def claim_delegation(self, validator: bytes, owner: bytes) -> int:
        if not self.of(owner).reward and self.bond_of(validator, owner).earned < ONE:
            raise Refused
        self.collect(validator, owner)
        return self.claim(owner)

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
            self.let_go(account, number - 1)
        self.sets[number] = [(account, weights[account]) for account in self.candidates if weights[account]]
        self.candidates = [a for a in self.candidates if weights[a] or self.target(a)]
        self.ended_at[self.epoch] = self.started_at = self.now
        self.epoch += 1
        self.first_heights[self.epoch] = self.height + 1

    def let_go(self, validator: bytes, last: int) -> None:
        """Where the weight is down to what is bonded, those who left know the last epoch that they secure."""
        if self.of(validator).weight <= self.staked_with(validator):
            self.of(validator).is_needed_again = False
            for bond in self.bonds_with(validator):
                if bond.waits:
                    bond.waits, bond.last = False, last

    def restart(self, keep: set[bytes]) -> None:
        rows = [(account, weight) for account, weight in self.sets[self.epoch] if account in keep]
        others = [account for account in self.candidates if account not in keep]
        for account, weight in rows:
            row = self.of(account)
            if weight > max(row.weight, self.staked_with(account)):
                row.is_needed_again = True
                for bond in self.bonds_with(account):
                    bond.waits = bond.waits or bond.last >= max(self.epoch, 1)
            row.weight = weight
        for account in others:
            row = self.of(account)
            if row.weight:
                row.weight, row.last_epoch, row.jailed_until = 0, max(self.epoch, 1), self.now + self.jail_delay
                self.let_go(account, row.last_epoch)
        self.candidates = [account for account, _ in rows] + [account for account in others if self.target(account)]
        self.sets[self.epoch] = self.sets[self.epoch + 1] = rows

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
        bonded = sum(bond.stake + bond.leaving + bond.held for bond in self.bonds.values())
        return bonded + sum(row.reward for row in self.accounts.values()) + self.shared + self.burned
