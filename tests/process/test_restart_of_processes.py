"""A halted network of processes goes on by the documented commands; who was left out comes back and is jailed."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from process_support import run_cli, wait_until

from flock_p2p.demo.network import make_homes
from flock_p2p.demo.plan import make_plan
from flock_peers.control import request_control
from flock_peers.home import Home

pytestmark = pytest.mark.process

SECONDS = 150  # for what takes ten on an idle machine: starting processes is slow beside other work


class Validator:
    """One `join --observe`: it takes part in consensus and in no task."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None
        stack.callback(self.kill)

    def start(self, bootstrap: str = "") -> None:
        command = [sys.executable, "-m", "flock_p2p", "join", "--quiet", "--observe", "--port", "0"]
        command += ["--home", str(self.home)] + (["--bootstrap", bootstrap] if bootstrap else [])
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(SECONDS) == 0

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return request_control(Home(self.home).control_path, method, **params)

    def address(self) -> str:
        return str(wait_until("an answer", SECONDS, lambda: self.ask("status"))["address"])

    def height(self) -> int:
        return int(self.ask("status")["height"])


def start_all(first: Validator, *others: Validator) -> None:
    first.start()
    address = first.address()
    for validator in others:
        validator.start(address)


def test_a_network_that_lost_half_of_its_stake_goes_on_from_its_last_final_block(tmp_path: Path) -> None:
    plan = make_plan(peers=4, rounds=1, poisoners=0, seed=5, folder=tmp_path)
    parameters = replace(plan.genesis.parameters, heartbeat=1, epoch_blocks=4, epoch_seconds=0, jail_delay=1)
    make_homes(replace(plan, genesis=replace(plan.genesis, parameters=parameters)))
    with ExitStack() as stack:
        a, b, c, d = network = [Validator(peer.home, stack) for peer in plan.peers]
        start_all(*network)
        wait_until("blocks", SECONDS, lambda: a.height() >= 3)
        c.kill()
        d.kill()
        wait_until("both see the halt", SECONDS, lambda: not any(v.ask("status")["has_quorum"] for v in (a, b)))
        wait_until("one last block", SECONDS, lambda: a.height() == b.height())
        halt = a.height()
        gone = [f"--without=0x{plan.peers[number].account.hex()}" for number in (2, 3)]
        a.stop()
        b.stop()

        document = str(tmp_path / "restart.json")
        proposed = run_cli("restart", "propose", "--home", str(a.home), "--document", document, *gone)
        assert proposed.returncode == 0, proposed.stderr
        agreed = ("--document", document, "--hash", proposed.stdout.split("--hash ")[1].split()[0])
        for validator in (a, b, c):
            applied = run_cli("restart", "apply", "--home", str(validator.home), *agreed)
            assert applied.returncode == 0, applied.stderr
        start_all(a, b)
        wait_until("blocks after the restart", SECONDS, lambda: min(a.height(), b.height()) >= halt + 3)
        assert a.ask("status")["validators"] == 2

        c.start(a.address())
        wait_until("it follows", SECONDS, lambda: c.height() > halt + 3)
        assert c.ask("stake", action="status")["jailed_until"] > 0
        wait_until("an order to come back", SECONDS, lambda: c.ask("stake", action="unjail")["sent"])
        wait_until("it serves again", SECONDS, lambda: c.ask("status")["validators"] == 3)
