"""Memory of an idle and of the training peers of a network over many rounds, at each round's beginning.

`idle_own` is without files that are mapped: the idle peer's part of its libraries, which depends on who else runs, and
the pages of the chain that a snapshot or a block has just looked at.
"""

import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from rounds_ours import LEAST_BUDGET, open_round_network, say, wait_round
from sessions import end_session, measure_session

from flock_p2p.demo.network import Network

PEERS, FEW_PEERS = 4, 2
BUDGET = {"steps": 2, "batch": 8, "seq_len": 96, "eval_windows": 8}
PART = 4  # quarters of the rounds are compared
MIB = 1 << 20


def measure_memory(folder: Path, base: Path, rounds: int, *, is_quick: bool) -> dict[str, Any]:
    """Of each process, in MiB: medians of the quarters. The idle peer follows and serves. `is_quick`: two peers that
    train next to nothing, for many rounds."""
    peers, budget = (FEW_PEERS, LEAST_BUDGET) if is_quick else (PEERS, BUDGET)
    samples: dict[str, list[float]] = {"idle": [], "idle_own": [], "peer": [], "trainer": []}
    with open_round_network(folder, base, peers, rounds + 1, budget) as network:
        idle = _start_idle(folder / "idle", network)
        try:
            for number in range(2, rounds + 2):
                wait_round(network, number)
                _sample(network, idle, samples)
                say(f"round {number}: " + ", ".join(f"{name} {rows[-1]:.1f} MiB" for name, rows in samples.items()))
        finally:
            end_session(idle)
    result: dict[str, Any] = {"rounds": rounds, "samples": samples}
    for name, rows in samples.items():
        part = max(1, len(rows) // PART)
        quarters = [statistics.median(rows[at : at + part]) for at in range(0, len(rows), part)][:PART]
        growth = round(quarters[-1] / quarters[0] - 1, 4)
        result[name] = {"quarters": [round(value, 1) for value in quarters], "growth": growth}
    return result


def _start_idle(home: Path, network: Network) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [
            sys.executable, "-m", "flock_p2p", "join", "--quiet", "--observe", "--home", str(home),
            "--listen", "127.0.0.1", "--port", "0", "--bootstrap", network.addresses[0],
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def _sample(network: Network, idle: "subprocess.Popen[bytes]", samples: dict[str, list[float]]) -> None:
    """Of the four peers and their trainers the means."""
    usage = measure_session(idle.pid)
    samples["idle"].append(sum(usage.memory.values()) / MIB)
    samples["idle_own"].append(sum(usage.own.values()) / MIB)
    peers, trainers = [], []
    for process in network.processes.values():
        memory = measure_session(process.pid).memory
        peers.append(memory.pop(process.pid) / MIB)
        trainers.append(sum(memory.values()) / MIB)
    samples["peer"].append(statistics.mean(peers))
    samples["trainer"].append(statistics.mean(trainers))
