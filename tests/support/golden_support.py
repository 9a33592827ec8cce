"""The golden vectors: one sample of every format in fixed bytes. `python tests/support/golden_support.py` writes them.

Write them anew only together with a new version number of the format: what is committed is what other releases speak.
"""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from golden_owner_support import owner
from golden_sample_support import Sample

from flock_chain import codec, ecvrf
from flock_chain.aggregation import Format, Layout, encode_delta, encode_global, from_floats, parse_delta, quantise
from flock_chain.aggregation.adapter import parse_global
from flock_chain.consensus.attendance import make_attendance
from flock_chain.consensus.certificates import make_certificate
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.records import (
    BodyRecord,
    decode_signer_record,
    decode_wal_record,
    encode_signer_record,
    encode_wal_record,
)
from flock_chain.consensus.signer import MarkRecord, Signer
from flock_chain.consensus.types import NO_BLOCK, Certificate, Kind, Message, Proposal, Status, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import decode_certificate, decode_message, encode_certificate, encode_message
from flock_chain.content import compute_chunk_list, decode_chunk_list, format_cid, parse_cid
from flock_chain.crypto import SIGNATURE_BYTES, Account, Digest, Key, keccak256
from flock_chain.execution import records
from flock_chain.execution import strict_rlp as rlp
from flock_chain.execution.blocks import Block, Receipt, decode_block, decode_receipts, encode_receipts, make_header
from flock_chain.execution.machine import MemoryStore
from flock_chain.execution.schedule import compute_alpha, compute_mix
from flock_chain.execution.snapshot import read_snapshot, write_snapshot
from flock_chain.execution.sorted_trie import SortedTrie
from flock_chain.execution.transactions import (
    SystemTransaction,
    decode_system_transaction,
    decode_transaction,
    sign_call,
)
from flock_chain.genesis import Genesis, GenesisValidator, decode_genesis
from flock_chain.parameters import DEMO
from flock_chain.proposal import Manifest, compute_proposal_commitment, compute_score_commitment, decode_manifest
from flock_chain.restart import Restart, decode_restart
from flock_chain.upgrades import Schedule, Step, decode_schedule
from flock_peers import courier, ports
from flock_peers.home_format import HOME_FORMAT, decode_version, encode_version
from flock_peers.network import blob_wire, hello
from flock_peers.network.identity import make_address, peer_id_of
from flock_peers.roles import faucet
from flock_peers.snapshots import SNAPSHOT_PROTOCOL
from flock_peers.store.evidence_file import decode_pairs, encode_pairs
from flock_peers.store.protection import export_protection, import_protection
from flock_peers.store.record_log import encode_record, scan
from flock_peers.training.base_manifest import BaseFile, parse_base
from flock_peers.training.document import LoraSettings, TaskDocument, decode_document
from flock_peers.training.wire import encode_frame

FOLDER = Path(__file__).parents[1] / "golden"
KEYS = [Key(bytes([index]) * 32) for index in (1, 2, 3, 4)]
BLOCK_ID, HASH, CHAIN_ID = bytes(range(32)), bytes(range(32, 64)), 771_000
DOMAIN = ChainDomain(CHAIN_ID, HASH)
RESTART = Restart(HASH, 9, BLOCK_ID, tuple(sorted(key.account for key in KEYS[:2])))
VALIDATORS = ValidatorSet(tuple((key.account, 32 * 10**18) for key in KEYS))


def _vote(kind: Kind, key: Key = KEYS[0], block: bytes = BLOCK_ID, parent_view: int = 0):
    return Signer(key, DOMAIN).sign(kind, 9, 2, block, parent_view)[0]


def _certificate(kind: Kind = Kind.FINALIZE, block: bytes = BLOCK_ID) -> Certificate:
    signatures = {key.account: _vote(kind, key, block).signature for key in KEYS[:3]}
    return make_certificate(kind, 9, 2, block, signatures, VALIDATORS)


def _message(message: Message, body: bytes = b"") -> Sample:
    return Sample(encode_message(message, body), lambda data: encode_message(*decode_message(data, KEYS[0].account)))


def consensus() -> dict[str, Sample]:
    nullification = _certificate(Kind.NULLIFY, NO_BLOCK)
    proposal = Proposal(_vote(Kind.PROPOSE, parent_view=1), (nullification,))
    return {
        "vote digest": Sample(DOMAIN.digest(Kind.PROPOSE, 9, 2, BLOCK_ID, 1)),
        "message: vote": _message(_vote(Kind.NOTARIZE)),
        "message: proposal": _message(proposal, b"the block's bytes"),
        "message: certificate": _message(_certificate()),
        "message: status": _message(Status(9, 2)),
        "votes shown in a block": Sample(
            make_attendance(9, [_vote(Kind.NOTARIZE, key) for key in KEYS[:3]], VALIDATORS, DOMAIN)
        ),
        "certificate": Sample(
            encode_certificate(_certificate()), lambda data: encode_certificate(decode_certificate(data))
        ),
    }


def _header(**changes: object) -> Block:
    values: dict = dict(
        parent_hash=BLOCK_ID, coinbase=KEYS[0].account, height=9, timestamp=1_700_000_009, mix_hash=HASH,
        gas_limit=30_000_000, base_fee=1, certificate_commitment=HASH, gas_used=21_000,
    )  # fmt: skip
    return Block(make_header(**{**values, **changes}), (_system().raw, _transaction()))


def _system() -> SystemTransaction:
    return SystemTransaction(CHAIN_ID, 9, 0, bytes(19) + b"\1", 500_000, b"\xde\xad\xbe\xef")


def _transaction() -> bytes:
    access = [(bytes(19) + b"\2", [1, 2])]
    return sign_call(
        KEYS[0], chain_id=CHAIN_ID, nonce=7, to=KEYS[1].account, data=b"\1\2", value=5, fee=3, tip=1, access_list=access
    )


def _redo_system(data: bytes) -> bytes:
    return decode_system_transaction(data).raw


def chain() -> dict[str, Sample]:
    receipt = Receipt(Digest(HASH), 9, 0, True, 21_000, ((bytes(20), (1, 2), b"log"),), "reason")
    seed = ecvrf.derive_seed(KEYS[0])
    proof = ecvrf.prove(seed, compute_alpha(CHAIN_ID, 9, HASH))
    keys = {
        "height": records.height_key(9),
        "block": records.block_key(BLOCK_ID),
        "receipts": records.receipts_key(BLOCK_ID),
        "transaction": records.transaction_key(HASH),
        "certificate": records.certificate_key(9),
    }
    return {
        "block": Sample(_header().encoded, lambda data: decode_block(data, max_bytes=1 << 20).encoded),
        "transaction: type 2": Sample(_transaction(), lambda data: decode_transaction(data, CHAIN_ID).raw),
        "transaction: system": Sample(_system().raw, _redo_system),
        "receipts in the store": Sample(
            encode_receipts([receipt]), lambda data: encode_receipts(decode_receipts(data, 9))
        ),
        "randomness: public key, proof, mix": Sample(
            ecvrf.public_key(seed)
            + proof
            + compute_mix(HASH, ecvrf.verify(ecvrf.public_key(seed), _alpha(), proof) or b"")
        ),
        "chain store: keys": Sample(codec.encode(keys)),
        "chain store: keys of a start with a snapshot": Sample(
            codec.encode({"header": records.header_key(BLOCK_ID)})
            + codec.encode({key.hex(): value for key, value in records.make_base(9).items()})
            + codec.encode({key.hex(): value for key, value in records.make_pin(records.Pin(9, BLOCK_ID)).items()})
        ),
        "snapshot": Sample(*_snapshot()),
    }


def _snapshot() -> tuple[bytes, Callable[[bytes], bytes]]:
    """Of a chain of one block, whose only account has one slot and code."""
    store, code = MemoryStore(), b"code"
    slots, accounts = SortedTrie(store.rows.__setitem__), SortedTrie(store.rows.__setitem__)
    slots.add(HASH, b"\x07")
    accounts.add(HASH, rlp.encode([1, 10**18, slots.finish(), bytes(keccak256(code))]))
    store.rows[keccak256(code)] = code
    header = replace(_header().header, height=0, state_root=accounts.finish())
    store.commit(records.make_rows(Block(header, ()), ()))

    def again(data: bytes) -> bytes:
        rows: dict[bytes, bytes] = {}
        read_snapshot(io.BytesIO(data).read, header.id, rows.__setitem__)
        return b"".join(write_snapshot(MemoryStore(rows), 0))

    return b"".join(write_snapshot(store, 0)), again


def _alpha() -> bytes:
    return compute_alpha(CHAIN_ID, 9, HASH)


GENESIS = Genesis(
    network="golden",
    chain_id=CHAIN_ID,
    timestamp=1_700_000_000,
    parameters=DEMO,
    accounts=((Account(b"\1" * 20), 10**18),),
    validators=(GenesisValidator(Account(b"\2" * 20), 32 * 10**18, b"\3" * 32),),
    contracts=(("Beacon", Digest(b"\4" * 32)), ("Stake", Digest(b"\5" * 32))),
)
SCHEDULE = Schedule(HASH, (Step(7, 1, (("block_gas_limit", 40_000_000),)), Step(9, 2)))
LAYOUT = Layout.of({"m.q_proj.lora_A.weight": (2, 20), "m.q_proj.lora_B.weight": (20, 2)})


FOUR = Format.of_bits(4)


def _document() -> TaskDocument:
    base = (BaseFile("config.json", 5, b"\1" * 32), BaseFile("model.safetensors", 6, b"\2" * 32))
    return TaskDocument("golden", base, LAYOUT, b"\7" * 32, LoraSettings(2, 4, ("q_proj",)))


def _vector(exponent: int):
    import numpy as np

    values = [(index * index * 7919 % 4001 - 2000) * 2.0**exponent for index in range(LAYOUT.parameters)]
    return np.array(values, np.float32)


def documents() -> dict[str, Sample]:
    manifest = Manifest(Digest(HASH), 1, 2, KEYS[0].account, Digest(b"\1" * 32), Digest(b"\2" * 32), 3_000, 24, 9_000)
    scores, filters = [-5, 7] + [0] * 14, [0, 1] + [0] * 14
    delta, adapter = quantise(_vector(-20), LAYOUT, Format()), from_floats(_vector(-14), LAYOUT, Format())
    chunks = compute_chunk_list([b"a chunk"])
    return {
        "genesis document": Sample(GENESIS.encode(), lambda data: decode_genesis(data).encode()),
        "upgrade schedule": Sample(
            SCHEDULE.encode(), lambda data: decode_schedule(data, genesis_hash=HASH, genesis=DEMO).encode()
        ),
        "restart document": Sample(RESTART.encode(), lambda data: decode_restart(data).encode()),
        "base manifest": Sample(_document().base.encode(), lambda data: parse_base(codec.decode(data)).encode()),
        "task document": Sample(_document().encode(), lambda data: decode_document(data).encode()),
        "task document with a reference": Sample(
            replace(_document(), reference="How many?\n").encode(), lambda data: decode_document(data).encode()
        ),
        "task document with a server rate": Sample(
            replace(_document(), format=Format(server_lr_thousandths=2_000)).encode(),
            lambda data: decode_document(data).encode(),
        ),
        "manifest": Sample(manifest.encode(), lambda data: decode_manifest(data).encode()),
        "proposal commitment": Sample(
            compute_proposal_commitment(CHAIN_ID, b"\4" * 20, 1, 2, KEYS[0].account, HASH, b"\7" * 32)
        ),
        "score commitment": Sample(
            compute_score_commitment(CHAIN_ID, b"\4" * 20, 1, 2, KEYS[0].account, scores, filters, b"\7" * 32)
        ),
        "delta file": Sample(encode_delta(delta), lambda data: encode_delta(parse_delta(data, LAYOUT, Format()))),
        "delta file of 4 bits": Sample(
            encode_delta(quantise(_vector(-17), LAYOUT, FOUR)),
            lambda data: encode_delta(parse_delta(data, LAYOUT, FOUR)),
        ),
        "global adapter file": Sample(
            encode_global(adapter), lambda data: encode_global(parse_global(data, LAYOUT, Format()))
        ),
        "chunk list": Sample(chunks.encode(), lambda data: decode_chunk_list(data, digest=chunks.digest).encode()),
        "content id": Sample(
            format_cid(chunks.digest).encode(), lambda data: format_cid(parse_cid(data.decode())).encode()
        ),
    }


def _redo_hello(data: bytes) -> bytes:
    return hello.decode_hello(data).encode()


def network() -> dict[str, Sample]:
    address = make_address("192.0.2.7", 4200, peer_id_of(KEYS[0]))
    greeting = hello.Hello(hello.VERSION, HASH, SCHEDULE.hash, (str(address),))
    protocols = [hello.HELLO, hello.GENESIS, hello.PEERS, ports.CONSENSUS_PROTOCOL, ports.SYNC_PROTOCOL]
    protocols += [blob_wire.BLOBS, faucet.FAUCET_PROTOCOL]
    return {
        "protocol ids": Sample("\n".join(protocols).encode()),
        "hello": Sample(greeting.encode(), _redo_hello),
        "peer exchange": Sample(
            hello.encode_addresses([address]), lambda data: hello.encode_addresses(hello.decode_addresses(data, 4))
        ),
        "blob request": Sample(blob_wire.REQUEST.pack(blob_wire.CHUNKS, HASH, 3, 8)),
        "sync request: range": Sample(codec.encode(["range", 9, 64, 0])),
        "sync request: head": Sample(codec.encode(["head"])),
        "snapshot protocol id": Sample(SNAPSHOT_PROTOCOL.encode()),
        "snapshot request: list": Sample(codec.encode(["list"])),
        "snapshot request: headers": Sample(codec.encode(["headers", 9, 1_024])),
        "sync request: body": Sample(codec.encode(["body", 9, BLOCK_ID])),
        "transactions protocol id": Sample(courier.TRANSACTIONS_PROTOCOL.encode()),
        "transaction message": Sample(
            courier.encode_transaction_message(_transaction()),
            lambda data: courier.encode_transaction_message(courier.decode_transaction_message(data)),
        ),
        "trainer frame": Sample(encode_frame({"method": "train", "round": 1})),
    }


def _redo_wal(data: bytes) -> bytes:
    rows, _ = scan(data)
    return b"".join(encode_record(*encode_wal_record(decode_wal_record(*row))) for row in rows)


def _redo_signer(data: bytes) -> bytes:
    rows, _ = scan(data)
    return b"".join(encode_record(*encode_signer_record(decode_signer_record(*row))) for row in rows)


def _make_pair() -> tuple[Vote, Vote]:
    """Form only: nobody verifies these signatures."""
    first, second = (
        Vote(Kind.FINALIZE, 7, 2, bytes([n]) * 32, 0, KEYS[0].account, bytes([n]) * SIGNATURE_BYTES) for n in (1, 2)
    )
    return first, second


def _protection(signer: bytes) -> bytes:
    with TemporaryDirectory() as folder:
        log = Path(folder) / "signer.log"
        log.write_bytes(signer)
        return export_protection(log, KEYS[0], GENESIS)


def _redo_protection(data: bytes) -> bytes:
    with TemporaryDirectory() as folder:
        log = Path(folder) / "signer.log"
        import_protection(log, data, KEYS[0], GENESIS)
        return export_protection(log, KEYS[0], GENESIS)


def disk() -> dict[str, Sample]:
    wal = [encode_wal_record(_certificate()), encode_wal_record(BodyRecord(9, BLOCK_ID, b"the block's bytes"))]
    signed = Signer(KEYS[0], DOMAIN).sign(Kind.NOTARIZE, 9, 2, BLOCK_ID)[1]
    assert signed is not None
    signer = [encode_signer_record(MarkRecord(9)), encode_signer_record(signed)]
    return {
        "home version": Sample(encode_version(HOME_FORMAT), lambda data: encode_version(decode_version(data))),
        "write-ahead log": Sample(b"".join(encode_record(*row) for row in wal), _redo_wal),
        "signer file": Sample(b"".join(encode_record(*row) for row in signer), _redo_signer),
        "evidence": Sample(encode_pairs([_make_pair()]), lambda data: encode_pairs(decode_pairs(data))),
        "slashing protection export": Sample(
            _protection(b"".join(encode_record(*row) for row in signer)), _redo_protection
        ),
        "round secrets": Sample(
            codec.encode({"scores": [-5, 7], "salt": bytes(32)}), lambda data: codec.encode(codec.decode(data))
        ),
        "key and account": Sample(KEYS[0].secret + KEYS[0].account + keccak256(KEYS[0].public_key)),
    }


GROUPS: dict[str, Callable[[], dict[str, Sample]]] = {
    "consensus": consensus,
    "chain": chain,
    "documents": documents,
    "network": network,
    "disk": disk,
    "owner": owner,
}


def load(group: str) -> dict[str, str]:
    vectors: dict[str, str] = json.loads((FOLDER / f"{group}.json").read_text())
    return vectors


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for group, make in GROUPS.items():
        vectors = {name: sample.data.hex() for name, sample in make().items()}
        (FOLDER / f"{group}.json").write_text(json.dumps(vectors, indent=1) + "\n")
        print(f"{group}: {len(vectors)} vectors")


if __name__ == "__main__":
    main()
