"""What `watch` and `peers` show of what a peer says."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from flock_p2p.cli import main
from flock_p2p.commands.peers import format_age, format_bytes, format_peers
from flock_p2p.commands.watch import TAIL_BYTES, read_tail
from flock_p2p.live_view import HEAD_ROWS, Pace, describe_line, get_key, render, shorten
from flock_peers.control import serve_control
from flock_peers.home import Home


def make_task(**changes: Any) -> dict[str, Any]:
    task = {"task": 1, "round": 1, "rounds": 5, "phase": "COMMIT", "joined": True, "is_ended": False, "awaited": []}
    return task | changes


PAID = make_task(pay={"task": 1, "round": 2, "amount": str(10**18), "total": str(5 * 10**18 // 2)})


def make_status(**changes: Any) -> dict[str, Any]:
    status = {
        "network": "test", "account": "0x" + "ab" * 20, "height": 7, "peers": ["0x1", "0x2"], "up_seconds": 65,
        "task": make_task(), "training": {"step": 5, "steps": 24, "loss": 2.5}, "sync": None, "transfers": [],
        "not_signing": "", "is_silent": False, "has_quorum": True, "away": [], "validators": 6,
    }  # fmt: skip
    return status | changes


def test_a_screen_shows_round_loss_peers_transfers_and_the_end_of_the_log() -> None:
    transfer = {
        "file": "bafkreiabcdefghijk", "done": 5_000_000, "bytes": 20_000_000, "bytes_per_second": 1e6,
        "providers": {"0x1": 1, "0x2": 2}, "eta_seconds": 15.0,
    }  # fmt: skip
    base = {"task": 2, "base": "bafk", "files": 5, "files_done": 3, "bytes": 9_000_000, "done": 4_000_000}
    status = make_status(
        transfers=[transfer], base_model=base, task=make_task(round=3, awaited=["0x" + "cd" * 20, "0x" + "ab" * 20])
    )
    log = [f"line {number}" for number in range(50)]
    lines = render(status, log, Pace(), 0.0, width=100, height=24)
    text = "\n".join(lines)
    for words in (
        "height 7, 2 peers, up 1 min 5 s",
        "task 1, round 3 of 5, COMMIT, taking part",
        "waiting for 0xcdcdcdcd, this peer",
        "training step 5 of 24, loss 2.5000",
        "fetching the base model of task 2: 4.0 MB of 9.0 MB, 3 of 5 files",
        "fetching bafkreiabcde: 5.0 MB of 20.0 MB, 1.0 MB/s from 2 peers, 15 s left",
    ):
        assert words in text
    assert " 50%" in text and lines[-1] == "line 49" and len(lines) < 24


def test_what_the_seats_of_a_peer_have_earned_is_shown_once_there_is_something() -> None:
    screen, line = render(make_status(task=PAID), [], Pace(), 0.0, width=100, height=24), make_status(task=PAID)
    assert "earned 2.5 coins, of that 1 in round 2" in screen
    assert describe_line(line, Pace(), 0.0).endswith(", loss 2.5000, earned 2.5 coins")
    for task in (make_task(), make_task(pay=None), None):
        assert "earned" not in "".join(render(make_status(task=task), [], Pace(), 0.0, width=100, height=24))
        assert "earned" not in describe_line(make_status(task=task), Pace(), 0.0)


def test_who_watches_a_chain_that_has_halted_is_told() -> None:
    halted = make_status(is_silent=True, has_quorum=False, away=["0x1", "0x2"])
    told = "no new block, and no quorum: 2 of 6 validators not connected (`status` names them)"
    assert f"warning: {told}" in render(halted, [], Pace(), 0.0, width=100, height=24)
    assert describe_line(halted, Pace(), 0.0).endswith(told) and get_key(halted) != get_key(make_status())
    for comes in (make_status(has_quorum=False, away=["0x1"]), make_status(is_silent=True)):
        assert "quorum" not in describe_line(comes, Pace(), 0.0)


def test_a_warning_is_on_the_screen_and_in_the_line_also_where_much_else_is_to_be_said() -> None:
    told = "this validator does not sign: a double"
    transfer = {"file": "bafk", "done": 1, "bytes": 2, "bytes_per_second": 1.0, "providers": {}, "eta_seconds": None}
    busy = make_status(not_signing="a double", transfers=[transfer] * HEAD_ROWS)
    assert f"warning: {told}" in render(busy, [], Pace(), 0.0, width=100, height=24)
    assert describe_line(busy, Pace(), 0.0).endswith(told)


@pytest.mark.parametrize(("width", "height"), [(10, 2), (40, 10), (200, 60)])
def test_no_line_is_wider_than_the_screen_and_strangers_words_command_no_terminal(width: int, height: int) -> None:
    lines = render(make_status(), ["\x1b[2Jgone\r" + "x" * 500] * 9, Pace(), 0.0, width=width, height=height)
    assert all(len(line) <= max(width, 40) and line.isprintable() for line in lines)


def test_a_line_of_the_log_loses_what_a_screen_has_no_room_for() -> None:
    line = "2026-11-21T13:00:12.883 INFO    flock_peers.roles.voter: round 5: scored"
    assert shorten(line) == "13:00:12 round 5: scored"
    assert shorten(line.replace("INFO   ", "WARNING")) == "13:00:12 WARNING round 5: scored"
    assert shorten("Traceback (most recent call last):") == "Traceback (most recent call last):"


def test_the_time_that_is_left_follows_from_the_rounds_that_were_seen() -> None:
    pace = Pace()
    for second in range(0, 61):  # rounds of ten seconds; the first one began before
        pace.note(make_task(round=1 + (second + 5) // 10, rounds=10), float(second))
    left = pace.estimate(make_task(round=7, rounds=10), 60.0)
    assert left == pytest.approx(35, abs=1)
    assert "left" in describe_line(make_status(task=make_task(round=7, rounds=10)), pace, 60.0)
    pace.note(make_task(round=10, rounds=10), 65.0)  # the last one; since second 5 there were eight
    assert pace.estimate(make_task(round=10, rounds=10), 66.0) == pytest.approx(6.5)
    pace.note(make_task(round=11, rounds=10), 70.0)  # how many extra ones follow depends on the pot
    assert pace.estimate(make_task(round=11, rounds=10), 71.0) is None
    screen = render(make_status(task=make_task(round=11, rounds=10)), [], pace, 71.0, width=80, height=24)
    assert any(line.endswith("#] 100%") for line in screen) and not any(line.endswith(" s left") for line in screen)
    assert Pace().estimate(make_task(), 5.0) is None
    pace.note(make_task(task=2), 61.0)
    assert pace.estimate(make_task(task=2), 62.0) is None
    assert pace.estimate(make_task(is_ended=True), 62.0) is None


def test_a_line_is_said_for_what_changed_and_not_for_each_block() -> None:
    first = make_status()
    assert get_key(first) == get_key(make_status(height=8, training={}))
    for other in (
        make_status(task=make_task(phase="REVEAL")), make_status(peers=[]), make_status(task=None),
        make_status(task=make_task(is_ended=True)), make_status(not_signing="a double"), make_status(task=PAID),
    ):  # fmt: skip
        assert get_key(other) != get_key(first)
    assert describe_line(make_status(task=None, training={}), Pace(), 0.0) == "height 7, 2 peers, no task yet"
    assert "task 1 has ended" in describe_line(make_status(task=make_task(is_ended=True)), Pace(), 0.0)
    assert "looking on" in describe_line(make_status(task=make_task(joined=False)), Pace(), 0.0)


def test_a_peer_without_a_task_of_its_own_looks_on_at_the_networks() -> None:
    other = {"task": 4, "round": 2, "rounds": 3, "phase": "COMMIT", "is_ended": False, "count": 7}
    status = make_status(task=None, other_task=other, training={})
    assert describe_line(status, Pace(), 0.0) == "height 7, 2 peers, task 4, round 2 of 3, COMMIT, looking on"
    assert "task 4, round 2 of 3, COMMIT, looking on" in render(status, [], Pace(), 0.0, width=80, height=20)
    assert get_key(status) != get_key(make_status(task=None, other_task=other | {"phase": "REVEAL"}, training={}))
    extra = make_status(task=None, other_task=other | {"round": 5}, training={})
    assert "task 4, extra round 2 after 3, COMMIT" in describe_line(extra, Pace(), 0.0)  # not "round 5 of 3"
    assert "task 1," in describe_line(make_status(other_task=other), Pace(), 0.0)  # its own goes first


def test_the_end_of_a_long_log_is_read_in_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "peer.log"
    assert read_tail(log) == []
    log.write_text("".join(f"{number:063d}\n" for number in range(1_000)))
    lines = read_tail(log)
    assert lines[-1] == f"{999:063d}" and len(lines) == TAIL_BYTES // 64 - 1 and {len(line) for line in lines} == {63}


def test_peers_are_one_row_each() -> None:
    row = {
        "account": "0x" + "ab" * 20, "address": "10.0.0.7:4200", "is_outgoing": True, "seconds": 3_725.0,
        "bytes_in": 1_500, "bytes_out": 2_500_000_000, "connections": 1, "misdeeds": 2, "is_validator": True,
    }  # fmt: skip
    text = format_peers({"peers": [row, row | {"misdeeds": 0, "is_outgoing": False}], "own_address": "/ip4/10.0.0.1"})
    assert "10.0.0.7:4200  out  validator  1 h 2 min  1.5 kB  2.5 GB  2" in text
    assert "2 connected; own address  /ip4/10.0.0.1" in text
    assert "nobody is connected" in format_peers({"peers": [], "own_address": "/ip4/10.0.0.1"})


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (2 * 10**9, "2.0 GB"), (3 * 10**13, "30.0 TB")]
)
def test_bytes_are_told_in_the_unit_that_fits(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (7_200, "2 h 0 min")])
def test_an_age_is_told_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert format_age(seconds) == text


def serve(home: Home, statuses: list[dict[str, Any]]) -> Callable[[], None]:
    """A peer that says these one after the other, in a thread; returns what stops it."""
    token: list[trio.lowlevel.TrioToken] = []
    ready, stop = threading.Event(), trio.Event()
    left = list(statuses)

    async def status(_params: Any) -> dict[str, Any]:
        return left.pop(0) if len(left) > 1 else left[0]

    async def run() -> None:
        token.append(trio.lowlevel.current_trio_token())
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, home.control_path, {"status": status})
            ready.set()
            await stop.wait()
            nursery.cancel_scope.cancel()

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    assert ready.wait(20)

    def end() -> None:
        token[0].run_sync_soon(stop.set)
        thread.join(20)

    return end


def test_a_task_is_followed_line_by_line_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home(tmp_path)
    phases = [make_task(phase=name) for name in ("COMMIT", "COMMIT", "REVEAL")] + [make_task(is_ended=True)]
    end = serve(home, [make_status(task=task) for task in phases])
    try:
        command = ["watch", "--home", str(tmp_path), "--every", "0.1", "--until-ended"]
        assert main(command) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 3 and "COMMIT" in lines[0] and "REVEAL" in lines[1] and "has ended" in lines[2]
        assert "\x1b" not in "".join(lines)
        assert main([*command, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["task"]["is_ended"] is True
    finally:
        end()


def test_nothing_to_follow_is_not_available(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("watch", "peers"):
        assert main([name, "--home", str(tmp_path)]) == 3
        assert "no peer answers" in capsys.readouterr().err
    assert main(["watch", "--home", str(tmp_path), "--every", "0"]) == 2
