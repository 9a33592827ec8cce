"""`join --task N`: kept for the next start, taken back with 0, and refused where it could have no effect."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flock_chain.parameters import DEMO
from flock_p2p.cli import build_parser, main
from flock_p2p.commands.join import build_settings, takes_up
from flock_p2p.commands.task import describe_unpaid
from flock_p2p.config import JoinConfig, load_config, merge_arguments, save_config
from flock_peers.given_up import GivenUp
from flock_peers.home import Home
from flock_peers.peer import Peer
from flock_peers.settings import PeerSettings


def test_the_task_that_is_named_is_kept_and_0_takes_it_back(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create_key()
    for said, task in (((), None), (("--task", "3"), 3), ((), 3), (("--task", "0"), None), ((), None)):
        arguments = build_parser().parse_args(["join", "--home", str(tmp_path), *said])
        save_config(home, merge_arguments(load_config(home), arguments))
        assert build_settings(home, home.load_key(), load_config(home)).task == task, said


def test_only_a_task_that_is_named_at_this_start_is_taken_up_again(tmp_path: Path) -> None:
    for said, wanted in (((), None), (("--task", "3"), 3), (("--task", "0"), None)):
        arguments = build_parser().parse_args(["join", "--home", str(tmp_path), *said])
        assert takes_up(arguments) == wanted


def test_what_a_peer_is_told_comes_to_what_chooses(tmp_path: Path) -> None:
    nothing = SimpleNamespace(is_level=None, ask_for_coins=None, is_running=False, parameters=DEMO)
    peer: Any = SimpleNamespace(
        settings=PeerSettings(tmp_path, task=3), genesis=nothing, account=b"\x01" * 20, ledger=None, sender=None,
        _arrival=nothing, _baseline=nothing, _make_participant=None, measurements=None,
        _given_up=GivenUp(),
    )  # fmt: skip
    assert Peer._make_task_loop(peer)._ways.task == 3


def test_a_task_is_not_named_below_1_nor_where_no_part_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path)
    join = ["join", "--home", str(tmp_path), "--quiet", "--no-mdns"]
    assert main([*join, "--task", "-1"]) == 2
    assert "--task -1: a task's number, as `task list` has it, or 0 for any" in capsys.readouterr().err
    save_config(home, JoinConfig(observe=True))
    assert main([*join, "--task", "1"]) == 2
    assert "--task 1: this peer was told to look on; add --no-observe" in capsys.readouterr().err
    save_config(home, JoinConfig(task=1))
    assert main([*join, "--observe"]) == 2
    assert "belongs to no network yet" in capsys.readouterr().err, "a kept task is in nobody's way"


def test_who_opens_a_task_that_pays_nothing_is_told_who_comes() -> None:
    (line,) = describe_unpaid({}, 0)
    assert line == "pay        none, so no other peer joins it unasked: `join --task` with its number does"
