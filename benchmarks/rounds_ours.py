"""Rounds of real peers, as processes with real trainers: how long, which phase how long, and what a peer uses for one.

Knows no other system. Phases are read from the peers' logs, so that measuring asks nothing of them.
"""

import re
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import loopback
from live_tasks import task_of, wait_until
from sessions import measure_session
from wide_base import RANK

from flock_p2p.demo.network import Network, run_network
from flock_p2p.demo.plan import HONEST_BOND, MIN_PEERS, POT, Plan, make_plan, set_apart
from flock_peers.home import Home

LEAST_BUDGET = {"steps": 1, "batch": 1, "seq_len": 8, "eval_windows": 1}  # of a real trainer: nothing to train
OPEN_SECONDS = 60.0  # for a round-0 adapter of two million parameters, on a busy machine
PHASE_SECONDS = 200  # of each phase at most: none is to end at its deadline, however busy the machine is
ROUND_SECONDS = 300.0  # until something must have gone wrong
PHASES = (
    "DRAW_PROPOSERS", "COMMIT", "DRAW_VOTERS", "REVEAL", "AVAILABILITY", "SCORE_COMMIT", "SCORE_REVEAL", "TALLY",
    "ADOPT",
)  # fmt: skip
_LINE = re.compile(r"^(\S+) \S+ +\S+: (.*)$")
_PHASE = re.compile(r"^task 1: round (\d+), (\w+)$")
_TRAINED = re.compile(r"^round (\d+): trained \d+ steps? in ([\d.]+) s")


@dataclass
class Trace:
    """What a network's logs say, in seconds since 1970."""

    phases: dict[tuple[int, str], float] = field(default_factory=dict)  # when the first peer saw it
    trained: dict[int, float] = field(default_factory=dict)  # seconds of a round's longest training
    accepted: int = 0

    def note(self, at: float, text: str) -> None:
        """A line of a peer's log."""
        if found := _PHASE.match(text):
            key = (int(found[1]), found[2])
            self.phases[key] = min(at, self.phases.get(key, at))
        elif found := _TRAINED.match(text):
            number = int(found[1])
            self.trained[number] = max(float(found[2]), self.trained.get(number, 0.0))

    def starts(self) -> dict[int, float]:
        """Of rounds. Heads that come together are seen as one: the first phase may be seen by nobody."""
        starts: dict[int, float] = {}
        for (number, phase), at in self.phases.items():
            if phase in PHASES:
                starts[number] = min(at, starts.get(number, at))
        return starts

    def end(self, number: int) -> float:
        """Of a round: the next one's start, or the end of the task."""
        return self.starts().get(number + 1) or self.phases[number, "ENDED"]

    def seconds(self, number: int) -> float:
        return self.end(number) - self.starts()[number]

    def breakdown(self, numbers: Iterable[int]) -> dict[str, float]:
        """Median seconds of each phase, from its first sight to that of the next one; none where nobody saw it."""
        samples: dict[str, list[float]] = {}
        for number in numbers:
            seen = sorted((at, phase) for (one, phase), at in self.phases.items() if one == number and phase in PHASES)
            for (at, phase), (until, _) in pairwise([*seen, (self.end(number), "")]):
                samples.setdefault(phase, []).append(until - at)
        return {phase: round(statistics.median(samples[phase]), 3) for phase in PHASES if phase in samples}


def read_trace(plan: Plan) -> Trace:
    trace = Trace()
    for peer in plan.peers:
        for at, text in _read_log(Home(peer.home).log_path):
            trace.note(at, text)
    return trace


def _read_log(path: Path) -> Iterator[tuple[float, str]]:
    for older in (path.with_name(path.name + ".2"), path.with_name(path.name + ".1"), path):
        if not older.exists():
            continue
        with older.open(errors="replace") as lines:
            for line in lines:
                if found := _LINE.match(line.rstrip("\n")):
                    yield datetime.fromisoformat(found[1]).timestamp(), found[2]


def make_round_plan(folder: Path, peers: int, rounds: int) -> Plan:
    """The demo's, honest and without audits; also for two peers, of which one proposes and one votes."""
    plan = make_plan(peers=max(peers, MIN_PEERS), rounds=1, poisoners=0, seed=7, folder=folder)
    if peers < MIN_PEERS:
        plan, _ = set_apart(plan, [""] * (MIN_PEERS - peers), HONEST_BOND)
    phases = {name: PHASE_SECONDS for name in vars(plan.terms) if name.endswith("_seconds")}
    return replace(plan, terms=replace(plan.terms, rounds=rounds, audit_rounds=0, min_participants=peers, **phases))


@contextmanager
def open_round_network(folder: Path, base: Path, peers: int, rounds: int, budget: dict[str, int]) -> Iterator[Network]:
    """A network whose first round has begun with everybody's trainer loaded, or about to."""
    plan = make_round_plan(folder, peers, rounds)
    with run_network(plan, "--base", str(base)) as network:
        terms = {name: getattr(plan.terms, name) for name in plan.terms.__dataclass_fields__}
        network.ask(
            0, "open_task", timeout=OPEN_SECONDS, name="rounds", terms=terms, pot=str(POT), budget=budget,
            lora={"rank": RANK}, base=_give_base(network),
        )  # fmt: skip
        yield network


def _give_base(network: Network) -> str:
    """The content id of the base that the peers were started with, once the first of them serves it."""
    folder = network.ask(0, "give_base")["folder"]
    wait_until("the base", OPEN_SECONDS, lambda: network.ask(0, "giving", folder=folder)["base"] is not None)
    return str(network.ask(0, "giving", folder=folder)["base"])


def wait_round(network: Network, number: int) -> None:
    """Until a round has begun, or the task has ended before it."""

    def has_begun() -> bool:
        task = task_of(network)
        return bool(task) and (task["round"] >= number or task["is_ended"])

    wait_until(f"round {number}", ROUND_SECONDS, has_begun)


@dataclass
class Meter:
    """Of all peers together, from one moment on."""

    network: Network
    cpu: float = 0.0
    sent: int = 0
    blocks: int = 0
    at: float = 0.0

    def read(self) -> "Meter":
        usages = [measure_session(process.pid) for process in self.network.processes.values()]
        height = self.network.ask(0, "status")["height"]
        return Meter(self.network, sum(row.cpu for row in usages), loopback.count_bytes(), height, time.monotonic())


def measure_rounds(folder: Path, base: Path, peers: int, rounds: int, budget: dict[str, int]) -> dict[str, Any]:
    """`rounds` after the first one, which also opens the trainers."""
    with open_round_network(folder, base, peers, rounds + 1, budget) as network:
        wait_round(network, 2)
        before = Meter(network).read()
        wait_round(network, rounds + 2)
        after = before.read()
        plan = network.plan
    trace = read_trace(plan)
    numbers = range(2, rounds + 2)
    seconds = [trace.seconds(number) for number in numbers]
    return {
        "peers": peers,
        "rounds": [round(value, 3) for value in seconds],
        "seconds": round(statistics.median(seconds), 3),
        "phases": trace.breakdown(numbers),
        "training_seconds": round(statistics.median(trace.trained[number] for number in numbers), 3),
        "blocks_per_round": round((after.blocks - before.blocks) / rounds, 1),
        "bytes_per_peer_and_round": round((after.sent - before.sent) / peers / rounds),
        "cpu_seconds_per_peer_and_round": round((after.cpu - before.cpu) / peers / rounds, 3),
    }


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
