"""kill -9 of one of six real peers in each phase of a round: do the others finish it, and does the peer resume?

    python benchmarks/kill_peers.py [--json]

One network of processes; for every phase, a peer that is no creator is killed while that phase runs, preferring one
that has a seat. Printed: seconds until the round was over for the others, and until the restarted peer was level.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from flock_chain.errors import Unavailable
from flock_p2p.demo.network import Network, run_network
from flock_p2p.demo.plan import POT, Plan, make_plan

PHASES = ("COMMIT", "REVEAL", "AVAILABILITY", "SCORE_COMMIT", "SCORE_REVEAL", "TALLY", "ADOPT")
WAIT_SECONDS = 300.0  # for a phase to come, and for a round to end: a few deadlines
POLL_SECONDS = 0.05  # some phases last under a second


def make_network_plan(folder: Path) -> Plan:
    plan = make_plan(peers=6, rounds=60, poisoners=0, seed=77, folder=folder)
    terms = replace(
        plan.terms, commit_seconds=60, reveal_seconds=8, availability_seconds=15, score_commit_seconds=25,
        score_reveal_seconds=8, tally_seconds=8, adopt_seconds=20,
    )  # fmt: skip
    return replace(plan, terms=terms)


def wait_until(what: str, check: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            if value := check():
                return value
        except Unavailable:
            pass
        time.sleep(POLL_SECONDS)
    raise Unavailable(f"not within {WAIT_SECONDS:.0f} s: {what}")


def task_of(network: Network, number: int = 0) -> dict[str, Any]:
    return network.ask(number, "status")["task"] or {}


def choose_victim(network: Network, task: dict[str, Any], phase: str) -> int:
    """Somebody with a seat that matters in this phase, but not the peer that is asked."""
    seats = task["proposers"] if phase in ("COMMIT", "REVEAL") else task["voters"] or task["proposers"]
    numbers = [peer.number for peer in network.plan.peers if "0x" + peer.account.hex() in seats and peer.number]
    return numbers[0] if numbers else 5


def kill_in(network: Network, phase: str) -> dict[str, Any]:
    task = wait_until(f"phase {phase}", lambda: (t := task_of(network)) and t["phase"] == phase and t)
    victim = choose_victim(network, task, phase)
    process = network.processes[victim]
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    killed_at = time.monotonic()
    wait_until("the round is over", lambda: task_of(network)["round"] > task["round"])
    over = time.monotonic() - killed_at
    restarted_at = time.monotonic()
    network.start(network.plan.peers[victim], [network.addresses[0]])
    network.wait_ready(victim)
    wait_until("level", lambda: network.ask(victim, "status")["height"] >= network.ask(0, "status")["height"] - 1)
    wait_until("its task is back", lambda: task_of(network, victim).get("joined"))
    resumed = time.monotonic() - restarted_at
    return {"phase": phase, "victim": victim, "round": task["round"], "round_over_s": over, "resumed_s": resumed}


def are_equal(network: Network) -> bool:
    """The same state root at the same height: heads are asked until two of them coincide everywhere."""

    def check() -> bool:
        statuses = [network.ask(peer.number, "status") for peer in network.plan.peers]
        return len({(status["height"], status["state_root"]) for status in statuses}) == 1

    return bool(wait_until("equal heads", check))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, run_network(make_network_plan(Path(folder))) as network:
        terms = network.plan.terms
        values = {name: getattr(terms, name) for name in terms.__dataclass_fields__}
        network.ask(0, "open_task", name="kill", terms=values, pot=str(POT))
        for phase in PHASES:
            rows.append(kill_in(network, phase))
            print(
                "{phase:<13} killed peer {victim} in round {round}: round over after {round_over_s:5.1f} s, "
                "resumed {resumed_s:5.1f} s after its restart".format(**rows[-1]),
                file=sys.stderr, flush=True,
            )  # fmt: skip
        equal = are_equal(network)
    print(json.dumps({"kills": rows, "state_roots_equal": equal}) if options.json else f"state roots equal: {equal}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
