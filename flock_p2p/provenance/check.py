"""Checks a provenance file and the folder it lies in, trusting the genesis hash alone. No network, home or torch."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from flock_chain.aggregation import compute_global_file_bytes, parse_global
from flock_chain.bounded_json import loads
from flock_chain.consensus.digest import make_domain
from flock_chain.content import format_cid, object_digest
from flock_chain.errors import FlockError, InvalidContent, Misuse
from flock_chain.execution.blocks import Header, decode_header
from flock_chain.execution.proof import ProofRows, ProvenState
from flock_chain.genesis import Genesis, decode_genesis
from flock_chain.restart import Restart
from flock_p2p.provenance.document import (
    FILE_NAME,
    GLOBAL_NAME,
    MAX_BYTES,
    Provenance,
    decode_provenance,
    describe_file,
)
from flock_p2p.provenance.known_sets import KnownSets, read_sets
from flock_p2p.provenance.report import ProvenanceReport
from flock_p2p.provenance.rounds import read_rounds
from flock_peers.plural import plural
from flock_peers.roles.library import compute_file_digest
from flock_peers.training.document import TaskDocument, decode_document

WEIGHTS_NAME, CONFIG_NAME = "adapter_model.safetensors", "adapter_config.json"
MAX_HEADER_BYTES = 1 << 20  # of safetensors: names and places of the tensors
MAX_CONFIG_BYTES, MAX_CONFIG_DEPTH = 1 << 16, 8  # of peft's configuration, a thousand bytes in practice
MAX_NAMED = 5
# Of peft's configuration: what changes nothing of the model that comes out, what the task document fixes, and what must
# be so. Whatever else is in it must be nothing: peft grows switches that make another model of the same weights.
_FREE = {
    "base_model_name_or_path", "revision", "r", "lora_alpha", "target_modules", "lora_dropout", "peft_version",
    "inference_mode", "fan_in_fan_out", "megatron_core", "qalora_group_size",
}  # fmt: skip
_FIXED = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none", "init_lora_weights": True}


def check_provenance(
    path: Path, genesis_hash: str | None = None, restart_hashes: Collection[str] = ()
) -> ProvenanceReport:
    """`path`: the file, or the folder it lies in. With a genesis hash each restart must be named, too.

    Raises Misuse where there is no file; what is wrong is in the report.
    """
    file = path / FILE_NAME if path.is_dir() else path
    report = ProvenanceReport(str(file))
    try:
        provenance = read_provenance(file)
        _check_chain(provenance, genesis_hash, restart_hashes, report)
        check_files(provenance, path, report)
    except Misuse:
        raise
    except FlockError as error:
        report.fail(str(error))
    report.could_not_check.append(
        "that the adapter follows from the accepted proposals, and each vote from its voter: `verify --home` of a peer "
        "that took part recomputes that"
    )
    return report


def read_provenance(file: Path) -> Provenance:
    """The form alone."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise Misuse(f"{file}: {error.strerror}; name an exported folder, or the {FILE_NAME} in it") from error
    return decode_provenance(data)


# ---- what the chain says


def _check_chain(
    provenance: Provenance, genesis_hash: str | None, restart_hashes: Collection[str], report: ProvenanceReport
) -> None:
    genesis = decode_genesis(provenance.genesis)
    report.network, report.genesis = genesis.network, genesis.hash.hex()
    if genesis_hash is not None:
        report.is_pinned = genesis_hash.removeprefix("0x").lower() == report.genesis
        if not report.is_pinned:
            raise InvalidContent(f"genesis: this adapter is of the network {report.genesis}, not of {genesis_hash}")
    _check_restarts(provenance, genesis, genesis_hash is not None, restart_hashes, report)
    rows = ProofRows(provenance.rows)
    head = _follow(provenance, genesis, rows, report)
    _check_rounds(provenance, ProvenState(genesis, head, rows), report)
    if rows.unused:
        raise InvalidContent(f"provenance: row {min(rows.unused).hex()} of the state is needed by nothing")
    report.task, report.round = provenance.task, provenance.round
    report.adapter = format_cid(provenance.adapter)
    report.height, report.block = head.height, head.id.hex()


def _check_restarts(
    provenance: Provenance, genesis: Genesis, is_pinned: bool, named: Collection[str], report: ProvenanceReport
) -> None:
    """They are believed because somebody does: no quorum of the set before has signed them."""
    trusted = {text.removeprefix("0x").lower() for text in named}
    for row in provenance.restarts:
        report.restarts.append(row.hash.hex())
        if row.genesis_hash != genesis.hash:
            raise InvalidContent(f"restart document {row.hash.hex()}: of another network")
        if is_pinned and row.hash.hex() not in trusted:
            raise InvalidContent(
                f"after block {row.height} this network went on by the restart document {row.hash.hex()}, which its "
                "operators agreed on and no quorum signed: name it with --restart HASH where you trust it"
            )


def _follow(provenance: Provenance, genesis: Genesis, rows: ProofRows, report: ProvenanceReport) -> Header:
    """From the genesis document's set to the last block, each signed by a set that is known by then."""
    domain, restarts = make_domain(genesis, provenance.restarts), {row.height: row for row in provenance.restarts}
    known = KnownSets()
    known.add((row.account, row.stake) for row in genesis.validators)
    headers: list[Header] = []
    for index, (encoded, certificate) in enumerate(provenance.blocks):
        header = decode_header(encoded)
        if headers and header.height <= headers[-1].height:
            raise InvalidContent(f"provenance: block {index}: not above the one before it")
        known.check_finality(header, certificate, domain)
        headers.append(header)
        if index + 1 < len(provenance.blocks):
            restart = _check_restart(restarts.pop(header.height, None), header)
            try:
                sets = read_sets(ProvenState(genesis, header, rows).served(), restart)
            except Misuse as error:  # of whoever made up the document
                raise InvalidContent(str(error)) from error
            for row in sets:
                known.add(row)
    if not headers:
        raise InvalidContent("provenance: no block, so nothing is proven")
    if restarts:
        raise InvalidContent(f"restart document {restarts[min(restarts)].hash.hex()}: its block is not here")
    report.checked.append(
        f"{plural(len(headers), 'block')}, with certificates, from the genesis document's "
        f"{plural(len(genesis.validators), 'validator')} to block {headers[-1].height}"
    )
    return headers[-1]


def _check_restart(restart: Restart | None, header: Header) -> Restart | None:
    if restart is not None and header.id != restart.block_id:
        raise InvalidContent(f"restart document {restart.hash.hex()}: block {header.height} is another one there")
    return restart


def _check_rounds(provenance: Provenance, state: ProvenState, report: ProvenanceReport) -> None:
    name = f"task {provenance.task}"
    if len(provenance.rounds) != provenance.round:  # before any is read: the number may be without end
        raise InvalidContent(
            f"{name}: {plural(len(provenance.rounds), 'round')} told of, {provenance.round} lead to it"
        )
    found = read_rounds(state, provenance.task, provenance.round)
    if not found.is_settled:
        raise InvalidContent(f"{name}: not all of its rounds up to {provenance.round} are over on chain")
    for told, true in zip(provenance.rounds, found.rounds, strict=True):
        if told != true:
            raise InvalidContent(f"{name} round {true.number}: what is told of it is not what the chain says")
    if found.adapter != provenance.adapter:
        raise InvalidContent(
            f"{name}: the chain's adapter after round {provenance.round} is {format_cid(found.adapter)}, not "
            f"{format_cid(provenance.adapter)}"
        )
    if object_digest(provenance.document) != found.document:
        raise InvalidContent(f"{name}: the task document is not the one whose content id is on chain")
    report.checked.append(
        f"{plural(len(found.rounds), 'round')}: proposers, verdicts and losses are what the chain says"
    )


# ---- what lies beside the file


def check_files(provenance: Provenance, path: Path, report: ProvenanceReport) -> None:
    """Of a proof that holds, `path` as above: the files that it names, and whether the weights are that adapter's."""
    folder = path if path.is_dir() else path.parent
    try:
        _check_named(provenance, folder, report)
        if path.is_dir():
            _name_others(provenance, folder, report)
        _check_weights(provenance, decode_document(provenance.document), folder, report)
    except OSError as error:
        report.fail(f"{error.filename}: cannot be read ({error.strerror})")


def _check_named(provenance: Provenance, folder: Path, report: ProvenanceReport) -> None:
    missing, good = [], 0
    for row in provenance.files:
        path = folder / row.name
        if not path.is_file():
            missing.append(row.name)
        elif path.stat().st_size != row.size or describe_file(path) != row:
            report.fail(f"{path}: not the file that was exported")
        else:
            good += 1
    if missing:
        report.could_not_check.append(f"{', '.join(missing)}: not beside the provenance file")
    if good:
        report.checked.append(f"{plural(good, 'file')} beside it by size and SHA-256")


def _name_others(provenance: Provenance, folder: Path, report: ProvenanceReport) -> None:
    known = {FILE_NAME, *(row.name for row in provenance.files)}
    others = sorted(path.name for path in folder.iterdir() if path.name not in known)
    if others:
        more = f" and {len(others) - MAX_NAMED} more" if len(others) > MAX_NAMED else ""
        report.could_not_check.append(f"{', '.join(others[:MAX_NAMED])}{more}: not part of what was exported")


def _check_weights(provenance: Provenance, document: TaskDocument, folder: Path, report: ProvenanceReport) -> None:
    """The integers that the network agreed on, and that peft's file is their float32 view."""
    source, weights, config = (folder / name for name in (GLOBAL_NAME, WEIGHTS_NAME, CONFIG_NAME))
    if not (source.is_file() and weights.is_file() and config.is_file()):
        text = f"the weights: {GLOBAL_NAME}, {WEIGHTS_NAME} and {CONFIG_NAME} must lie here"
        if weights.is_file():  # anybody's, then: what says whose they are was taken away
            report.fail(f"{weights}: nothing shows that these are the adapter's; {text}")
        report.could_not_check.append(text)
        return
    data = _read_bounded(source, compute_global_file_bytes(document.layout))
    if data is None or compute_file_digest(data) != provenance.adapter:
        report.fail(f"{source}: its content id is not that of the global adapter")
        return
    vector = parse_global(data, document.layout, document.format).to_float32()
    expected = document.layout.split(vector)
    before = len(report.failures)
    _compare_weights(weights, expected, report)
    _compare_config(config, document, report)
    if len(report.failures) > before:
        return
    report.are_weights_checked = True
    report.checked.append("the weights are the float32 view of the adapter whose content id is on chain")


def _compare_weights(path: Path, expected: dict[str, Any], report: ProvenanceReport) -> None:
    most = sum(values.nbytes for values in expected.values()) + MAX_HEADER_BYTES
    try:
        found = load_tensors(_read_bounded(path, most) or b"")
    except (SafetensorError, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        report.fail(f"{path}: cannot be read ({type(error).__name__})")
        return
    if set(found) != set(expected):
        report.fail(f"{path}: its tensors are not those of the task's layout")
        return
    for name, values in expected.items():
        if found[name].dtype != np.float32 or not np.array_equal(found[name], values):
            report.fail(f"{path}: {name} is not what the global adapter gives")
            return


def _compare_config(path: Path, document: TaskDocument, report: ProvenanceReport) -> None:
    try:
        config = loads(_read_bounded(path, MAX_CONFIG_BYTES) or b"", depth=MAX_CONFIG_DEPTH)
        found = (config["r"], config["lora_alpha"], sorted(config["target_modules"]))
    except (ValueError, KeyError, TypeError) as error:
        report.fail(f"{path}: not peft's configuration of a LoRA adapter ({error!r:.80})")
        return
    if found != (document.lora.rank, document.lora.alpha, sorted(document.lora.targets)):
        report.fail(f"{path}: rank, alpha or targets are not the task document's")
        return
    others = [name for name, value in config.items() if name not in _FREE and value != _FIXED.get(name) and value]
    if others:
        report.fail(f"{path}: {min(others)!r:.60} is set, which would make another model of the same weights")


def _read_bounded(path: Path, most: int) -> bytes | None:
    """None where it is larger."""
    with path.open("rb") as file:
        data = file.read(most + 1)
    return data if len(data) <= most else None
