"""The twin's people and coins: who is bonded, leaves, is slashed, unbonds and is paid. Knows nothing of votes."""

from collections import defaultdict

from board_model_delegation import Pools
from board_model_rows import Audit, Member, Record, Round
from board_model_rules import Rules
from contracts_support import DRAW_VOTERS, ENDED, WAITING

BPS = 10_000


class Money(Rules):
    """The state of the whole twin, and the calls that move coins."""

    phase: int

    def __init__(
        self,
        terms: dict[str, int],
        pot: int,
        height: int,
        now: int,
        adapter: bytes,
        setters: dict[bytes, int] | None = None,
    ) -> None:
        super().__init__(setters or {})
        self.terms, self.pot = terms, pot
        self.members: dict[bytes, Member] = {}  # in the order of joining
        self.records: dict[bytes, Record] = defaultdict(Record)
        self.exits: dict[bytes, list[tuple[int, int]]] = {}  # amount, release; each by itself
        self.rewards: dict[tuple[int, bytes], int] = {}
        self.owners: dict[bytes, tuple[int, bytes]] = {}  # manifest -> (round, account)
        self.burned, self.carried, self.stopped = self.rules["task_fee"], 0, False
        self.by_paper = bool(terms["voting_rule"])
        self.paid: list[tuple[int, bytes]] = []  # (round, account) of every paid seat
        self.number, self.rounds, self.adapter = 1, {1: Round()}, adapter
        self.height, self.now = height, now
        self.close = self.seed_height = 0
        self.past: list[bytes] = []  # adapters before the present one, to fall back to
        self.audits, self.audit = 0, Audit(0, 0, [], 0)
        self.counted_audits = self.void_audits = self.seats_heard = 0
        self.audited = self.audited_before = 0  # the last round before the last two of them that counted
        self.hearing_again = False
        self.accepted_audit: int | None = None
        self.ending = False
        self.rest_per_seat = 0
        self.pools = Pools(self)
        self.enter(WAITING)

    @property
    def round(self) -> Round:
        return self.rounds[self.number]

    @property
    def liabilities(self) -> int:
        bonds = sum(member.bond for member in self.members.values())
        unbonding = sum(self.unbonding(who)[0] for who in self.exits)
        rewards = sum(self.rewards.values()) + self.pools.owed
        return bonds + unbonding + self.pot + self.carried + rewards + self.burned

    @property
    def people(self) -> dict[bytes, Member]:
        return self.members

    def enter(self, phase: int) -> None:
        self.phase, self.started, self.started_height = phase, self.now, self.height

    # ------------------------------------------------ participants

    def join(self, who: bytes, amount: int) -> bool:
        member = self.members.get(who)
        if self.phase == ENDED or amount == 0:
            return False
        if member is None:
            is_full = len(self.members) == 64 or len(self.exits.get(who, ())) == 8
            if amount < self.terms["min_bond"] or is_full or self.records[who].expelled:
                return False
            self.members[who] = Member(amount, self.height)
            return True
        if member.leaving is not None:
            return False
        member.bond += amount
        member.later.append((self.height, amount))
        return True

    def leave(self, who: bytes) -> bool:
        if who not in self.members:
            return False
        if self.is_free(who):
            self.remove(who)
            return True
        if self.members[who].leaving is not None:
            return False
        self.members[who].leaving = self.height
        return True

    def rejoin(self, who: bytes) -> bool:
        member = self.members.get(who)
        if self.phase == ENDED or member is None or not member.unseated or member.leaving is not None:
            return False
        member.unseated, member.missed, member.joined = False, 0, self.height
        return True

    def evict(self, who: bytes) -> bool:
        if who not in self.members or not self.is_free(who):
            return False
        idle = self.members[who].unseated or self.members[who].leaving is not None
        in_the_way = idle and len(self.members) == 64
        is_out = self.members[who].bond < self.terms["min_bond"] or self.records[who].expelled
        if not is_out and not in_the_way:
            return False
        self.remove(who)
        return True

    def is_free(self, who: bytes) -> bool:
        if self.members[who].held:
            return False
        if self.phase == ENDED:
            return True
        accepted = self.members[who].last_accepted
        if accepted is not None and self.number <= accepted + self.rules["bond_unlock_rounds"]:
            return False
        member = self.members[who]
        awaits = member.last_held > self.audited_before or member.blamed == self.counted_audits
        if self.terms["audit_rounds"] and awaits:
            return False
        if self.phase == WAITING:
            return True
        if who in self.round.proposers or who in self.round.voters:
            return False
        return self.phase > DRAW_VOTERS or self.weight(who) == 0

    def weight(self, who: bytes) -> int:
        member = self.members[who]
        if (
            self.records[who].suspended
            or member.unseated
            or member.joined > self.close
            or (member.leaving is not None and member.leaving < self.close)
        ):
            return 0
        bond = member.bond_at(self.close) - member.held
        return bond + self.pools.closed(who) if bond >= self.terms["min_bond"] else 0

    def has_enough(self) -> bool:
        return self.able(with_suspended=False) >= self.least

    @property
    def least(self) -> int:
        return max(2, self.terms["min_participants"])

    def able(self, with_suspended: bool) -> int:
        stays = [(who, m) for who, m in self.members.items() if m.leaving is None and not m.unseated]
        return sum(
            m.bond >= self.terms["min_bond"] + m.held and (with_suspended or not self.records[who].suspended)
            for who, m in stays
        )

    def remove(self, who: bytes) -> None:
        if bond := self.members.pop(who).bond:
            self.exits.setdefault(who, []).append((bond, self.now + self.rules["unbonding_delay"]))
        self.pools.close(who)

    # ------------------------------------------------ coins

    def withdraw(self, who: bytes) -> bool:
        waiting = [exit for exit in self.exits.get(who, ()) if exit[1] > self.now]
        if len(waiting) == len(self.exits.get(who, ())):
            return False
        self.exits[who] = waiting
        return True

    def unbonding(self, who: bytes) -> tuple[int, int]:
        """All of it, and when the first of it is free."""
        exits = self.exits.get(who, ())
        return sum(amount for amount, _ in exits), min((release for _, release in exits), default=0)

    def free(self, who: bytes) -> int:
        return sum(amount for amount, release in self.exits.get(who, ()) if release <= self.now)

    def claim(self, who: bytes, round: int) -> bool:
        return self.rewards.pop((round, who), 0) > 0

    def withdraw_pot(self) -> bool:
        if self.phase != ENDED or self.pot == 0:
            return False
        self.pot = 0
        return True

    def slash(self, who: bytes, bps: int) -> None:
        if self.round.candidates >= 4:
            self.burned += self.cut(who, bps)

    def carry(self, who: bytes) -> None:
        self.carried += self.cut(who, self.terms["rule_slash"]) if self.round.candidates >= 4 else 0

    def cut(self, who: bytes, bps: int) -> int:
        amount = self.members[who].bond * bps // BPS
        self.members[who].bond -= amount
        self.pools.cut(who, bps)
        return amount
