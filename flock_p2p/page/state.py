"""Everything that a page shows of a peer, in sections, each bounded (docs/page.md). Looks when asked; keeps no history.

What follows from the chain is read again when there is a new head, and what changes slowly every few seconds.
"""

import time
from typing import Any

import trio

from flock_p2p import __version__
from flock_p2p.live_view import clean
from flock_p2p.page.chain_section import ChainSection
from flock_p2p.page.history import History
from flock_p2p.page.log_tail import Tail, read_tail
from flock_p2p.page.rounds import Rounds
from flock_p2p.page.task_section import TaskSection, choose_task
from flock_p2p.page.views import FinalViews
from flock_peers.ledger.queries import Queries
from flock_peers.peer import Peer

SLOW_SECONDS = 5.0  # between two looks at the list of tasks and at stakes
LIVE_ROUNDS = 16  # finished ones beside the running one; older ones are asked for by pages
MAX_PEERS = 128  # shown; how many there are is said
MAX_TRANSFERS = 32
MAX_CURVE = 200  # points of the running training
MAX_FINALITY = 200  # samples
MAX_AWAY = 32  # validators that are not connected, by name
MAX_TEXT = 500  # characters of a warning

Sections = dict[str, Any]


class PeerState:
    def __init__(self, peer: Peer, queries: Queries) -> None:
        self._peer = peer
        views = FinalViews(queries)
        self.history = History(queries)
        self.rounds = Rounds(views, self.history)
        self.tasks = TaskSection(views, peer.contents)
        self._chain = ChainSection(queries, views)
        self._slow: Sections = {}
        self._slow_at = -SLOW_SECONDS
        self._of_head: Sections = {}
        self._head_seen: tuple[int | None, ...] | None = None
        self.log = Tail()

    async def read(self) -> Sections:
        """Raises FlockError where the chain cannot be asked just now."""
        status = await self._peer.control.status({})
        await self.history.step(status["height"], status["base"])
        await self._read_slow(status["height"])
        await self._read_head(status)
        self.log = await trio.to_thread.run_sync(read_tail, self._peer.home.log_path, self.log)
        return {
            "peer": describe_peer(status, self._peer.control.started_at),
            "peers": await self._read_peers(status),
            "left": describe_left(status),
            "training": self._describe_training(status),
            "measured": self._describe_measured(self._shown_task()),
            "transfers": self._describe_transfers(status),
            **self._slow,
            **self._of_head,
        }

    async def _read_slow(self, height: int) -> None:
        if trio.current_time() - self._slow_at >= SLOW_SECONDS:
            stakes = await self._chain.stakes(self._peer.account, height)
            self._slow = {"stakes": stakes, "tasks": await self.tasks.list()}
            self._slow_at = trio.current_time()

    def _shown_task(self) -> int | None:
        participant = self._peer.participant
        own = participant.task if participant is not None and participant.view is not None else None
        return choose_task(own, self._slow["tasks"])

    async def _read_head(self, status: Sections) -> None:
        """What a block may change; events and slashes also while older blocks are read."""
        height, since, task = status["height"], self.history.since, self._shown_task()
        seen = (height, since, self.history.until, task)
        if seen == self._head_seen:
            return
        blocks = await self._chain.blocks(height, status["base"])
        nothing: Sections = {"task": None, "last": 0, "rounds": [], "slashes_since": since}
        self._of_head = {
            "chain": describe_chain(status, blocks),
            "events": {"since": since, "rows": self.history.events()},
            **({"task": None, "round": None, "rounds": nothing} if task is None else await self._read_board(task)),
        }
        self._head_seen = seen

    async def read_task(self, task: int) -> Sections:
        """The sections that are of one task, for a page that shows another one than `read` does.

        Raises Misuse or Reverted where there is none with this number.
        """
        return {**await self._read_board(task), "measured": self._describe_measured(task)}

    async def _read_board(self, task: int) -> Sections:
        rounds = await self.rounds.page(task, count=LIVE_ROUNDS + 1)
        running, finished = rounds["rounds"][:1], rounds["rounds"][1:]
        return {
            "task": await self.tasks.read(task),
            "round": running[0] if running else None,
            "rounds": rounds | {"rounds": finished},
        }

    async def _read_peers(self, status: Sections) -> Sections:
        rows = (await self._peer.control.peers({}))["peers"]
        connected = [
            {name: value for name, value in row.items() if name != "seconds"}
            | {"since": int(time.time() - row["seconds"])}
            for row in rows[:MAX_PEERS]
        ]
        away = status["away"]
        return {"count": len(rows), "rows": connected, "away": away[:MAX_AWAY], "away_count": len(away)}

    def _describe_training(self, status: Sections) -> Sections:
        recent = [row for row in self._peer.progress.recent if isinstance(row.get("loss"), int | float)]
        curve = [[row.get("step", 0), row["loss"]] for row in recent[-MAX_CURVE:]]
        sent, received = self._peer.count_bytes()
        return {
            "latest": {name: status["training"].get(name) for name in ("step", "steps", "loss", "state")},
            "curve": _last_run(curve),
            "bytes_by_round": status["bytes_by_round"],
            "sent": sent,
            "received": received,
        }

    def _describe_measured(self, task: int | None) -> Sections:
        return {"task": task, **self._peer.measurements.of(task or 0)}

    def _describe_transfers(self, status: Sections) -> Sections:
        return {"count": len(status["transfers"]), "rows": status["transfers"][:MAX_TRANSFERS]}


def describe_peer(status: Sections, started_at: float) -> Sections:
    names = (
        "account", "address", "network", "genesis", "balance", "is_validator", "validators", "has_quorum", "is_silent",
        "sync", "stops_before", "disk", "clock_offset", "baseline",
    )  # fmt: skip
    return {
        "version": __version__,
        "started_at": int(started_at),
        "not_signing": str(status["not_signing"] or "")[:MAX_TEXT],
        **{name: status[name] for name in names},
        "network": clean(status["network"]),
    }


def describe_left(status: Sections) -> list[Sections]:
    """Of the task that this peer has a part in, the part claims what was earned."""
    own = (status["task"] or {}).get("task")
    rows = [row | {"claimable": "0"} if row["task"] == own else row for row in status["left_behind"]]
    return [row for row in rows if any(row[name] != "0" for name in ("bond", "unbonding", "claimable", "pot"))]


def describe_chain(status: Sections, blocks: list[Sections]) -> Sections:
    names = ("height", "block", "state_root", "base", "epoch", "head_timestamp")
    samples = status["finality_samples"][-MAX_FINALITY:]
    return {
        **{name: status[name] for name in names},
        "finality": {**status["finality_seconds"], "samples": [round(value, 3) for value in samples]},
        "blocks": blocks,
    }


def _last_run(curve: list[list[Any]]) -> list[list[Any]]:
    """Of the training that runs, or ran last: steps begin anew with each."""
    start = max((i for i in range(1, len(curve)) if curve[i][0] <= curve[i - 1][0]), default=0)
    return curve[start:]
