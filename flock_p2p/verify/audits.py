"""What a task's audits found, read from the replayed state; measures nothing and takes nothing out."""

from collections.abc import Callable
from typing import Any

from flock_chain.audit_rule import ClosedAudit, read_closed_audit
from flock_chain.crypto import Account
from flock_chain.tally import Verdict
from flock_peers.roles.board import as_account

NOBODY = bytes(20)  # under whose name the board keeps what had a say


def read_audits(view: Callable[..., Any], task: int) -> list[ClosedAudit]:
    """All closed ones, in order. Of who had no proposal accepted there is nothing to take out."""
    closed = view("audit_view", task)["number"] - 1
    audits = []
    for audit in range(1, closed + 1):
        asked = view("blame_of", task, audit, NOBODY)
        named = {account: view("blame_of", task, audit, account)[0] for account in _accepted(view, task, asked[1])}
        audits.append(read_closed_audit((asked[0], asked[1]), named))
    return audits


def _accepted(view: Callable[..., Any], task: int, until: int) -> list[Account]:
    found = set()
    for number in range(1, until + 1):
        result = view("round_result", task, number)
        for proposer, verdict in zip(result["proposers"], result["verdicts"], strict=False):
            if verdict == Verdict.ACCEPTED:
                found.add(as_account(proposer))
    return sorted(found)
