"""One network of real processes, taken through its life: a round, a kill, a newcomer, bad input, verification.

The tests share the network and run in order; each leaves it running for the next.
"""

import json
import os
import platform
import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from process_support import (
    Joined,
    count_arenas,
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

from flock_chain.errors import InvalidEncoding, Unavailable
from flock_chain.proposal import decode_manifest
from flock_p2p.demo.network import Network, make_homes, run_network
from flock_p2p.demo.plan import DemoPeer, set_apart
from flock_peers.home import Home
from flock_peers.tasks import COIN

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.early(2)]


SECONDS = 180  # for what takes ten on an idle machine: starting a process with its trainer, and catching up
ROUND_SECONDS = 420  # all phases of a round to their ends, where somebody is dead, and an audit
# Rounds are looked at here, not what is learned in them: a tenth of the default training.
BUDGET = {"steps": 4, "batch": 4, "eval_windows": 8}
COMMIT_SECONDS = 40  # waited for to its end where a proposer is dead; such a training takes one
HOSTILE_BOND = 8 * COIN  # against 5 of each other: drawn soon, and still less than half of all stake


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Network, DemoPeer]]:
    """Five honest peers, and one that is not started and told to publish what is no adapter."""
    folder = tmp_path_factory.mktemp("net")
    everybody = make_test_plan(folder, peers=6, rounds=20, commit_seconds=COMMIT_SECONDS)
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

    ((height, _),) = wait_until("one head everywhere", SECONDS, one_head)
    genesis = network.plan.genesis
    heartbeats = (time.time() - genesis.timestamp) // genesis.parameters.heartbeat
    assert height <= 2 + heartbeats  # nothing to do: no blocks but those


def test_a_round_trains_votes_adopts_and_pays(network: Network) -> None:
    open_task(network, budget=BUDGET)
    first = wait_until("the task is seen", SECONDS, lambda: task_of(network).get("adapter"))
    wait_for_round(network, 2, ROUND_SECONDS)
    task = wait_until(
        "an adopted adapter", ROUND_SECONDS, lambda: (t := task_of(network)) and t["adapter"] != first and t
    )
    assert task["round"] >= 2
    paid = wait_until(
        "rewards claimed by everybody", SECONDS,
        lambda: all(task_of(network, peer.number)["claimed_until"] >= 2 for peer in network.plan.peers),
    )  # fmt: skip
    assert paid
    if platform.libc_ver()[0] == "glibc":
        assert not any(count_arenas(process.pid) for process in network.processes.values())


def test_a_newcomer_gets_coins_bonds_and_is_drawn_within_three_rounds(network: Network, newcomer: Joined) -> None:
    bonded = wait_until(
        "the newcomer is bonded", SECONDS, lambda: (task := newcomer.ask()["task"]) and task["joined"] and task
    )
    account = newcomer.ask()["account"]
    seen: set[int] = set()

    def is_drawn() -> bool:
        task = task_of(network)
        seen.add(task["round"])
        return account in task["proposers"] + task["voters"]

    wait_until("the newcomer has a seat", 2 * ROUND_SECONDS, is_drawn)
    assert max(seen) <= bonded["round"] + 3


def test_a_newcomer_stopped_with_ctrl_c_goes_on_by_the_same_command(network: Network, newcomer: Joined) -> None:
    account = newcomer.ask()["account"]
    bond = int(task_of(network)["bonds"][account])
    told = re.search(r"^joined +taking part in task 1 from round (\d+) on, ", newcomer.interrupt(), re.MULTILINE)
    stopped_in = task_of(network)["round"]
    assert told and 1 <= int(told[1]) <= stopped_in, "it has had a seat"
    newcomer.start()
    task = wait_until("its part is back", SECONDS, lambda: (t := newcomer.ask()["task"]) and t["joined"] and t)
    # The same bond, less what a seat costs that it could not take meanwhile.
    assert newcomer.ask()["account"] == account and abs(int(task["bonds"][account]) - bond) < 0.03 * bond

    def takes_part() -> bool:
        seen = task_of(network)
        seats, done = seen["proposers"] + seen["voters"], newcomer.ask()["task"]["claimed_until"]
        return seen["round"] > stopped_in and (account in seats or done > stopped_in)

    wait_until("it takes part again", ROUND_SECONDS, takes_part)


@pytest.mark.parametrize("phase", ["COMMIT", "AVAILABILITY"])
def test_a_peer_killed_in_a_round_does_not_stop_it_and_resumes(network: Network, phase: str) -> None:
    task = wait_for_phase(network, phase, ROUND_SECONDS)
    kill(network, 4)
    wait_for_round(network, task["round"] + 1, ROUND_SECONDS)
    restart(network, 4)
    wait_until(
        "the killed peer is level with the others", SECONDS,
        lambda: network.ask(4, "status")["height"] >= network.ask(0, "status")["height"] - 2,
    )  # fmt: skip
    assert wait_until("its task is back", SECONDS, lambda: task_of(network, 4).get("joined"))


def rounds_of(network: Network) -> list[dict[str, Any]]:
    """As the chain keeps them, whether anybody looked at the right moment or not."""
    page = f"{network.ask(0, 'status')['page']}/api/rounds?task={task_of(network)['task']}"
    try:
        with urllib.request.urlopen(page, timeout=SECONDS) as answer:
            return list(json.load(answer)["rounds"])
    except OSError as error:
        raise Unavailable(f"the page of peer 0: {error}") from error


def test_a_proposer_of_bytes_that_are_no_adapter_is_named_slashed_and_left_behind(
    trial: tuple[Network, DemoPeer],
) -> None:
    network, hostile = trial
    account = "0x" + hostile.account.hex()
    make_homes(replace(network.plan, peers=(hostile,)))
    network.start(hostile, [network.addresses[0]])

    def judged() -> list[tuple[str, bool]]:
        """Its verdict, and whether the others' were tallied; it may be drawn before its trainer is up."""
        seats = [(seat, row) for row in rounds_of(network) if row["settled"] for seat in row["proposers"]]
        mine = [(seat["verdict"], row["tallied"]) for seat, row in seats if seat["account"] == account]
        return [row for row in mine if row[0] not in ("UNOPENED", "NONE")]

    found = wait_until("its round is over", 2 * ROUND_SECONDS, judged)
    assert found[-1] == ("INVALID", True)  # the first: the newest come first
    # Its voters accuse; it pays once more than half of all stake has looked for itself, in the round or after it.
    wait_until("its bond is taken", SECONDS, lambda: task_of(network)["bonds"][account] == "0")
    logs = [Home(peer.home).log_path.read_text() for peer in network.plan.peers]
    assert any(f"proposal of {account} is invalid: delta: " in text for text in logs)
    network.processes[hostile.number].terminate()
    network.processes.pop(hostile.number).wait(SECONDS)


def test_joining_with_a_wrong_genesis_hash_fails_at_once_and_leaves_nothing_running(
    network: Network, tmp_path: Path
) -> None:
    done = run_cli(
        "join", "--home", str(tmp_path), "--quiet", "--port", "0", "--bootstrap", network.addresses[0],
        "--genesis", "ab" * 32,
    )  # fmt: skip
    assert done.returncode not in (0, 130)
    assert "genesis" in done.stderr and "Traceback" not in done.stderr and done.stderr.count("\n") == 1


def test_a_bootstrap_that_does_not_answer_is_said_within_seconds(tmp_path: Path, network: Network) -> None:
    dead = re.sub(r"/tcp/\d+/", "/tcp/9/", network.addresses[0])
    done = run_cli("join", "--home", str(tmp_path), "--quiet", "--port", "0", "--bootstrap", dead)
    assert done.returncode == 3
    assert "bootstrap" in done.stderr and "Traceback" not in done.stderr


def test_a_taken_port_is_said_with_what_to_do(tmp_path: Path, network: Network) -> None:
    taken = re.search(r"/tcp/(\d+)/", network.addresses[1])
    assert taken is not None
    done = run_cli(
        "join", "--home", str(tmp_path), "--quiet", "--port", taken[1], "--bootstrap", network.addresses[0],
    )  # fmt: skip
    assert done.returncode == 3
    assert taken[1] in done.stderr and "Traceback" not in done.stderr
    assert not Home(tmp_path).key_path.exists()


def test_a_home_is_not_used_twice(network: Network) -> None:
    home = network.plan.peers[1].home
    done = run_cli("join", "--home", str(home), "--quiet", "--port", "0")
    assert done.returncode == 3 and "in use" in done.stderr
    assert run_cli("verify", "--home", str(home)).returncode == 3


def find_proposal(blobs: Path) -> Path:
    """The delta of any manifest: of a long run there are snapshots among the files too."""
    for path in sorted((blobs / "objects").iterdir()):
        try:
            delta = blobs / "files" / decode_manifest(path.read_bytes()).delta.hex()
        except InvalidEncoding:
            continue
        if delta.exists():
            return delta
    raise AssertionError("no proposal is kept")


def test_verify_passes_on_a_stopped_home_and_fails_when_a_byte_of_a_proposal_flips(network: Network) -> None:
    """Last: it stops a peer for good."""
    peer = network.plan.peers[3]
    wait_until("proposals are kept", SECONDS, lambda: task_of(network, 3)["kept_until"] >= 2)
    network.ask(3, "stop")
    network.processes[3].wait(SECONDS)
    good = run_cli("verify", "--home", str(peer.home), timeout=300)
    assert good.returncode == 0, good.stdout + good.stderr
    delta = find_proposal(peer.home / "blobs")
    data = bytearray(delta.read_bytes())
    data[len(data) // 2] ^= 1
    os.chmod(delta, 0o600)
    delta.write_bytes(data)
    bad = run_cli("verify", "--home", str(peer.home), timeout=300)
    assert bad.returncode == 1
    assert "FAILED" in bad.stdout and "chunk" in bad.stdout and "proposal of 0x" in bad.stdout.split("FAILED", 1)[1]
