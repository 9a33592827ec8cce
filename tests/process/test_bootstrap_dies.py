"""The first peer, whose address everybody was given, is killed for good: nothing stops, and nobody needs it again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from process_support import Joined, kill, make_test_plan, open_task, restart, task_of, wait_until

from flock_p2p.demo.network import Network, run_network

pytestmark = [pytest.mark.process, pytest.mark.slow]
SECONDS = 180  # for what takes ten on an idle machine


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Four validators, of which one can be missed, told of each other by peer 0 alone."""
    with run_network(make_test_plan(tmp_path_factory.mktemp("net"), peers=4)) as running:
        wait_until("a full mesh", SECONDS, lambda: all(len(running.ask(n, "status")["peers"]) == 3 for n in range(4)))
        yield running


def test_blocks_go_on_when_the_bootstrap_peer_is_dead(network: Network) -> None:
    kill(network, 0)
    open_task(network, peer=1)
    wait_until("a task on the chain of the others", SECONDS, lambda: all(task_of(network, n) for n in (1, 2, 3)))


def test_a_peer_that_restarts_finds_the_others_although_its_bootstrap_peer_is_dead(network: Network) -> None:
    kill(network, 3)
    before = network.ask(1, "status")["height"]
    restart(network, 3)
    wait_until("it is connected again", SECONDS, lambda: len(network.ask(3, "status")["peers"]) >= 2)
    wait_until("and follows the chain", SECONDS, lambda: network.ask(3, "status")["height"] >= before)


def test_a_newcomer_joins_by_any_other_peer_and_meets_the_rest(network: Network, tmp_path: Path) -> None:
    joined = Joined(
        tmp_path / "new", "--observe", "--listen", "127.0.0.1", "--port", "0", "--bootstrap", network.addresses[2]
    )
    try:
        wait_until("it meets all three", SECONDS, lambda: len(joined.ask()["peers"]) == 3)
    finally:
        joined.interrupt()
