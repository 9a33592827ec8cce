"""One network of real processes, taken through its life: a round, a kill, a newcomer, bad input, verification.

The tests share the network and run in order; each leaves it running for the next.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from process_support import (
    Joined,
    kill,
    make_test_plan,
    open_task,
    restart,
    run_cli,
    task_of,
    wait_for_phase,
    wait_for_round,
    wait_until,
)

from flock_p2p.demo.network import Network, make_homes, run_network
from flock_p2p.demo.plan import DemoPeer, set_apart
from flock_peers.home import Home
from flock_peers.tasks import COIN

pytestmark = [pytest.mark.process, pytest.mark.slow]


HOSTILE_BOND = 8 * COIN  # against 5 of each other: drawn soon, and still less than half of all stake


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Network, DemoPeer]]:
    """Five honest peers, and one that is not started and told to publish what is no adapter."""
    everybody = make_test_plan(tmp_path_factory.mktemp("net"), peers=6, rounds=20)
    plan, (hostile,) = set_apart(everybody, ["spoil:truncated"], HOSTILE_BOND)
    with run_network(plan) as running:
        yield running, hostile


@pytest.fixture(scope="module")
def network(trial: tuple[Network, DemoPeer]) -> Network:
    return trial[0]


@pytest.fixture(scope="module")
def newcomer(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Joined]:
    home = tmp_path_factory.mktemp("newcomer") / "home"
    joined = Joined(
        home, "--port", "0", "--domain", "records", "--domain-slice", "9", "--bootstrap", network.addresses[0]
    )
    try:
        yield joined
    finally:
        assert network.plan.genesis.hash.hex() in joined.interrupt()


def heads(network: Network) -> set[tuple[int, str]]:
    statuses = [network.ask(peer.number, "status") for peer in network.plan.peers]
    return {(status["height"], status["state_root"]) for status in statuses}


def test_a_chain_of_processes_agrees_and_is_silent_without_work(network: Network) -> None:
    def one_head() -> set[tuple[int, str]]:
        seen = heads(network)
        return seen if len(seen) == 1 else set()

    ((height, _),) = wait_until("one head everywhere", 60, one_head)
    assert height <= 2  # nothing to do: no blocks but a heartbeat


def test_a_round_trains_votes_adopts_and_pays(network: Network) -> None:
    open_task(network)
    first = wait_until("the task is seen", 60, lambda: task_of(network).get("adapter"))
    wait_for_round(network, 2, 240)
    task = wait_until("an adopted adapter", 240, lambda: (t := task_of(network)) and t["adapter"] != first and t)
    assert task["round"] >= 2
    paid = wait_until(
        "rewards claimed by everybody", 60,
        lambda: all(task_of(network, peer.number)["claimed_until"] >= 2 for peer in network.plan.peers),
    )  # fmt: skip
    assert paid


def test_a_newcomer_gets_coins_bonds_and_is_drawn_within_three_rounds(network: Network, newcomer: Joined) -> None:
    bonded = wait_until(
        "the newcomer is bonded", 120, lambda: (task := newcomer.ask()["task"]) and task["joined"] and task
    )
    account = newcomer.ask()["account"]
    seen: set[int] = set()

    def is_drawn() -> bool:
        task = task_of(network)
        seen.add(task["round"])
        return account in task["proposers"] + task["voters"]

    wait_until("the newcomer has a seat", 400, is_drawn)
    assert max(seen) <= bonded["round"] + 3


def test_a_newcomer_stopped_with_ctrl_c_goes_on_by_the_same_command(network: Network, newcomer: Joined) -> None:
    account, bond = newcomer.ask()["account"], task_of(network)["bonds"][newcomer.ask()["account"]]
    newcomer.interrupt()
    stopped_in = task_of(network)["round"]
    newcomer.start()
    task = wait_until("its part is back", 60, lambda: (t := newcomer.ask()["task"]) and t["joined"] and t)
    assert newcomer.ask()["account"] == account and task["bonds"][account] == bond

    def takes_part() -> bool:
        seen = task_of(network)
        seats, done = seen["proposers"] + seen["voters"], newcomer.ask()["task"]["claimed_until"]
        return seen["round"] > stopped_in and (account in seats or done > stopped_in)

    wait_until("it takes part again", 240, takes_part)


@pytest.mark.parametrize("phase", ["COMMIT", "AVAILABILITY"])
def test_a_peer_killed_in_a_round_does_not_stop_it_and_resumes(network: Network, phase: str) -> None:
    task = wait_for_phase(network, phase)
    kill(network, 4)
    wait_for_round(network, task["round"] + 1, 240)
    restart(network, 4)
    wait_until(
        "the killed peer is level with the others", 60,
        lambda: network.ask(4, "status")["height"] >= network.ask(0, "status")["height"] - 2,
    )  # fmt: skip
    assert wait_until("its task is back", 60, lambda: task_of(network, 4).get("joined"))


def test_a_proposer_of_bytes_that_are_no_adapter_is_named_slashed_and_left_behind(
    trial: tuple[Network, DemoPeer],
) -> None:
    network, hostile = trial
    account = "0x" + hostile.account.hex()
    make_homes(replace(network.plan, peers=(hostile,)))
    network.start(hostile, [network.addresses[0]])
    last: dict[str, Any] = {}

    def is_over() -> bool:
        """The last sight of the first round in which it proposes."""
        task = task_of(network)
        if last and task["round"] > last["round"]:
            return True
        if account in task["proposers"]:
            last.update(task)
        return False

    wait_until("its round is over", 240, is_over)
    assert last["verdicts"][last["proposers"].index(account)] == "INVALID"
    # The others' were measured all the same. Their verdicts stand for a moment only where nobody's was accepted.
    assert last["phase"] in ("SCORE_COMMIT", "SCORE_REVEAL", "TALLY", "ADOPT")
    assert task_of(network)["bonds"][account] == "0"
    logs = [Home(peer.home).log_path.read_text() for peer in network.plan.peers]
    assert any(f"proposal of {account} is invalid: delta: " in text for text in logs)
    network.processes[hostile.number].terminate()
    network.processes.pop(hostile.number).wait(30)


def test_joining_with_a_wrong_genesis_hash_fails_at_once_and_leaves_nothing_running(
    network: Network, tmp_path: Path
) -> None:
    done = run_cli(
        "join", "--home", str(tmp_path), "--quiet", "--port", "0", "--bootstrap", network.addresses[0],
        "--genesis", "ab" * 32, timeout=40,
    )  # fmt: skip
    assert done.returncode not in (0, 130)
    assert "genesis" in done.stderr and "Traceback" not in done.stderr and done.stderr.count("\n") == 1


def test_a_bootstrap_that_does_not_answer_is_said_within_seconds(tmp_path: Path, network: Network) -> None:
    dead = re.sub(r"/tcp/\d+/", "/tcp/9/", network.addresses[0])
    done = run_cli("join", "--home", str(tmp_path), "--quiet", "--port", "0", "--bootstrap", dead, timeout=40)
    assert done.returncode == 3
    assert "bootstrap" in done.stderr and "Traceback" not in done.stderr


def test_a_taken_port_is_said_with_what_to_do(tmp_path: Path, network: Network) -> None:
    taken = re.search(r"/tcp/(\d+)/", network.addresses[1])
    assert taken is not None
    done = run_cli(
        "join", "--home", str(tmp_path), "--quiet", "--port", taken[1], "--bootstrap", network.addresses[0],
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    assert taken[1] in done.stderr and "Traceback" not in done.stderr


def test_a_home_is_not_used_twice(network: Network) -> None:
    home = network.plan.peers[1].home
    done = run_cli("join", "--home", str(home), "--quiet", "--port", "0", timeout=40)
    assert done.returncode == 3 and "in use" in done.stderr
    assert run_cli("verify", "--home", str(home)).returncode == 3


def test_verify_passes_on_a_stopped_home_and_fails_when_a_byte_of_a_proposal_flips(network: Network) -> None:
    """Last: it stops a peer for good."""
    peer = network.plan.peers[3]
    wait_until("proposals are kept", 60, lambda: task_of(network, 3)["kept_until"] >= 2)
    network.ask(3, "stop")
    network.processes[3].wait(30)
    good = run_cli("verify", "--home", str(peer.home), timeout=300)
    assert good.returncode == 0, good.stdout + good.stderr
    delta = min((peer.home / "blobs" / "files").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(delta.read_bytes())
    data[len(data) // 2] ^= 1
    os.chmod(delta, 0o600)
    delta.write_bytes(data)
    bad = run_cli("verify", "--home", str(peer.home), timeout=300)
    assert bad.returncode == 1
    assert "FAILED" in bad.stdout and "chunk" in bad.stdout and "proposal of 0x" in bad.stdout.split("FAILED", 1)[1]
