"""Whom the benchmark that kills peers has stopped when it kills."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kill_peers
import pytest
from kill_peers import choose_victim, look_for
from live_tasks import find_stage, wait_until

from flock_chain.errors import Unavailable


class Network:
    """Peer 0 is asked; a proposer is a process that does nothing. `acts`: who has acted, whenever it is asked."""

    def __init__(self, seats: tuple[int, ...]) -> None:
        self.plan = SimpleNamespace(peers=[SimpleNamespace(number=n, account=bytes([n] * 20)) for n in range(3)])
        self.processes = {n: subprocess.Popen(["sleep", "60"]) for n in (1, 2)}
        self.seats, self.round, self.phase = seats, 1, "COMMIT"
        self.acts: Callable[[], set[int]] = set
        self.on_look: Callable[[], None] = lambda: None

    def ask(self, _number: int, _method: str) -> Any:
        self.on_look()
        acted, proposers = self.acts(), {n: "0x" + self.plan.peers[n].account.hex() for n in self.seats}
        awaited = [*(account for n, account in proposers.items() if n not in acted), "0x" + b"others".hex()]
        task = {"round": self.round, "phase": self.phase, "awaited": awaited, "proposers": [*proposers.values()]}
        return {"task": task | {"bonds": dict.fromkeys(proposers.values(), 5)}}

    def is_stopped(self, number: int) -> bool:
        state = Path(f"/proc/{self.processes[number].pid}/stat")
        return state.read_text().split()[2] == "T"

    def waits_for(self, **wanted: bool) -> bool:
        """By the names of peers, whether each is stopped, soon: a signal takes a moment to arrive."""
        return bool(
            wait_until(
                "they are so", 20,
                lambda: all(self.is_stopped(int(name[-1])) is is_so for name, is_so in wanted.items()),
            )
        )  # fmt: skip


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    monkeypatch.setattr(kill_peers, "WAIT_SECONDS", 20.0)
    made = list[Network]()

    def make(*seats: int) -> Network:
        made.append(Network(seats))
        return made[-1]

    yield make
    for network in made:
        for process in network.processes.values():
            process.kill()
            process.wait(10)


def test_who_acted_while_it_was_stopped_stays_so_until_it_is_killed(make: Callable[..., Any]) -> None:
    """It went on, and opened what it was to be killed before opening."""
    network = make(1)
    network.acts = lambda: {1} if network.is_stopped(1) else set()
    victim, _ = kill_peers._stop_one_that_has_acted(network, "COMMIT") or (0, {})
    assert victim == 1 and network.waits_for(peer1=True)


def test_who_acted_first_is_stopped_and_who_was_stopped_so_that_it_could_be_found_goes_on(
    make: Callable[..., Any],
) -> None:
    network = make(1, 2)
    network.acts = lambda: {2} if network.is_stopped(1) else set()
    victim, task = kill_peers._stop_one_that_has_acted(network, "COMMIT") or (0, {})
    assert victim == 2 and task["round"] == 1 and network.waits_for(peer1=False, peer2=True)


@pytest.mark.parametrize("then", [(2, "COMMIT"), (1, "REVEAL")], ids=["round", "phase"])
def test_where_a_phase_ends_and_nobody_has_acted_nobody_is_stopped(
    make: Callable[..., Any], then: tuple[int, str]
) -> None:
    """Each later round ran into its deadlines."""
    network = make(1)

    def go_on() -> None:
        if network.is_stopped(1):
            network.round, network.phase = then

    network.on_look = go_on
    assert kill_peers._stop_one_that_has_acted(network, "COMMIT") is None and network.waits_for(peer1=False)


def test_who_is_awaited_goes_on_also_where_nothing_comes_of_it(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kill_peers, "WAIT_SECONDS", 0.2)
    network = make(1)
    with pytest.raises(Unavailable, match="somebody has acted in COMMIT"):
        kill_peers._stop_one_that_has_acted(network, "COMMIT")
    assert network.waits_for(peer1=False)


def test_a_peer_that_does_not_answer_once_more_ends_no_choice(make: Callable[..., Any]) -> None:
    """Whoever had been found was asked for again, outside of any wait."""
    network, busy = make(1, 2), iter([False, False, True])
    network.acts = lambda: {2} if network.is_stopped(1) else set()

    def go_away() -> None:
        if network.is_stopped(1) and network.acts() and next(busy):
            raise Unavailable("busy")

    network.on_look = go_away
    victim, _ = kill_peers._stop_one_that_has_acted(network, "COMMIT") or (0, {})
    assert victim == 2 and network.waits_for(peer1=False, peer2=True)


def test_the_victim_of_an_opening_has_committed_and_is_stopped_before_it_can_open(make: Callable[..., Any]) -> None:
    network = make(1, 2)
    network.acts = lambda: {2} if network.is_stopped(1) else set()

    def go_on() -> None:
        if network.is_stopped(2):
            network.phase = "REVEAL"

    network.on_look = go_on
    victim, task = choose_victim(network, "REVEAL")
    assert victim == 2 and task["phase"] == "REVEAL" and network.waits_for(peer1=False, peer2=True)


def test_a_victim_has_a_seat_in_the_phase_that_runs_and_is_not_the_peer_that_is_asked(make: Callable[..., Any]) -> None:
    network = make(0, 2)
    (number, task) = look_for(network, "COMMIT", has_acted=False) or (9, {})
    assert number == 2 and task["phase"] == "COMMIT"
    assert look_for(network, "REVEAL", has_acted=False) is None and look_for(network, "COMMIT", has_acted=True) is None
    network.acts = lambda: {0, 2}
    assert look_for(network, "COMMIT", has_acted=False) is None
    assert (look_for(network, "COMMIT", has_acted=True) or (9, {}))[0] == 2


def test_what_moves_in_a_task_is_its_round_its_phase_and_who_has_bonded(make: Callable[..., Any]) -> None:
    network = make(1)
    seen = [find_stage(network)]
    for change in ({"round": 2}, {"phase": "REVEAL"}, {"seats": (1, 2)}):
        vars(network).update(change)
        seen.append(find_stage(network))
    assert len(set(seen)) == 4
