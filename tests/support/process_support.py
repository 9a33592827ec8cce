"""Real peers as processes on loopback, to be killed, joined and verified. Waits for observables, with deadlines."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from flock_chain.errors import Unavailable
from flock_p2p.demo.network import Network
from flock_p2p.demo.plan import POT, Plan, make_plan
from flock_peers.control import request_control
from flock_peers.home import Home

POLL_SECONDS = 0.3


def make_test_plan(folder: Path, *, peers: int = 6, rounds: int = 8, seed: int = 11, **seconds: int) -> Plan:
    """Honest peers only, with deadlines short enough to wait for when somebody is dead."""
    plan = make_plan(peers=peers, rounds=rounds, poisoners=0, seed=seed, folder=folder)
    short = {
        "commit_seconds": 60,
        "reveal_seconds": 8,
        "availability_seconds": 15,
        "score_commit_seconds": 25,
        "score_reveal_seconds": 8,
        "tally_seconds": 8,
        "adopt_seconds": 20,
    } | seconds
    return replace(plan, terms=replace(plan.terms, min_participants=peers, **short))


class Joined:
    """A peer joined by hand with nothing but an address, in its own process; Ctrl-C and the same command again."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home, self._arguments = home, arguments
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flock_p2p", "join", "--home", str(self.home), *self._arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def interrupt(self) -> str:
        """Ctrl-C; what it had printed. An interrupted peer ends in order."""
        self.process.send_signal(signal.SIGINT)
        out, _ = self.process.communicate(timeout=30)
        assert self.process.returncode in (0, 130)
        return out

    def ask(self) -> dict[str, Any]:
        return request_control(Home(self.home).control_path, "status")


def open_task(network: Network) -> None:
    terms = network.plan.terms
    values = {name: getattr(terms, name) for name in terms.__dataclass_fields__}
    network.ask(0, "open_task", name="test", terms=values, pot=str(POT))


def wait_until(what: str, seconds: float, check: Callable[[], Any]) -> Any:
    """The first true value of `check`; fails naming `what` at the deadline. A peer that is away counts as not yet."""
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            value = check()
        except Unavailable as error:
            value, last = None, error
        if value:
            return value
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"not within {seconds:.0f} s: {what}; last answer: {last}")


def task_of(network: Network, number: int = 0) -> dict[str, Any]:
    """A peer's view of the task; empty before it has one."""
    return network.ask(number, "status")["task"] or {}


def wait_for_round(network: Network, number: int, seconds: float = 180, peer: int = 0) -> dict[str, Any]:
    return wait_until(
        f"round {number}", seconds, lambda: (task := task_of(network, peer)) and task["round"] >= number and task
    )


def wait_for_phase(network: Network, phase: str, seconds: float = 120, peer: int = 0) -> dict[str, Any]:
    return wait_until(
        f"phase {phase}", seconds, lambda: (task := task_of(network, peer)) and task["phase"] == phase and task
    )


def kill(network: Network, number: int) -> None:
    """kill -9, of the peer and so of its trainer, which ends with its stdin."""
    process = network.processes[number]
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)


def restart(network: Network, number: int) -> None:
    """The same command again."""
    network.start(network.plan.peers[number], [network.addresses[0]])
    network.wait_ready(number)


def run_cli(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flock_p2p", *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )
