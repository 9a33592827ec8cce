"""A peer's log: one line an event, private, followed through rotation, and without a secret in it."""

import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from network_support import in_trio
from rpc_support import USER, VALIDATOR, drip, faucet_deposit, serving

from flock_chain import ecvrf
from flock_contracts.addresses import FAUCET
from flock_p2p.cli import main
from flock_p2p.commands.log import follow
from flock_p2p.logs import start_logging
from flock_peers.home import Home


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    start_logging(Home(tmp_path / "h"), quiet=True)
    yield tmp_path / "h" / "peer.log"
    for handler in [each for each in root.handlers if each not in before]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def test_an_event_is_one_private_line_whatever_text_is_in_it(logged: Path) -> None:
    log = logging.getLogger("test")
    log.warning("a peer says %s", "x\n2026-01-01T00:00:00.000 ERROR   driver: forged\x1b[2J")
    (line,) = logged.read_text().splitlines()
    assert "WARNING" in line and "\\n2026" in line and "\\x1b" in line
    assert stat.S_IMODE(logged.stat().st_mode) == 0o600


def test_the_log_command_shows_the_last_lines_of_a_level(logged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("test")
    for number in range(30):
        log.log(logging.WARNING if number % 10 == 0 else logging.INFO, "event %d", number)
    home = str(logged.parent)
    assert main(["log", "--home", home, "--lines", "2"]) == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["28", "29"]
    assert main(["log", "--home", home, "--level", "warning"]) == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["0", "10", "20"]
    assert main(["log", "--home", home, "--lines", "-1"]) == 2
    assert main(["log", "--home", home + "-none"]) == 3


def test_following_goes_on_through_a_rotation_and_waits_for_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "peer.log"
    path.write_text("old\n")
    steps = iter(
        [
            lambda: path.open("a").write("one\ntw"),
            lambda: path.open("a").write("o\n"),
            lambda: (path.open("a").write("last\n"), path.rename(tmp_path / "peer.log.1"), path.write_text("fresh\n")),
        ]
    )
    lines = follow(path, 4, lambda: next(steps)())
    assert [next(lines) for _ in range(4)] == ["one\n", "two\n", "last\n", "fresh\n"]


@in_trio(60)
async def test_no_secret_is_in_the_log_at_any_level(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(tmp_path, rpc=True) as served:
        digest = await served.send(USER, FAUCET, drip(b"\x5d" * 20), value=faucet_deposit(served.peer))
        await served.receipt(digest)
        await served.rpc("eth_sendRawTransaction", "0x00")
        await served.rpc("eth_call", {"to": "0x00"})
        status = str(await served.peer.control.status({}))
    assert len(caplog.records) > 3
    for secret in (VALIDATOR.secret, USER.secret, ecvrf.derive_seed(VALIDATOR)):
        for text in (secret.hex(), str(secret)[2:-1], str(int.from_bytes(secret, "big"))):
            assert text not in caplog.text and text not in status
