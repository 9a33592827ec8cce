"""The voter's part where a task votes on the aggregate alone: one adapter, committed and then opened. Measures nothing
itself; what it commits to is on disk before it leaves.
"""

import logging
import secrets as chance
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from flock_chain.paper_rule import RULE_PAPER
from flock_chain.proposal import SALT_BYTES, compute_vote_commitment
from flock_contracts.addresses import BOARD
from flock_peers.roles.board import RoundView
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.proposer import Identity
from flock_peers.roles.secrets import RoundSecrets
from flock_peers.roles.sender import Sender

log = logging.getLogger(__name__)


def is_paper(terms: Mapping[str, int]) -> bool:
    return terms["voting_rule"] == RULE_PAPER


class PaperVoter:
    """`judge`: the candidate's content id, or that of the adapter before the round where the candidate is worse, or an
    abstention where the candidate cannot be had."""

    def __init__(
        self, identity: Identity, sender: Sender, secrets: RoundSecrets, jobs: Jobs,
        judge: Callable[[RoundView], Awaitable[bytes]],
    ) -> None:  # fmt: skip
        self._identity, self._sender, self._secrets, self._jobs, self._judge = identity, sender, secrets, jobs, judge

    async def commit(self, view: RoundView) -> None:
        record = self._secrets.load(view.task, view.round, "vote")
        if record is None:
            record = self._jobs.ensure(("score", view.task, view.round), lambda: self._decide(view))
        if record is None:
            return
        commitment = compute_vote_commitment(
            self._identity.chain_id, BOARD, view.task, view.round, self._identity.account, record["choice"],
            record["salt"],
        )  # fmt: skip
        await self._call(view, "commit_scores", commitment)

    async def reveal(self, view: RoundView) -> None:
        record = self._secrets.load(view.task, view.round, "vote")
        if record is None:
            log.error("round %d: committed a vote, but the record is gone; the bond will be cut", view.round)
            return
        await self._call(view, "reveal_vote", record["choice"], record["salt"])

    async def _decide(self, view: RoundView) -> dict[str, Any]:
        record = {"choice": await self._judge(view), "salt": chance.token_bytes(SALT_BYTES)}
        self._secrets.save(view.task, view.round, "vote", record)
        return record

    async def _call(self, view: RoundView, function: str, *args: Any) -> None:
        label = f"{function} {view.task}/{view.round}"
        await self._sender.call(label, "TaskBoard", function, view.task, view.round, *args)
