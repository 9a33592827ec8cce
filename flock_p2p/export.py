"""`export`: the global adapter of a stopped home as a PEFT folder that says where it came from.

Reads the chain and the blobs; the trainer process, which alone imports torch, writes the weights.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from flock_chain.aggregation import compute_global_file_bytes, encode_global
from flock_chain.content import format_cid
from flock_chain.errors import InvalidContent, Misuse, Refused, Unavailable
from flock_chain.execution.executor import Executor
from flock_chain.tally import Verdict
from flock_peers.home import Home
from flock_peers.roles.board import as_account
from flock_peers.roles.library import compute_file_digest
from flock_peers.store.blob_reader import BlobReader
from flock_peers.store.chain_store import ChainStore
from flock_peers.training.client import BASE_FOLDER, Trainer, TrainerConfig
from flock_peers.training.document import TaskDocument, compute_initial_adapter, decode_document

CHEAP_DOMAIN = "arithmetic"  # the trainer opens with rows; generated ones cost nothing, and export reads none


@dataclass(frozen=True)
class RoundRow:
    """What one round added."""

    number: int
    accepted: tuple[tuple[bytes, bytes], ...]  # proposer, manifest
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


@dataclass(frozen=True)
class ExportResult:
    folder: Path
    task: int
    round: int
    adapter: bytes  # content id of the exported global adapter
    proposers: tuple[bytes, ...]  # accounts whose proposals are in it, sorted


def export_adapter(
    home: Path, destination: Path, *, task: int | None = None, round: int | None = None, base: Path = BASE_FOLDER
) -> ExportResult:
    """The global adapter after `round` (default: the last finished one) of `task` (default: the last one known here).

    Raises Misuse for a destination that is not empty and for a task or round that is not, Unavailable where the peer
    runs or the adapter is not stored here, InvalidContent where the stored bytes are damaged. Not from within trio.
    """
    place = Home(home)
    _check_destination(destination)
    genesis = place.load_genesis()
    with place.lock(), ChainStore(place.path / "chain", read_only=True) as stored:
        executor, blobs = Executor(genesis, stored), BlobReader(place.path / "blobs")
        origin = _read_origin(executor, choose_task(executor, blobs) if task is None else task, round)
        document = _read_document(blobs, origin)
        data = _read_adapter(blobs, origin, document)
    with _new_folder(destination) as folder:
        trio.run(_write, document, data, folder, base)
        (folder / "README.md").write_text(_describe(origin, document, base))
    proposers = {proposer for row in origin.rounds for proposer, _ in row.accepted}
    return ExportResult(destination, origin.task, origin.round, origin.adapter, tuple(sorted(proposers)))


def _check_destination(destination: Path) -> None:
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise Misuse(f"{destination} is not empty; name a new or an empty folder, so that nothing is overwritten")


# ---- what the chain says


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


def _read_origin(executor: Executor, task: int, number: int | None) -> Origin:
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
    rows = zip(result["proposers"], result["manifests"], result["verdicts"], strict=True)
    accepted = tuple((bytes(as_account(who)), manifest) for who, manifest, v in rows if v == Verdict.ACCEPTED)
    is_adopted = result["adapter_after"] != result["adapter_before"]
    return RoundRow(number, accepted if is_adopted else (), result["adapter_after"])


# ---- what the store holds


def _read_document(blobs: BlobReader, origin: Origin) -> TaskDocument:
    data = blobs.read_object(origin.document_digest)
    if data is None:
        raise Unavailable(f"task {origin.task}: its document is not stored here; run this peer in the task for a while")
    return decode_document(data)


def _read_adapter(blobs: BlobReader, origin: Origin, document: TaskDocument) -> bytes:
    """The canonical file, checked against its content id."""
    data = blobs.read_file(origin.adapter)
    if data is None and origin.adapter == compute_file_digest(initial := _encode_initial(document)):
        data = initial
    if data is None:
        raise Unavailable(
            f"task {origin.task}: the adapter after round {origin.round} ({format_cid(origin.adapter)}) is not stored "
            "here; run this peer until it has fetched it, or export another round"
        )
    if len(data) != compute_global_file_bytes(document.layout):
        raise InvalidContent(f"adapter {format_cid(origin.adapter)}: {len(data)} bytes, not a file of this task")
    return data


def _encode_initial(document: TaskDocument) -> bytes:
    return encode_global(compute_initial_adapter(document))


# ---- writing


@contextmanager
def _new_folder(destination: Path) -> Iterator[Path]:
    """Whole or not at all: written beside the destination, then put in its place."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    try:
        part.chmod(0o755)
        yield part
        try:
            os.replace(part, destination)
        except OSError as error:
            raise Refused(f"{destination}: cannot be put in place ({error.strerror}); name a new folder") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


async def _write(document: TaskDocument, data: bytes, folder: Path, base: Path) -> None:
    """Checked bytes cross to the trainer in a file of our own, so that nothing can change in between."""
    with tempfile.TemporaryDirectory(prefix="flock-export-") as scratch:
        path = Path(scratch) / "global.safetensors"
        path.write_bytes(data)
        config = TrainerConfig(document=document, home=Path(scratch), base=base, domain=CHEAP_DOMAIN)
        async with await Trainer.open(config) as trainer:
            await trainer.export(path, folder)


_README = """---
library_name: peft
---
# {name}

A LoRA adapter (rank {rank}, alpha {alpha}) that the participants of a flock-p2p task trained together: task {task} of
the network {network}, after round {round}.

    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "this folder")

To merge it into the base model: `model.merge_and_unload().save_pretrained("merged")`.

## Where it came from

| | |
|---|---|
| genesis hash | `{genesis}` |
| task document | `{document}` |
| global adapter | `{adapter}` |

The weights here are the float32 view of the global adapter, whose integers the network agreed on. `flock_p2p verify`
recomputes it from the chain and the proposals below.

| round | accepted proposals: proposer, manifest | global adapter after it |
|---|---|---|
{rounds}

The base model's files, by content id:

{files}
"""


def _describe(origin: Origin, document: TaskDocument, base: Path) -> str:
    return _README.format(
        name=document.name,
        rank=document.lora.rank,
        alpha=document.lora.alpha,
        task=origin.task,
        network=origin.network,
        round=origin.round,
        base=base,
        genesis=origin.genesis.hex(),
        document=format_cid(origin.document_digest),
        adapter=format_cid(origin.adapter),
        rounds="\n".join(_describe_round(row) for row in origin.rounds) or "| 0 | none | as the document describes |",
        files="\n".join(f"- `{file.name}` `{format_cid(file.digest)}`" for file in document.base_files),
    )


def _describe_round(row: RoundRow) -> str:
    accepted = "<br>".join(f"`0x{who.hex()}` `{format_cid(manifest)}`" for who, manifest in row.accepted)
    return f"| {row.number} | {accepted or 'none adopted'} | `{format_cid(row.adapter)}` |"
