"""How long a new peer takes from the start of its process to its first synced block, and to being level."""

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rounds_ours import LEAST_BUDGET, open_round_network, wait_round
from sessions import end_session, measure_session

from flock_chain.errors import Unavailable
from flock_p2p.demo.network import Network
from flock_peers.control import request_control
from flock_peers.home import Home

PEERS, ROUNDS = 4, 2  # of the network that is joined, whose chain then has some fifty blocks
LIMIT_SECONDS = 120.0
POLL_SECONDS = 0.01


def measure_join(folder: Path, base: Path, repeats: int) -> dict[str, Any]:
    """Medians. Each peer has an empty home and one address, fetches the genesis too, and only looks on."""
    with open_round_network(folder, base, PEERS, ROUNDS, LEAST_BUDGET) as network:
        wait_round(network, ROUNDS + 1)
        rows = [_join_once(folder / f"joiner{turn}", network) for turn in range(repeats)]
    return {name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]} | {"repeats": repeats}


def _join_once(home: Path, network: Network) -> dict[str, float]:
    height = network.ask(0, "status")["height"]
    began = time.monotonic()
    process = subprocess.Popen(
        [
            sys.executable, "-m", "flock_p2p", "join", "--quiet", "--observe", "--home", str(home),
            "--listen", "127.0.0.1", "--port", "0", "--bootstrap", network.addresses[0],
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        _wait_for_height(home, 1)
        first = time.monotonic() - began
        _wait_for_height(home, height)
        level = time.monotonic() - began
        cpu = measure_session(process.pid).cpu
    finally:
        end_session(process)
    return {"first_block_seconds": first, "level_seconds": level, "blocks": height, "cpu_seconds": cpu}


def _wait_for_height(home: Path, height: int) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        try:
            if request_control(Home(home).control_path, "status")["height"] >= height:
                return
        except Unavailable:
            pass
        time.sleep(POLL_SECONDS)
    raise Unavailable(f"{home}: not at height {height} within {LIMIT_SECONDS:.0f} s")
