"""Which adapter is exported, and what the chain says of where it came from."""

from dataclasses import dataclass
from typing import Any

from flock_chain.errors import Misuse
from flock_chain.execution.executor import Executor
from flock_chain.tally import Verdict
from flock_peers.roles.board import as_account
from flock_peers.store.blob_reader import BlobReader


@dataclass(frozen=True)
class RoundRow:
    """What one round added."""

    number: int
    accepted: tuple[tuple[bytes, bytes, int], ...]  # proposer, manifest, median of the voters' losses (ppm, signed)
    adapter: bytes  # after it


@dataclass(frozen=True)
class Origin:
    """Where an adapter came from, as it stands on chain."""

    network: str
    genesis: bytes
    task: int
    round: int  # 0: before the first
    adapter: bytes
    document_digest: bytes
    rounds: tuple[RoundRow, ...]  # up to and with `round`


def choose_task(executor: Executor, blobs: BlobReader) -> int:
    """The last one that has an adapter to give and whose adapter is stored here; else the last one.

    Anybody may open a task: nobody else's must hide one's own.
    """
    count: Any = executor.view("TaskBoard", "task_count")
    for task in range(count, 0, -1):
        row: Any = executor.view("TaskBoard", "task_view", task)
        first: Any = executor.view("TaskBoard", "round_result", task, 1)
        if first["settled"] and blobs.file_path(row["adapter"]).is_file():
            return task
    return int(count)


def read_origin(executor: Executor, task: int, number: int | None) -> Origin:
    def view(function: str, *arguments: int) -> Any:
        return executor.view("TaskBoard", function, *arguments)

    count = view("task_count")
    if count == 0:
        raise Misuse("no task was opened on this network yet, so there is no adapter")
    if not 1 <= task <= count:
        raise Misuse(f"there is no task {task}; this network has 1 to {count}")
    row = view("task_view", task)
    settled = [(n, result) for n in range(1, row["round"] + 1) if (result := view("round_result", task, n))["settled"]]
    last = len(settled)
    number = last if number is None else number
    if not 0 <= number <= last:
        raise Misuse(f"task {task} has no adapter after round {number}; its finished rounds are 0 to {last}")
    rounds = tuple(_read_round(n, result) for n, result in settled[:number])
    adapter = rounds[-1].adapter if rounds else row["adapter0"]
    genesis = executor.genesis
    return Origin(genesis.network, genesis.hash, task, number, adapter, row["document"], rounds)


def _read_round(number: int, result: Any) -> RoundRow:
    """Accepted proposals that the voters then did not adopt are in no adapter."""
    rows = zip(result["proposers"], result["manifests"], result["verdicts"], result["medians"], strict=True)
    accepted = tuple((bytes(as_account(who)), manifest, m) for who, manifest, v, m in rows if v == Verdict.ACCEPTED)
    is_adopted = result["adapter_after"] != result["adapter_before"]
    return RoundRow(number, accepted if is_adopted else (), result["adapter_after"])
