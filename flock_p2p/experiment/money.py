"""Stakes of an experiment: bonds that weigh in the draw, pay that is bonded again, slashes. Integers; knows no model.

The board's shares, without its book-keeping: pot of round t is what is left / (T - t), split between the accepted
proposers and the voters; what is slashed is burned, but by the paper's rule, where the next accepted round gets it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

BOND = 1_000_000  # of everybody at first
MIN_BOND = BOND // 2  # below it, nobody is drawn: the board's minimum, here half of what all brought
POT_SHARE = 2  # the pot is all first bonds / this
BPS = 10_000


@dataclass
class Money:
    participants: int
    rounds: int
    proposer_share: int  # basis points of a round's pot
    bonds: list[int] = field(init=False)
    suspended: set[int] = field(default_factory=set)
    slashed: dict[int, int] = field(default_factory=dict)  # by participant
    _pot: int = field(init=False)
    _forfeited: int = 0  # by the paper's rule: for the next accepted round

    def __post_init__(self) -> None:
        self.bonds = [BOND] * self.participants
        self._pot = self.participants * BOND // POT_SHARE

    def weights(self, without: Collection[int] = ()) -> list[int]:
        """In the draw: 0 for who is not eligible."""
        return [
            0 if number in self.suspended or number in without or bond < MIN_BOND else bond
            for number, bond in enumerate(self.bonds)
        ]

    def growth(self, number: int) -> float:
        return self.bonds[number] / BOND

    def pay(self, round: int, proposers: Sequence[int], voters: Sequence[int]) -> None:
        """Nobody accepted: the round's share stays in the pot."""
        if not proposers:
            return
        share = self._pot // (self.rounds - round)
        self._pot -= share
        total = share + self._forfeited
        self._forfeited = 0
        to_proposers = total * self.proposer_share // BPS
        for group, part in ((proposers, to_proposers), (voters, total - to_proposers)):
            for number in group:
                self.bonds[number] += part // len(group)

    def slash(self, number: int, bps: int, *, forfeit: bool = False) -> None:
        amount = self.bonds[number] * bps // BPS
        self.bonds[number] -= amount
        self.slashed[number] = self.slashed.get(number, 0) + amount
        self._forfeited += amount if forfeit else 0
