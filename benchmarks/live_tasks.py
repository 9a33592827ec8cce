"""Watching, killing and restarting the peers of a live network with one task; waits for observables, with deadlines.

Knows no benchmark and no test: both use it.
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flock_chain.errors import Unavailable
from flock_p2p.demo.network import Network
from flock_p2p.demo.plan import POT, Plan

POLL_SECONDS = 0.1  # some phases last under a second
# Of each phase: short enough to be waited for where somebody is dead.
SHORT_PHASES = {
    "commit_seconds": 60,
    "reveal_seconds": 8,
    "availability_seconds": 15,
    "score_commit_seconds": 25,
    "score_reveal_seconds": 8,
    "tally_seconds": 8,
    "adopt_seconds": 20,
}


def with_terms(plan: Plan, **changes: int) -> Plan:
    """The plan with short phases, and with these terms of its task."""
    return replace(plan, terms=replace(plan.terms, **SHORT_PHASES | changes))


def open_task(network: Network, name: str = "test", peer: int = 0, **wanted: Any) -> None:
    """`wanted`: what else its document says, such as a budget."""
    terms = network.plan.terms
    values = {name: getattr(terms, name) for name in terms.__dataclass_fields__}
    network.ask(peer, "open_task", name=name, terms=values, pot=str(POT), **wanted)


def wait_until(what: str, seconds: float, check: Callable[[], Any], sign: Callable[[], Any] = lambda: None) -> Any:
    """The first true value of `check`; raises Unavailable naming `what`. A peer that is away counts as not yet. `sign`:
    of progress; whenever it says something else the time begins anew, for a busy machine takes longer over the same."""
    deadline, seen = time.monotonic() + seconds, None
    last: object = None
    while time.monotonic() < deadline:
        try:
            if value := check():
                return value
            last = None
            if (now := sign()) != seen:
                deadline, seen = time.monotonic() + seconds, now
        except Unavailable as error:
            last = error
        time.sleep(POLL_SECONDS)
    raise Unavailable(f"not within {seconds:.0f} s: {what}" + (f"; last answer: {last}" if last else ""))


def find_stage(network: Network, number: int = 0) -> tuple[Any, ...]:
    """Where a peer's task is: who has bonded while it waits, then its round and phase."""
    task = task_of(network, number)
    return task.get("round"), task.get("phase"), len(task.get("bonds", ()))


def task_of(network: Network, number: int = 0) -> dict[str, Any]:
    """A peer's view of the task; empty before it has one."""
    return network.ask(number, "status")["task"] or {}


def kill(network: Network, number: int) -> None:
    """kill -9, of the peer and so of its trainer, which ends with its stdin."""
    process = network.processes[number]
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)


def restart(network: Network, number: int) -> None:
    """The same command again."""
    network.start(network.plan.peers[number], [network.addresses[0]])
    network.wait_ready(number)
