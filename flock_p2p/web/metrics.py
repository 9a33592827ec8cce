"""What Prometheus reads: a peer's status as text, format 0.0.4. Counts nothing itself but what this server answered."""

import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite, isnan
from pathlib import Path
from typing import Any

from flock_p2p import __version__
from flock_p2p.web.messages import Request, Response, Route
from flock_p2p.web.recent import Recent
from flock_peers.peer import Peer

KIND = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[Mapping[str, str], float]
PLAIN: Mapping[str, str] = {}


@dataclass(frozen=True)
class Metric:
    name: str
    kind: str  # gauge or counter
    help: str
    samples: list[Sample] = field(default_factory=list)

    def render(self) -> str:
        lines = [f"# HELP {self.name} {self.help}", f"# TYPE {self.name} {self.kind}"]
        lines += [f"{self.name}{_labels(labels)} {_number(value)}" for labels, value in self.samples]
        return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if not isfinite(value):  # such as the loss of a training that has diverged
        return "NaN" if isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1 << 53 else repr(float(value))


def gauge(name: str, text: str, value: float | None) -> Metric:
    """Without a sample where there is no value."""
    return Metric(name, "gauge", text, [] if value is None else [(PLAIN, float(value))])


def counter(name: str, text: str, value: float) -> Metric:
    return Metric(name, "counter", text, [(PLAIN, float(value))])


def describe_chain(status: Mapping[str, Any]) -> Iterator[Metric]:
    names = {"version": __version__, "network": status["network"], "genesis": status["genesis"]}
    yield Metric("flock_info", "gauge", "What runs here.", [({**names, "account": status["account"]}, 1.0)])
    yield gauge("flock_height", "Height of the last final block.", status["height"])
    yield gauge("flock_head_timestamp_seconds", "Chain time of the last final block.", status["head_timestamp"])
    yield gauge("flock_epoch", "Epoch of the next block.", status["epoch"])
    yield gauge("flock_peers", "Connected peers.", len(status["peers"]))
    yield gauge("flock_validators", "Validators of the next block's set.", status["validators"])
    yield gauge("flock_validators_away", "Of them, not connected here.", len(status["away"]))
    yield gauge("flock_is_validator", "1 where this peer is one of them.", status["is_validator"])
    yield gauge("flock_is_signing", "0 where this validator refuses to sign.", not status["not_signing"])
    yield gauge("flock_has_quorum", "1 where enough weight is connected to go on.", status["has_quorum"])
    yield gauge("flock_balance_coins", "Of this peer's account.", int(status["balance"]) / 10**18)
    finality = status["finality_seconds"]
    rows: list[Sample] = [
        ({"quantile": quantile}, finality[name])
        for quantile, name in (("0.5", "p50"), ("0.95", "p95"))
        if finality[name] is not None
    ]
    yield Metric("flock_finality_seconds", "gauge", "From accepting a transaction here to its final block.", rows)
    sync = status["sync"]
    yield gauge("flock_sync_blocks_behind", "0 where it is level.", sync["target"] - sync["height"] if sync else 0)


def describe_work(status: Mapping[str, Any]) -> Iterator[Metric]:
    task, training = status["task"], status["training"]
    yield gauge("flock_task", "Task that this peer follows.", task and task["task"])
    yield gauge("flock_task_round", "Round of that task.", task and task["round"])
    yield gauge("flock_task_is_bonded", "1 where this peer has a bond in it.", task and task["joined"])
    phase: list[Sample] = [({"phase": task["phase"]}, 1.0)] if task else []
    yield Metric("flock_task_phase", "gauge", "1 for the phase that runs.", phase)
    loss = training.get("loss") if training else None
    yield gauge("flock_training_loss", "The trainer's latest.", loss if isinstance(loss, int | float) else None)
    disk = status["disk"]
    yield gauge("flock_contents_bytes", "Adapters, proposals and snapshots on disk.", disk["used"])
    yield gauge("flock_contents_quota_bytes", "Room for them.", disk["quota"])
    yield gauge("flock_transfers", "Downloads under way.", len(status["transfers"]))


def describe_process(started_at: float) -> Iterator[Metric]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield counter("process_cpu_seconds_total", "User and system.", usage.ru_utime + usage.ru_stime)
    yield gauge("process_start_time_seconds", "Since 1970.", started_at)
    yield gauge("process_resident_memory_bytes", "Now; where the system does not say, at most.", _resident(usage))
    descriptors = Path("/proc/self/fd")
    if descriptors.exists():
        yield gauge("process_open_fds", "File descriptors.", len(os.listdir(descriptors)))


def _resident(usage: Any) -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        return int(usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


@dataclass(frozen=True)
class MetricsRoute:
    peer: Peer
    status: Recent[dict[str, Any]]
    answered: Mapping[int, int]  # of this server, by status
    calls: Mapping[str, int]  # of the RPC, by outcome

    def make(self) -> Route:
        return Route({"GET": self._get})

    async def _get(self, _request: Request) -> Response:
        status = await self.status.get()
        rows = [*describe_chain(status), *describe_work(status), *self._describe_rest()]
        rows += describe_process(time.time() - status["up_seconds"])
        return Response(200, "".join(row.render() for row in rows).encode(), KIND)

    def _describe_rest(self) -> Iterator[Metric]:
        sent, received = self.peer.count_bytes()
        yield counter("flock_contents_sent_bytes_total", "Of files, to other peers.", sent)
        yield counter("flock_contents_received_bytes_total", "Of files, from other peers.", received)
        yield gauge("flock_mempool_transactions", "Waiting for a block.", len(self.peer.ledger.mempool))
        yield Metric(
            "flock_http_responses_total", "counter", "Of this server.",
            [({"status": str(code)}, float(count)) for code, count in sorted(self.answered.items())],
        )  # fmt: skip
        yield Metric(
            "flock_rpc_calls_total", "counter", "Of Ethereum's JSON-RPC.",
            [({"outcome": name}, float(count)) for name, count in self.calls.items()],
        )  # fmt: skip
