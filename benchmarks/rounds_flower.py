"""Rounds of Flower with nothing to train and an array of 2.16 MB: its simulation, and SuperLink with SuperNodes.

Installed into an environment of its own; knows nothing of this project's rounds.
"""

import itertools
import json
import os
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from private_venv import open_venv
from sessions import end_session, measure_session

PACKAGES = ("flwr[simulation]==1.41.0",)
LIMIT_SECONDS = 600.0  # for a run of a few rounds, its start included
POLL_SECONDS = 0.2
END_SECONDS = 60.0
FIRST_PORT = 8_000
APP = """
import json, os, time
from pathlib import Path
import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

NODES, ROUNDS, OUT = int(os.environ["BENCH_NODES"]), int(os.environ["BENCH_ROUNDS"]), Path(os.environ["BENCH_OUT"])
client = ClientApp()
server = ServerApp()


@client.train()
def train(message, context):
    arrays, metrics = message.content["arrays"], MetricRecord({"num-examples": 1})
    return Message(content=RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def mark():
    lo = [line for line in Path("/proc/self/net/dev").read_text().splitlines() if line.strip().startswith("lo:")]
    with OUT.open("a") as out:
        out.write(json.dumps([time.time(), int(lo[0].partition(":")[2].split()[8])]) + "\\n")


class Timed(FedAvg):
    def configure_train(self, *arguments):
        mark()
        return super().configure_train(*arguments)


@server.main()
def main(grid, context):
    strategy = Timed(fraction_evaluate=0.0, min_train_nodes=NODES, min_available_nodes=NODES)
    strategy.start(grid, ArrayRecord([np.zeros(540_000, np.float32)]), num_rounds=ROUNDS)
    mark()
"""
PROJECT = """
[project]
name = "rounds"
version = "1.0.0"
description = "A round with nothing to train"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "bench"

[tool.flwr.app.components]
serverapp = "rounds_app:server"
clientapp = "rounds_app:client"

[tool.flwr.app.config]

[tool.hatch.build.targets.wheel]
packages = ["."]
"""
CONNECTION = '[superlink]\ndefault = "bench"\n\n[superlink.bench]\naddress = "127.0.0.1:8000"\ninsecure = true\n'
SIMULATE = (
    "from flwr.simulation import run_simulation; import rounds_app as a; run_simulation(a.server, a.client, a.NODES)"
)


class Flower:
    """`folder`: for the runs' files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs = open_venv("flower", PACKAGES)
        self._places = itertools.count()

    def measure(self, mode: str, peers: int, rounds: int) -> dict[str, Any]:
        """`mode`: simulation or deployed. The first round is left out, as ours is."""
        place = self._folder / f"{mode}-{peers}-{next(self._places)}"  # a repeat finds nothing of the one before
        app = place / "app"
        app.mkdir(parents=True)
        (app / "rounds_app.py").write_text(APP)
        (app / "pyproject.toml").write_text(PROJECT)
        (place / "config.toml").write_text(CONNECTION)
        environment = os.environ | {
            "BENCH_NODES": str(peers), "BENCH_ROUNDS": str(rounds + 1), "BENCH_OUT": str(place / "marks"),
            "FLWR_HOME": str(place), "FLWR_TELEMETRY_ENABLED": "0", "PYTHONPATH": str(app),
            "PATH": f"{self._programs}:{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0",
        }  # fmt: skip
        cpu: float | None = None
        if mode == "simulation":
            with self._started(place, environment, "python", "-c", SIMULATE) as simulation:
                marks = _wait_for_marks(place, rounds + 2)
                with suppress(subprocess.TimeoutExpired):  # it ends what it started, in sessions of their own
                    simulation.wait(END_SECONDS)
        else:
            marks, cpu = self._deploy(place, environment, peers, rounds)
        seconds = [later[0] - at[0] for at, later in pairwise(marks[1:])]
        return {
            "peers": peers,
            "rounds": [round(value, 3) for value in seconds],
            "seconds": round(statistics.median(seconds), 3),
            "bytes_per_peer_and_round": round((marks[-1][1] - marks[1][1]) / peers / rounds),
            "cpu_seconds_per_peer_and_round": cpu,
        }

    def _deploy(
        self, place: Path, environment: dict[str, str], peers: int, rounds: int
    ) -> tuple[list[list[float]], float]:
        link = self._started(
            place, environment, "flower-superlink", "--insecure", "--host", "127.0.0.1",
            "--disable-runtime-dependency-installation",
        )  # fmt: skip
        with link as superlink:
            _wait_for_port(FIRST_PORT)
            nodes = self._nodes(place, environment, peers)
            order = self._started(place, environment, "flwr", "run", str(place / "app"), "bench")
            with nodes as running, order:
                _wait_for_marks(place, 2)
                before = sum(measure_session(one.pid).cpu for one in (superlink, *running))
                marks = _wait_for_marks(place, rounds + 2)
                after = sum(measure_session(one.pid).cpu for one in (superlink, *running))
        return marks, round((after - before) / peers / rounds, 3)

    @contextmanager
    def _nodes(self, place: Path, environment: dict[str, str], peers: int) -> Iterator[list[Any]]:
        nodes: list[Any] = []
        try:
            for number in range(peers):
                nodes.append(
                    _start(
                        place, environment, self._programs, "flower-supernode", "--insecure",
                        "--superlink", f"127.0.0.1:{FIRST_PORT}", "--host", "127.0.0.1",
                        "--port", str(FIRST_PORT + 1 + number),
                    )
                )  # fmt: skip
            yield nodes
        finally:
            for node in nodes:
                end_session(node)

    @contextmanager
    def _started(self, place: Path, environment: dict[str, str], program: str, *arguments: str) -> Iterator[Any]:
        process = _start(place, environment, self._programs, program, *arguments)
        try:
            yield process
        finally:
            end_session(process)


def _start(place: Path, environment: dict[str, str], programs: Path, program: str, *arguments: str) -> Any:
    with (place / f"{program}.log").open("ab") as log:
        return subprocess.Popen(
            [str(programs / program), *arguments], env=environment, cwd=place, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        time.sleep(POLL_SECONDS)
    raise TimeoutError(f"Flower: nobody listens at port {port} after {LIMIT_SECONDS:.0f} s")


def _wait_for_marks(place: Path, count: int) -> list[list[float]]:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        lines = (place / "marks").read_text().splitlines() if (place / "marks").exists() else []
        if len(lines) >= count:
            return [json.loads(line) for line in lines]
        time.sleep(POLL_SECONDS)
    tail = [f"{log.name}: {log.read_text(errors='replace').strip()[-300:]}" for log in sorted(place.glob("*.log"))]
    raise TimeoutError(f"Flower: not {count} rounds within {LIMIT_SECONDS:.0f} s; {' | '.join(tail)}")
