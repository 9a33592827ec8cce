"""Typed views of the task board as the roles see it. Reads through a ledger; decides nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

from flock_chain.crypto import Account, keccak256
from flock_chain.tally import Verdict

PAID_FROM = 4  # eligible participants; with fewer a round pays nobody and slashes nobody
NOBODY = Account(bytes(20))  # of whom the board says what an audit was asked


class Phase(IntEnum):
    WAITING = 0
    DRAW_PROPOSERS = 1
    COMMIT = 2
    DRAW_VOTERS = 3
    REVEAL = 4
    AVAILABILITY = 5
    SCORE_COMMIT = 6
    SCORE_REVEAL = 7
    TALLY = 8
    ADOPT = 9
    AUDIT = 10
    ENDED = 11


class Views(Protocol):
    """What the roles need of a ledger to read."""

    async def view(self, contract: str, function: str, *args: Any, height: int | None = None) -> Any: ...


@dataclass(frozen=True)
class RoundView:
    """A running round: bitmaps are indexed by the position in `proposers` or `voters`."""

    task: int
    round: int
    phase: Phase
    deadline: int  # chain seconds
    adapter: bytes  # content id of the accepted global adapter
    proposers: tuple[Account, ...]
    voters: tuple[Account, ...]
    committed: int
    revealed: int
    manifests: tuple[bytes, ...]
    attested: int
    held_set: int
    score_committed: int
    score_revealed: int
    tallied: bool
    verdicts: tuple[Verdict, ...]
    adoption_votes: int
    seed_height: int = 0  # whose mix drew the voters: known only after all proposals were committed
    is_paid: bool = True  # False: too few could be drawn; nobody earns, and nobody is slashed

    def proposer_index(self, account: Account) -> int | None:
        return self.proposers.index(account) if account in self.proposers else None

    def voter_index(self, account: Account) -> int | None:
        return self.voters.index(account) if account in self.voters else None

    def awaited(self) -> tuple[Account, ...]:
        """Who still has to act before this phase can end early. In TALLY one of the voters is enough."""
        seats, open_seats = {
            Phase.COMMIT: (self.proposers, ~self.committed),
            Phase.REVEAL: (self.proposers, self.committed & ~self.revealed),
            Phase.AVAILABILITY: (self.voters, ~self.attested),
            Phase.SCORE_COMMIT: (self.voters, ~self.score_committed),
            Phase.SCORE_REVEAL: (self.voters, self.score_committed & ~self.score_revealed),
            Phase.TALLY: (self.voters, 0 if self.tallied else -1),
            Phase.ADOPT: (self.voters, self.score_revealed & ~self.adoption_votes),
        }.get(self.phase, ((), 0))
        return tuple(account for index, account in enumerate(seats) if open_seats >> index & 1)

    def enough(self) -> int | None:
        """How many of `awaited` have to act before this phase can end early; 0 where it waits for blocks alone, and
        None where nobody can tell."""
        if self.phase in (Phase.DRAW_PROPOSERS, Phase.DRAW_VOTERS):
            return 0
        awaited = len(self.awaited())
        return (1 if self.phase is Phase.TALLY else awaited) if awaited else None

    def accepted(self) -> list[int]:
        return [i for i, verdict in enumerate(self.verdicts) if verdict is Verdict.ACCEPTED]


@dataclass(frozen=True)
class RoundResult:
    """What a round decided, as it stands on chain for ever."""

    task: int
    round: int
    proposers: tuple[Account, ...]
    voters: tuple[Account, ...]
    manifests: tuple[bytes, ...]
    held_set: int
    verdicts: tuple[Verdict, ...]
    medians: tuple[int, ...]
    scores_revealed: int
    adapter_before: bytes
    adapter_after: bytes

    def accepted(self) -> list[int]:
        return [i for i, verdict in enumerate(self.verdicts) if verdict is Verdict.ACCEPTED]


def bits(bitmap: int) -> list[int]:
    return [i for i in range(bitmap.bit_length()) if bitmap >> i & 1]


def as_account(value: Any) -> Account:
    """Loaders give addresses as bytes or as 0x text."""
    return Account(bytes.fromhex(value[2:]) if isinstance(value, str) else bytes(value))


def _verdicts(row: Any, count: int) -> tuple[Verdict, ...]:
    values = [Verdict(v) for v in row][:count]
    return tuple(values + [Verdict.NONE] * (count - len(values)))


async def read_round(views: Views, task: int, *, height: int | None = None) -> RoundView:
    row = await views.view("TaskBoard", "round_view", task, height=height)
    proposers = tuple(as_account(a) for a in row["proposers"])
    return RoundView(
        task=task,
        round=row["round"],
        phase=Phase(row["phase"]),
        deadline=row["deadline"],
        adapter=bytes(row["adapter"]),
        proposers=proposers,
        voters=tuple(as_account(a) for a in row["voters"]),
        committed=row["committed"],
        revealed=row["revealed"],
        manifests=tuple(bytes(m) for m in row["manifests"]),
        attested=row["attested"],
        held_set=row["held_set"],
        score_committed=row["score_committed"],
        score_revealed=row["score_revealed"],
        tallied=bool(row["tallied"]),
        verdicts=_verdicts(row["verdicts"], len(proposers)),
        adoption_votes=row["adoption_votes"],
        seed_height=row["seed_height"],
        is_paid=bool(row["paid"]),
    )


async def read_seed(views: Views, view: RoundView, purpose: bytes) -> int:
    """Public, the same for everybody, and unknown when the round's proposals were committed."""
    mix = bytes(await views.view("Beacon", "mix", view.seed_height))
    numbers = b"".join(number.to_bytes(8, "big") for number in (view.task, view.round))
    return int.from_bytes(keccak256(purpose, mix, numbers)[:6], "big")  # below 2^53, so that JSON keeps it


async def read_result(views: Views, task: int, number: int, *, height: int | None = None) -> RoundResult:
    return parse_result(task, number, await views.view("TaskBoard", "round_result", task, number, height=height))


def parse_result(task: int, number: int, row: Mapping[str, Any]) -> RoundResult:
    """From the decoded `round_result` of the board."""
    proposers = tuple(as_account(a) for a in row["proposers"])
    return RoundResult(
        task=task,
        round=number,
        proposers=proposers,
        voters=tuple(as_account(a) for a in row["voters"]),
        manifests=tuple(bytes(m) for m in row["manifests"]),
        held_set=row["held_set"],
        verdicts=_verdicts(row["verdicts"], len(proposers)),
        medians=tuple(row["medians"]),
        scores_revealed=row["scores_revealed"],
        adapter_before=bytes(row["adapter_before"]),
        adapter_after=bytes(row["adapter_after"]),
    )


async def read_asked(views: Views, task: int, audit: int) -> tuple[int, int]:
    """Of a closed audit: all the stake that had a say, and the last round before it."""
    stake, last_round, *_ = await views.view("TaskBoard", "blame_of", task, audit, NOBODY)
    return int(stake), int(last_round)


async def read_named(views: Views, task: int, audit: int, account: Account) -> int:
    """The stake that named an account in a closed audit."""
    return int((await views.view("TaskBoard", "blame_of", task, audit, account))[0])
