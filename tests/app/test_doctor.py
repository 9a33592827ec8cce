"""What `doctor` finds on a machine that is broken in one way at a time, and what it says to do."""

import itertools
import json
import socket
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from app_support import make_genesis

from flock_chain.errors import Unavailable
from flock_p2p import checkup
from flock_p2p.checkup import Finding, check_up, format_findings, make_asked, to_dict
from flock_p2p.cli import main
from flock_p2p.config import JoinConfig, save_config
from flock_peers.clock_offset import ClockOffset
from flock_peers.home import Home, write_private
from flock_peers.ledger import BlockInfo
from flock_peers.network import lan_check

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def _quiet_lan(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own network is nothing that a test may depend on."""
    monkeypatch.setattr(lan_check, "find_deaf_interfaces", lambda: (["10.0.0.1"], []))


def find(home: Path, name: str, **asked: Any) -> Finding:
    rows = check_up(make_asked(home, asked.get("genesis"), asked.get("bootstrap", ())))
    (row,) = (row for row in rows if row.name == name)
    return row


def write_genesis(home: Path) -> str:
    genesis = make_genesis()
    Home(home).store_genesis(genesis.encode())
    return str(genesis.hash.hex())


def test_a_new_home_has_nothing_wrong_and_says_what_could_not_be_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "none"
    save_config(Home(tmp_path / "some"), JoinConfig(port=0))
    assert all(row.is_ok is not False for row in check_up(make_asked(home, None, ())) if row.name != "port")
    assert not home.exists()  # it mends and makes nothing
    assert main(["doctor", "--package"]) == 0
    assert "package     ok    contracts Beacon" in capsys.readouterr().out


def test_a_taken_port_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        save_config(Home(tmp_path), JoinConfig(listen="127.0.0.1", port=other.getsockname()[1]))
        row = find(tmp_path, "port")
        assert row.is_ok is False and "is taken" in row.text and "--port" in row.advice
    assert find(tmp_path, "port").is_ok is True


def test_the_ports_of_a_first_start_that_goes_on_are_its_own(tmp_path: Path) -> None:
    """With a checkpoint it listens for as long as a snapshot takes to come, and makes the key when that is over."""
    home = Home(tmp_path)
    with home.lock(), socket.socket() as own, socket.socket() as page:
        for taken in (own, page):
            taken.bind(("127.0.0.1", 0))
            taken.listen()
        ports = {"port": own.getsockname()[1], "http": page.getsockname()[1]}
        save_config(home, JoinConfig(listen="127.0.0.1", rpc=True, **ports))
        for name in ("port", "http port"):
            assert find(tmp_path, name).text == checkup.TAKEN_BY_ITSELF
        save_config(home, JoinConfig(listen="127.0.0.1", port=1))  # edited since it started
        assert find(tmp_path, "port").text == checkup.TAKEN_BY_ITSELF
        assert "is starting" in find(tmp_path, "clock").text
    assert find(tmp_path / "none", "port") and not (tmp_path / "none").exists()


def test_a_full_disk_is_named_with_how_much_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup.shutil, "disk_usage", lambda _path: Usage(10**12, 10**12 - 10**8, 10**8))
    row = find(tmp_path, "disk")
    assert row.is_ok is False and "0.1 GB free" in row.text and "1.3 GB are needed" in row.advice
    monkeypatch.setattr(checkup.shutil, "disk_usage", lambda path: Usage(9, 0, 9 * 10**9) if path == tmp_path else None)
    assert find(tmp_path / "not" / "there", "disk").is_ok is True  # of what is there on the way


def test_a_home_that_would_not_start_is_named(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create_key()
    assert find(tmp_path, "home").is_ok is True
    write_private(tmp_path / "peer.toml", b"prot = 1\n")
    assert "did you mean port" in find(tmp_path, "home").text
    (tmp_path / "peer.toml").unlink()
    home.key_path.chmod(0o644)
    row = find(tmp_path, "home")
    assert row.is_ok is False and "chmod 600" in row.text


def test_a_place_where_no_home_can_be_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    for home in (file, file / "home"):
        row = find(home, "home")
        assert row.is_ok is False and str(file) in row.text and "--home" in row.advice
        assert find(home, "port").text != checkup.TAKEN_BY_ITSELF  # nobody runs there
    assert find(tmp_path / "new", "home").is_ok is None
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes").touch()
    row = find(foreign, "home")
    assert row.is_ok is False and "no home, and not empty ('notes' is in it)" in row.text
    assert find(foreign, "port").is_ok is not None and [path.name for path in foreign.iterdir()] == ["notes"]
    (foreign / "notes").unlink()
    for name in ("chain", "consensus"):
        (foreign / name).mkdir()
    assert "a home without its key; restore `key` and `genesis.json`" in find(foreign, "home").text
    monkeypatch.setattr(checkup.os, "access", lambda path, _mode: path != tmp_path)
    row = find(tmp_path / "new", "home")
    assert row.is_ok is False and f"{tmp_path}: this user cannot write there" in row.text


def test_a_home_of_another_network_is_named(tmp_path: Path) -> None:
    own = write_genesis(tmp_path)
    assert find(tmp_path, "genesis", genesis="0x" + own.upper()).is_ok is True
    row = find(tmp_path, "genesis", genesis="ab" * 32)
    assert row.is_ok is False and own in row.text and "--home" in row.advice
    (tmp_path / "genesis.json").write_bytes(b"{}")
    assert find(tmp_path, "genesis").is_ok is False


@pytest.mark.parametrize(
    ("offset", "is_ok", "words"),
    [(0.7, True, "0.7 s"), (None, None, "too few blocks"), (40.0, False, "40 s ahead of"), (-9.0, False, "9 s behind")],
)
def test_a_skewed_clock_is_named_with_its_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: float | None, is_ok: bool | None, words: str
) -> None:
    status = {"clock_offset": offset, "peers": ["0x1"], "has_quorum": True}
    monkeypatch.setattr(checkup, "request_control", lambda *_arguments, **_values: status)
    row = find(tmp_path, "clock")
    assert row.is_ok is is_ok and words in row.text and (is_ok is not False or "NTP" in row.advice)
    assert find(tmp_path, "peers").is_ok is True
    status |= {"peers": [], "has_quorum": False}
    assert find(tmp_path, "peers").is_ok is False


def test_a_peer_that_is_too_busy_to_answer_is_not_said_to_be_down(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create_key()
    with home.lock():
        row = find(tmp_path, "clock")
    assert row.is_ok is None and "runs, and did not answer: it is starting" in row.text and row.advice


def test_a_peer_that_does_not_answer_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, waited = make_asked(tmp_path, None, ()), list[float]()

    def answer(*_arguments: object, timeout: float) -> None:
        waited.append(timeout)
        raise Unavailable("no answer")

    monkeypatch.setattr(checkup, "request_control", answer)
    for name in ("clock", "peers"):
        assert dict(checkup.CHECKS)[name](asked).is_ok is None
    assert waited == [checkup.OWN_SECONDS]


def test_a_firewalled_local_network_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lan_check, "find_deaf_interfaces", lambda: (["10.0.0.1"], ["192.168.0.7"]))
    row = find(tmp_path, "local net")
    assert row.is_ok is False and "192.168.0.7" in row.text and "5353" in row.advice
    monkeypatch.setattr(lan_check, "find_deaf_interfaces", lambda: ([], []))
    assert find(tmp_path, "local net").is_ok is None


def test_a_bootstrap_peer_that_does_not_answer_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup, "ANSWER_SECONDS", 1.0)
    address = "/ip4/127.0.0.1/tcp/1/p2p/16Uiu2HAmRoQUoFwhUcHHSmCs56zwqsBPuZoBGUqZrMnPUjtZpcEt"
    row = find(tmp_path, "peers", bootstrap=[address])
    assert row.is_ok is False and "does that peer run" in row.advice
    assert find(tmp_path, "peers").is_ok is None
    status = {"clock_offset": None, "peers": ["0x1"], "has_quorum": True}
    monkeypatch.setattr(checkup, "request_control", lambda *_arguments, **_values: status)
    assert find(tmp_path, "peers").is_ok is True
    assert find(tmp_path, "peers", bootstrap=[address]).is_ok is False  # whether or not the home's own peer runs


def test_what_is_wrong_makes_the_exit_code_and_the_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_genesis(tmp_path)
    save_config(Home(tmp_path), JoinConfig(port=0))
    command = ["doctor", "--home", str(tmp_path), "--json"]
    assert main([*command, "--genesis", "ab" * 32]) == 1
    found = json.loads(capsys.readouterr().out)
    wrong = [row["name"] for row in found["findings"] if row["is_ok"] is False]
    assert found["ok"] is False and wrong == ["genesis"]
    text = format_findings([Finding("port", False, "taken", "choose another"), Finding("disk", True, "1 GB")])
    assert text.splitlines() == [
        "port        WRONG taken",
        " " * 18 + "choose another",
        "disk        ok    1 GB",
    ]
    assert to_dict([Finding("clock", None, "no peer")])["ok"] is True


def test_a_hash_that_is_none_is_wrong_usage_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["doctor", "--bootstrap", "x"], ["verify"], ["join", "--quiet", "--no-mdns"]):
        assert main([*command, "--home", str(tmp_path / "h"), "--genesis", "zz"]) == 2
        assert "64 hex digits" in capsys.readouterr().err
    assert not (tmp_path / "h").exists()


def test_a_check_that_cannot_be_made_is_a_finding_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "genesis.json").write_bytes(b"{}")
    address = "/ip4/127.0.0.1/tcp/1/p2p/16Uiu2HAmRoQUoFwhUcHHSmCs56zwqsBPuZoBGUqZrMnPUjtZpcEt"
    rows = {row.name: row for row in check_up(make_asked(tmp_path, None, [address]))}
    assert rows["genesis"].is_ok is False and rows["peers"].is_ok is None
    assert "could not be checked" in rows["peers"].text and list(rows) == [name for name, _ in checkup.CHECKS]


def test_a_taken_port_of_the_http_server_is_named(tmp_path: Path) -> None:
    save_config(Home(tmp_path), JoinConfig(port=0, http=-1))
    assert "none is wanted" in find(tmp_path, "http port").text
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        save_config(Home(tmp_path), JoinConfig(port=0, rpc=True, http=other.getsockname()[1]))
        row = find(tmp_path, "http port")
        assert row.is_ok is False and "is taken" in row.text and "--http" in row.advice
    assert find(tmp_path, "http port").is_ok is True
    save_config(Home(tmp_path), JoinConfig(port=0))
    assert find(tmp_path, "http port").is_ok is True  # free or not: without the RPC any other one will do


def test_memory_is_looked_at_for_the_base_model_that_the_home_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The package's own is tiny: it fits everywhere, and says nothing of the one that is asked for."""
    save_config(Home(tmp_path), JoinConfig(port=0, base=str(tmp_path / "no model")))
    assert main(["doctor", "--home", str(tmp_path), "--json"]) == 1
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["findings"]}
    assert rows["memory"]["is_ok"] is False and "no model" in rows["memory"]["text"]


class Blocks:
    """Heads that come when the test says so."""

    def __init__(self) -> None:
        self.head = BlockInfo(5, b"", 0, b"")
        self._send, self._receive = trio.open_memory_channel[BlockInfo](99)

    def add(self, height: int, timestamp: int) -> None:
        self._send.send_nowait(BlockInfo(height, b"", timestamp, b""))

    async def wait_new_head(self, height: int) -> int:
        self.head = await self._receive.receive()
        assert self.head.height > height
        return self.head.height


def test_the_offset_is_a_median_of_fresh_blocks_that_came_one_by_one() -> None:
    async def run() -> None:
        blocks, is_behind, now = Blocks(), [True], 1_000.0
        clock = ClockOffset(blocks, lambda: is_behind[0], lambda: now)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock.run)
            blocks.add(6, 10)  # while it catches up
            await trio.testing.wait_all_tasks_blocked()
            is_behind[0] = False
            blocks.add(9, 20)  # three at once
            for height, age in ((10, 2), (11, 500)):  # the second of a liar
                blocks.add(height, 1_000 - age)
            await trio.testing.wait_all_tasks_blocked()
            assert clock.read() is None
            blocks.add(12, 997)
            await trio.testing.wait_all_tasks_blocked()
            assert clock.read() == 3.0
            nursery.cancel_scope.cancel()

    trio.run(run)


def test_a_peer_whose_clock_is_wrong_says_so_once_until_it_is_right_again(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        blocks, now = Blocks(), 1_000.0
        clock = ClockOffset(blocks, lambda: False, lambda: now)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock.run)
            heights = iter(range(6, 1_000))
            for count, age, warnings in ((2, -41, 0), (9, -41, 1), (40, 1, 1), (40, 41, 2)):
                for height in itertools.islice(heights, count):
                    blocks.add(height, 1_000 - age)
                    await trio.testing.wait_all_tasks_blocked()
                assert len(caplog.messages) == warnings
            nursery.cancel_scope.cancel()

    trio.run(run)
    first, second = caplog.messages
    assert "clock is 41 s behind the blocks of the others: set it by NTP" in first and "s ahead of the blocks" in second


def test_what_others_say_on_the_group_is_not_taken_for_the_own_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lan_check, "HEAR_SECONDS", 0.3)
    udp = (socket.AF_INET, socket.SOCK_DGRAM)
    with socket.socket(*udp) as ear, socket.socket(*udp) as mouth:
        ear.bind(("127.0.0.1", 0))
        mouth.sendto(b"a question of somebody else", ear.getsockname())
        assert lan_check._hears(ear, b"own") is False
        mouth.sendto(b"again", ear.getsockname())
        mouth.sendto(b"my own question", ear.getsockname())
        assert lan_check._hears(ear, b"own") is True
