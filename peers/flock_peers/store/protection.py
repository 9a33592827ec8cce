"""Slashing protection as a document, as EIP-3076 has it: what a signer remembers, to go with its key to another home.

A merge keeps the stricter of two memories. Only the home of a stopped peer is touched: the caller holds its lock.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from flock_chain.bounded_json import loads
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.records import decode_signer_record, encode_signer_record
from flock_chain.consensus.signer import MarkRecord, Signer, SignerRecord, SigningKey, SignRecord
from flock_chain.consensus.types import MAX_HEIGHT, MAX_VIEW, Kind
from flock_chain.errors import InvalidEncoding, Refused
from flock_chain.genesis import Genesis
from flock_peers.store.record_log import open_record_log, scan

FORMAT, VERSION = "flock-p2p signing protection", 1
MAX_DOCUMENT_BYTES = 1 << 20  # one height's votes take a few KB
MAX_SIGNED = 4_096  # statements: a height of a thousand views
MAX_DEPTH = 5
MAX_CHAIN_ID = 1 << 53  # as a genesis document has it


@dataclass(frozen=True)
class Protection:
    """Nothing below `mark` is signed any more; `signed`: the statements at that height."""

    account: bytes
    mark: int
    signed: tuple[SignRecord, ...]

    @property
    def records(self) -> list[SignerRecord]:
        return [MarkRecord(self.mark), *self.signed]


def export_protection(log: Path, key: SigningKey, genesis: Genesis) -> bytes:
    """Raises Refused where nothing was ever signed here, CorruptLog for a damaged file."""
    if not log.exists():
        raise Refused(f"{log}: nothing was signed in this home, so there is nothing to export")
    signer = _read(log, key, ChainDomain(genesis.chain_id, genesis.hash))
    rows = [record for record in signer.records() if isinstance(record, SignRecord)]
    signed = [asdict(row) | {"kind": row.kind.name, "block_id": row.block_id.hex()} for row in rows]
    document = {
        "metadata": {
            "format": FORMAT, "version": VERSION, "genesis": genesis.hash.hex(), "chain_id": genesis.chain_id,
        },
        "data": [{"account": key.account.hex(), "mark": signer.mark, "signed": signed}],
    }  # fmt: skip
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


class Imported(NamedTuple):
    mark: int  # the height from which it signs afterwards
    is_contradiction: bool  # between the two memories
    genesis_hash: bytes  # of the network that the document is about


def import_protection(log: Path, data: bytes, key: SigningKey, genesis: Genesis | None) -> Imported:
    """`genesis`: None for a home that has joined no network yet; what it then learns holds for the document's alone.

    Raises Refused for another network's or account's document, InvalidEncoding for no document, CorruptLog for a
    damaged file here. A contradiction closes that height: one of the two has signed what the other does not know.
    """
    theirs, domain = _decode(data, key, genesis)
    ours = _read(log, key, domain).records() if log.exists() else []
    try:
        merged, is_contradiction = Signer(key, domain, [*ours, *theirs.records]), False
    except Refused:
        marks = [record.height for record in [*ours, *theirs.records]]
        merged, is_contradiction = Signer(key, domain, [MarkRecord(max(marks) + 1)]), True
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file, _ = open_record_log(log)
    try:
        file.rewrite(encode_signer_record(record) for record in merged.records())
    finally:
        file.close()
    return Imported(merged.mark, is_contradiction, domain.genesis_hash)


def _read(log: Path, key: SigningKey, domain: ChainDomain) -> Signer:
    records = [decode_signer_record(kind, payload) for kind, payload in scan(log.read_bytes())[0]]
    return Signer(key, domain, records)


def _decode(data: bytes, key: SigningKey, genesis: Genesis | None) -> tuple[Protection, ChainDomain]:
    if len(data) > MAX_DOCUMENT_BYTES:
        raise InvalidEncoding(f"protection: above {MAX_DOCUMENT_BYTES} bytes")
    try:
        document: Any = loads(data, depth=MAX_DEPTH)
        metadata, rows = document["metadata"], document["data"]
        if (metadata["format"], metadata["version"]) != (FORMAT, VERSION):
            raise Refused(
                f"protection: format {metadata['format']!r} version {metadata['version']!r}; this release reads "
                f"{FORMAT!r} version {VERSION}"
            )
        domain = _parse_domain(metadata)
        if genesis is not None and domain != ChainDomain(genesis.chain_id, genesis.hash):
            raise Refused(
                f"protection: of the network with genesis {domain.genesis_hash.hex()}, this home belongs to "
                f"{genesis.hash.hex()}; a signature of one says nothing about the other"
            )
        mine = [row for row in rows if row["account"] == key.account.hex()]
        if not mine:
            raise Refused(f"protection: says nothing of this home's account 0x{key.account.hex()}")
        return _merge_rows([_parse_row(row) for row in mine]), domain
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidEncoding(f"protection: no such document ({error!r})") from error


def _parse_domain(metadata: Any) -> ChainDomain:
    chain_id, genesis_hash = metadata["chain_id"], bytes.fromhex(metadata["genesis"])
    if type(chain_id) is not int or not 0 < chain_id < MAX_CHAIN_ID or len(genesis_hash) != 32:
        raise ValueError(f"a network of chain id {chain_id!r} and a genesis hash of {len(genesis_hash)} bytes")
    return ChainDomain(chain_id, genesis_hash)


def _merge_rows(rows: list[Protection]) -> Protection:
    """A document may hold an account twice; statements below the highest mark no longer matter."""
    mark = max(row.mark for row in rows)
    signed = tuple(record for row in rows for record in row.signed if record.height >= mark)
    return Protection(rows[0].account, mark, signed)


def _parse_row(row: Any) -> Protection:
    mark, signed = row["mark"], row["signed"]
    if type(mark) is not int or not 0 <= mark <= MAX_HEIGHT or len(signed) > MAX_SIGNED:
        raise ValueError(f"mark {mark!r}, {len(signed)} statements")
    return Protection(bytes.fromhex(row["account"]), mark, tuple(_parse_statement(item, mark) for item in signed))


def _parse_statement(item: Any, mark: int) -> SignRecord:
    height, view, parent = item["height"], item["view"], item["parent_view"]
    block_id = bytes.fromhex(item["block_id"])
    if any(type(number) is not int for number in (height, view, parent)) or len(block_id) != 32:
        raise ValueError(f"statement {item!r}")
    if height != mark or not 1 <= view < MAX_VIEW or not 0 <= parent < view:
        raise ValueError(f"statement of height {height}, view {view}, where the mark is {mark}")
    return SignRecord(Kind[item["kind"]], height, view, block_id, parent)
