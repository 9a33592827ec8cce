"""`init --new-network`: a key, and a genesis that is checked as any other; nothing where something is wrong."""

import json
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from flock_chain import ecvrf
from flock_chain.crypto import Key
from flock_chain.execution.genesis_state import build_genesis
from flock_chain.genesis import Genesis
from flock_chain.parameters import DEFAULT, DEMO
from flock_contracts.addresses import FAUCET
from flock_p2p.cli import build_parser, main
from flock_p2p.demo.plan import make_plan
from flock_p2p.founding import Founder, count_quorum, make_founder, parse_founder
from flock_peers.home import Home
from flock_peers.keystore import encode_keystore

COIN = 10**18
OTHERS = [make_founder(Key(bytes([number]) * 32)) for number in (1, 2, 3)]


def found(home: Path, *told: str, name: str = "our lan") -> Genesis:
    assert main(["init", "--home", str(home), "--new-network", name, *told]) == 0
    return Home(home).load_genesis()


def test_a_new_network_has_this_homes_key_as_its_validator_and_a_demos_terms(tmp_path: Path) -> None:
    genesis = found(tmp_path / "h")
    me, demo = Home(tmp_path / "h").load_key(), make_plan(peers=4, rounds=1, poisoners=0, seed=1, folder=tmp_path)
    (validator,) = genesis.validators
    assert (validator.account, validator.stake) == (me.account, 32 * COIN)
    assert validator.vrf_key == ecvrf.public_key(ecvrf.derive_seed(me))
    assert genesis.network == "our lan" and genesis.parameters == demo.genesis.parameters == DEMO
    shares = dict(demo.genesis.accounts)
    assert dict(genesis.accounts) == {FAUCET: shares[FAUCET], me.account: shares[demo.peers[0].account]}
    assert build_genesis(genesis).block.height == 0


def test_key_and_genesis_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    found(tmp_path / "h")
    for name in ("key", "genesis.json"):
        assert (tmp_path / "h" / name).stat().st_mode & 0o777 == 0o600, name


def test_two_networks_of_one_name_take_none_of_each_others_transactions(tmp_path: Path) -> None:
    ids = {found(tmp_path / name).chain_id for name in ("a", "b")}
    assert len(ids) == 2 and all(1 << 48 <= number < 1 << 49 for number in ids)


def test_it_prints_the_hash_to_compare_and_the_command_that_starts_the_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "my peer"
    genesis = found(home)
    said = capsys.readouterr().out
    assert f"network  our lan, genesis {genesis.hash.hex()}\n" in said
    assert "the only validator: stop it, and the network waits" in said
    assert Home(home).load_key().secret.hex() not in said
    first, other = (shlex.split(line) for line in re.findall(r"python -m flock_p2p (join .*)", said))
    assert build_parser().parse_args(first).home == home and len(first) == 3
    assert build_parser().parse_args(other).genesis == genesis.hash.hex()


def test_a_script_is_told_the_network_and_nothing_of_the_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genesis = found(tmp_path / "h", "--json", *name_all(OTHERS))
    said = capsys.readouterr().out
    row, key = json.loads(said), Home(tmp_path / "h").load_key()
    assert row == {
        "home": str(tmp_path / "h"), "account": "0x" + key.account.hex(), "key": str(tmp_path / "h" / "key"),
        "founder": str(make_founder(key)), "network": "our lan", "genesis": genesis.hash.hex(),
        "chain_id": genesis.chain_id, "founders": 4, "quorum": 3,
    }  # fmt: skip
    assert key.secret.hex() not in said


def name_all(founders: Sequence[Founder]) -> list[str]:
    return [word for founder in founders for word in ("--founder", str(founder))]


def test_other_founders_are_named_by_what_their_init_and_their_keys_print(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "--home", str(tmp_path / "other"), "--json"]) == 0
    theirs = json.loads(capsys.readouterr().out)["founder"]
    assert main(["keys", "--home", str(tmp_path / "other")]) == 0
    assert f"founder  {theirs}  (" in capsys.readouterr().out
    assert main(["keys", "--home", str(tmp_path / "other"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["founder"] == theirs
    genesis = found(tmp_path / "h", "--founder", theirs)
    other = Home(tmp_path / "other").load_key().account
    assert {row.account for row in genesis.validators} == {Home(tmp_path / "h").load_key().account, other}
    assert dict(genesis.accounts)[other] == 1_000 * COIN
    assert "come while 2 of the 2 first validators run" in capsys.readouterr().out


def test_what_is_said_of_the_faucet_and_the_delays_is_what_the_genesis_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genesis = found(tmp_path / "a", "--faucet", "12.5", "--delays", "long")
    assert dict(genesis.accounts)[FAUCET] == COIN * 25 // 2 and genesis.parameters == DEFAULT
    assert "12.5 coins in the faucet, of which a newcomer gets 10 coins" in capsys.readouterr().out
    assert FAUCET not in dict(found(tmp_path / "b", "--faucet", "0").accounts)
    assert "no faucet" in capsys.readouterr().out


def test_a_key_that_is_there_founds_the_network_also_when_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(encode_keystore.__kwdefaults__, "n", 1 << 10)  # a cost that a test can pay
    assert main(["init", "--home", str(tmp_path)]) == 0
    key = Home(tmp_path).load_key()
    for line in (["keys", "lock"], ["init", "--new-network", "n"]):
        reading, writing = os.pipe()
        os.write(writing, b"a passphrase of nine odd words\n")
        os.close(writing)
        assert main([*line, "--home", str(tmp_path), "--passphrase-fd", str(reading)]) == 0
        os.close(reading)
    assert Home(tmp_path).load_genesis().validators[0].account == key.account


def test_a_locked_key_says_its_founder_where_the_passphrase_is_given_and_the_rest_in_any_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(encode_keystore.__kwdefaults__, "n", 1 << 10)  # a cost that a test can pay
    assert main(["init", "--home", str(tmp_path)]) == 0
    founder = make_founder(Home(tmp_path).load_key())
    for line in (["keys", "lock"], ["keys"], ["keys", "--json"]):
        reading, writing = os.pipe()
        os.write(writing, b"a passphrase of nine odd words\n")
        os.close(writing)
        capsys.readouterr()
        assert main([*line, "--home", str(tmp_path), "--passphrase-fd", str(reading)]) == 0
        os.close(reading)
        assert line == ["keys", "lock"] or str(founder) in capsys.readouterr().out, line
    assert main(["keys", "--home", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "founder  locked, too: `keys --passphrase-fd N` shows it" in said and founder.account.hex() in said


def test_a_home_keeps_the_genesis_that_it_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    genesis = found(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["init", "--home", str(tmp_path), "--new-network", "another"]) == 4
    error = capsys.readouterr().err
    assert f"belongs to the network our lan (genesis {genesis.hash.hex()})" in error and error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["chain", "consensus"])
def test_a_home_that_has_lost_its_genesis_gets_no_other_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["init", "--home", str(tmp_path)]) == 0
    (tmp_path / name).mkdir()
    assert main(["init", "--home", str(tmp_path), "--new-network", "n"]) == 4
    assert "restore that from your back-up" in capsys.readouterr().err
    assert not (tmp_path / "genesis.json").exists()


def test_a_folder_of_other_files_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "letter").write_text("dear")
    assert main(["init", "--home", str(tmp_path), "--new-network", "n"]) == 2
    assert "no home, and not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter"]


def test_a_home_in_use_gets_no_genesis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--home", str(tmp_path)]) == 0
    with Home(tmp_path).lock():
        assert main(["init", "--home", str(tmp_path), "--new-network", "n"]) == 3
    assert "in use by another running peer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (["--new-network", ""], "a network name has 1 to 64 printable characters"),
        (["--new-network", "n" * 65], "a network name has 1 to 64 printable characters"),
        (["--new-network", "n", "--faucet", "much"], "'much' is no amount in coins"),
        (["--new-network", "n", "--faucet", "9.5"], "--faucet 9.5: less than the 10 coins that a newcomer gets"),
        (["--new-network", "n", *name_all(OTHERS[:1] * 2)], "an account is named twice"),
        (["--new-network", "n", *name_all([OTHERS[0], replace(OTHERS[1], vrf_key=OTHERS[0].vrf_key)])], "a VRF key is"),
        (["--new-network", "n", "--passphrase-fd", "9"], "a new key is under no passphrase"),
        (["--passphrase-fd", "9"], "a new key is under no passphrase"),
        (["--new-network", "n", "--founder", "0x12:34"], "account is not 20 bytes in hex"),
        (["--new-network", "n", "--founder", str(OTHERS[0])[:-2]], "VRF key is not 32 bytes in hex"),
        (["--new-network", "n", "--founder", str(OTHERS[0])[:43] + "ff" * 32], "nobody can have this VRF key"),
        (["--faucet", "5"], "are of a new network"),
        (["--founder", str(OTHERS[0])], "are of a new network"),
        (["--delays", "long"], "are of a new network"),
    ],
)
def test_what_is_wrong_is_said_and_leaves_no_home(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], told: list[str], reason: str
) -> None:
    assert main(["init", "--home", str(tmp_path / "h"), *told]) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1
    assert not (tmp_path / "h").exists()


def test_a_first_join_takes_no_passphrase_that_would_lock_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["join", "--home", str(tmp_path / "h"), "--quiet", "--no-mdns", "--passphrase-fd", "9"]) == 2
    error = capsys.readouterr().err
    assert "a new key is under no passphrase; `keys lock` puts it under one" in error and error.count("\n") == 1
    assert not (tmp_path / "h").exists()


def test_more_founders_than_a_set_has_seats_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = [make_founder(Key(number.to_bytes(32, "big"))) for number in range(1, 151)]
    assert main(["init", "--home", str(tmp_path / "h"), "--new-network", "n", *name_all(many)]) == 2
    assert "Stake.initialize refused the document" in capsys.readouterr().err
    assert not (tmp_path / "h").exists()


def test_a_founder_is_read_as_it_is_written() -> None:
    assert [parse_founder(str(founder)) for founder in OTHERS] == OTHERS
    assert parse_founder(str(OTHERS[0])[2:].upper()) == OTHERS[0]


def test_a_quorum_is_the_least_number_above_two_thirds() -> None:
    for validators in range(1, 151):
        assert count_quorum(validators) == min(n for n in range(validators + 1) if 3 * n > 2 * validators)
