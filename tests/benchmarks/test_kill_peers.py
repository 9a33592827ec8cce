"""Whom the benchmark that kills peers has stopped when it kills."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kill_peers
import pytest
from live_tasks import wait_until


class Network:
    """Peer 0 is asked; a proposer is a process that does nothing, and has acted once it was stopped."""

    def __init__(self, seats: tuple[int, ...]) -> None:
        self.plan = SimpleNamespace(peers=[SimpleNamespace(number=n, account=bytes([n] * 20)) for n in range(3)])
        self.processes = {n: subprocess.Popen(["sleep", "60"]) for n in (1, 2)}
        self.proposers = ["0x" + self.plan.peers[n].account.hex() for n in seats]
        self.looks = 0

    def ask(self, _number: int, _method: str) -> Any:
        self.looks += 1
        awaited = self.proposers if self.looks == 1 else ["0x" + b"others".hex()]
        return {"task": {"round": 1, "phase": "COMMIT", "awaited": awaited, "proposers": self.proposers, "bonds": {}}}

    def is_stopped(self, number: int) -> bool:
        """Soon: a signal takes a moment to arrive."""
        state = Path(f"/proc/{self.processes[number].pid}/stat")
        return bool(wait_until("it is stopped", 2, lambda: state.read_text().split()[2] == "T"))


@pytest.fixture
def made() -> Iterator[list[Network]]:
    made: list[Network] = []
    yield made
    for network in made:
        for process in network.processes.values():
            os.kill(process.pid, signal.SIGKILL)
            process.wait(10)


def test_who_acted_while_it_was_stopped_stays_so_until_it_is_killed(made: list[Network]) -> None:
    """It went on, and opened what it was to be killed before opening."""
    network: Any = Network((1,))
    made.append(network)
    victim, _ = kill_peers._stop_one_that_has_acted(network, "COMMIT") or (0, {})
    assert victim == 1 and network.is_stopped(1)
