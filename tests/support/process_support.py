"""Real peers as processes on loopback, to be killed, joined and verified: the benchmarks' way of it, for tests."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from live_tasks import kill as kill
from live_tasks import open_task as open_task
from live_tasks import restart as restart
from live_tasks import task_of, wait_until, with_terms

from flock_p2p.demo.network import Network
from flock_p2p.demo.plan import Plan, make_plan
from flock_peers.control import request_control
from flock_peers.home import Home


def make_test_plan(folder: Path, *, peers: int = 6, rounds: int = 8, seed: int = 11, **seconds: int) -> Plan:
    """Honest peers only, with deadlines short enough to wait for when somebody is dead."""
    plan = make_plan(peers=peers, rounds=rounds, poisoners=0, seed=seed, folder=folder)
    # Audits have their test in the demo; here they would make every second round a third longer.
    return with_terms(plan, min_participants=peers, audit_rounds=0, **seconds)


ARENA_BYTES = 64 << 20  # of address space, at a multiple of itself: where glibc puts one


def count_arenas(pid: int | str) -> int:
    """Of memory that threads other than the first have, by glibc."""
    rows = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    places = [[int(part, 16) for part in row[0].split("-")] for row in rows]
    return sum(
        (row[1], behind[1], len(row), len(behind)) == ("rw-p", "---p", 5, 5)
        and start % ARENA_BYTES == 0
        and middle == begin  # a thread's stack before another one's guard page is no arena
        and start + ARENA_BYTES <= end
        for row, (start, middle), behind, (begin, end) in zip(rows, places, rows[1:], places[1:], strict=False)
    )


class Joined:
    """A peer joined by hand with nothing but an address, in its own process; Ctrl-C and the same command again."""

    prefix: tuple[str, ...] = ()  # such as a command that changes the network namespace

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home, self._arguments = home, arguments
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "flock_p2p", "join", "--home", str(self.home), *self._arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def interrupt(self) -> str:
        """Ctrl-C; what it had printed. An interrupted peer ends in order."""
        self.process.send_signal(signal.SIGINT)
        out, _ = self.process.communicate(timeout=180)
        assert self.process.returncode in (0, 130)
        return out

    def ask(self) -> dict[str, Any]:
        assert self.process.poll() is None, self.process.communicate()
        return request_control(Home(self.home).control_path, "status")


def wait_for_round(network: Network, number: int, seconds: float, peer: int = 0) -> dict[str, Any]:
    return wait_until(
        f"round {number}", seconds, lambda: (task := task_of(network, peer)) and task["round"] >= number and task
    )


def wait_for_phase(network: Network, phase: str, seconds: float, peer: int = 0) -> dict[str, Any]:
    return wait_until(
        f"phase {phase}", seconds, lambda: (task := task_of(network, peer)) and task["phase"] == phase and task
    )


def run_cli(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flock_p2p", *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )
