"""What the board's twin does of accusations: a committee accuses, all stake of the round convicts or clears."""

from dataclasses import dataclass, field
from typing import Any

from board_model_money import BPS, Money
from contracts_support import AUDIT

SHARES = 2**32 - 1  # all stake of a round
WINDOW = ("commit", "reveal", "availability", "score_commit", "score_reveal", "tally", "adopt")


@dataclass
class Case:
    """One round's accusations."""

    closed: int  # height: who joined later was not eligible
    until: int = 0  # chain time
    open: dict[bytes, int] = field(default_factory=dict)  # accused -> what is held
    named: list[bytes] = field(default_factory=list)
    convicted: set[bytes] = field(default_factory=set)
    guilty: dict[bytes, set[bytes]] = field(default_factory=dict)  # accused -> who says so
    innocent: dict[bytes, set[bytes]] = field(default_factory=dict)


class Accusations(Money):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cases: dict[int, Case] = {}
        self.shares: dict[int, dict[bytes, int]] = {}  # by round, of who was eligible in it

    def keep_shares(self, weights: dict[bytes, int]) -> None:
        stake = sum(weights.values())
        self.shares[self.number] = {who: weight * SHARES // stake for who, weight in weights.items() if weight}

    def accuse(self, who: bytes, bps: int) -> None:
        member = self.members[who]
        amount = max(0, member.bond - member.held) * bps // BPS
        if self.rounds[self.number].candidates < 4 or amount == 0:
            return
        case = self.cases.setdefault(self.number, Case(self.close))
        case.until = self.now + sum(self.terms[f"{name}_seconds"] for name in WINDOW)
        case.named.append(who)
        case.open[who] = amount
        self.pools.hold(self.number, who, amount, member.bond)
        member.held += amount

    def share(self, who: bytes, number: int) -> int:
        if who not in self.members or number not in self.cases or self.members[who].joined > self.cases[number].closed:
            return 0
        return self.shares[number].get(who, 0)

    def confirm(self, who: bytes, number: int, guilty: int, innocent: int) -> bool:
        case = self.cases.get(number)
        if guilty & innocent or case is None or self.now > case.until or self.share(who, number) == 0:
            return False
        proposers = self.rounds[number].proposers
        found = {accused: (guilty >> i & 1, innocent >> i & 1) for i, accused in enumerate(proposers)}
        said = {name for table in (case.guilty, case.innocent) for name, saying in table.items() if who in saying}
        asked = {name: saying for name, saying in found.items() if any(saying) and name in case.open}
        news = {name: saying for name, saying in asked.items() if name not in said}
        for accused, (is_guilty, _) in news.items():
            (case.guilty if is_guilty else case.innocent).setdefault(accused, set()).add(who)
            self._decide(number, case, accused)
        return bool(news)

    def _decide(self, number: int, case: Case, accused: bytes) -> None:
        shares = self.shares[number]
        against, for_it = (
            sum(shares[name] for name in table.get(accused, ())) for table in (case.guilty, case.innocent)
        )
        if 2 * against > sum(shares.values()):
            member, amount = self.members[accused], case.open.pop(accused)
            case.convicted.add(accused)
            self.pools.convict(number, accused)
            taken = min(amount, member.bond)
            member.held -= amount
            member.bond -= taken
            self.burned += taken
        elif 2 * for_it >= sum(shares.values()):
            self.set_free(case, accused)

    def set_free(self, case: Case, accused: bytes) -> None:
        amount = case.open.pop(accused)
        self.members[accused].held -= amount
        if self.phase != AUDIT:
            self.members[accused].later.append((self.height, amount))

    def lift(self, number: int) -> bool:
        case = self.cases.get(number)
        if case is None or not case.open or self.now <= case.until:
            return False
        for accused in list(case.open):
            self.set_free(case, accused)
        return True
