"""A page's server without a peer: made-up sections, as large and hostile as the limits allow, or of a small network."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from flock_chain.errors import Misuse
from flock_chain.tally import SEATS_MAX, Verdict
from flock_p2p.page import chain_section, history, state
from flock_p2p.page.log_tail import Tail
from flock_p2p.page.rounds import ROUNDS_AT_ONCE
from flock_p2p.page.routes import PageRoutes
from flock_p2p.page.task_section import MAX_TASKS, TERMS
from flock_p2p.web.guard import Guard
from flock_p2p.web.server import Routes, open_listener, port_of, serve
from flock_peers.left_behind import MAX_LEFT

COIN = 10**18
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>owned()</script>"
MAX_PARTICIPANTS, MAX_VALIDATORS = 64, 150  # as the contracts have them
NOW = 1_795_000_000
LINES = 119  # of the log


def name(number: int) -> str:
    return f"0x{number * 0x9E3779B97F4A7C15 % (1 << 160):040x}"


PAY = {"task": 1, "round": 9, "amount": str(5 * COIN // 3), "total": str(10 * COIN // 3)}
TRANSFER = {
    "file": "9c" * 32, "bytes": 2_160_000, "done": 1_400_000, "bytes_per_second": 700_000, "eta_seconds": 1.1,
    "providers": {name(3): 900_000, name(4): 500_000},
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How much there is of everything."""

    seats: int = 3
    rounds: int = 12
    participants: int = 6
    peers: int = 5
    validators: int = 6
    blocks: int = 40
    events: int = 30
    left: int = 0  # ended tasks in which something is
    text: str = "house-hold records"

    @staticmethod
    def largest() -> "Size":
        """Everything at its limit, and hostile."""
        return Size(
            SEATS_MAX, 100_000, MAX_PARTICIPANTS, state.MAX_PEERS, MAX_VALIDATORS, chain_section.MAX_BLOCKS,
            history.MAX_EVENTS, MAX_LEFT, HOSTILE,
        )  # fmt: skip


def make_round(number: int, size: Size, *, running: bool = False) -> dict[str, Any]:
    verdicts = [Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.ACCUSED_NORM if number % 3 == 1 else Verdict.REJECTED_LOSS]
    accusation = {
        "state": "convicted",
        "held": str(9 * COIN // 2),
        "guilty": 60_000,
        "innocent": 2_000,
        "total": 65_535,
    }
    return {
        "round": number,
        "proposers": [
            {
                "account": name(1 + (number + index) % size.participants),
                "verdict": "NONE" if running else verdicts[index % 3].name,
                "manifest": "ab" * 32,
                "median": None if running else (-9_000 + 400 * (number % 17) + 3_000 * index),
                "accusation": accusation if not running and verdicts[index % 3] is Verdict.ACCUSED_NORM else None,
                "slashed": str(9 * COIN // 2) if not running and verdicts[index % 3] is Verdict.ACCUSED_NORM else "0",
            }
            for index in range(size.seats)
        ],
        "voters": [
            {"account": name(1 + (number + index + 3) % size.participants), "revealed": not running}
            for index in range(size.seats)
        ],
        "tallied": not running,
        "settled": not running,
        "adapter_before": f"{number:064x}",
        "adapter_after": "0" * 64 if running else f"{number + 1:064x}",
        "share": str(10 * COIN),
        "per_proposer": str(3 * COIN),
        "per_voter": str(COIN),
    }


def make_task(size: Size) -> dict[str, Any]:
    seats = [name(1 + (size.rounds + index) % size.participants) for index in range(size.seats)]
    voters = [name(1 + (size.rounds + index + 3) % size.participants) for index in range(size.seats)]
    terms = dict.fromkeys(TERMS, str(COIN)) | {
        "rounds": str(size.rounds + 4), "audit_rounds": "2", "voting_rule": "0", "min_participants": "4",
        "min_bond": str(5 * COIN),
    }  # fmt: skip
    return {
        "task": 1, "name": size.text, "lora": {"rank": 8, "alpha": 16}, "parameters": 540_672,
        "server_lr_thousandths": 1_500, "document": "cd" * 32,
        "creator": name(1), "terms": terms, "pot": str(83 * COIN), "is_ended": False, "is_stopped": False,
        "adapter": "ef" * 32, "round": size.rounds, "phase": "SCORE_COMMIT", "deadline": NOW + 60, "chain_time": NOW,
        "proposers": [
            {"account": seat, "committed": True, "revealed": True, "held": True, "verdict": "NONE"} for seat in seats
        ],
        "voters": [
            {"account": seat, "attested": True, "committed": index == 0, "revealed": False, "adopted": False}
            for index, seat in enumerate(voters)
        ],
        "awaited": voters[1:],
        "audit": {"number": 3, "heard": 0, "auditors": 0, "counted": 2, "round": size.rounds},
        "participants": [
            {
                "account": name(1 + index), "bond": str(5 * COIN), "held": "0", "domain": size.text[:32],
                "joined_round": 0, "last_accepted": size.rounds - 1, "missed": index % 2, "is_leaving": False,
                "is_unseated": False, "is_suspended": index == 4,
                "strikes": index % 4, "is_expelled": index % 4 == 3,
            }
            for index in range(size.participants)
        ],
    }  # fmt: skip


def make_peer(size: Size) -> dict[str, Any]:
    return {
        "version": "0.1.0", "started_at": int(time.time()) - 4_000, "not_signing": "",
        "account": name(1), "address": "/ip4/192.0.2.7/tcp/4200/p2p/16Uiu2HAky4HLfaDwSXFPBtHHyjGY3sZeAmEXRNfWT",
        "network": size.text, "genesis": "aa" * 32, "balance": str(991 * COIN), "is_validator": True,
        "validators": size.validators, "has_quorum": True, "is_silent": False, "sync": None, "stops_before": None,
        "disk": {"quota": 8_590_000_000, "used": 31_000_000, "kept": {}}, "clock_offset": None, "baseline": None,
    }  # fmt: skip


def make_event(number: int) -> dict[str, Any]:
    kind = ("Slashed", "Verdict", "Joined", "Adopted", "Audited", "Accused")[number % 6]
    return {
        "height": 400 - number, "timestamp": NOW, "contract": "TaskBoard", "event": kind, "task": 1,
        "round": 1 + number, "audit": None, "account": None if kind == "Adopted" else name(1 + number % 6),
        "amount": None if kind == "Adopted" else str(COIN), "verdict": Verdict(1 + number % 9).name,
        "flags": ["guilty"] if kind == "Audited" else [],
    }  # fmt: skip


def make_line(number: int, text: str) -> dict[str, Any]:
    level = ("INFO", "WARNING", "INFO", "ERROR")[number % 4]
    at = f"2026-11-21T15:{number // 60:02}:{number % 60:02}.120"
    return {"id": number, "at": at, "level": level, "source": "flock_peers.x", "text": f"round {number}: {text}"}


def make_left(number: int) -> dict[str, Any]:
    amount = str(10**30 // 7)  # as long as any
    return {
        "task": number, "bond": amount, "unbonding": amount, "free_in": 86_399, "claimable": amount, "pot": amount,
    }  # fmt: skip


def make_sections(size: Size) -> dict[str, Any]:
    rows = [make_round(n, size) for n in range(size.rounds - 1, max(0, size.rounds - 1 - state.LIVE_ROUNDS), -1)]
    losses = [
        {
            "task": 1,
            "round": n,
            "role": "voter" if n % 2 else "proposer",
            "before": 3.4 - n / 40,
            "after": 3.38 - n / 40,
        }
        for n in range(1, min(size.rounds, 512))
    ]
    audits = [
        {"task": 1, "audit": n, "round": 2 * n, "values": {name(1 + i): 90_000 * (1 + i) + 9_000 * n for i in range(6)}}
        for n in range(1, min(size.rounds // 2, 128))
    ]
    people = [
        {
            "account": name(2 + index), "address": f"192.0.2.{index}:4200", "is_outgoing": index % 2 == 0,
            "bytes_in": 10_000 * 3**(index % 9), "bytes_out": 50_000, "connections": 1, "misdeeds": int(index == 3),
            "is_validator": index % 3 > 0, "since": int(time.time()) - 700,
        }
        for index in range(size.peers)
    ]  # fmt: skip
    return {
        "peer": make_peer(size),
        "peers": {"count": size.peers, "rows": people, "away": [name(90)], "away_count": 1},
        "training": {
            "latest": {"step": 17, "steps": 24, "loss": 1.7321, "state": None},
            "curve": [[n, 2.6 - n / 30] for n in range(1, 18)],
            "bytes_by_round": {str(n): 1_200_000 + 90_000 * (n % 5) for n in range(1, min(size.rounds, 256))},
            "sent": 41_000_000, "received": 18_000_000,
        },
        "measured": {"task": 1, "losses": losses, "audits": audits, "pay": PAY},
        "transfers": {"count": 1, "rows": [TRANSFER] * (state.MAX_TRANSFERS if size.text == HOSTILE else 1)},
        "stakes": {
            "validators": [{"account": name(1 + n), "weight": str(32 * COIN)} for n in range(size.validators)],
            "total": str(32 * COIN * size.validators), "stake": str(32 * COIN), "delegated": "0", "unbonding": "0",
            "release_at": None, "reward": str(COIN // 3), "jailed_until": 0, "missed": 0,
        },
        "tasks": {"count": 2, "tasks": [
            {"task": 2, "creator": name(1), "document": "cd" * 32, "adapter": "ef" * 32, "round": 9, "rounds": 9,
             "phase": "ENDED", "is_ended": True, "pot": "0", "min_bond": "0", "participants": 3}] * MAX_TASKS},
        "left": [make_left(number) for number in range(size.left, 0, -1)],
        "chain": {
            "height": 40 * size.rounds, "block": "77" * 32, "state_root": "88" * 32, "base": 1, "epoch": 3,
            "head_timestamp": int(time.time()) - 1,
            "finality": {"p50": 0.34, "p95": 0.62, "samples": [0.3 + (n * 37 % 40) / 100 for n in range(200)]},
            "blocks": [{"height": n, "timestamp": NOW + n, "proposer": name(n), "transactions": n % 5, "gas": 90_000}
                       for n in range(size.blocks)],
        },
        "task": make_task(size),
        "round": make_round(size.rounds, size, running=True),
        "rounds": {"task": 1, "last": size.rounds, "rounds": rows, "slashes_since": 1},
        "events": {"since": 1, "rows": [make_event(number) for number in range(size.events)]},
    }  # fmt: skip


class _Rounds:
    def __init__(self, size: Size) -> None:
        self._size = size

    async def page(self, task: int, *, before: int | None = None) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        top = min(self._size.rounds, (before or self._size.rounds + 1) - 1)
        rows = [make_round(n, self._size) for n in range(top, max(0, top - ROUNDS_AT_ONCE), -1)]
        return {"task": task, "last": self._size.rounds, "rounds": rows, "slashes_since": 1}


@dataclass
class FakeState:
    """What `PeerState` is for the routes. `trouble` is raised instead of an answer."""

    size: Size = field(default_factory=Size)
    sections: dict[str, Any] = field(default_factory=dict)
    trouble: Exception | None = None
    looks: int = 0

    def __post_init__(self) -> None:
        self.rounds = _Rounds(self.size)
        self.sections = self.sections or make_sections(self.size)
        self.log = Tail(1, 9, tuple(make_line(number, self.size.text) for number in range(1, LINES + 1)))

    async def read(self) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        self.looks += 1
        if self.trouble is not None:
            raise self.trouble
        return dict(self.sections)

    async def read_task(self, task: int) -> dict[str, Any]:
        """There are three; the second is another one than `read` tells of."""
        await trio.lowlevel.checkpoint()
        if task > 3:
            raise Misuse(f"rounds: there is no task {task}")
        rounds = [make_round(n, self.size) for n in (2, 1)]
        return {
            "task": make_task(self.size) | {"task": task, "round": 3, "name": f"{self.size.text} of task {task}"},
            "round": make_round(3, self.size, running=True),
            "rounds": {"task": task, "last": 3, "rounds": rounds, "slashes_since": 1},
            "measured": {"task": task, "losses": [], "audits": []},
        }


@asynccontextmanager
async def serving_page(fake: FakeState, port: int = 0) -> AsyncIterator[int]:
    """The port at which it is served."""
    listener = await open_listener(port)
    port = port_of(listener)
    routes = PageRoutes(fake).make(port)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, listener, Routes(routes, Guard(port), {}))
        yield port
        nursery.cancel_scope.cancel()
