"""The provenance file: canonical JSON, so that no byte of it is without meaning. Form alone; believes nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from flock_chain import canonical_json
from flock_chain.canonical_json import parse_hex
from flock_chain.content import format_cid, parse_cid
from flock_chain.crypto import keccak256
from flock_chain.errors import InvalidEncoding
from flock_chain.restart import Restart, decode_restart

FILE_NAME = "provenance.json"
GLOBAL_NAME = "global.safetensors"  # the global adapter's own bytes, whose content id is on chain
FORMAT = 1
RESTARTED_FORMAT = 2  # the same, and the restart documents of a network that was restarted
MAX_BYTES = 64 << 20  # 1,000 rounds take about 10 MB
MAX_ITEMS = 1 << 17  # of any list: beyond what the bytes hold of useful ones
DEPTH = 6
MAX_NAME_BYTES = 255  # of a file
_KEYS = {"format", "genesis", "task", "round", "adapter", "document", "rounds", "blocks", "rows", "files"}
_ROUND_KEYS = {"round", "adapter", "proposals"}
_PROPOSAL_KEYS = {"proposer", "manifest", "verdict", "loss_change_ppm"}


@dataclass(frozen=True)
class ProposalRow:
    proposer: bytes  # account
    manifest: bytes  # content id; zeros where nothing was revealed
    verdict: str  # a name of flock_chain.tally.Verdict
    loss_change_ppm: int  # the voters' median, in millionths of the loss; negative is better


@dataclass(frozen=True)
class RoundRow:
    number: int
    adapter: bytes  # after it
    proposals: tuple[ProposalRow, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "round": self.number,
            "adapter": format_cid(self.adapter),
            "proposals": [
                {
                    "proposer": row.proposer.hex(),
                    "manifest": row.manifest.hex(),
                    "verdict": row.verdict,
                    "loss_change_ppm": row.loss_change_ppm,
                }
                for row in self.proposals
            ],
        }


@dataclass(frozen=True)
class FileRow:
    """A file beside this one."""

    name: str
    size: int  # bytes
    sha256: bytes


@dataclass(frozen=True)
class Provenance:
    genesis: bytes  # the genesis document
    task: int
    round: int
    adapter: bytes  # content id of the global adapter
    document: bytes  # the task document
    rounds: tuple[RoundRow, ...]
    blocks: tuple[tuple[bytes, bytes], ...]  # header and certificate, by height; the last one's state says it all
    rows: tuple[bytes, ...]  # of these blocks' states, sorted by hash
    files: tuple[FileRow, ...] = ()  # sorted by name
    restarts: tuple[Restart, ...] = ()  # by height: what no quorum signed, and its operators agreed on

    def encode(self) -> bytes:
        restarted = {"restarts": [_read_json(row.encode(), "restart") for row in self.restarts]}
        return canonical_json.encode(
            {
                "format": RESTARTED_FORMAT if self.restarts else FORMAT,
                **(restarted if self.restarts else {}),
                "genesis": _read_json(self.genesis, "genesis"),
                "task": self.task,
                "round": self.round,
                "adapter": format_cid(self.adapter),
                "document": self.document.hex(),
                "rounds": [row.to_dict() for row in self.rounds],
                "blocks": [{"header": header.hex(), "certificate": seal.hex()} for header, seal in self.blocks],
                "rows": {keccak256(row).hex(): row.hex() for row in self.rows},
                "files": {row.name: {"bytes": row.size, "sha256": row.sha256.hex()} for row in self.files},
            }
        )


def describe_file(path: Path) -> FileRow:
    digest, size = sha256(), 0
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
            size += len(part)
    return FileRow(path.name, size, digest.digest())


def decode_provenance(data: bytes) -> Provenance:
    """Raises InvalidEncoding naming what is not as `encode` writes it; of a row, that its hash is another one."""
    value = _read_json(data, "provenance")
    if not isinstance(value, dict) or value.get("format") not in (FORMAT, RESTARTED_FORMAT):
        raise InvalidEncoding(f"provenance: neither of format {FORMAT} nor of {RESTARTED_FORMAT}")
    restarted = {"restarts"} if value["format"] == RESTARTED_FORMAT else set()
    _expect_keys(value, _KEYS | restarted, "provenance")
    result = Provenance(
        genesis=canonical_json.encode(_expect(value["genesis"], dict, "genesis")),
        task=_number(value["task"], "task"),
        round=_number(value["round"], "round"),
        adapter=_cid(value["adapter"], "adapter"),
        document=_bytes(value["document"], "document"),
        rounds=_list(value["rounds"], "rounds", _parse_round),
        blocks=_list(value["blocks"], "blocks", _parse_block),
        rows=tuple(_parse_row(key, row) for key, row in _expect(value["rows"], dict, "rows").items()),
        files=tuple(_parse_file(name, row) for name, row in _expect(value["files"], dict, "files").items()),
        restarts=_list(value.get("restarts", []), "restarts", _parse_restart),
    )
    canonical_json.check_form(data, result.encode(), "provenance")
    return result


def _parse_restart(value: Any, where: str) -> Restart:
    return decode_restart(canonical_json.encode(_expect(value, dict, where)))


def _parse_round(value: Any, where: str) -> RoundRow:
    _expect_keys(value, _ROUND_KEYS, where)
    proposals = _list(value["proposals"], f"{where}: proposals", _parse_proposal)
    return RoundRow(_number(value["round"], where), _cid(value["adapter"], where), proposals)


def _parse_proposal(value: Any, where: str) -> ProposalRow:
    _expect_keys(value, _PROPOSAL_KEYS, where)
    return ProposalRow(
        parse_hex(value["proposer"], 20, f"provenance: {where}: proposer"),
        parse_hex(value["manifest"], 32, f"provenance: {where}: manifest"),
        _expect(value["verdict"], str, f"{where}: verdict"),
        _expect(value["loss_change_ppm"], int, f"{where}: loss_change_ppm"),
    )


def _parse_block(value: Any, where: str) -> tuple[bytes, bytes]:
    _expect_keys(value, {"header", "certificate"}, where)
    return _bytes(value["header"], f"{where}: header"), _bytes(value["certificate"], f"{where}: certificate")


def _parse_row(key: str, value: Any) -> bytes:
    row = _bytes(value, f"row {key:.64}")
    if keccak256(row).hex() != key:
        raise InvalidEncoding(f"provenance: row {key:.64} of the state: its bytes do not have that hash")
    return row


def _parse_file(name: str, value: Any) -> FileRow:
    where = f"file {name:.80}"
    _expect_keys(value, {"bytes", "sha256"}, where)
    is_name = name.isprintable() and 0 < len(name.encode()) <= MAX_NAME_BYTES  # shown, and asked of a file system
    if not is_name or "/" in name or "\\" in name or name.startswith("."):
        raise InvalidEncoding(f"provenance: {where}: not the name of a file beside this one")
    return FileRow(name, _number(value["bytes"], where), parse_hex(value["sha256"], 32, f"provenance: {where}"))


# ---- shapes


def _read_json(data: bytes, what: str) -> Any:
    return canonical_json.decode(data, what, max_bytes=MAX_BYTES, depth=DEPTH)


def _expect(value: Any, kind: type, where: str) -> Any:
    if type(value) is not kind:
        raise InvalidEncoding(f"provenance: {where}: not {kind.__name__}")
    return value


def _expect_keys(value: Any, keys: set[str], where: str) -> None:
    if set(_expect(value, dict, where)) != keys:
        raise InvalidEncoding(f"provenance: {where}: fields differ: {', '.join(sorted(set(value) ^ keys))[:120]}")


def _list(value: Any, where: str, parse: Callable[[Any, str], Any]) -> tuple[Any, ...]:
    if len(_expect(value, list, where)) > MAX_ITEMS:
        raise InvalidEncoding(f"provenance: {where}: more than {MAX_ITEMS}")
    return tuple(parse(item, f"{where} {index}") for index, item in enumerate(value))


def _number(value: Any, where: str) -> int:
    number: int = _expect(value, int, where)
    if not 0 <= number < 1 << 53:
        raise InvalidEncoding(f"provenance: {where}: out of range")
    return number


def _bytes(value: Any, where: str) -> bytes:
    try:
        return bytes.fromhex(_expect(value, str, where))
    except ValueError as error:
        raise InvalidEncoding(f"provenance: {where}: not hex") from error


def _cid(value: Any, where: str) -> bytes:
    try:
        return parse_cid(_expect(value, str, where))
    except InvalidEncoding as error:
        raise InvalidEncoding(f"provenance: {where}: {error}") from error
