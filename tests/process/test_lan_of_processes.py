"""Real peers on machines of their own (network namespaces), started with nothing but a home."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from lan_support import Machine, open_lan
from process_support import Joined, make_test_plan, wait_until

from flock_p2p.demo.network import make_homes
from flock_peers.control import request_control
from flock_peers.home import Home

pytestmark = pytest.mark.slow  # it mostly waits, and bears company

SECONDS = 180  # for what takes ten on an idle machine


class JoinedThere(Joined):
    """`join` in a machine."""

    def __init__(self, machine: Machine, home: Path, *arguments: str) -> None:
        self.prefix = tuple(machine.command())
        super().__init__(home, *arguments)


def test_a_newcomer_joins_a_network_on_its_lan_without_any_address(tmp_path: Path) -> None:
    plan = make_test_plan(tmp_path, peers=4)
    first = plan.peers[0]
    validators = tuple(row for row in plan.genesis.validators if row.account == first.account)
    genesis = replace(plan.genesis, validators=validators)
    make_homes(replace(plan, peers=(first,), genesis=genesis))
    with open_lan(2) as (machines, _switch), ExitStack() as stack:
        old = JoinedThere(machines[0], first.home, "--observe")
        stack.callback(old.interrupt)
        wait_until("the first peer runs", SECONDS, old.ask)
        new = JoinedThere(machines[1], tmp_path / "new", "--observe")
        output: list[str] = []
        stack.callback(lambda: output.append(new.interrupt()))
        wait_until("they are connected", SECONDS, lambda: len(new.ask()["peers"]) == len(old.ask()["peers"]) == 1)
        assert request_control(Home(new.home).control_path, "status")["address"].startswith("/ip4/10.77.0.2/tcp/4200/")
    assert "looking for a network" in output[0] and genesis.hash.hex() in output[0]
