"""Slashing protection moves with a key: exported, merged to the stricter side, refused for another network."""

import json
from pathlib import Path

import pytest
from consensus_support import block_id
from execution_support import VALIDATORS, make_genesis
from hypothesis import given, settings
from hypothesis import strategies as st

from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.records import encode_signer_record
from flock_chain.consensus.signer import MarkRecord, Signer, SignerRecord, SignRecord
from flock_chain.consensus.types import NO_BLOCK, Kind
from flock_chain.errors import InvalidEncoding, Misuse, Refused
from flock_p2p.cli import main
from flock_peers.home import Home, write_private
from flock_peers.store.protection import export_protection, import_protection
from flock_peers.store.record_log import open_record_log
from flock_peers.store.signer_file import open_signer_file

KEY, GENESIS = VALIDATORS[0], make_genesis()
DOMAIN = ChainDomain(GENESIS.chain_id, GENESIS.hash)


def _write(path: Path, records: list[SignerRecord]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    log, _ = open_record_log(path)
    log.rewrite(encode_signer_record(record) for record in records)
    log.close()
    return path


def _vote(kind: Kind, height: int, name: str, view: int = 1) -> SignRecord:
    return SignRecord(kind, height, view, NO_BLOCK if kind == Kind.NULLIFY else block_id(name), 0)


def _load(path: Path) -> Signer:
    file = open_signer_file(path, KEY, DOMAIN, final_height=0)
    file.close()
    return file.signer


def test_an_export_in_an_empty_home_refuses_what_the_old_home_refused(tmp_path: Path) -> None:
    old = _write(tmp_path / "old" / "signer.log", [MarkRecord(7), _vote(Kind.NOTARIZE, 7, "x")])
    new = tmp_path / "new" / "signer.log"
    assert import_protection(new, export_protection(old, KEY, GENESIS), KEY, GENESIS)[:2] == (7, False)
    signer = _load(new)
    with pytest.raises(Refused, match="different NOTARIZE"):
        signer.sign(Kind.NOTARIZE, 7, 1, block_id("y"))
    with pytest.raises(Refused, match="below the mark"):
        signer.sign(Kind.NOTARIZE, 6, 1, block_id("x"))
    assert signer.sign(Kind.NOTARIZE, 7, 1, block_id("x"))[1] is None  # the same again is no second statement


def test_two_memories_that_contradict_each_other_close_the_height(tmp_path: Path) -> None:
    one = _write(tmp_path / "1" / "signer.log", [MarkRecord(7), _vote(Kind.NOTARIZE, 7, "x")])
    other = _write(tmp_path / "2" / "signer.log", [MarkRecord(7), _vote(Kind.NOTARIZE, 7, "y")])
    assert import_protection(one, export_protection(other, KEY, GENESIS), KEY, GENESIS)[:2] == (8, True)
    assert not _load(one).may_sign(7)


STATEMENTS = st.builds(
    _vote, st.sampled_from([Kind.NOTARIZE, Kind.NULLIFY, Kind.FINALIZE]), st.integers(5, 7), st.sampled_from("xy"),
    st.integers(1, 2),
)  # fmt: skip


def _remember(statements: list[SignRecord]) -> Signer:
    """What an honest signer keeps of these, in this order."""
    signer = Signer(KEY, DOMAIN)
    for r in statements:
        try:
            signer.sign(r.kind, r.height, r.view, r.block_id)
        except Refused:
            pass
    return signer


@settings(max_examples=60, deadline=None, database=None)
@given(st.lists(STATEMENTS, max_size=6), st.lists(STATEMENTS, min_size=1, max_size=6), st.lists(STATEMENTS, max_size=8))
def test_a_merge_signs_nothing_new_that_either_side_refuses(
    tmp_path_factory: pytest.TempPathFactory, ours: list[SignRecord], theirs: list[SignRecord], tried: list[SignRecord]
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    one, other = _remember(ours), _remember(theirs)
    here = _write(folder / "1" / "signer.log", one.records())
    there = _write(folder / "2" / "signer.log", other.records())
    import_protection(here, export_protection(there, KEY, GENESIS), KEY, GENESIS)
    merged = _load(here)
    assert merged.mark >= max(one.mark, other.mark)
    for r in tried:
        try:
            _, record = Signer(KEY, DOMAIN, merged.records()).sign(r.kind, r.height, r.view, r.block_id)
        except Refused:
            continue
        if record is not None:
            for side in (one, other):
                Signer(KEY, DOMAIN, side.records()).sign(r.kind, r.height, r.view, r.block_id)


def test_another_network_another_account_and_what_is_no_document_are_refused_and_change_nothing(tmp_path: Path) -> None:
    log = _write(tmp_path / "signer.log", [MarkRecord(7), _vote(Kind.NOTARIZE, 7, "x")])
    before, data = log.read_bytes(), export_protection(log, KEY, GENESIS)
    elsewhere = make_genesis(timestamp=1)
    with pytest.raises(Refused, match="genesis"):
        import_protection(log, data, KEY, elsewhere)
    with pytest.raises(Refused, match="nothing of this home's account"):
        import_protection(log, data, VALIDATORS[1], GENESIS)
    newer = json.loads(data)
    newer["metadata"]["version"] = 2
    with pytest.raises(Refused, match="version 2"):
        import_protection(log, json.dumps(newer).encode(), KEY, GENESIS)
    for change in ({"mark": -1}, {"mark": "7"}, {"signed": [{"kind": "NOTARIZE"}]}, {"mark": 9}):
        bad = json.loads(data)
        bad["data"][0] |= change
        with pytest.raises(InvalidEncoding):
            import_protection(log, json.dumps(bad).encode(), KEY, GENESIS)
    for junk in (b"", b"[]", b"{" * 1_000, b"\xff"):
        with pytest.raises((InvalidEncoding, Misuse)):
            import_protection(log, junk, KEY, GENESIS)
    assert log.read_bytes() == before


def test_a_home_that_belongs_to_no_network_yet_imports_before_it_joins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To join first would be to sign first."""
    old = _write(tmp_path / "old.log", [MarkRecord(9)])
    document = tmp_path / "protection.json"
    document.write_bytes(export_protection(old, KEY, GENESIS))
    home = Home(tmp_path / "new")
    write_private(home.key_path, KEY.secret.hex().encode())
    assert main(["protection", "import", "--file", str(document), "--home", str(home.path)]) == 0
    assert f"--genesis {GENESIS.hash.hex()}" in capsys.readouterr().out
    home.store_genesis(GENESIS.encode())
    assert _load(home.folder("consensus") / "signer.log").mark == 9
    for network in ({"chain_id": "7"}, {"chain_id": -1}, {"chain_id": True}, {"genesis": "ab"}):
        bad = json.loads(document.read_bytes())
        bad["metadata"] |= network
        with pytest.raises(InvalidEncoding):
            import_protection(tmp_path / "none.log", json.dumps(bad).encode(), KEY, None)
    assert not (tmp_path / "none.log").exists()


def test_the_command_exports_imports_and_leaves_a_running_home_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("old", "new"):
        home = Home(tmp_path / name)
        write_private(home.key_path, KEY.secret.hex().encode())
        home.store_genesis(GENESIS.encode())
    _write(tmp_path / "old" / "consensus" / "signer.log", [MarkRecord(9)])
    document = str(tmp_path / "protection.json")
    assert main(["protection", "export", "--file", document, "--home", str(tmp_path / "old")]) == 0
    assert main(["protection", "import", "--file", document, "--home", str(tmp_path / "new")]) == 0
    assert "below height 9" in capsys.readouterr().out
    with Home(tmp_path / "old").lock():
        assert main(["protection", "export", "--file", document, "--home", str(tmp_path / "old")]) == 3
