"""A hostile proposer in a live network, one of each kind: does its round go on, what becomes of it, who says its name?

    python benchmarks/hostile_proposers.py [--kinds oversized,nan] [--steps N] [--audit-rounds N] [--json]

Five honest peers, which are the validators, over real sockets. For each kind a sixth peer joins with a bond that gets
it drawn, publishes something that is no adapter, and leaves after its round. Printed: its proposal's verdict, those of
the honest proposals of that round, what is left of its bond, and what an honest peer's log says of it. That a round
ends without a new adapter is no failure here: two honest deltas of other domains may not help the three who vote.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from choices import several
from live_tasks import open_task, task_of, wait_until, with_terms

from flock_chain.errors import Unavailable
from flock_p2p.demo.network import Network, make_homes, run_network
from flock_p2p.demo.plan import DemoPeer, Plan, make_plan, set_apart
from flock_peers.home import Home
from flock_peers.roles.spoil import KINDS, PREFIX
from flock_peers.tasks import COIN
from flock_peers.training.document import Budget

HONEST = 5
BOND = 8  # coins, against 5 of each other: drawn soon, and four of the five are more than half of all stake
WAIT_SECONDS = 300.0
ROUNDS_TO_PROPOSE = 3
WANTED = {kind: "INVALID" for kind in KINDS} | {"unavailable": "VOID"}


def make_hostile_plan(
    folder: Path, kinds: list[str], audit_rounds: int, seed: int = 78
) -> tuple[Plan, tuple[DemoPeer, ...]]:
    plan = make_plan(peers=HONEST + len(kinds), rounds=90, poisoners=0, seed=seed, folder=folder)
    return set_apart(
        with_terms(plan, proposers=3, voters=3, audit_rounds=audit_rounds),
        [PREFIX + kind for kind in kinds],
        BOND * COIN,
    )


def watch_proposal(network: Network, account: str) -> dict[str, Any]:
    """The first round in which the account proposes: on a busy machine it may miss a commitment's deadline."""
    for _ in range(ROUNDS_TO_PROPOSE):
        seen = watch_round(network, account)
        if seen["verdict"] != "NONE":
            break
    return seen


def watch_round(network: Network, account: str) -> dict[str, Any]:
    """The last sight of the next round in which the account is drawn as a proposer."""
    wait_until("the hostile peer is drawn", WAIT_SECONDS, lambda: account in task_of(network).get("proposers", []))
    started, last = time.monotonic(), task_of(network)

    def is_over() -> dict[str, Any] | None:
        nonlocal last
        task = task_of(network)
        if task["round"] != last["round"]:
            return task
        last = task
        return None

    after = wait_until("its round is over", WAIT_SECONDS, is_over)
    verdicts = dict(zip(last["proposers"], last["verdicts"] or ["NONE"] * len(last["proposers"]), strict=True))
    return {
        "round": last["round"],
        "verdict": verdicts.pop(account),
        "honest_verdicts": sorted(verdicts.values()),  # NONE: the round was over before they were seen
        "last_phase": last["phase"],
        "new_adapter": after["adapter"] != last["adapter"],
        "seconds": time.monotonic() - started,
    }


def find_names(plan: Plan, account: str) -> tuple[int, str]:
    """How many honest peers' logs name the account with a reason; one such line."""
    pattern = re.compile(rf".*proposal of {account} is (invalid|unavailable): .*")
    lines = [
        next((line for line in Home(peer.home).log_path.read_text().splitlines() if pattern.match(line)), None)
        for peer in plan.peers
    ]
    found = [line for line in lines if line]
    return len(found), found[0].split(" ", 2)[-1] if found else ""


def try_kind(network: Network, peer: DemoPeer) -> dict[str, Any]:
    account = "0x" + peer.account.hex()
    make_homes(replace(network.plan, peers=(peer,)))
    network.start(peer, [network.addresses[0]])
    try:
        seen = watch_proposal(network, account)
        named_by, line = find_names(network.plan, account)
        return {
            "kind": peer.attack.removeprefix(PREFIX), **seen, "bond_left": wait_for_bond(network, account, seen),
            "named_by": named_by, "log": line,
        }  # fmt: skip
    finally:
        network.processes[peer.number].terminate()
        network.processes.pop(peer.number).wait(30)


def wait_for_bond(network: Network, account: str, seen: dict[str, Any]) -> float:
    """What is left of it in coins. The voters accuse; it is taken once more than half of all stake has looked for
    itself, in the round or after it."""
    if seen["verdict"] == "INVALID":
        with suppress(Unavailable):
            wait_until("its bond is taken", 60, lambda: task_of(network)["bonds"][account] == "0")
    return int(task_of(network)["bonds"][account]) / COIN


def is_as_promised(row: dict[str, Any]) -> bool:
    """A seat that it was drawn for and could not take yet costs a thousandth."""
    is_kept = 0.97 * BOND < row["bond_left"] <= BOND
    is_bond_right = row["bond_left"] == 0 if row["verdict"] == "INVALID" else is_kept
    is_judged = row["verdict"] == WANTED[row["kind"]] and is_bond_right
    goes_on = row["last_phase"] in ("SCORE_COMMIT", "SCORE_REVEAL", "TALLY", "ADOPT", "AUDIT")  # others were measured
    return bool(is_judged and goes_on and row["named_by"])


def run_trials(kinds: list[str], steps: int, audit_rounds: int) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        plan, hostile = make_hostile_plan(Path(folder), kinds, audit_rounds)
        with run_network(plan) as network:
            open_task(network, "hostile", budget={"steps": steps})
            wait_until("a first round is over", WAIT_SECONDS, lambda: task_of(network).get("round", 0) >= 2)
            for peer in hostile:
                rows.append(try_kind(network, peer))
                print(format_row(rows[-1]), file=sys.stderr, flush=True)
    return rows


def format_row(row: dict[str, Any]) -> str:
    return (
        f"{row['kind']:<12} round {row['round']:>2} ({row['seconds']:5.1f} s) {row['verdict']:<8} "
        f"others {', '.join(row['honest_verdicts']):<22} {'adopted' if row['new_adapter'] else 'kept':<7} "
        f"bond {BOND} -> {row['bond_left']:<5g} "
        f"named by {row['named_by']}: {row['log']}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--kinds", default=",".join(KINDS), type=several(KINDS), help="separated by commas (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=Budget.steps, help="of each training (default: %(default)s)")
    parser.add_argument(
        "--audit-rounds", type=int, default=2, help="between two audits; 0: none (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = run_trials(options.kinds, options.steps, options.audit_rounds)
    wrong = [row["kind"] for row in rows if not is_as_promised(row)]
    print(json.dumps({"trials": rows, "not_as_promised": wrong}) if options.json else f"not as promised: {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
