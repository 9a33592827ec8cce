"""What this account says in an audit: whose accepted proposals, together, made the model recite pairs of tokens.

Every participant measures, seated or not, in contexts that follow from chain randomness and in secret ones of its own
hold-out; two thirds of all stake make a guilt, five of seven of the last round's voters a suspension. Decides nothing.
"""

import logging
import secrets as chance
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from flock_chain.audit_rule import MIN_PROPOSALS, Finding, find, summarise
from flock_chain.crypto import Account
from flock_chain.errors import FlockError
from flock_chain.tally import SEATS_MAX, Verdict
from flock_peers.roles.board import Phase, RoundView, Views, as_account, read_result, read_seed
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.library import Library
from flock_peers.roles.secrets import RoundSecrets
from flock_peers.roles.sender import Sender

log = logging.getLogger(__name__)

MAX_DELTAS = 8  # of one proposer, the newest: their mean shows what they share
MAX_AUDITED = 32  # proposers in one audit; each costs up to a tenth of a training
OWN_SEED_BYTES = 6  # below 2^53, so that JSON keeps it
LOOKUP_SECONDS = 5.0  # for one proposal: what was accepted is kept here as a rule

Accepted = dict[Account, list[tuple[int, int]]]  # round and proposer index, the oldest first


class Measuring(Protocol):
    """What the auditor needs of a trainer."""

    async def audit(
        self, global_path: Path, proposers: Sequence[Sequence[Path]], *, seed: int, own_seed: int
    ) -> Sequence[Any]: ...


class Auditor:
    """`step` once per head; acts in AUDIT alone."""

    def __init__(
        self, account: Account, library: Library, views: Views, trainer: Measuring, sender: Sender,
        secrets: RoundSecrets, jobs: Jobs,
    ) -> None:  # fmt: skip
        self._account, self._library, self._views = account, library, views
        self._trainer, self._sender, self._secrets, self._jobs = trainer, sender, secrets, jobs
        self._said = 0  # the last audit; said once more after a restart, it fails and costs its gas

    async def step(self, view: RoundView) -> None:
        if view.phase is not Phase.AUDIT:
            return
        number: int = (await self._views.view("TaskBoard", "audit_view", view.task))["number"]
        if number == self._said:
            return
        record = self._secrets.load(view.task, number, "audit")
        if record is None:
            record = self._jobs.ensure(("audit", view.task, number), lambda: self._measure(view, number))
        if record is None:
            return
        label = f"attest_guilty {view.task}/{number}"
        if await self._sender.call(label, "TaskBoard", "attest_guilty", view.task, number, record["accused"]):
            self._said = number

    async def _measure(self, view: RoundView, number: int) -> dict[str, Any]:
        """What was found is on disk before it leaves: after a restart the same is said."""
        proposers = await self._find_proposers(view)
        paths = {account: await self._paths(places) for account, places in proposers.items()}
        measured = {account: found for account, found in paths.items() if len(found) >= MIN_PROPOSALS}
        values = await self._audit(view, measured) if measured else {}
        guilty = sorted(account for account, value in values.items() if find(value) is Finding.GUILTY)
        for account, value in sorted(values.items(), key=lambda row: -row[1]):
            log.info("audit %d: 0x%s: %.2f: %s", number, account.hex(), value / 1_000_000, find(value).name)
        record = {"accused": guilty[:SEATS_MAX]}
        self._secrets.save(view.task, number, "audit", record)
        return record

    async def _audit(self, view: RoundView, paths: Mapping[Account, Sequence[Path]]) -> dict[Account, int]:
        seed = await read_seed(self._views, view, b"flock audit")
        own_seed = int.from_bytes(chance.token_bytes(OWN_SEED_BYTES), "big")
        order = sorted(paths)
        adapter = await self._library.global_path(view.adapter)
        found = await self._trainer.audit(adapter, [paths[account] for account in order], seed=seed, own_seed=own_seed)
        return {account: summarise(row.common, row.own) for account, row in zip(order, found, strict=True)}

    async def _find_proposers(self, view: RoundView) -> Accepted:
        """Who is still bonded, has enough accepted proposals, and was accepted last: the newest are looked at first.

        Whom nobody could name any more is left out, and so is this account itself.
        """
        rows = await self._views.view("TaskBoard", "participants", view.task)
        bonded = {as_account(row["account"]) for row in rows if row["last_accepted"] > 0} - {self._account}
        accepted = await self._read_accepted(view)
        wanted = [account for account in bonded if len(accepted.get(account, ())) >= MIN_PROPOSALS]
        wanted.sort(key=lambda account: (-accepted[account][-1][0], account))
        return {account: accepted[account][-MAX_DELTAS:] for account in wanted[:MAX_AUDITED]}

    async def _read_accepted(self, view: RoundView) -> Accepted:
        accepted: Accepted = {}
        for number in range(1, view.round + 1):
            result = await read_result(self._views, view.task, number)
            for index, (account, verdict) in enumerate(zip(result.proposers, result.verdicts, strict=True)):
                if verdict is Verdict.ACCEPTED:
                    accepted.setdefault(account, []).append((number, index))
        return accepted

    async def _paths(self, places: Sequence[tuple[int, int]]) -> list[Path]:
        """Of those proposals that can be had."""
        paths = []
        for number, index in places:
            result = await read_result(self._views, self._library.task, number)
            try:
                proposal = await self._library.fetch_proposal(
                    number, index, result.proposers[index], result.manifests[index], result.adapter_before,
                    LOOKUP_SECONDS,
                )  # fmt: skip
                paths.append(proposal.path)
            except (FlockError, OSError, MemoryError) as error:
                log.info("round %d: proposal %d is not here for the audit: %s", number, index, error)
        return paths
