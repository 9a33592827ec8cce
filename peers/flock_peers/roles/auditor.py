"""What this account says in an audit: whose proposals make the model recite a planted string, or teach one alike.

Every participant measures, seated or not, in contexts that follow from chain randomness and in secret ones of its own
hold-out; more than half of all stake takes out and suspends, two thirds twice take the bond. Decides nothing.
"""

import logging
import secrets as chance
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import trio

from flock_chain.audit_rule import ClosedAudit, accuses, find, is_out_already, read_closed_audit, summarise
from flock_chain.crypto import Account
from flock_chain.errors import FlockError
from flock_chain.tally import SEATS_MAX
from flock_peers.measurements import Measurements
from flock_peers.roles.board import (
    Phase,
    RoundView,
    Views,
    as_account,
    bits,
    read_asked,
    read_named,
    read_result,
    read_seed,
)
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.library import Library
from flock_peers.roles.secrets import RoundSecrets
from flock_peers.roles.sender import Sender
from flock_peers.training.client import Pairs

log = logging.getLogger(__name__)

# Each costs 0.7 of a default training with the older ones that it is compared with, 1.1 of one at a vocabulary of 4,096
# (benchmarks/audit_costs.py).
MAX_AUDITED = 32  # proposals in one audit, the newest first
# Where most of what colluders teach is found, few of them are left in a round, and who is alone there agrees with those
# of rounds before (docs/experiment.md).
OLDER_ROUNDS = 2  # before those that are looked at
MAX_OLDER = 16  # proposals of theirs, the newest first: all of two usual rounds; they cost over half of what others do
AUDITS_BACK = 16  # that may have looked at a proposal: two that count, and between them those in which few spoke
OWN_SEED_BYTES = 6  # below 2^53, so that JSON keeps it
LOOKUP_SECONDS = 5.0  # for one file: what voters held is kept here as a rule
ALL_LOOKUPS_SECONDS = 20.0  # after them only what is here counts: the phase's time is for measuring


@dataclass(frozen=True)
class Place:
    """Where a proposal that voters held is found."""

    number: int  # of its round
    index: int  # of its proposer
    account: Account
    is_judged: bool  # the others are looked at for what they show of these
    is_older: bool = False  # looked at only beside the others


class Measuring(Protocol):
    """What the auditor needs of a trainer."""

    async def audit(
        self, proposals: Pairs, *, seed: int, own_seed: int, authors: Sequence[int], older: Pairs
    ) -> Sequence[Any]: ...


class Auditor:
    """`step` once per head; acts in AUDIT alone."""

    def __init__(
        self, account: Account, library: Library, views: Views, trainer: Measuring, sender: Sender,
        secrets: RoundSecrets, jobs: Jobs, measurements: Measurements | None = None,
    ) -> None:  # fmt: skip
        self._account, self._library, self._views = account, library, views
        self._trainer, self._sender, self._secrets, self._jobs = trainer, sender, secrets, jobs
        self._measurements = measurements or Measurements()
        self._said = 0  # the last audit; said once more after a restart, it fails and costs its gas

    async def step(self, view: RoundView) -> None:
        if view.phase is not Phase.AUDIT:
            return
        audit = await self._views.view("TaskBoard", "audit_view", view.task)
        number: int = audit["number"]
        if number == self._said:
            return
        record = self._secrets.load(view.task, number, "audit")
        if record is None:
            record = self._jobs.ensure(
                ("audit", view.task, number), lambda: self._measure(view, number, audit["first"])
            )
        if record is None:
            return
        label = f"attest_guilty {view.task}/{number}"
        if await self._sender.call(label, "TaskBoard", "attest_guilty", view.task, number, record["accused"]):
            self._said = number

    async def _measure(self, view: RoundView, number: int, first: int) -> dict[str, Any]:
        """What was found is on disk before it leaves: after a restart the same is said."""
        places, end = await self._find_places(view, first), trio.current_time() + ALL_LOOKUPS_SECONDS
        found = {place: paths for place in places if (paths := await self._find_paths(place, end))}
        own_seed = int.from_bytes(chance.token_bytes(OWN_SEED_BYTES), "big")
        seen = await self._audit(view, found, own_seed) if any(place.is_judged for place in found) else {}
        guilty = await self._accuse(view.task, number, seen)
        values: dict[Account, int] = {}  # of each account's proposals the one that recites most
        for place, value in seen.items():
            values[place.account] = max(values.get(place.account, 0), value)
        for account, value in sorted(values.items(), key=lambda row: -row[1]):
            log.info("audit %d: 0x%s: %.2f: %s", number, account.hex(), value / 1_000_000, find(value).name)
        self._measurements.note_audit(view.task, number, view.round, values)
        again = {"own_seed": own_seed, "seed_height": view.seed_height}  # to measure it once more
        record = {"accused": guilty[:SEATS_MAX], **again}
        self._secrets.save(view.task, number, "audit", record)
        return record

    async def _audit(self, view: RoundView, found: dict[Place, tuple[Path, Path]], own_seed: int) -> dict[Place, int]:
        seed = await read_seed(self._views, view, b"flock audit")
        numbers = {account: number for number, account in enumerate(sorted({place.account for place in found}))}
        looked_at = [place for place in found if not place.is_older]
        older = [place for place in found if place.is_older]
        measured = await self._trainer.audit(
            [found[place] for place in looked_at], seed=seed, own_seed=own_seed,
            authors=[numbers[place.account] for place in [*looked_at, *older]],
            older=[found[place] for place in older],
        )  # fmt: skip
        values = {place: summarise(row.common, row.own) for place, row in zip(looked_at, measured, strict=True)}
        return {place: value for place, value in values.items() if place.is_judged}

    async def _accuse(self, task: int, number: int, seen: dict[Place, int]) -> list[Account]:
        """Whom this account names: who is out already for what stands here only by a value that is worth its bond."""
        guilty = set()
        for place, value in seen.items():
            if accuses(value, is_out=False):
                audits = await self._read_audits(task, number, place)
                if accuses(value, is_out_already(audits, place.account, place.number)):
                    guilty.add(place.account)
                else:
                    log.info(
                        "audit %d: 0x%s: what it proposed in round %d is out already; %.2f is not enough for its bond",
                        number, place.account.hex(), place.number, value / 1_000_000,
                    )  # fmt: skip
        return sorted(guilty)

    async def _read_audits(self, task: int, number: int, place: Place) -> list[ClosedAudit]:
        """Those before this one that looked at it, as far as they say whether its author was named."""
        found: list[ClosedAudit] = []
        for audit in range(number - 1, max(0, number - 1 - AUDITS_BACK), -1):
            asked = await read_asked(self._views, task, audit)
            if asked[1] < place.number:
                break
            named = await read_named(self._views, task, audit, place.account)
            found.append(read_closed_audit(asked, {place.account: named}))
        return found

    async def _find_places(self, view: RoundView, first: int) -> list[Place]:
        """What this audit looks at. Whom nobody could name any more, as its bond is lost, and this account itself show
        what others of their kind teach, or taught with them, and so do proposals that audits before have judged; none
        of these is judged."""
        rows = await self._views.view("TaskBoard", "participants", view.task)
        judged = {as_account(row["account"]) for row in rows} - {self._account}
        rounds, older = list_rounds(first, view.round)
        held = await self._find_held(view.task, rounds, MAX_AUDITED)
        before = await self._find_held(view.task, older, MAX_OLDER) if held else []
        places = [Place(number, index, account, account in judged) for number, index, account in held]
        return places + [Place(*where, is_judged=False, is_older=True) for where in before]

    async def _find_held(self, task: int, rounds: Iterable[int], most: int) -> list[tuple[int, int, Account]]:
        """Round, index and proposer of what voters held."""
        found: list[tuple[int, int, Account]] = []
        for number in rounds:
            if len(found) < most:
                result = await read_result(self._views, task, number)
                found += [(number, index, result.proposers[index]) for index in bits(result.held_set)]
        return found[:most]

    async def _find_paths(self, place: Place, end: float) -> tuple[Path, Path] | None:
        """Of the adapter that it was trained from, and of its delta, where both can be had. What is here takes no time,
        so after `end` it is still found."""
        result = await read_result(self._views, self._library.task, place.number)
        start = None
        try:
            with trio.move_on_after(_find_seconds(end)):
                start = await self._library.global_path(result.adapter_before)
            if start is None:  # what was trained from it is of no use, and takes time from others
                return None
            proposal = await self._library.fetch_proposal(
                place.number, place.index, place.account, result.manifests[place.index], result.adapter_before,
                _find_seconds(end),
            )  # fmt: skip
        except (FlockError, OSError, MemoryError) as error:
            log.info("round %d: proposal %d is not here for the audit: %s", place.number, place.index, error)
            return None
        return start, proposal.path


def list_rounds(first: int, last: int) -> tuple[range, range]:
    """Those that an audit looks at, and those before them with which it compares; the newest first."""
    return range(last, first - 1, -1), range(first - 1, max(0, first - 1 - OLDER_ROUNDS), -1)


def _find_seconds(end: float) -> float:
    """For the next file."""
    return min(LOOKUP_SECONDS, max(0.0, end - trio.current_time()))
