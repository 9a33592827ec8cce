"""Keys under a passphrase: Ethereum's tools open ours and ours opens theirs; a wrong or hostile one is refused."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flock_chain.crypto import Key
from flock_chain.errors import Misuse, Refused
from flock_p2p.cli import main
from flock_peers.home import Home
from flock_peers.keystore import SCRYPT_N, decode_keystore, encode_keystore

eth_account = pytest.importorskip("eth_account", reason="eth-account is not installed (pip install -e '.[dev]')")
KEY, PASSPHRASE, FEW = Key(b"\x41" * 32), "correct horse bätt".encode(), 1 << 10


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands' keystores at a cost that tests can pay; the product's own is looked at once below."""
    monkeypatch.setitem(encode_keystore.__kwdefaults__, "n", FEW)


def fd_with(*lines: bytes) -> str:
    read, write = os.pipe()
    os.write(write, b"".join(line + b"\n" for line in lines))
    os.close(write)
    return str(read)


def test_eth_account_opens_ours_and_ours_opens_theirs() -> None:
    ours = encode_keystore(KEY, PASSPHRASE, n=FEW)
    assert bytes(eth_account.Account.decrypt(json.loads(ours), PASSPHRASE.decode())) == KEY.secret
    theirs = eth_account.Account.encrypt(KEY.secret, PASSPHRASE.decode(), kdf="scrypt", iterations=FEW)
    assert decode_keystore(json.dumps(theirs).encode(), PASSPHRASE).secret == KEY.secret
    assert json.loads(ours)["address"] == KEY.account.hex()


def test_the_products_own_cost_is_gethss() -> None:
    row = json.loads(encode_keystore(KEY, PASSPHRASE, n=SCRYPT_N))
    assert row["crypto"]["kdfparams"]["n"] == 262_144 and decode_keystore(json.dumps(row).encode(), PASSPHRASE)
    assert KEY.secret.hex() not in json.dumps(row)


def test_a_wrong_passphrase_and_a_short_one_are_refused() -> None:
    with pytest.raises(Refused, match="passphrase"):
        decode_keystore(encode_keystore(KEY, PASSPHRASE, n=FEW), PASSPHRASE + b" ")
    with pytest.raises(Misuse, match="8 characters"):
        encode_keystore(KEY, b"sevench", n=FEW)


@pytest.mark.parametrize(
    ("field", "value"),
    [("n", 1 << 40), ("n", 3), ("n", 0), ("r", 0), ("p", 10**9), ("dklen", 16), ("salt", "zz"), ("n", "many")],
)
def test_a_document_that_would_take_the_machine_is_refused_before_any_work(field: str, value: Any) -> None:
    row = json.loads(encode_keystore(KEY, PASSPHRASE, n=FEW))
    row["crypto"]["kdfparams"][field] = value
    with pytest.raises(Refused):
        decode_keystore(json.dumps(row).encode(), PASSPHRASE)


@settings(max_examples=50, deadline=None)
@given(
    st.binary(max_size=200)
    | st.dictionaries(st.text(), st.integers() | st.text()).map(lambda x: json.dumps(x).encode())
)
def test_bytes_that_are_no_keystore_are_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        decode_keystore(data, PASSPHRASE)


def test_a_home_is_locked_exported_imported_and_unlocked_and_stays_the_same_peer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, other, file = Home(tmp_path / "a"), Home(tmp_path / "b"), str(tmp_path / "back-up.json")
    key = home.create_key()
    named = ["--home", str(home.path)]
    assert main(["keys", "lock", *named, "--passphrase-fd", fd_with(PASSPHRASE)]) == 0
    assert stat.S_IMODE(home.key_path.stat().st_mode) == 0o600 and key.secret.hex() not in home.key_path.read_text()
    with pytest.raises(Refused, match="locked"):
        home.load_key()
    assert home.load_key(lambda: PASSPHRASE).secret == key.secret
    home.check_key()
    assert main(["keys", "lock", *named, "--passphrase-fd", fd_with(PASSPHRASE)]) == 2
    assert main(["keys", *named, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert shown == {
        "account": "0x" + key.account.hex(),
        "file": str(home.key_path),
        "is_locked": True,
        "founder": None,
    }
    assert main(["keys", "export", *named, "--file", file]) == 0
    assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600
    into = ["keys", "import", "--home", str(other.path), "--file", file, "--passphrase-fd"]
    assert main([*into, fd_with(b"not the passphrase")]) == 4 and not other.path.exists()  # nor an empty folder
    assert main([*into, fd_with(PASSPHRASE)]) == 0
    assert main([*into, fd_with(PASSPHRASE)]) == 2  # never over another key
    assert other.load_key(lambda: PASSPHRASE).account == key.account
    assert main(["keys", "unlock", "--home", str(other.path), "--passphrase-fd", fd_with(PASSPHRASE)]) == 0
    assert other.load_key().secret == key.secret
    said = capsys.readouterr()
    assert PASSPHRASE.decode() not in said.out + said.err and key.secret.hex() not in said.out + said.err


def test_a_script_is_told_in_one_object_what_became_of_a_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, file = Home(tmp_path / "a"), str(tmp_path / "out.json")
    account = "0x" + home.create_key().account.hex()
    for order, path, more in (
        (("lock",), home.path, {"is_locked": True}),
        (("export", "--file", file), home.path, {"is_locked": True, "exported": file}),
        (("import", "--file", file), tmp_path / "b", {"is_locked": True}),
        (("unlock",), tmp_path / "b", {"is_locked": False}),
    ):
        fd = fd_with(PASSPHRASE)
        assert main(["keys", *order, "--home", str(path), "--passphrase-fd", fd, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"account": account, "file": str(path / "key"), **more}


def test_a_plain_key_is_exported_under_a_passphrase_and_a_running_peers_key_stays_as_it_is(tmp_path: Path) -> None:
    home, file = Home(tmp_path / "a"), tmp_path / "out.json"
    key = home.create_key()
    assert (
        main(["keys", "export", "--home", str(home.path), "--file", str(file), "--passphrase-fd", fd_with(PASSPHRASE)])
        == 0
    )
    assert bytes(eth_account.Account.decrypt(file.read_text(), PASSPHRASE.decode())) == key.secret
    with home.lock():
        assert main(["keys", "lock", "--home", str(home.path), "--passphrase-fd", fd_with(PASSPHRASE)]) == 3
    assert home.load_key().secret == key.secret


def test_a_back_up_that_is_there_already_is_said_before_anybody_is_asked_for_a_passphrase(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, file = Home(tmp_path / "a"), tmp_path / "out.json"
    home.create_key()
    file.symlink_to(tmp_path / "nowhere")  # no file yet, and a name all the same
    fd = fd_with(PASSPHRASE)
    assert main(["keys", "export", "--home", str(home.path), "--file", str(file), "--passphrase-fd", fd]) == 2
    assert "exists already" in capsys.readouterr().err
    assert os.read(int(fd), 100) == PASSPHRASE + b"\n" and not (tmp_path / "nowhere").exists()


def test_a_locked_home_joins_with_its_passphrase_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home(tmp_path / "a")
    home.create_key()
    assert main(["keys", "lock", "--home", str(home.path), "--passphrase-fd", fd_with(PASSPHRASE)]) == 0
    join = ["join", "--home", str(home.path), "--quiet", "--no-mdns", "--passphrase-fd"]
    assert main([*join, fd_with(b"not the passphrase")]) == 4
    assert "passphrase is not the one" in capsys.readouterr().err
    assert main([*join, fd_with(PASSPHRASE)]) == 2  # opened; what is missing now is an address
    assert "--bootstrap" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changed",
    [{"n": 2, "r": 4_000_000, "p": 16}, {"n": 2, "r": 700_000, "p": 16}, {"n": 1 << 20, "r": 8, "p": 16, "dklen": 32}],
)
def test_wide_rows_and_many_lanes_do_not_pass_for_little_memory(changed: dict[str, int]) -> None:
    """Few rows of a table, each of hundreds of megabytes: the lanes are what takes the memory."""
    row = json.loads(encode_keystore(KEY, PASSPHRASE, n=FEW))
    row["crypto"]["kdfparams"] |= changed
    with pytest.raises(Refused, match="not what this machine should be asked for"):
        decode_keystore(json.dumps(row).encode(), PASSPHRASE)


def test_a_number_that_is_infinite_is_refused_in_words() -> None:
    data = encode_keystore(KEY, PASSPHRASE, n=FEW).replace(b'"n": 1024', b'"n": 1e999')
    with pytest.raises(Refused, match="missing or damaged"):
        decode_keystore(data, PASSPHRASE)


def test_a_keystore_that_names_another_account_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`keys show` believes it until it is opened; what is imported must be who it says it is."""
    row = json.loads(encode_keystore(KEY, PASSPHRASE, n=FEW))
    for address, words in (
        ("ab" * 20, "holds the key of"),
        ("\x1b[2J", "address is none"),
        (7, "address is none"),
    ):
        file = tmp_path / "theirs.json"
        file.write_text(json.dumps(row | {"address": address}))
        into = ["keys", "import", "--home", str(tmp_path / "h"), "--file", str(file)]
        assert main([*into, "--passphrase-fd", fd_with(PASSPHRASE)]) == 4
        error = capsys.readouterr().err
        assert words in error and "\x1b" not in error and not (tmp_path / "h" / "key").exists()
    for address in ("0x" + KEY.account.hex().upper(), "", None):
        assert decode_keystore(json.dumps(row | {"address": address}).encode(), PASSPHRASE).secret == KEY.secret


def test_a_passphrase_is_never_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home(tmp_path)
    home.create_key()
    before = home.read_key()
    assert main(["keys", "lock", "--home", str(tmp_path), "--passphrase-fd", fd_with(b"x" * 1_025)]) == 2
    assert "at most 1024 bytes" in capsys.readouterr().err and home.read_key() == before
    assert main(["keys", "lock", "--home", str(tmp_path), "--passphrase-fd", fd_with(b"x" * 1_024)]) == 0


@pytest.mark.parametrize("kind", ["theirs", "link"])
def test_an_export_into_a_folder_of_others_goes_into_no_file_of_theirs(tmp_path: Path, kind: str) -> None:
    home, shared = Home(tmp_path / "h"), tmp_path / "shared"
    home.create_key()
    shared.mkdir()
    planted, elsewhere = shared / "back-up.json.part", tmp_path / "elsewhere"
    if kind == "link":
        planted.symlink_to(elsewhere)
    else:
        planted.touch(mode=0o666)
    held = planted.open("r") if kind == "theirs" else None
    file = str(shared / "back-up.json")
    export = ["keys", "export", "--home", str(home.path), "--file", file, "--passphrase-fd"]
    assert main([*export, fd_with(PASSPHRASE)]) == 0
    assert not elsewhere.exists() and (held is None or held.read() == "")
    assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600 and not planted.is_symlink()
    assert decode_keystore(Path(file).read_bytes(), PASSPHRASE).account == home.load_key().account
