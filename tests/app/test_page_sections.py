"""Sections of a page: which task is shown, and what is said of stakes, the peer and strangers' words."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from page_news_support import A, FakeQueries

from flock_p2p.page import state as state_module
from flock_p2p.page.chain_section import ChainSection
from flock_p2p.page.state import PeerState, describe_left, describe_peer
from flock_p2p.page.task_section import choose_task, describe_participant


def test_the_task_that_is_shown_is_the_own_one_else_the_newest_that_runs() -> None:
    rows = [{"task": 4, "phase": "ENDED"}, {"task": 3, "phase": "COMMIT"}, {"task": 2, "phase": "COMMIT"}]
    assert choose_task(2, {"tasks": rows}) == 2
    assert choose_task(None, {"tasks": rows}) == 3
    assert choose_task(None, {"tasks": rows[:1]}) == 4
    assert choose_task(None, {"tasks": []}) is None


class _Board:
    """Rounds, tasks, blocks and news of no chain; says how often it was asked."""

    since, until, asked = 1, 5, 0

    async def page(self, task: int, count: int) -> dict[str, Any]:
        self.asked += 1
        return {"task": task, "rounds": [{"round": 2, "of": task}, {"round": 1, "of": task}][:count]}

    async def read(self, task: int) -> dict[str, Any]:
        return {"task": task}

    async def blocks(self, _height: int, _base: int) -> list[Any]:
        return []

    def events(self) -> list[Any]:
        return []


def test_sections_of_a_task_are_all_of_that_one_and_the_head_is_read_again_while_older_news_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state_module, "describe_chain", lambda _status, _blocks: {})
    state: Any = PeerState.__new__(PeerState)
    board = state.rounds = state.tasks = state._chain = state.history = _Board()
    state._head_seen, state._shown_task = None, lambda: 1
    state._peer = SimpleNamespace(measurements=SimpleNamespace(of=lambda task: {"losses": [task]}))
    found = trio.run(state.read_task, 7)
    assert found["task"]["task"] == found["measured"]["task"] == found["rounds"]["task"] == found["round"]["of"] == 7
    assert found["measured"]["losses"] == [7]
    asked = []
    for board.until in (5, 5, 6):
        trio.run(state._read_head, {"height": 9, "base": 1})
        asked.append(board.asked)
    assert asked == [2, 2, 3]


class _MovingViews:
    """A stake that grows by one with each block, and a block with each question."""

    def __init__(self) -> None:
        self.head = 100

    async def view(self, _contract: str, function: str, *_arguments: Any, height: int | None = None) -> Any:
        await trio.lowlevel.checkpoint()
        self.head += 1
        now = self.head if height is None else height
        return [{"account": A, "weight": now}] if function == "validators" else now


def test_stakes_are_of_one_block_although_the_chain_goes_on_between_the_questions() -> None:
    """Amounts of two blocks do not add up."""
    row = trio.run(ChainSection(FakeQueries(), _MovingViews()).stakes, A, 90)  # type: ignore[arg-type]
    assert row["delegated"] == "0" and row["validators"] == [{"account": "0x" + A.hex(), "weight": "90"}]
    amounts = {row[name] for name in ("total", "stake", "unbonding", "reward")}
    assert amounts == {"90"} and {row[name] for name in ("release_at", "jailed_until", "missed")} == {90}


def test_a_networks_name_commands_nothing() -> None:
    status: Any = defaultdict(lambda: None, network="a\u202eb\x1b[2J")
    assert describe_peer(status, 0.0)["network"] == "a?b?[2J"


def test_of_the_task_that_this_peer_has_a_part_in_nothing_is_said_to_be_unclaimed() -> None:
    """The part claims it; whoever is told of it as well would order it twice."""
    none = {"bond": "0", "unbonding": "0", "free_in": 0, "claimable": "0", "pot": "0"}
    rows = [none | {"task": 4, "claimable": "7"}, none | {"task": 3, "claimable": "7"}]
    assert describe_left({"task": None, "left_behind": rows}) == rows
    assert describe_left({"task": {"task": 4}, "left_behind": rows}) == rows[1:]
    bonded = [rows[0] | {"bond": "5"}]
    assert describe_left({"task": {"task": 4}, "left_behind": bonded}) == [none | {"task": 4, "bond": "5"}]


def test_strangers_words_command_nothing_and_turn_nothing_around() -> None:
    row = {
        "account": A, "bond": 1, "held": 0, "domain": "a\u202eb\x1b[2J".encode().ljust(32, b"\0"), "joined_round": 1,
        "last_accepted": 0, "missed": 0, "leaving_at": 0, "unseated": False, "suspended": False, "strikes": 0,
    }  # fmt: skip
    assert describe_participant(row)["domain"] == "a?b?[2J"
