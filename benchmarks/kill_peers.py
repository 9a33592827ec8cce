"""kill -9 of one of six real peers in each phase of a round: do the others finish it, and does the peer resume?

    python benchmarks/kill_peers.py [--phases COMMIT,REVEAL] [--steps N] [--audit-rounds N] [--json]

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
from functools import partial
from pathlib import Path
from typing import Any

from choices import several
from live_tasks import find_stage, kill, open_task, restart, task_of, wait_until, with_terms

from flock_p2p.demo.network import Network, run_network
from flock_p2p.demo.plan import Plan, make_plan
from flock_peers.training.document import Budget

PHASES = ("COMMIT", "REVEAL", "AVAILABILITY", "SCORE_COMMIT", "SCORE_REVEAL", "TALLY", "ADOPT")
PROPOSERS_ACT = ("COMMIT", "REVEAL")
OPENINGS = {"REVEAL": "COMMIT", "SCORE_REVEAL": "SCORE_COMMIT"}  # of what was committed to in the phase before
WAIT_SECONDS = 300.0  # in which nothing moves: a few phases' deadlines


def make_network_plan(folder: Path, audit_rounds: int) -> Plan:
    return with_terms(make_plan(peers=6, rounds=60, poisoners=0, seed=77, folder=folder), audit_rounds=audit_rounds)


def wait(network: Network, what: str, check: Callable[[], Any]) -> Any:
    """As long as the task goes on."""
    return wait_until(what, WAIT_SECONDS, check, partial(find_stage, network))


def look_for(network: Network, phase: str, *, has_acted: bool) -> tuple[int, dict[str, Any]] | None:
    """A peer with a seat that has, or has not, acted in this phase, but not the one that is asked.

    Somebody is still awaited then: the phase is not over.
    """
    numbers = {"0x" + peer.account.hex(): peer.number for peer in network.plan.peers if peer.number}
    task = task_of(network)
    if task.get("phase") != phase or not task["awaited"]:
        return None
    seats = task["proposers"] if phase in PROPOSERS_ACT else task["voters"]
    found = [row for row in seats if row in numbers and (row not in task["awaited"]) == has_acted]
    return (numbers[found[0]], task) if found else None


def find_awaited(network: Network, phase: str) -> tuple[int, dict[str, Any]]:
    found: tuple[int, dict[str, Any]] = wait(
        network, f"a victim in {phase}", lambda: look_for(network, phase, has_acted=False)
    )
    return found


def choose_victim(network: Network, phase: str) -> tuple[int, dict[str, Any]]:
    """Somebody who still has to act in this phase.

    What a phase asks for at its first moment is sent before anybody can look: that victim is stopped (SIGSTOP) in the
    phase before, once it has acted there, and so dies between its commitment and its opening.
    """
    if phase not in OPENINGS:
        return find_awaited(network, phase)
    pair = None
    while pair is None:
        pair = _stop_one_that_has_acted(network, OPENINGS[phase])
    victim, committed = pair

    def has_come() -> dict[str, Any] | None:
        task = task_of(network)
        return task if task["phase"] == phase or task["round"] != committed["round"] else None

    return victim, wait(network, f"{phase} has come", has_come)


def _stop_one_that_has_acted(network: Network, phase: str) -> tuple[int, dict[str, Any]] | None:
    """None where the phase ended without one: perhaps nobody but the peer that is asked had a seat beside."""
    awaited, begun = find_awaited(network, phase)
    os.kill(network.processes[awaited].pid, signal.SIGSTOP)  # or all might have acted before anybody can look again

    def decide() -> list[tuple[int, dict[str, Any]] | None]:
        task, found = task_of(network), look_for(network, phase, has_acted=True)
        is_over = (task["round"], task["phase"]) != (begun["round"], begun["phase"])
        return [found] if is_over or found is not None else []

    found: tuple[int, dict[str, Any]] | None = None
    try:
        (found,) = wait(network, f"somebody has acted in {phase}", decide)
        if found is not None:
            os.kill(network.processes[found[0]].pid, signal.SIGSTOP)
        return found
    finally:
        if found is None or found[0] != awaited:  # what it had sent may have been under way: then it is the victim
            os.kill(network.processes[awaited].pid, signal.SIGCONT)


def kill_in(network: Network, phase: str) -> dict[str, Any]:
    """Whether the victim had still to act is asked again after its death: what it sent may have been under way."""
    victim, task = choose_victim(network, phase)
    account = "0x" + network.plan.peers[victim].account.hex()
    kill(network, victim)
    killed_at = time.monotonic()
    last = task

    def is_over() -> bool:
        nonlocal last
        now = task_of(network)
        if now["round"] == task["round"]:
            last = now if now["phase"] == phase else last
            return False
        return True

    wait(network, "the round is over", is_over)
    over = time.monotonic() - killed_at
    bond = int(task_of(network)["bonds"][account])
    restarted_at = time.monotonic()
    restart(network, victim)
    wait_until(
        "level", WAIT_SECONDS, lambda: is_level(network, victim), lambda: network.ask(victim, "status")["height"]
    )
    wait_until("its task is back", WAIT_SECONDS, lambda: task_of(network, victim).get("joined"))
    resumed = time.monotonic() - restarted_at
    return {
        "phase": phase, "victim": victim, "round": task["round"],
        "had_to_act": last["phase"] == phase and account in last["awaited"],
        "bond_before": int(task["bonds"][account]), "bond_when_over": bond,
        "bond_after": int(task_of(network)["bonds"][account]), "round_over_s": over, "resumed_s": resumed,
    }  # fmt: skip


def is_level(network: Network, number: int) -> bool:
    return bool(network.ask(number, "status")["height"] >= network.ask(0, "status")["height"] - 1)


def is_as_promised(row: dict[str, Any]) -> bool:
    """A commitment that is never opened costs its small slash, a seat that is not taken or left a smaller one; a peer
    pays that again when it is back. Else nothing."""
    lost = row["bond_before"] - row["bond_when_over"]
    is_small = lost == 0 or (row["had_to_act"] and 0 < lost <= row["bond_before"] // 100)
    return bool(is_small and row["bond_after"] >= row["bond_when_over"])


def are_equal(network: Network) -> bool:
    """The same state root at the same height: heads are asked until two of them coincide everywhere."""

    def check() -> bool:
        statuses = [network.ask(peer.number, "status") for peer in network.plan.peers]
        return len({(status["height"], status["state_root"]) for status in statuses}) == 1

    return bool(wait_until("equal heads", WAIT_SECONDS, check))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--phases", default=",".join(PHASES), type=several(PHASES), help="separated by commas (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=Budget.steps, help="of each training (default: %(default)s)")
    parser.add_argument(
        "--audit-rounds", type=int, default=2, help="between two audits; 0: none (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        run_network(make_network_plan(Path(folder), options.audit_rounds)) as network,
    ):
        open_task(network, "kill", budget={"steps": options.steps})
        for phase in options.phases:
            rows.append(kill_in(network, phase))
            print(
                "{phase:<13} killed peer {victim} in round {round} ({had}): round over after {round_over_s:5.1f} s, "
                "resumed {resumed_s:5.1f} s after its restart, bond {bond_before} -> {bond_when_over} -> {bond_after}"
                .format(had="had to act" if rows[-1]["had_to_act"] else "its act was out", **rows[-1]),
                file=sys.stderr, flush=True,
            )  # fmt: skip
        equal = are_equal(network)
    wrong = [row["phase"] for row in rows if not is_as_promised(row)]
    idle = [row["phase"] for row in rows if not row["had_to_act"]]
    outcome = {"kills": rows, "state_roots_equal": equal, "not_as_promised": wrong, "killed_after_its_act": idle}
    print(json.dumps(outcome) if options.json else "; ".join(f"{key}: {outcome[key]}" for key in list(outcome)[1:]))
    return 0 if equal and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
