"""Opening a task: the document and its round-0 adapter into the store, the terms and the pot on chain."""

from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_bytes

import trio

from flock_chain.aggregation import encode_global
from flock_chain.errors import Unavailable
from flock_chain.paper_rule import RULE_PROPOSALS
from flock_peers.contents import Contents
from flock_peers.roles.board import Views
from flock_peers.roles.sender import Sender
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import TaskDocument, compute_initial_adapter, create_document

COIN = 10**18


@dataclass(frozen=True)
class Terms:
    """The terms of a task as the board takes them; seconds are chain time."""

    rounds: int = 3
    extra_rounds: int = 2
    proposers: int = 3
    voters: int = 3
    min_participants: int = 4
    min_bond: int = 5 * COIN
    proposer_share: int = 7_000  # basis points of a round's share; the voters get the rest
    commit_seconds: int = 120
    reveal_seconds: int = 20
    availability_seconds: int = 30
    score_commit_seconds: int = 60
    score_reveal_seconds: int = 20
    tally_seconds: int = 30
    adopt_seconds: int = 60
    loss_limit: int = 20_000  # millionths
    mad_multiple: int = 12
    wait_seconds: int = 3_600
    tolerance: int = 50_000  # millionths: a round of other domains costs one's own a few per cent
    voting_rule: int = RULE_PROPOSALS
    rule_slash: int = 1_000  # basis points of a bond, by the paper's rule only
    rest_share: int = 0  # basis points of the pot's rest for the paid seats; less where rounds were not paid
    audit_rounds: int = 0  # an audit after every so many rounds; 0: never
    audit_seconds: int = 60
    audit_slash: int = 10_000  # basis points of the bond of whom two audits in a row find guilty


@dataclass(frozen=True)
class PreparedTask:
    document: bytes  # object digest
    adapter: bytes  # chunk-list digest of the round-0 global adapter


def prepare(name: str, contents: Contents, base: Path = BASE_FOLDER) -> PreparedTask:
    document: TaskDocument = create_document(name, base, seed=token_bytes(32))
    adapter = contents.put_bytes(encode_global(compute_initial_adapter(document)))
    return PreparedTask(contents.put_object(document.encode()), adapter)


async def open_task(
    name: str, terms: Terms, pot: int, contents: Contents, views: Views, sender: Sender
) -> PreparedTask:
    """Publishes and sends the transaction, with what opening costs now beside the pot; that it is final is seen in the
    board's `task_count`."""
    task = await trio.to_thread.run_sync(prepare, name, contents)
    fee: int = await views.view("TaskBoard", "opening_fee")
    sent = await sender.call(
        f"open task {task.document.hex()[:12]}", "TaskBoard", "open_task", task.document, task.adapter, asdict(terms),
        value=pot + fee,
    )  # fmt: skip
    if not sent:
        raise Unavailable("task: too many of your transactions are not final yet; try again in a moment")
    return task
