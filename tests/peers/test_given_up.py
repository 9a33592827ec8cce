"""What a peer's owner left is kept over a restart, within bounds, until the owner names it again or it has ended."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from task_loop_support import COIN, Board, Game, Row, play

from flock_chain.errors import Unavailable
from flock_peers import given_up
from flock_peers.given_up import MAX_GIVEN_UP, GivenUp
from flock_peers.peer import open_given_up
from flock_peers.roles.task_loop import RETRY_SECONDS, UNUSABLE_SECONDS
from flock_peers.store.disk import DiskTrouble


def test_a_task_that_its_owner_left_is_not_joined_after_a_restart_until_it_is_named(tmp_path: Path) -> None:
    path, board = tmp_path / "left.json", Board({1: Row(pot=9), 2: Row(pot=8)})
    first = Game(board, given_up=GivenUp(path))
    first.work[1] = lambda: trio.sleep(3)

    async def leave() -> None:
        await trio.sleep(2)
        first.loop.give_up(1)
        await trio.sleep(2 * UNUSABLE_SECONDS)
        assert first.tasks == [1, 2]

    play(first, leave)
    alone = Game(Board({1: Row()}))
    alone.work[1] = lambda: trio.sleep(3)

    async def leave_it() -> None:
        await trio.sleep(2)
        alone.loop.give_up(1)
        await trio.sleep(5)
        assert "was left by its owner's order" in alone.loop.explain()[1], "at once, in the same process too"

    play(alone, leave_it)
    again = Game(Board({1: Row(pot=9)}), given_up=GivenUp(path), task=1)  # kept of an earlier `--task 1`

    async def look_on() -> None:
        await trio.sleep(2 * UNUSABLE_SECONDS)
        assert again.tasks == []
        assert again.loop.explain() == {1: "was left by its owner's order: `join --task 1` takes it up again"}

    play(again, look_on)
    GivenUp(path).discard(1)  # as a start does with the task that is named at it
    named = Game(board, given_up=GivenUp(path), task=1)

    async def look() -> None:
        await trio.sleep(2)
        assert named.tasks == [1] and not named.parts[0].is_leaving

    play(named, look)


def test_what_kept_a_peer_from_a_task_earlier_is_not_told_of_one_that_it_left() -> None:
    game = Game(Board({1: Row()}))
    game.work[1] = lambda: fail_once()

    async def fail_once() -> None:
        game.work[1] = lambda: trio.sleep(30)
        raise Unavailable("its document is at no peer")

    async def test() -> None:
        await trio.sleep(RETRY_SECONDS + 10)
        assert game.tasks == [1, 1]
        game.loop.give_up(1)
        await trio.sleep(30)
        assert "was left by its owner's order" in game.loop.explain()[1]

    play(game, test)


def test_who_could_not_go_before_a_restart_goes_on_to_leave_after_it(tmp_path: Path) -> None:
    path = tmp_path / "left.json"
    GivenUp(path).add(1)
    game = Game(Board({1: Row(), 2: Row(pot=9)}, bonds={1: 5 * COIN}), given_up=GivenUp(path))

    async def test() -> None:
        await trio.sleep(2)
        assert game.tasks == [1] and game.parts[0].is_leaving

    play(game, test)


def test_a_task_that_has_ended_is_forgotten(tmp_path: Path) -> None:
    kept = GivenUp(tmp_path / "left.json")
    kept.add(1)
    game = Game(Board({1: Row(is_ended=True), 2: Row()}), given_up=kept)

    async def test() -> None:
        await trio.sleep(2)
        game.loop.give_up(1)  # the bond that is in it still is asked for
        assert game.tasks == [2] and 1 not in GivenUp(tmp_path / "left.json")

    play(game, test)


def test_the_last_thousand_are_kept_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "left.json"
    kept = GivenUp(path)
    kept._tasks = dict.fromkeys(range(10**15, 10**15 + MAX_GIVEN_UP))
    kept.add(7)
    again = GivenUp(path)
    assert 7 in again and 10**15 not in again and 10**15 + 1 in again and len(again._tasks) == MAX_GIVEN_UP
    assert path.stat().st_mode & 0o077 == 0 and path.stat().st_size < given_up.MAX_FILE_BYTES // 3


@pytest.mark.parametrize("data", [b"", b"{}", b"[[1]]", b'["x"]', b"[" * 99])
def test_a_file_that_is_none_is_forgotten_and_a_disk_that_takes_nothing_refuses_the_order(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "left.json"
    path.write_bytes(data)
    kept = GivenUp(path)
    assert not kept._tasks and "cannot be read, and is forgotten" in caplog.text
    (tmp_path / "left.json.part").mkdir()
    with pytest.raises(DiskTrouble):
        kept.add(1)
    assert 1 not in kept


def test_a_peer_reads_what_was_left_in_its_home(tmp_path: Path) -> None:
    home: Any = SimpleNamespace(folder=lambda name: tmp_path / name)
    open_given_up(home, None).add(3)
    assert 3 in open_given_up(home, None)
    assert 3 not in open_given_up(home, 3) and 3 not in open_given_up(home, None)
