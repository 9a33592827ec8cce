"""`restart`: what the command prints, writes and refuses, on the home of a peer that has stopped."""

import json
import re
from pathlib import Path

import pytest
from execution_support import VALIDATORS, Chain, make_genesis

from flock_chain.restart import decode_restart
from flock_p2p.cli import main
from flock_p2p.verify import verify_home
from flock_peers.home import Home, write_private
from flock_peers.restarts import load_restarts
from flock_peers.store.chain_store import ChainStore

A, B, C, D = (key.account for key in VALIDATORS)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    place, chain = Home(tmp_path / "home"), Chain(make_genesis())
    write_private(place.genesis_path, chain.genesis.encode())
    for _ in range(2):
        chain.add()
    with ChainStore(place.folder("chain")) as store:
        store.commit(dict(chain.store.rows))
    return place


def restart(home: Home, action: str, document: Path, *more: str) -> int:
    return main(["restart", action, "--home", str(home.path), "--document", str(document), *more])


def test_a_document_is_proposed_agreed_on_and_installed(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "restart.json"
    assert restart(home, "propose", document, "--without", C.hex(), "--without", "0x" + D.hex()) == 0
    made = decode_restart(document.read_bytes())
    printed = capsys.readouterr().out
    assert made.hash.hex() in printed and "What a restart gives up" in printed and "2 of 4 validators" in printed
    kept = re.search(r"^with      2 of 4 validators, ([\d.]+) of ([\d.]+) coins of weight$", printed, re.MULTILINE)
    assert kept and 2 * float(kept[1]) == float(kept[2]) > 0, "each has as much"
    assert load_restarts(home) == ()
    assert restart(home, "apply", document, "--hash", made.hash.hex()) == 0
    assert load_restarts(home) == (made,) and set(made.keep) == {A, B}
    report = verify_home(home.path)
    assert report.blocks == 2 and not [row for row in report.failures if "certificate" not in row]


def test_programs_are_told_the_same_as_an_object(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "restart.json"
    assert restart(home, "propose", document, "--without", C.hex(), "--without", D.hex(), "--json") == 0
    made = json.loads(capsys.readouterr().out)
    kept = sorted("0x" + account.hex() for account in (A, B))
    assert (made["height"], sorted(made["keep"]), made["validators"]) == (2, kept, 4)
    assert 2 * int(made["weight_kept"]) == int(made["weight"]) and made["document"] == str(document)
    assert restart(home, "apply", document, "--hash", made["hash"], "--json") == 0
    assert json.loads(capsys.readouterr().out) == {name: made[name] for name in ("hash", "height", "keep")}


def test_wrong_use_is_refused_in_one_line(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "restart.json"
    for arguments, code, word in (
        (("propose", document), 2, "--without"),
        (("propose", document, "--without", "nobody"), 2, "no account"),
        (("propose", document, "--without", D.hex()), 4, "goes on without a restart"),
        (("apply", document), 2, "--hash"),
        (("apply", document, "--hash", "00" * 32), 2, "No such file"),
    ):
        assert restart(home, *arguments) == code  # type: ignore[arg-type]
        error = capsys.readouterr().err
        assert word in error and error.count("\n") == 1
    assert not document.exists()
    with home.lock():
        assert restart(home, "propose", document, "--without", C.hex()) == 3
    assert "in use" in capsys.readouterr().err
