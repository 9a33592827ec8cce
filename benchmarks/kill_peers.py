"""kill -9 of one of six real peers in each phase of a round: do the others finish it, and does the peer resume?

    python benchmarks/kill_peers.py [--json]

One network of processes; for every phase, a peer that has a seat and still has to act is killed while that phase runs.
Printed: whether its act was missing indeed, seconds until the round was over for the others and until the restarted
peer was level, and its bond before, when the round was over, and after its restart.
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


def choose_victim(network: Network, phase: str) -> tuple[int, dict[str, Any]]:
    """Somebody who still has to act in this phase, but not the peer that is asked; waits for such a moment."""
    numbers = {"0x" + peer.account.hex(): peer.number for peer in network.plan.peers if peer.number}

    def find() -> tuple[int, dict[str, Any]] | None:
        task = task_of(network)
        awaited = [numbers[account] for account in task.get("awaited", ()) if account in numbers]
        return (awaited[0], task) if task.get("phase") == phase and awaited else None

    found: tuple[int, dict[str, Any]] = wait_until(f"somebody awaited in {phase}", find)
    return found


def kill_in(network: Network, phase: str) -> dict[str, Any]:
    """Whether the victim had still to act is asked again after its death: what it sent may have been under way."""
    victim, task = choose_victim(network, phase)
    account = "0x" + network.plan.peers[victim].account.hex()
    process = network.processes[victim]
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    killed_at = time.monotonic()
    last = task

    def is_over() -> bool:
        nonlocal last
        now = task_of(network)
        if now["round"] == task["round"]:
            last = now if now["phase"] == phase else last
            return False
        return True

    wait_until("the round is over", is_over)
    over = time.monotonic() - killed_at
    bond = int(task_of(network)["bonds"][account])
    restarted_at = time.monotonic()
    network.start(network.plan.peers[victim], [network.addresses[0]])
    network.wait_ready(victim)
    wait_until("level", lambda: network.ask(victim, "status")["height"] >= network.ask(0, "status")["height"] - 1)
    wait_until("its task is back", lambda: task_of(network, victim).get("joined"))
    resumed = time.monotonic() - restarted_at
    return {
        "phase": phase, "victim": victim, "round": task["round"], "had_to_act": account in last["awaited"],
        "bond_before": int(task["bonds"][account]), "bond_when_over": bond,
        "bond_after": int(task_of(network)["bonds"][account]), "round_over_s": over, "resumed_s": resumed,
    }  # fmt: skip


def is_as_promised(row: dict[str, Any]) -> bool:
    """A commitment that is never opened costs its small slash; a peer pays that again when it is back. Else nothing."""
    lost = row["bond_before"] - row["bond_when_over"]
    may_lose = row["had_to_act"] and row["phase"] in ("REVEAL", "SCORE_REVEAL")
    return (lost == 0 or (may_lose and 0 < lost <= row["bond_before"] // 100)) and row["bond_after"] >= row[
        "bond_when_over"
    ]


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
                "{phase:<13} killed peer {victim} in round {round} ({had}): round over after {round_over_s:5.1f} s, "
                "resumed {resumed_s:5.1f} s after its restart, bond {bond_before} -> {bond_when_over} -> {bond_after}"
                .format(had="had to act" if rows[-1]["had_to_act"] else "its act was out", **rows[-1]),
                file=sys.stderr, flush=True,
            )  # fmt: skip
        equal = are_equal(network)
    wrong = [row["phase"] for row in rows if not is_as_promised(row)]
    outcome = {"kills": rows, "state_roots_equal": equal, "not_as_promised": wrong}
    print(json.dumps(outcome) if options.json else f"state roots equal: {equal}; not as promised: {wrong}")
    return 0 if equal and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
