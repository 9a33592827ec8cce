"""`export`: the global adapter of a stopped home as a PEFT folder that says, and proves, where it came from.

Reads the chain and the blobs; the trainer process, which alone imports torch, writes the weights.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from flock_chain.aggregation import compute_global_file_bytes, encode_global
from flock_chain.aggregation.format import RATE_ONE
from flock_chain.content import format_cid
from flock_chain.errors import FlockError, InvalidContent, Misuse, Unavailable
from flock_chain.execution.executor import Executor
from flock_chain.genesis import Genesis
from flock_p2p.export.model_card import describe
from flock_p2p.export.origin import Origin, choose_task, read_origin
from flock_p2p.export.place import check_destination, new_folder
from flock_p2p.provenance import FILE_NAME, GLOBAL_NAME, Provenance, check_provenance, collect_provenance
from flock_p2p.provenance.document import describe_file
from flock_peers.bases import base_folder, choose_folder
from flock_peers.home import Home
from flock_peers.restarts import load_restarts
from flock_peers.roles.library import compute_file_digest
from flock_peers.store.blob_reader import BlobReader
from flock_peers.store.chain_store import ChainStore
from flock_peers.training.client import BASE_FOLDER, Trainer, TrainerConfig
from flock_peers.training.document import TaskDocument, compute_initial_adapter, decode_document

CHEAP_DOMAIN = "arithmetic"  # the trainer opens with rows; generated ones cost nothing, and export reads none


@dataclass(frozen=True)
class ExportResult:
    folder: Path
    task: int
    round: int
    adapter: bytes  # content id of the exported global adapter
    proposers: tuple[bytes, ...]  # accounts whose proposals are in it, sorted
    genesis: bytes  # hash
    unproven: str  # why there is no provenance file; empty where there is one
    base: Path  # folder of the base model that it is for
    rate: int = RATE_ONE  # of the task's server, in thousandths: how much of the mean a round adds
    restarts: tuple[bytes, ...] = ()  # hashes of the restart documents that the proof takes for granted


def export_adapter(
    home: Path, destination: Path, *, task: int | None = None, round: int | None = None, base: Path = BASE_FOLDER
) -> ExportResult:
    """The global adapter after `round` (default: the last finished one) of `task` (default: the last one known here).

    Raises Misuse for a destination that is not empty, for a task or round that is not and where no folder holds the
    base model, Unavailable where the peer runs or the adapter is not stored here, InvalidContent where the stored bytes
    are damaged. Not from within trio.
    """
    place = Home(home)
    check_destination(destination)
    genesis = place.load_genesis()
    with place.lock(), ChainStore(place.path / "chain", read_only=True) as stored:
        executor, blobs = Executor(genesis, stored), BlobReader(place.path / "blobs")
        origin = read_origin(executor, choose_task(executor, blobs) if task is None else task, round)
        document = _read_document(blobs, origin)
        data = _read_adapter(blobs, origin, document)
        proof, unproven = _prove(place, genesis, stored, origin, document)
    base = _choose_base(place, base, document)
    with new_folder(destination) as folder:
        trio.run(_write, document, data, folder, base)
        (folder / "README.md").write_text(describe(origin, document, base, is_proven=proof is not None))
        if proof is not None:
            _write_provenance(proof, data, folder)
        for path in folder.iterdir():
            path.chmod(0o644)  # safetensors' are their owner's alone; an adapter is there to be given away
    proposers = {proposer for row in origin.rounds for proposer, _, _ in row.accepted}
    return ExportResult(
        destination, origin.task, origin.round, origin.adapter, tuple(sorted(proposers)), origin.genesis, unproven,
        base, document.format.server_lr_thousandths, tuple(bytes(row.hash) for row in proof.restarts) if proof else (),
    )  # fmt: skip


def _choose_base(place: Home, base: Path, document: TaskDocument) -> Path:
    """What was named, if it is the task's; else the shipped one, or what this peer has fetched."""
    folders = [base, BASE_FOLDER, base_folder(place.path / "bases", document.base)]
    try:
        return choose_folder(folders, document)
    except InvalidContent as error:
        raise Misuse(f"{error}; --base names the folder of the one that the adapter was trained on") from error


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


async def _write(document: TaskDocument, data: bytes, folder: Path, base: Path) -> None:
    """Checked bytes cross to the trainer in a file of our own, so that nothing can change in between."""
    with tempfile.TemporaryDirectory(prefix="flock-export-") as scratch:
        path = Path(scratch) / "global.safetensors"
        path.write_bytes(data)
        config = TrainerConfig(document=document, home=Path(scratch), base=base, domain=CHEAP_DOMAIN)
        async with await Trainer.open(config) as trainer:
            await trainer.export(path, folder)


def _prove(
    place: Home, genesis: Genesis, stored: ChainStore, origin: Origin, document: TaskDocument
) -> tuple[Provenance | None, str]:
    """The proof, or why this home has none to give."""
    try:
        return (
            collect_provenance(
                genesis, stored, task=origin.task, round=origin.round, adapter=origin.adapter,
                document=document.encode(), restarts=load_restarts(place),
            ),
            "",
        )  # fmt: skip
    except FlockError as error:  # such as a home that began with a snapshot
        return None, str(error)


def _write_provenance(proof: Provenance, data: bytes, folder: Path) -> None:
    """Last, for it names every other file; and checked as whoever gets it will check it."""
    (folder / GLOBAL_NAME).write_bytes(data)
    files = tuple(describe_file(path) for path in sorted(folder.iterdir()))
    (folder / FILE_NAME).write_bytes(replace(proof, files=files).encode())
    failures = check_provenance(folder).failures
    if failures:
        raise InvalidContent(f"export: the folder that was written does not verify: {failures[0]}")
