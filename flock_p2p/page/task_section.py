"""The task that a page shows: how far its round is, who sits in it and has acted, who takes part. Reads; never acts."""

from typing import Any

import trio

from flock_chain.audit_rule import STRIKES_TO_EXPEL
from flock_chain.errors import FlockError
from flock_chain.tally import Verdict
from flock_p2p.live_view import clean
from flock_peers.contents import Contents
from flock_peers.roles.board import Phase, RoundView, Views, as_account, read_round
from flock_peers.task_list import list_tasks
from flock_peers.training.document import TaskDocument, decode_document

MAX_TASKS = 20  # listed, the newest: each is a view of the board
MAX_DOMAIN_CHARS = 32  # bytes, as the board has them
TERMS = (
    "rounds", "extra_rounds", "proposers", "voters", "min_participants", "min_bond", "proposer_share", "loss_limit",
    "tolerance", "voting_rule", "audit_rounds", "audit_slash",
)  # fmt: skip

Row = dict[str, Any]
_UNKNOWN: Row = {"name": None, "lora": None, "parameters": None, "server_lr_thousandths": None}


class TaskSection:
    def __init__(self, views: Views, contents: Contents) -> None:
        self._views, self._contents = views, contents
        self._documents: dict[bytes, Row] = {}  # of the task shown and the one before

    async def list(self) -> Row:
        """The newest of the board."""
        return await list_tasks(self._views, last=MAX_TASKS)

    async def read(self, task: int) -> Row:
        """Raises Reverted where there is none with this number."""
        row = await self._views.view("TaskBoard", "task_view", task)
        view = await read_round(self._views, task)
        audit = await self._views.view("TaskBoard", "audit_view", task)
        people = await self._views.view("TaskBoard", "participants", task)
        return {
            "task": task,
            **await self._describe_document(bytes(row["document"])),
            "document": bytes(row["document"]).hex(),
            "creator": _hex(row["creator"]),
            "terms": {name: str(row["terms"][name]) for name in TERMS},
            "pot": str(row["pot"]),
            "is_ended": bool(row["ended"]),
            "is_stopped": bool(row["stopped"]),
            "adapter": view.adapter.hex(),
            "round": view.round,
            "phase": view.phase.name,
            "deadline": view.deadline,
            "chain_time": await self._views.view("Beacon", "chain_time"),
            "proposers": describe_proposers(view),
            "voters": describe_voters(view),
            "awaited": [_hex(account) for account in view.awaited()],
            "audit": {name: _number(audit[name]) for name in ("number", "heard", "auditors", "counted", "round")},
            "participants": [describe_participant(person) for person in people],
        }

    async def _describe_document(self, digest: bytes) -> Row:
        """What its creator calls it, once the document is here; a stranger's words."""
        if digest not in self._documents:
            data = self._contents.get_object(digest)
            if data is None:
                return dict(_UNKNOWN)
            if len(self._documents) > 1:
                del self._documents[next(iter(self._documents))]
            self._documents[digest] = await trio.to_thread.run_sync(_read_document, data)
        return self._documents[digest]


def _read_document(data: bytes) -> Row:
    try:
        document: TaskDocument = decode_document(data)
    except FlockError:
        return dict(_UNKNOWN)
    lora = {"rank": document.lora.rank, "alpha": document.lora.alpha}
    return {
        "name": clean(document.name),
        "lora": lora,
        "parameters": document.layout.parameters,
        "server_lr_thousandths": document.format.server_lr_thousandths,
    }


def describe_proposers(view: RoundView) -> list[Row]:
    return [
        {
            "account": _hex(account),
            "committed": _has(view.committed, index),
            "revealed": _has(view.revealed, index),
            "held": _has(view.held_set, index),
            "verdict": view.verdicts[index].name if index < len(view.verdicts) else Verdict.NONE.name,
        }
        for index, account in enumerate(view.proposers)
    ]


def describe_voters(view: RoundView) -> list[Row]:
    return [
        {
            "account": _hex(account),
            "attested": _has(view.attested, index),
            "committed": _has(view.score_committed, index),
            "revealed": _has(view.score_revealed, index),
            "adopted": _has(view.adoption_votes, index),
        }
        for index, account in enumerate(view.voters)
    ]


def describe_participant(row: Any) -> Row:
    return {
        "account": _hex(row["account"]),
        "bond": str(row["bond"]),
        "held": str(row["held"]),
        "domain": clean(bytes(row["domain"]).rstrip(b"\0").decode(errors="replace"))[:MAX_DOMAIN_CHARS],
        "joined_round": row["joined_round"],
        "last_accepted": row["last_accepted"],
        "missed": row["missed"],
        "is_leaving": bool(row["leaving_at"]),
        "is_unseated": bool(row["unseated"]),
        "is_suspended": bool(row["suspended"]),
        "strikes": row["strikes"],
        "is_expelled": row["strikes"] == STRIKES_TO_EXPEL,
    }


def choose_task(own: int | None, listed: Row) -> int | None:
    """The one that this peer takes part in; else the newest that runs; else the newest."""
    rows = listed["tasks"]
    running = [row["task"] for row in rows if row["phase"] != Phase.ENDED.name]
    every = [row["task"] for row in rows]
    return own or next(iter([*running, *every]), None)


def _number(value: Any) -> int:
    return min(int(value), (1 << 53) - 1)


def _has(bitmap: int, index: int) -> bool:
    return bool(bitmap >> index & 1)


def _hex(value: Any) -> str:
    return "0x" + as_account(value).hex()
