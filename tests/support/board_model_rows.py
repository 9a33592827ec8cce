"""What the board's twin remembers of a participant, a round and an audit. Knows no rules."""

from dataclasses import dataclass, field

from flock_chain.tally import Verdict

Scores = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass
class Member:
    bond: int
    joined: int
    later: list[tuple[int, int]] = field(default_factory=list)  # (height, amount) of every addition
    leaving: int | None = None
    last_accepted: int | None = None
    last_held: int = 0  # the last round in which a proposal of it was held, accepted or not
    missed: int = 0  # seats in a row
    unseated: bool = False
    blamed: int | None = None  # the last audit that counted whose two thirds of all stake blamed it
    held: int = 0  # of the bond, by open accusations

    def bond_at(self, close: int) -> int:
        if not self.later:
            return self.bond
        return max(0, self.bond - sum(amount for height, amount in self.later if height > close))


@dataclass
class Record:
    """What a task remembers of an account for ever, whether it is bonded or not."""

    suspended: bool = False
    strikes: int = 0  # in a row
    struck: int = 0  # the last round before the last strike
    passing: bool = False  # an audit that counts has passed what it proposed since

    @property
    def expelled(self) -> bool:
        return self.strikes == 3


@dataclass
class Round:
    candidates: int = 0
    proposers: list[bytes] = field(default_factory=list)
    voters: list[bytes] = field(default_factory=list)
    committed: dict[bytes, bytes] = field(default_factory=dict)  # in order; account -> manifest
    revealed: set[bytes] = field(default_factory=set)
    attested: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    held: int = 0
    score_committed: dict[bytes, Scores] = field(default_factory=dict)
    score_revealed: dict[bytes, Scores] = field(default_factory=dict)
    votes: dict[bytes, bytes] = field(default_factory=dict)
    choices: dict[bytes, bytes] = field(default_factory=dict)  # by the paper's rule: committed, then revealed
    opened: dict[bytes, bytes] = field(default_factory=dict)
    majority: list[bytes] = field(default_factory=list)
    carried: int = 0  # from rounds before
    missing: set[bytes] = field(default_factory=set)
    gave_up: bool = False  # its parent is nowhere
    verdicts: dict[bytes, Verdict] = field(default_factory=dict)
    tallied: bool = False


@dataclass
class Audit:
    """`stake` and `said` count who was bonded when the last round began, and who has left since."""

    stake: int
    auditors: int
    seats: list[bytes]  # of that round
    round: int
    said: dict[bytes, tuple[int, tuple[bytes, ...]]] = field(default_factory=dict)
