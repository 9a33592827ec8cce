"""Targets: an exported adapter as somebody else hands it over, and its proof, which `verify --provenance` reads.

Whoever hands it over may have made a network of his own: of each input the state is put together again (every row
under its own hash), and each block signed by the only validator of the genesis document. So what changes is believed
as far as its form goes, and everything behind the signatures is reached.
"""

import json
import os
import re
import tempfile
from contextlib import suppress
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random

from fuzz_documents import again
from fuzz_mutators import behind, mutate_bytes, mutate_json, mutate_rlp, mutate_safetensors
from fuzz_target import Target, make_folder
from safetensors.numpy import save

from flock_chain import canonical_json, ecvrf
from flock_chain.aggregation import Layout, encode_global
from flock_chain.consensus.certificates import make_certificate
from flock_chain.consensus.digest import make_domain
from flock_chain.consensus.signer import Signer
from flock_chain.consensus.types import Kind
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import encode_certificate
from flock_chain.content import object_digest
from flock_chain.crypto import Key, keccak256
from flock_chain.errors import FlockError, InvalidContent
from flock_chain.execution.blocks import Header, decode_header
from flock_chain.execution.executor import Executor
from flock_chain.execution.genesis_state import compute_contract_hashes
from flock_chain.execution.machine import MemoryStore
from flock_chain.execution.proof import ProvenState, Recorder
from flock_chain.execution.transactions import decode_transaction, sign_call
from flock_chain.genesis import Genesis, GenesisValidator, decode_genesis
from flock_chain.parameters import DEMO
from flock_chain.restart import Restart
from flock_contracts.addresses import BOARD
from flock_contracts.loader import load
from flock_p2p.provenance import (
    FILE_NAME,
    GLOBAL_NAME,
    Provenance,
    ProvenanceReport,
    check_provenance,
    format_provenance,
)
from flock_p2p.provenance.check import check_files
from flock_p2p.provenance.document import FileRow, decode_provenance
from flock_p2p.provenance.rounds import read_rounds
from flock_peers.roles.library import compute_file_digest
from flock_peers.training.base_manifest import BaseFile
from flock_peers.training.document import LoraSettings, TaskDocument, compute_initial_adapter

_KEY = Key(b"\x05" * 32)
OWNER = _KEY.account
_PREFIX = "base_model.model.model.layers.0.self_attn.q_proj"
_DOCUMENT = TaskDocument(
    name="small", base_files=(BaseFile("config.json", 2, bytes(32)),), seed=bytes(32),
    layout=Layout.of({f"{_PREFIX}.lora_A.weight": (2, 4), f"{_PREFIX}.lora_B.weight": (4, 2)}),
    lora=LoraSettings(2, 4, ("q_proj",)),
)  # fmt: skip
_TERMS = {
    "rounds": 1, "extra_rounds": 0, "proposers": 3, "voters": 3, "min_participants": 6, "min_bond": 10**18,
    "proposer_share": 6_000, "commit_seconds": 60, "reveal_seconds": 60, "availability_seconds": 60,
    "score_commit_seconds": 60, "score_reveal_seconds": 60, "tally_seconds": 60, "adopt_seconds": 60,
    "loss_limit": 20_000, "mad_multiple": 12, "wait_seconds": 600, "tolerance": 50_000, "voting_rule": 0,
    "rule_slash": 0, "rest_share": 0, "audit_rounds": 0, "audit_seconds": 60, "audit_slash": 0,
}  # fmt: skip
_NAMES = (b"adapter_config.json", b"adapter_model.safetensors", GLOBAL_NAME.encode(), b"README.md")
_CHAIN_ID = 771_001
_FOLDER = make_folder("fuzz-provenance")


# ---- a network of one validator, in which somebody has opened a task


@cache
def _make_files() -> dict[bytes, bytes]:
    """What lies beside the proof of the adapter that the task begins with."""
    adapter = compute_initial_adapter(_DOCUMENT)
    config = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    weights = save(_DOCUMENT.layout.split(adapter.to_float32()))
    return dict(zip(_NAMES, (json.dumps(config).encode(), weights, encode_global(adapter), b"# It\n"), strict=True))


@cache
def make_proof() -> Provenance:
    """Two blocks, so that the set of the second is read from the first."""
    validator = GenesisValidator(OWNER, 32 * 10**18, ecvrf.public_key(ecvrf.derive_seed(_KEY)))
    genesis = Genesis(
        "fuzz", _CHAIN_ID, 1_700_000_000, DEMO, ((OWNER, 10**21),), (validator,), compute_contract_hashes()
    )
    store, adapter = MemoryStore(), compute_file_digest(_make_files()[GLOBAL_NAME.encode()])
    executor = Executor(genesis, store)
    store.commit(executor.genesis_writes())
    opened = load("TaskBoard").encode("open_task", object_digest(_DOCUMENT.encode()), adapter, _TERMS)
    headers = [_extend(executor, store, call) for call in (opened, b"")]
    recorder = Recorder(store)
    ProvenState(genesis, headers[0], recorder).served()
    read_rounds(ProvenState(genesis, headers[1], recorder), 1, 0)
    code = {keccak256(load(name).runtime) for name, _ in genesis.contracts}
    rows = tuple(row for key, row in sorted(recorder.rows.items()) if key not in code and keccak256(row) == key)
    unsigned = Provenance(genesis.encode(), 1, 0, adapter, _DOCUMENT.encode(), (), (), rows)
    return _sign(unsigned, headers)


def _extend(executor: Executor, store: MemoryStore, calldata: bytes) -> Header:
    head, calls = executor.head, []
    if calldata:
        raw = sign_call(_KEY, chain_id=_CHAIN_ID, nonce=0, to=BOARD, data=calldata, value=10**19, fee=10)
        calls = [decode_transaction(raw, _CHAIN_ID)]
    candidate = executor.execute(
        head, calls, timestamp=head.timestamp + 1, proposer=OWNER, strict=True,
        vrf_proof=ecvrf.prove(ecvrf.derive_seed(_KEY), executor.vrf_alpha(head)),
    )  # fmt: skip
    assert all(receipt.status for receipt in candidate.receipts), candidate.receipts
    store.commit(candidate.writes)
    executor.advance(candidate)
    return candidate.block.header


# ---- made to be believed


_LINK = re.compile(rb"(?=\xa0(.{32}))", re.DOTALL)
_DEEPEST = 150  # of rows that refer to rows: a path has 64 digits


class _Rows:
    """The rows under their new hashes, where those that they refer to have changed."""

    def __init__(self, rows: dict[bytes, bytes]) -> None:
        self._rows = rows
        self._new: dict[bytes, bytes] = {}  # hash by the old one
        self.made: dict[bytes, bytes] = {}
        for old in rows:
            self.find(old)

    def find(self, old: bytes, depth: int = 0) -> bytes:
        if old in self._new or old not in self._rows or depth > _DEEPEST:
            return self._new.get(old, old)
        row, self._new[old] = self._rows[old], old  # who closes a circle finds the old one, which nothing has
        for link in set(_LINK.findall(row)) & self._rows.keys():
            row = row.replace(b"\xa0" + link, b"\xa0" + self.find(link, depth + 1))
        self._new[old] = keccak256(row)
        self.made[self._new[old]] = row
        return self._new[old]


def believe(data: bytes) -> bytes:
    """As it is where it cannot be put together."""
    with suppress(ValueError, TypeError, KeyError, AttributeError, FlockError, RecursionError):
        value = json.loads(data)
        rows = _Rows({bytes.fromhex(key): bytes.fromhex(row) for key, row in value["rows"].items()})
        headers = [decode_header(bytes.fromhex(row["header"])) for row in value["blocks"]]
        changed = [replace(header, state_root=rows.find(header.state_root)) for header in headers]
        ids = {header.id.hex(): new.id.hex() for header, new in zip(headers, changed, strict=True)}
        value["rows"] = {key.hex(): row.hex() for key, row in rows.made.items()}
        value["blocks"] = [{"header": header.encoded.hex(), "certificate": ""} for header in changed]
        for restart in value.get("restarts", ()):
            restart["block"] = ids.get(restart["block"], restart["block"])
        return _sign(decode_provenance(canonical_json.encode(value)), changed).encode()
    return data


def _sign(unsigned: Provenance, headers: list[Header]) -> Provenance:
    domain = make_domain(decode_genesis(unsigned.genesis), unsigned.restarts)
    alone = ValidatorSet(((OWNER, 1),))
    blocks = []
    for header in headers:
        vote, _ = Signer(_KEY, domain).sign(Kind.FINALIZE, header.height, 1, header.id)
        signatures = {OWNER: vote.signature}
        seal = make_certificate(Kind.FINALIZE, header.height, 1, header.id, signatures, alone)
        blocks.append((header.encoded, encode_certificate(seal)))
    return replace(unsigned, blocks=tuple(blocks))


# ---- what is run


def _judge(report: ProvenanceReport) -> None:
    """Nothing comes of it but a report, which can be printed."""
    assert all(row.isprintable() for row in format_provenance(report).split("\n")), "unfit for a terminal"
    if not report.ok:
        raise InvalidContent(report.failures[0])


def _run_proof(data: bytes) -> None:
    file = Path(_FOLDER.name) / FILE_NAME
    file.write_bytes(believe(data))
    _judge(check_provenance(file))


def _run_files(data: bytes) -> None:
    """One of the files beside a good proof, by whoever can also write down its hash; or one of any name."""
    name, contents = _NAMES[data[0] % len(_NAMES)] if data else _NAMES[0], data[1:]
    files = _make_files() | {name: contents}
    rows = tuple(FileRow(name.decode(), len(data), sha256(data).digest()) for name, data in sorted(files.items()))
    if name == _NAMES[-1]:
        files[bytes(byte for byte in contents[:100] if byte not in b"\0/").strip(b".") or name] = contents
    report = ProvenanceReport("")
    with tempfile.TemporaryDirectory(dir=_FOLDER.name) as folder:
        for file, data in files.items():
            (Path(folder) / os.fsdecode(file)).write_bytes(data)
        check_files(replace(make_proof(), files=rows), Path(folder), report)
    _judge(report)


def _proofs() -> list[bytes]:
    proof = make_proof()
    first = decode_header(proof.blocks[0][0])
    restart = Restart(decode_genesis(proof.genesis).hash, first.height, first.id, (OWNER,))
    files = (FileRow("README.md", 7, bytes(32)),)
    return [believe(each.encode()) for each in (proof, replace(proof, restarts=(restart,), files=files))]


def _mutate_proof(data: bytes, random: Random) -> bytes:
    """A row of the state, a header, or the document around them."""
    try:
        value = json.loads(data)
        rows, block = value["rows"], random.choice(value["blocks"])
        holder, key = (rows, random.choice([*rows])) if random.random() < 0.7 else (block, "header")
        if random.random() < 0.3:
            return mutate_json(data, random)
        holder[key] = mutate_rlp(bytes.fromhex(holder[key]), random).hex()
        return canonical_json.encode(value)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return mutate_json(data, random)


def _mutate_files(data: bytes, random: Random) -> bytes:
    mutate = {0: mutate_json, 1: mutate_safetensors}.get(data[0] % len(_NAMES) if data else 0, mutate_bytes)
    return behind(1, mutate)(data, random)


def targets() -> list[Target]:
    def files() -> list[bytes]:
        return [bytes([number]) + _make_files()[name] for number, name in enumerate(_NAMES)]

    return [
        Target("provenance", again(decode_provenance), _proofs, _mutate_proof),
        Target("proof_of_an_adapter", _run_proof, _proofs, _mutate_proof),
        Target("exported_files", _run_files, files, _mutate_files),
    ]
