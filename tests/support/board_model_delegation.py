"""The twin's delegators: one dictionary of units for each pool, and a loop over all of them wherever coins move.

Knows of the board only what it asks of it; rounds as the contract does: for the pool.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Protocol

from contracts_support import AUDIT, ENDED, WAITING

BPS, SEAT, ONE = 10_000, 2**96, 2**128
MOST_EXITS = 8  # of a place, that it asked for
Pair = tuple[bytes, bytes]  # participant, delegator
Exit = tuple[int, int]  # wei, chain time from which they are free


class Member(Protocol):
    bond: int
    leaving: int | None
    blamed: int | None
    held: int


class Board(Protocol):
    """What the pools ask of the rest of the twin."""

    terms: dict[str, int]
    rules: dict[str, int]
    phase: int
    number: int
    height: int
    now: int
    close: int
    counted_audits: int
    rest_per_seat: int

    @property
    def people(self) -> dict[bytes, Member]: ...
    def is_free(self, who: bytes) -> bool: ...


@dataclass
class Terms:
    limit: int = 0
    commission: int = 0
    next_commission: int = 0
    next_at: int = 0
    is_set: bool = False

    def at(self, now: int) -> int:
        return self.next_commission if now >= self.next_at else self.commission


@dataclass
class Pool:
    stake: int = 0
    units: dict[bytes, int] = field(default_factory=dict)
    leaving: dict[bytes, int] = field(default_factory=dict)
    fresh: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # round, units
    release: int = 0  # of a closed one

    @property
    def total(self) -> int:
        return sum(self.units.values())

    @property
    def active(self) -> int:
        return self.stake * (self.total - sum(self.leaving.values())) // self.total if self.units else 0

    def worth(self, units: int) -> int:
        return self.stake * units // self.total if units else 0

    def kept(self, owner: bytes) -> int:
        return self.units.get(owner, 0) - self.leaving.get(owner, 0)


class Pools:
    """Each method answers whether the contract must accept the call, and changes the twin where it must."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.terms: defaultdict[bytes, Terms] = defaultdict(Terms)
        self.open: defaultdict[bytes, Pool] = defaultdict(Pool)
        self.closed_pools: defaultdict[bytes, list[Pool]] = defaultdict(list)
        self.history: defaultdict[bytes, list[tuple[int, int]]] = defaultdict(list)  # height, what weighed from then on
        self.parts: dict[tuple[int, bytes], int] = {}  # round, participant: of the seat's pay
        self.given: dict[tuple[int, bytes], tuple[int, int]] = {}  # pay, part of a seat
        self.earned: defaultdict[Pair, int] = defaultdict(int)  # parts of a wei
        self.seats: defaultdict[Pair, int] = defaultdict(int)
        self.exits: defaultdict[Pair, list[Exit]] = defaultdict(list)
        self.asked: dict[Pair, tuple[int, int]] = {}
        self.held: dict[tuple[int, bytes], int] = {}  # round, participant: for an accusation
        self.owed = 0  # wei, on the board
        self.burned = 0

    @property
    def delegated(self) -> int:
        return sum(pool.stake for pool in self.open.values())

    @property
    def liabilities(self) -> int:
        closed = sum(pool.stake for pools in self.closed_pools.values() for pool in pools)
        unbonding = sum(amount for exits in self.exits.values() for amount, _ in exits)
        return self.delegated + closed + unbonding + self.burned

    def closed(self, who: bytes) -> int:
        """What weighed at the last close."""
        return next((active for height, active in reversed(self.history[who]) if height <= self.board.close), 0)

    def note_change(self, who: bytes) -> None:
        self.history[who].append((self.board.height, self.open[who].active))

    # ------------------------------------------------ calls

    def set_terms(self, who: bytes, commission: int, limit: int) -> bool:
        if commission > BPS:
            return False
        present = self.terms[who].at(self.board.now)
        waits = self.terms[who].is_set and commission != present
        next_at = self.board.now + (self.board.rules["unbonding_delay"] if waits else 0)
        self.terms[who] = Terms(limit, present, commission, next_at, True)
        return True

    def delegate(self, owner: bytes, who: bytes, amount: int) -> bool:
        board, member = self.board, self.board.people.get(who)
        if board.phase == ENDED or member is None or member.leaving is not None or member.held or owner == who:
            return False
        room = min(self.terms[who].limit, 4 * member.bond) - self.open[who].stake
        if not 0 < amount <= room or self.is_full(owner, who):
            return False
        self.settle(owner, who)
        pool = self.open[who]
        units = amount * pool.total // pool.stake if pool.units else amount
        pool.stake += amount
        pool.units[owner] = pool.units.get(owner, 0) + units
        if board.phase not in (WAITING, AUDIT) and board.height > board.close:
            round, before = pool.fresh.get(owner, (0, 0))
            pool.fresh[owner] = (board.number, units + (before if round == board.number else 0))
        self.note_change(who)
        return True

    def undelegate(self, owner: bytes, who: bytes, amount: int) -> bool:
        board, pool = self.board, self.open[who]
        if owner not in pool.units or amount > pool.worth(pool.kept(owner)):
            return False
        asked = (board.number - (board.phase == WAITING), board.counted_audits)
        is_out = self.is_out(who, asked if amount else self.asked.get((who, owner), (0, 0)))
        units = self.units(owner, pool, amount) if amount else 0
        leaving = pool.leaving.get(owner, 0) + units
        if amount == 0 and not (leaving and is_out):
            return False
        free = pool.worth(leaving)
        if is_out and free and self.is_full(owner, who):
            return False
        self.settle(owner, who)
        if amount:
            round, fresh = pool.fresh.get(owner, (0, 0))
            pool.fresh[owner] = (round, max(0, fresh - units))
            pool.leaving[owner] = leaving
            self.asked[who, owner] = asked
        if is_out:
            del pool.leaving[owner]
            pool.units[owner] -= leaving
            pool.stake -= free
            if pool.units[owner] == 0:
                del pool.units[owner]
            self.unbond(owner, who, free, board.now + board.rules["unbonding_delay"])
        self.note_change(who)
        return True

    def units(self, owner: bytes, pool: Pool, amount: int) -> int:
        kept = pool.kept(owner)
        return kept if amount == pool.worth(kept) else -(-amount * pool.total // pool.stake)

    def is_out(self, who: bytes, asked: tuple[int, int]) -> bool:
        board = self.board
        if board.is_free(who):
            return True
        if board.people[who].held:
            return False
        round, audits = asked
        if board.number <= round + board.rules["bond_unlock_rounds"]:
            return False
        is_blamed = board.people[who].blamed is not None and board.people[who].blamed == board.counted_audits
        return not board.terms["audit_rounds"] or (board.counted_audits >= audits + 2 and not is_blamed)

    def withdraw(self, owner: bytes, who: bytes) -> bool:
        if self.coming(owner, who)[1] == 0:
            return False
        self.settle(owner, who)
        self.exits[who, owner] = [one for one in self.exits[who, owner] if one[1] > self.board.now]
        return True

    def claimable(self, owner: bytes, who: bytes) -> int:
        rest = self.board.rest_per_seat * (self.seats[who, owner] // ONE) // SEAT
        return self.earned[who, owner] // ONE + rest

    def claim(self, owner: bytes, who: bytes) -> bool:
        amount = self.claimable(owner, who)
        if amount == 0:
            return False
        self.settle(owner, who)
        self.earned[who, owner] %= ONE
        if self.board.phase == ENDED:
            self.seats[who, owner] = 0
        self.owed -= amount
        return True

    def all_exits(self, owner: bytes, who: bytes) -> list[Exit]:
        """With what it has in a closed pool."""
        closed = [(pool.worth(pool.units.get(owner, 0)), pool.release) for pool in self.closed_pools[who]]
        return self.exits[who, owner] + [one for one in closed if one[0]]

    def is_full(self, owner: bytes, who: bytes) -> bool:
        return len(self.all_exits(owner, who)) >= MOST_EXITS

    def coming(self, owner: bytes, who: bytes) -> tuple[int, int]:
        """What is unbonding, and what it can withdraw."""
        exits = self.all_exits(owner, who)
        free = sum(amount for amount, release in exits if release <= self.board.now)
        return sum(amount for amount, _ in exits) - free, free

    def next_release(self, owner: bytes, who: bytes) -> int:
        """When the first of what is unbonding is free; 0 where nothing is."""
        return min((one[1] for one in self.all_exits(owner, who) if one[1] > self.board.now), default=0)

    def settle(self, owner: bytes, who: bytes) -> None:
        """What it had in a closed pool becomes its own."""
        for pool in self.closed_pools[who]:
            taken = pool.worth(pool.units.get(owner, 0))
            self.unbond(owner, who, taken, pool.release)
            pool.stake -= taken
            pool.units.pop(owner, None)

    def unbond(self, owner: bytes, who: bytes, amount: int, release: int) -> None:
        if amount:
            self.exits[who, owner].append((amount, release))

    # ------------------------------------------------ what the board does

    def note_seats(self, round: int, weights: dict[bytes, int]) -> None:
        for who, weight in weights.items():
            keeps = self.terms[who].at(self.board.now)
            self.parts[round, who] = self.closed(who) * (BPS - keeps) * SEAT // (weight * BPS)

    def credit(self, round: int, who: bytes, pay: int) -> int:
        """What of a seat's pay is not its own."""
        pool, part = self.open[who], self.parts[round, who]
        base = {}
        for owner in pool.units:
            since, fresh = pool.fresh.get(owner, (0, 0))
            base[owner] = pool.kept(owner) - (fresh if since == round else 0)
        earning = sum(base.values())
        if part == 0 or earning == 0:
            return 0
        growth = (pay * part // SEAT) * ONE // earning
        seat = part * ONE // earning
        for owner, units in base.items():
            self.earned[who, owner] += units * growth
            self.seats[who, owner] += units * seat
        self.given[round, who] = (-(-growth * earning // ONE), -(-seat * earning // ONE))
        self.owed += self.given[round, who][0]
        return self.given[round, who][0]

    def rest(self, round: int, who: bytes, per_seat: int) -> int:
        """The same of what the seat has of the pot's rest."""
        amount = -(-per_seat * self.given.get((round, who), (0, 0))[1] // SEAT)
        self.owed += amount
        return amount

    def hold(self, round: int, who: bytes, part: int, whole: int) -> None:
        self.held[round, who] = self.open[who].stake * part // whole

    def convict(self, round: int, who: bytes) -> None:
        if stake := self.open[who].stake:
            self.cut(who, min(self.held[round, who], stake), stake)

    def cut(self, who: bytes, part: int, whole: int = BPS) -> None:
        pool = self.open[who]
        amount = pool.stake * part // whole
        if amount == 0:
            return
        pool.stake -= amount
        self.burned += amount
        active = pool.active
        if pool.stake == 0:
            del self.open[who]  # who lost everything has no part in what comes
        *before, (height, _) = self.history[who]
        self.history[who] = [(since, was - was * part // whole) for since, was in before] + [(height, active)]

    def close(self, who: bytes) -> None:
        pool = self.open.pop(who, Pool())
        pool.release = self.board.now + self.board.rules["unbonding_delay"]
        self.closed_pools[who].append(pool)
        self.history[who] = []
