"""`join` before it is connected: what it refuses, what it says and what it leaves in a home."""

import logging
import re
import socket
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
import trio.testing
from app_support import make_genesis
from family_support import make_unknown

from flock_chain.errors import Unavailable
from flock_chain.parameters import DEMO
from flock_p2p import checkup
from flock_p2p.cli import main
from flock_p2p.commands.join import _get_genesis, _tell_taking_part
from flock_p2p.config import JoinConfig, load_config, save_config
from flock_p2p.founding import make_founder
from flock_p2p.founding import make_genesis as found_network
from flock_peers.home import Home
from flock_peers.network import genesis_fetch, mdns
from flock_peers.network.identity import Address

Usage = namedtuple("Usage", "total used free")


def test_join_says_once_from_which_round_on_it_takes_part_however_long_that_cannot_be_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers: list[int | Unavailable | None] = [Unavailable("so many ask"), None, 3]
    left, joined = SimpleNamespace(task=6, is_leaving=True), SimpleNamespace(task=7, is_leaving=False)
    parts: list[SimpleNamespace | None] = [None, left, *[joined] * 3]  # of the first its owner wanted no more

    async def find_first_round() -> int | None:
        if isinstance(answer := answers.pop(0), Unavailable):
            raise answer
        return answer

    class Joining:
        @property
        def participant(self) -> SimpleNamespace | None:
            if (part := parts.pop(0)) is not None:
                part.membership = SimpleNamespace(find_first_round=find_first_round)
            return part

    trio.run(_tell_taking_part, Joining(), clock=trio.testing.MockClock(autojump_threshold=0))
    assert not answers and not parts
    said = capsys.readouterr().out
    assert re.fullmatch(r"joined   taking part in task 7 from round 3 on, \d+\.\d s after .*\n", said)


def test_join_without_a_network_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["join", "--home", str(tmp_path), "--quiet", "--no-mdns"]) == 2
    assert "--bootstrap" in capsys.readouterr().err


def test_a_slip_in_an_address_is_wrong_usage_and_no_other_peers_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--bootstrap", "--via"):
        assert main(["join", "--home", str(tmp_path), "--quiet", option, "/ip4/192.0.2.1/tcp/4200"]) == 2
        assert f"join: {option}: address '/ip4/192.0.2.1/tcp/4200': must look like" in capsys.readouterr().err


@pytest.mark.parametrize("told", [("--domain", "pyhton"), ("--domain-slice", "16")])
def test_text_that_is_not_there_is_said_when_it_is_asked_for_and_not_by_a_trainer_later(
    tmp_path: Path, told: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["join", "--home", str(tmp_path), "--quiet", "--no-mdns", *told]) == 2
    error = capsys.readouterr().err
    assert "domain" in error and told[1] in error and error.count("\n") == 1


@pytest.mark.parametrize("text", ["", "{}\n[]\n", "not json\n"])
def test_a_data_file_without_usable_rows_is_refused_before_anything_is_contacted(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(text)
    home = str(tmp_path / "h")
    code = main(["join", "--home", home, "--quiet", "--data", str(data), "--bootstrap", "/ip4/127.0.0.1/tcp/1/p2p/x"])
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and str(data) in error


@pytest.mark.parametrize(
    ("more", "said"),
    [("", "data     4 rows\n"), ('{"a": 1}\n', "data     4 rows; 1 left out: line 5: none of the keys ")],
)
def test_how_many_rows_were_read_is_said_whether_some_were_left_out_or_not(
    tmp_path: Path, more: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"text": "x"}\n' * 4 + more)
    home = str(tmp_path / "h")
    assert main(["join", "--home", home, "--quiet", "--data", str(data), "--bootstrap", "/ip4/127.0.0.1/tcp/1"]) == 2
    assert said in capsys.readouterr().out


def test_a_base_that_no_trainer_opens_is_refused_when_it_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_unknown(tmp_path / "base")
    home = tmp_path / "home"
    assert main(["join", "--home", str(home), "--quiet", "--no-mdns", "--base", str(folder)]) == 2
    assert f"base model {folder}: cannot be loaded" in capsys.readouterr().err
    save_config(Home(home), JoinConfig(base=str(folder)))
    assert main(["join", "--home", str(home), "--quiet", "--no-mdns"]) == 2
    assert "--bootstrap" in capsys.readouterr().err


def test_a_join_that_is_refused_leaves_the_running_peers_home_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path / "h")
    with home.lock():
        save_config(home, JoinConfig(domain="docs"))
        before = {path.name: path.read_bytes() for path in home.path.iterdir()}
        handlers = list(logging.getLogger().handlers)
        code = main(["join", "--home", str(home.path), "--quiet", "--domain", "records", "--bootstrap", "/ip4/1.2.3.4"])
        assert code == 3 and "in use" in capsys.readouterr().err
        assert {path.name: path.read_bytes() for path in home.path.iterdir()} == before
        assert logging.getLogger().handlers == handlers


def test_a_bootstrap_peer_that_nobody_reaches_is_said_with_what_to_look_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:  # bound, and listened at by nobody
        taken.bind(("127.0.0.1", 0))
        address = (
            f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}/p2p/16Uiu2HAky4HLfaDwSXFPBtHHyjGY3sZeAmEXRNfWTqBFdoCd3cFd"
        )
        assert main(["join", "--home", str(tmp_path), "--quiet", "--bootstrap", address]) == 3
    said = capsys.readouterr()
    assert f"{address}: nobody answers there" in said.err and said.err.endswith("is its TCP port open?\n")
    assert not Home(tmp_path).key_path.exists() and "key" not in said.out  # nothing that one has to back up


def test_where_nobody_of_the_wanted_network_is_heard_that_one_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peers of others may well have been."""

    asked = list[bytes | None]()

    async def find_nobody(_seconds: float, *, wanted: bytes | None) -> dict[bytes, list[Address]]:
        asked.append(wanted)
        return {}

    monkeypatch.setattr(mdns, "find_networks", find_nobody)
    for told, whose in (((), "one"), (("--genesis", "ab" * 32), f"the network with genesis {'ab' * 32}")):
        assert main(["join", "--home", str(tmp_path), "--quiet", *told]) == 3
        said = capsys.readouterr().err
        assert f"no peer of {whose} was heard on the local network within 5 s" in said
        assert "init --new-network NAME" in said
    assert asked == [None, b"\xab" * 32]


def test_what_a_failed_join_was_told_is_not_kept_and_it_makes_no_key(tmp_path: Path) -> None:
    for told in (("--domain", "docs"), ("--domain", "pyhton"), ("--bootstrap", "x"), ("--checkpoint", "x")):
        assert main(["join", "--home", str(tmp_path), "--quiet", "--no-mdns", *told]) == 2
        assert load_config(Home(tmp_path)) == JoinConfig() and not Home(tmp_path).key_path.exists()


def test_a_first_join_that_is_refused_after_the_network_is_known_makes_no_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is after the genesis was fetched. With a port that is taken, with nobody to ask, for the chain or for a
    snapshot; the last two left a key. Each try shows the hash again: of the one before nobody may have read it."""
    home, genesis = Home(tmp_path), make_genesis()
    home.store_genesis(genesis.encode())
    shown = f"network  {genesis.network}, genesis {genesis.hash.hex()}\n"
    asked = "         compare this hash with one that you trust; --genesis HASH pins it\n"
    alone = ["join", "--home", str(tmp_path), "--quiet", "--no-mdns", "--listen", "127.0.0.1", "--http", "-1"]
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        for told, code, word in (
            (("--port", port), 3, f"port {port} on 127.0.0.1 is taken"),
            (("--port", "0"), 2, "no bootstrap address"),
            (("--port", "0", "--checkpoint", f"7:{'ab' * 32}"), 2, "no bootstrap address"),
        ):
            assert main([*alone, *told]) == code
            said = capsys.readouterr()
            assert word in said.err and said.out == shown + asked
            assert not home.key_path.exists() and load_config(home) == JoinConfig()
    nobody = [*alone, "--port", "0"]
    for told, lines in (((), shown + asked), (("--genesis", genesis.hash.hex()), shown)):
        assert main([*nobody, *told]) == 2 and capsys.readouterr().out == lines
    home.create_key()
    assert main(nobody) == 2 and capsys.readouterr().out == shown + asked  # `init` makes one before the first join
    save_config(home, JoinConfig())  # as a peer does that could start
    assert main(nobody) == 2 and capsys.readouterr().out == ""
    home.key_path.unlink()  # a configuration that was put here by hand
    assert main(nobody) == 2 and capsys.readouterr().out == shown + asked


def test_a_founders_first_join_says_who_compares_the_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home(tmp_path)
    founder = make_founder(home.create_key())
    genesis = found_network("ours", [founder], DEMO, chain_id=7, timestamp=1)
    home.store_genesis(genesis.encode())
    assert _get_genesis(home, home.load_key(), JoinConfig(), None) == genesis
    assert "whoever joins compares this hash with yours" in capsys.readouterr().out


def test_a_join_says_that_the_disk_is_nearly_full_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = ["join", "--home", str(tmp_path), "--quiet", "--no-mdns", "--listen", "127.0.0.1", "--port", "0"]
    for free, is_told in ((10**8, True), (10**11, False)):
        monkeypatch.setattr(checkup.shutil, "disk_usage", lambda _path, free=free: Usage(10**12, 10**12 - free, free))
        assert main(nobody) == 2  # for the reason that it has without that
        said = capsys.readouterr()
        assert ("disk     0.1 GB free" in said.out) is is_told and "belongs to no network yet" in said.err


def test_a_hash_that_was_fetched_is_shown_whatever_else_is_in_the_home(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where somebody removed genesis.json: the network that answers may be another one."""
    home, genesis = Home(tmp_path), make_genesis()

    async def fetch(*_: object, **_named: object) -> bytes:
        return genesis.encode()

    monkeypatch.setattr(genesis_fetch, "fetch_genesis", fetch)
    key = home.create_key()
    save_config(home, JoinConfig())
    for shown in (f"network  {genesis.network}, genesis {genesis.hash.hex()}\n", ""):
        assert _get_genesis(home, key, JoinConfig(bootstrap=("somebody",)), genesis.hash) == genesis
        assert capsys.readouterr().out == shown
