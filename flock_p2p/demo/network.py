"""The demo's processes: homes on disk, one `join` per peer, asked over their control sockets, stopped at the end."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from flock_chain.errors import Unavailable
from flock_p2p.demo.plan import DemoPeer, Plan
from flock_peers.control import request_control
from flock_peers.home import Home, write_private

START_SECONDS = 300.0  # six starts on two idle cores take half a minute; a peer that has ended is noticed at once
STOP_SECONDS = 15.0  # then a process is killed; it loses nothing
POLL_SECONDS = 0.25
TAIL_LINES = 5  # of a dead peer's log, in the error


@dataclass
class Network:
    """Running peers by number. Asking one that died raises Unavailable with the end of its log."""

    plan: Plan
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    addresses: dict[int, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()  # of `join`, beside those that the plan says

    def start(self, peer: DemoPeer, bootstrap: list[str]) -> None:
        command = [
            sys.executable, "-m", "flock_p2p", "join", "--quiet", "--until-stdin-closes",
            "--home", str(peer.home), "--listen", "127.0.0.1", "--port", "0", "--http", "0",
            "--domain", peer.domain, "--domain-slice", str(peer.domain_slice), "--seed", str(peer.seed),
            "--bond", str(peer.bond // 10**18),
        ]  # fmt: skip
        for address in bootstrap:
            command += ["--bootstrap", address]
        if peer.attack:
            command += ["--attack", peer.attack]
        command += self.options
        output = os.open(peer.home / "output.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # Its own session: Ctrl-C reaches the demo alone, which then stops its peers in order.
            self.processes[peer.number] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
            )
        finally:
            os.close(output)

    def ask(self, number: int, method: str, **params: Any) -> Any:
        self._check_alive(number)
        peer = self.plan.peers[number]
        return request_control(Home(peer.home).control_path, method, **params)

    def _check_alive(self, number: int) -> None:
        code = self.processes[number].poll()
        if code is not None:
            home = Home(self.plan.peers[number].home)
            lines = (home.path / "output.log").read_text(errors="replace").splitlines()[-TAIL_LINES:]
            raise Unavailable(f"peer {number} ended with code {code}: {' | '.join(lines)} (see {home.log_path})")

    def wait_ready(self, number: int) -> str:
        """Until a peer answers; its address."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.addresses[number] = self.ask(number, "status")["address"]
                return self.addresses[number]
            except Unavailable as error:
                self._check_alive(number)
                if time.monotonic() > deadline:
                    raise Unavailable(f"peer {number} did not answer within {START_SECONDS:.0f} s: {error}") from error
            time.sleep(POLL_SECONDS)

    def stop_all(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def make_homes(plan: Plan) -> None:
    for peer in plan.peers:
        home = Home(peer.home)
        home.path.mkdir(parents=True, mode=0o700)
        write_private(home.key_path, peer.key.secret.hex().encode() + b"\n", exclusive=True)
        home.store_genesis(plan.genesis.encode())


@contextmanager
def run_network(plan: Plan, *options: str) -> Iterator[Network]:
    """Every peer up and answering; all of them stopped when the body ends, however it ends."""
    make_homes(plan)
    network = Network(plan, options=options)
    try:
        first, *others = plan.peers
        network.start(first, [])
        address = network.wait_ready(first.number)
        for peer in others:
            network.start(peer, [address])
        for peer in others:
            network.wait_ready(peer.number)
        yield network
    finally:
        network.stop_all()
