"""One participant's pool by itself: the delegation contract under a board that says whatever a test wants.

Beside it the twin, and exact fractions of what each delegator has put in, lost and earned.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

from board_model_delegation import Pools
from contracts_support import COMMIT, ENDED, World, account, new_world
from delegation_table_support import check_row
from vyper import compile_code

from flock_contracts.addresses import BOARD, DELEGATION

TASK, WHO = 1, account(1)
OWNERS = [account(index) for index in range(60, 64)]
BPS, MOST = 10_000, 10**26
RULES = {"unbonding_delay": 600, "bond_unlock_rounds": 2}
WORDS = (
    "phase", "number", "close", "counted_audits", "audit_rounds", "unlock", "delay", "rest_per_seat", "bond", "blamed",
    "leaving", "free", "held",
)  # fmt: skip
SOURCE = """
# pragma version 0.4.3
words: uint256[13]

@view
@external
def standing(task: uint256, account: address) -> uint256[13]:
    return self.words

@external
def pay_delegator(owner: address, amount: uint256):
    raw_call(owner, b"", value=amount)
"""


@cache
def _code() -> bytes:
    found = compile_code(SOURCE, output_formats=["bytecode_runtime"])["bytecode_runtime"]
    return bytes.fromhex(str(found).removeprefix("0x"))


@dataclass
class Participant:
    bond: int = MOST
    leaving: int | None = None
    blamed: int | None = None
    held: int = 0


@dataclass
class StandIn:
    """What the twin, and by `Bench.tell` the contract, believe of the board."""

    terms: dict[str, int] = field(default_factory=lambda: {"audit_rounds": 0})
    rules: dict[str, int] = field(default_factory=lambda: dict(RULES))
    phase: int = COMMIT
    number: int = 1
    height: int = 0
    now: int = 0
    close: int = 0
    counted_audits: int = 0
    rest_per_seat: int = 0
    person: Participant = field(default_factory=Participant)
    is_out: bool = True

    @property
    def people(self) -> dict[bytes, Any]:
        return {WHO: self.person}

    def is_free(self, _who: bytes) -> bool:
        return self.is_out


class Bench:
    """Each method does the same to the contract, to the twin and to the fractions, and looks at everybody."""

    def __init__(self) -> None:
        self.world: World = new_world()
        self.world.state.set_code(BOARD, _code())
        self.world.state.set_balance(BOARD, 10**40)
        for owner in OWNERS:
            self.world.state.set_balance(owner, 10**30)
        self.board = StandIn()
        self.pools = Pools(self.board)
        self.coins = {owner: self.world.balance(owner) for owner in OWNERS}
        self.value = dict.fromkeys(OWNERS, Fraction())  # bonded with it, leaving or not
        self.out = dict.fromkeys(OWNERS, Fraction())  # out of the pool
        self.pay = dict.fromkeys(OWNERS, Fraction())
        self.seat = dict.fromkeys(OWNERS, Fraction())  # its part of all paid seats, for the pot's rest
        self.withdrawn, self.claimed, self.before = (dict.fromkeys(OWNERS, 0) for _ in range(3))
        self.pays: dict[int, int] = {}  # by round
        self.steps = self.lives = 0
        self.block(1)
        self.board.close = self.world.height
        self.block(1)
        self.tell()
        self.world.must(WHO, "Delegation", "set_terms", TASK, 0, MOST)
        self.pools.set_terms(WHO, 0, MOST)

    def tell(self) -> None:
        board = self.board
        values = {
            "phase": board.phase, "number": board.number, "close": board.close, "bond": board.person.bond,
            "counted_audits": board.counted_audits, "unlock": RULES["bond_unlock_rounds"],
            "delay": RULES["unbonding_delay"], "rest_per_seat": board.rest_per_seat, "free": board.is_out,
        }  # fmt: skip
        for slot, name in enumerate(WORDS):
            self.world.state.set_storage(BOARD, slot, int(values.get(name, 0)))

    def block(self, seconds: int) -> None:
        self.world.begin_block(seconds)
        self.board.height, self.board.now = self.world.height, self.world.view("Beacon", "chain_time")

    def told(self, function: str, *args: Any) -> None:
        """The board's own call: it must never fail, or a task would stand still."""
        self.world.must(BOARD, "Delegation", function, TASK, *args)

    def asks(self, owner: bytes, expected: bool, function: str, *args: Any, value: int = 0) -> bool:
        outcome = self.world.act(owner, "Delegation", function, TASK, WHO, *args, value=value)
        assert outcome.ok == expected, (function, expected, outcome.reason)
        return expected

    # ------------------------------------------------ delegators

    def enter(self, owner: bytes, amount: int) -> None:
        if self.asks(owner, self.pools.delegate(owner, WHO, amount), "delegate", value=amount):
            self.value[owner] += amount
        self.look(owner)

    def ask(self, owner: bytes, parts: int) -> None:
        """Leave with so many hundredths of what is bonded."""
        pool = self.pools.open[WHO]
        amount = pool.worth(pool.kept(owner)) * parts // 100
        self._leave(owner, amount)

    def go(self, owner: bytes) -> None:
        """What was asked for."""
        self._leave(owner, 0)

    def _leave(self, owner: bytes, amount: int) -> None:
        before = self.pools.coming(owner, WHO)
        if self.asks(owner, self.pools.undelegate(owner, WHO, amount), "undelegate", amount):
            gone = sum(self.pools.coming(owner, WHO)) - sum(before)
            self.value[owner] -= gone
            self.out[owner] += gone
        self.look(owner)

    def withdraw(self, owner: bytes) -> None:
        before = self.world.balance(owner)
        self.asks(owner, self.pools.withdraw(owner, WHO), "withdraw_delegation")
        self.withdrawn[owner] += self.world.balance(owner) - before
        self.look(owner)

    def claim(self, owner: bytes) -> None:
        before = self.world.balance(owner)
        self.asks(owner, self.pools.claim(owner, WHO), "claim_delegation")
        self.claimed[owner] += self.world.balance(owner) - before
        self.look(owner)

    # ------------------------------------------------ the board

    def next_round(self, pay: int, own: int, commission: int) -> None:
        """A seat is drawn, with so much of its own weight, and paid; then the next round's bonds close."""
        board = self.board
        active = self.pools.closed(WHO)
        weight = own + active
        self.told("note_seats", board.number, [WHO], [weight], board.close)
        self.pools.note_seats(board.number, {WHO: weight})
        base = self._base()
        self.told("credit", board.number, [WHO], pay)
        given = self.pools.credit(board.number, WHO, pay)
        keeps = self.pools.terms[WHO].at(board.now)
        exact = Fraction(active * (BPS - keeps), weight * BPS) if base else Fraction()
        assert given <= pay * exact < given + 2
        for owner, units in base.items():
            self.seat[owner] += exact * units / sum(base.values())
            self.pay[owner] += pay * exact * units / sum(base.values())
        self.pays[board.number] = pay
        self.pools.set_terms(WHO, commission, MOST)
        self.world.must(WHO, "Delegation", "set_terms", TASK, commission, MOST)
        self.block(1)
        board.number, board.close = board.number + 1, self.world.height
        self.block(1)
        self.tell()
        self.look(None)

    def _base(self) -> dict[bytes, int]:
        """Units that share in this round's pay."""
        pool, found = self.pools.open[WHO], {}
        for owner in pool.units:
            since, fresh = pool.fresh.get(owner, (0, 0))
            found[owner] = pool.kept(owner) - (fresh if since == self.board.number else 0)
        return {owner: units for owner, units in found.items() if units}

    def slash(self, bps: int) -> None:
        self.told("cut", WHO, bps)
        self.pools.cut(WHO, bps)
        self._lose(Fraction(bps, BPS))

    def convict(self, part: int, whole: int) -> None:
        """Of an accusation in this round."""
        self.told("hold", self.board.number, WHO, part, whole)
        self.pools.hold(self.board.number, WHO, part, whole)
        self.told("convict", self.board.number, WHO)
        self.pools.convict(self.board.number, WHO)
        self._lose(Fraction(part, whole))

    def _lose(self, part: Fraction) -> None:
        for owner in OWNERS:
            self.value[owner] -= self.value[owner] * part
        self.look(None, loses=True)

    def close(self) -> None:
        """The participant leaves, and comes back."""
        self.told("close", WHO, self.board.now + RULES["unbonding_delay"])
        self.pools.close(WHO)
        for owner in OWNERS:
            self.out[owner] += self.value[owner]
            self.value[owner] = Fraction()
        self.lives += 1
        self.look(None)

    def end(self, rest: int) -> None:
        for owner in OWNERS:
            self.pay[owner] += rest * self.seat[owner]
        self.turn(phase=ENDED)
        self.board.rest_per_seat = rest
        self.tell()
        self.look(None)

    def turn(self, *, phase: int | None = None, is_out: bool = True) -> None:
        self.board.phase = self.board.phase if phase is None else phase
        self.board.is_out = is_out
        self.tell()

    # ------------------------------------------------ what always holds

    def row(self, owner: bytes) -> dict[str, Any]:
        found: dict[str, Any] = self.world.view("Delegation", "delegation_of", TASK, WHO, owner)
        return found

    def look(self, mover: bytes | None, *, loses: bool = False) -> None:
        """Everybody's row; nobody else's call took anything from anybody; nobody has more than its exact part."""
        self.steps += 1
        for owner in OWNERS:
            row = self.row(owner)
            check_row(row, self.pools, owner, WHO)
            has = sum(row[name] for name in ("stake", "leaving", "unbonding", "free", "earned"))
            has += self.world.balance(owner) - self.coins[owner]
            if owner != mover and not loses:
                assert has >= self.before[owner], "another's call took something away"
            self.before[owner] = has
            self.check_fraction(owner, row)
        for name in ("total_delegated", "total_unbonding", "burned"):
            assert self.world.view("Delegation", name) >= 0
        assert self.world.view("Delegation", "total_delegated") == self.pools.delegated
        assert self.world.view("Delegation", "liabilities") == self.world.balance(DELEGATION) == self.pools.liabilities

    def check_fraction(self, owner: bytes, row: dict[str, Any]) -> None:
        """Each step may move a wei from one place to the others; pay is rounded for the board, twice a payment."""
        bonded = self.value[owner] + self.out[owner]
        has = self.withdrawn[owner] + sum(row[name] for name in ("stake", "leaving", "unbonding", "free"))
        assert abs(bonded - has) <= self.steps, (bonded, has)
        earned = self.claimed[owner] + row["earned"]
        assert earned <= self.pay[owner] < earned + 2 * len(self.pays) + 2, (earned, self.pay[owner])

    def given(self) -> int:
        """What the seats did not get of their pay and rest."""
        rest, view = self.board.rest_per_seat, self.world.view
        return sum(view("Delegation", "part_of", TASK, number, WHO, pay, rest) for number, pay in self.pays.items())
