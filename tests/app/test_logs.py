"""A peer's log: one line an event, private, followed through rotation, and without a secret in it."""

import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from network_support import in_trio
from rpc_support import USER, VALIDATOR, drip, faucet_deposit, serving
from secret_support import find_secrets, forms, secrets_of

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


def test_a_traceback_can_forge_no_event_and_moves_no_terminal(logged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("test")
    try:
        raise ValueError("x\n2026-01-01T00:00:00.000 ERROR   driver: forged\x1b[2J\r\u2028end")
    except ValueError:
        log.exception("a request failed")
    log.info("after")
    first, *trace, last = logged.read_text().splitlines()
    assert "a request failed" in first and last.endswith("after") and "\x1b" not in "".join(trace)
    assert trace and all(line.startswith("    | ") for line in trace) and any("forged" in line for line in trace)
    log.error("one more\n")
    assert main(["log", "--home", str(logged.parent), "--level", "error"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[:-1] == [first, *trace] and "one more" in shown[-1]  # a traceback goes with its event


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


def test_a_rotation_takes_no_line_from_the_last_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a traceback that was rotated goes with its event."""

    def event(number: int, level: str = "INFO") -> str:
        return f"2026-11-21T15:00:00.{number:03} {level:7} flock_peers.x: event {number}\n"

    (tmp_path / "peer.log.2").write_text(event(1) + event(2))
    (tmp_path / "peer.log.1").write_text(event(3) + event(4, "ERROR"))
    (tmp_path / "peer.log").write_text("    | Traceback\n" + event(5))
    for arguments, last in (
        (["--lines", "4"], ["3", "4", "Traceback", "5"]),
        (["--lines", "9"], ["1", "2", "3", "4", "Traceback", "5"]),
        (["--level", "error"], ["4", "Traceback"]),
    ):
        assert main(["log", "--home", str(tmp_path), *arguments]) == 0
        assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == last
    assert main(["log", "--home", str(tmp_path), "--lines", "2", "--json"]) == 0
    trace, told = map(json.loads, capsys.readouterr().out.splitlines())
    assert trace == {"at": None, "level": None, "source": None, "text": "    | Traceback"}
    assert told == {
        "at": "2026-11-21T15:00:00.005", "level": "INFO", "source": "flock_peers.x", "text": "event 5"
    }  # fmt: skip


def test_ctrl_c_is_how_following_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "peer.log").write_text("one\n")

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flock_p2p.commands.log.time.sleep", interrupt)
    assert main(["log", "--home", str(tmp_path), "--follow"]) == 0


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


def test_following_goes_on_where_the_log_is_cut_short_in_place(tmp_path: Path) -> None:
    """As `copytruncate` of logrotate does it."""
    path = tmp_path / "peer.log"
    path.write_text("a long line before\n")
    steps = iter([lambda: path.write_text("short\n"), lambda: path.open("a").write("more\n")])
    lines = follow(path, path.stat().st_size, lambda: next(steps)())
    assert [next(lines) for _ in range(2)] == ["short\n", "more\n"]


@in_trio()
async def test_no_secret_is_in_the_log_at_any_level(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(tmp_path, rpc=True) as served:
        digest = await served.send(USER, FAUCET, drip(b"\x5d" * 20), value=faucet_deposit(served.peer))
        await served.receipt(digest)
        await served.rpc("eth_sendRawTransaction", "0x00")
        await served.rpc("eth_call", {"to": "0x00"})
        status = str(await served.peer.control.status({}))
    assert len(caplog.records) > 3
    said = (caplog.text + status).encode()
    for secret in (*secrets_of(VALIDATOR), *secrets_of(USER)):
        assert not any(form in said for form in forms(secret))


def test_what_looks_for_secrets_finds_them_in_every_form(tmp_path: Path) -> None:
    """The tests of whole runs ask it, and would pass if it saw nothing."""
    for secret in secrets_of(USER):
        for form in forms(secret):
            (tmp_path / "a.log").write_bytes(b"so far " + form + b" so good")
            assert find_secrets(tmp_path, [secret]) == [str(tmp_path / "a.log")], form
            assert find_secrets(tmp_path, [secret], apart_from=("a.log",)) == []
    (tmp_path / "a.log").write_text("nothing")
    assert find_secrets(tmp_path, secrets_of(USER)) == []
