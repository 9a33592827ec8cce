"""A network of two rounds that was played, the proof of its last adapter, and the folder in which that is exported."""

import json
import shutil
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from app_support import ETHER, Played, Script, play

from flock_chain.aggregation import parse_global
from flock_chain.execution.executor import Executor
from flock_p2p.provenance import FILE_NAME, GLOBAL_NAME, Provenance, collect_provenance
from flock_p2p.provenance.document import describe_file
from flock_peers.store.chain_store import ChainStore
from flock_peers.training.document import decode_document

_KEPT: list[TemporaryDirectory[str]] = []


def folder() -> Path:
    _KEPT.append(TemporaryDirectory(prefix="flock-provenance-"))
    return Path(_KEPT[-1].name)


@lru_cache(maxsize=1)
def played() -> Played:
    """Two rounds on a network with short epochs, whose set changes in the third."""
    short = {"epoch_blocks": 5, "epoch_seconds": 0, "open_staking": 1}
    return play(folder() / "home", Script(parameters=short, bonds=20 * ETHER))


def read_document() -> bytes:
    with ChainStore(played().home / "chain", read_only=True) as stored:
        row = Executor(played().genesis, stored).view("TaskBoard", "task_view", 1)
    return (played().home / "blobs" / "objects" / row["document"].hex()).read_bytes()  # type: ignore[index]


@lru_cache(maxsize=1)
def proof() -> Provenance:
    document = read_document()
    with ChainStore(played().home / "chain", read_only=True) as stored:
        return collect_provenance(
            played().genesis, stored, task=1, round=2, adapter=played().adapters[2], document=document
        )


@lru_cache(maxsize=1)
def exported() -> Path:
    """As `export` writes it, but for torch: the weights from the library that both sides share."""
    from safetensors.numpy import save_file

    out, document = folder() / "out", decode_document(read_document())
    out.mkdir()
    data = (played().home / "blobs" / "files" / played().adapters[2].hex()).read_bytes()
    (out / GLOBAL_NAME).write_bytes(data)
    vector = parse_global(data, document.layout, document.format).to_float32()
    save_file(document.layout.split(vector), out / "adapter_model.safetensors")
    config = {"r": document.lora.rank, "lora_alpha": document.lora.alpha, "target_modules": list(document.lora.targets)}
    (out / "adapter_config.json").write_text(json.dumps(config))
    (out / "README.md").write_text("# An adapter\n")
    write(out, proof())
    return out


def write(out: Path, changed: Provenance) -> None:
    files = tuple(describe_file(path) for path in sorted(out.iterdir()) if path.name != FILE_NAME)
    (out / FILE_NAME).write_bytes(replace(changed, files=files).encode())


def copy(path: Path) -> Path:
    return Path(shutil.copytree(exported(), path / "out"))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
