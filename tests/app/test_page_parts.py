"""What a page is made of: rounds and news from the chain, the end of a log, and the files that are shipped."""

import json
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from page_support import make_round

from flock_chain.audit_rule import GUILTY_FROM, SUSPECT_FROM
from flock_chain.errors import Misuse, Unavailable
from flock_contracts.addresses import BOARD
from flock_contracts.loader import load
from flock_p2p.page import history
from flock_p2p.page import state as state_module
from flock_p2p.page.assets import load_assets, make_policy
from flock_p2p.page.chain_section import ChainSection
from flock_p2p.page.feed import Look, Told
from flock_p2p.page.history import BLOCKS_AT_ONCE, MAX_BLOCKS, MAX_EVENTS, History
from flock_p2p.page.log_tail import MAX_LINE_CHARS, MAX_LINES, TAIL_BYTES, Tail, read_tail
from flock_p2p.page.rounds import Rounds, describe_round
from flock_p2p.page.state import PeerState, describe_left, describe_peer
from flock_p2p.page.task_section import choose_task, describe_participant

STATIC = Path(history.__file__).parent / "static"
A, B = b"\x0a" * 20, b"\x0b" * 20


# News


class _Receipt:
    def __init__(self, logs: list[Any]) -> None:
        self.logs = logs


class _Header:
    timestamp = 1_795_000_000


def slash_log(
    number: int, account: bytes, amount: int, task: int = 1, *, event: str = "Slashed"
) -> tuple[bytes, list[int], bytes]:
    topic = next(key for key, entry in load("TaskBoard")._events.items() if entry["name"] == event)
    words = [topic, *(value.to_bytes(32, "big") for value in (task, number, int.from_bytes(account, "big")))]
    return bytes(BOARD), [int.from_bytes(word, "big") for word in words], amount.to_bytes(32, "big")


class FakeQueries:
    """A slash of 5 wei in every hundredth block, for the round of its number; blocks below `base` are not here."""

    def __init__(self, base: int = 1) -> None:
        self.base, self.read = base, 0

    async def run(self, question: Callable[[Any], Any]) -> Any:
        await trio.lowlevel.checkpoint()
        return question(self)

    def header(self, height: int) -> _Header:
        if height < self.base:
            raise Unavailable("not here")
        self.read += 1
        return _Header()

    def receipts(self, height: int) -> tuple[_Receipt, ...]:
        other = (b"\x77" * 20, [1], b"")  # of a contract that is not looked at
        return (_Receipt([other, slash_log(height // 100, A, 5)]),) if height % 100 == 0 else ()


def test_news_are_read_a_little_at_a_time_the_newest_first_and_not_for_ever() -> None:
    async def main() -> None:
        queries = FakeQueries()
        news = History(queries)  # type: ignore[arg-type]
        head = MAX_BLOCKS + 5_000
        await news.step(head, 1)
        assert queries.read == BLOCKS_AT_ONCE and news.since == head - BLOCKS_AT_ONCE + 1
        assert news.events()[0]["height"] == head - head % 100
        steps = 1
        while news.since > head - MAX_BLOCKS + 1:
            await news.step(head, 1)
            steps += 1
        assert steps == MAX_BLOCKS // BLOCKS_AT_ONCE and queries.read == MAX_BLOCKS
        await news.step(head, 1)
        assert queries.read == MAX_BLOCKS  # nothing is left to read
        assert len(news.events()) == MAX_EVENTS
        await news.step(head + 100, 1)
        assert news.events()[0]["height"] == head + 100 - head % 100 and queries.read == MAX_BLOCKS + 100
        assert news.slashed(1, head // 100) == {"0x" + A.hex(): 5} and news.slashed(2, head // 100) == {}

    trio.run(main)


class _TwoTasks(FakeQueries):
    """A slash in each block: of rounds 1 to 9 of the first task, then of the second one's."""

    def receipts(self, height: int) -> tuple[_Receipt, ...]:
        return (_Receipt([slash_log((height - 1) % 9 + 1, A, height, task=1 + (height > 9))]),)


def test_the_slashes_that_are_forgotten_first_are_those_of_the_oldest_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_SLASHED_ROUNDS", 3)

    async def main() -> None:
        news = History(_TwoTasks())  # type: ignore[arg-type]
        for head in (10, 10, 11):
            await news.step(head, 1)
        assert [news.slashed(2, number) for number in (1, 2)] == [{"0x" + A.hex(): 10}, {"0x" + A.hex(): 11}]
        assert news.slashed(1, 9) == {"0x" + A.hex(): 9} and news.slashed(1, 8) == {}

    trio.run(main)


def test_a_home_that_began_with_a_snapshot_has_news_from_there_on() -> None:
    async def main() -> None:
        news = History(FakeQueries(base=950))  # type: ignore[arg-type]
        for _ in range(3):
            await news.step(1_000, 950)
        assert news.since == 950 and [row["height"] for row in news.events()] == [1_000]

    trio.run(main)


def test_while_many_blocks_are_caught_up_with_it_is_said_how_far_the_news_are() -> None:
    """Or a page that was open while nothing was looked at would wait with old news for the next block."""

    async def main() -> None:
        news = History(FakeQueries())  # type: ignore[arg-type]
        for head in (100, 100 + BLOCKS_AT_ONCE + 50):
            await news.step(head, 1)
        assert news.until == 100 + BLOCKS_AT_ONCE
        await news.step(head, 1)
        assert news.until == head and news.events()[0]["height"] == 400

    trio.run(main)


def test_strikes_are_news_and_the_third_says_that_its_owner_is_expelled() -> None:
    class Struck(FakeQueries):
        def receipts(self, height: int) -> tuple[_Receipt, ...]:
            return (_Receipt([slash_log(7, A, height % 4, event="Struck")]),)  # an audit, and how many strikes it left

    async def main() -> None:
        news = History(Struck())  # type: ignore[arg-type]
        await news.step(4, 1)
        rows = news.events()
        assert [row["flags"] for row in rows] == [["0 of 3"], ["expelled"], ["2 of 3"], ["1 of 3"]]
        assert {(row["event"], row["account"], row["audit"]) for row in rows} == {("Struck", "0x" + A.hex(), 7)}

    trio.run(main)


# Rounds


def board_rows(**changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    result = {
        "proposers": [A, B], "voters": [B], "manifests": [b"\1" * 32, bytes(32)], "held_set": 0b01, "verdicts": [4, 8],
        "medians": [-1_397, 0], "scores_revealed": 1, "adapter_before": b"\2" * 32, "adapter_after": b"\2" * 32,
        "tallied": True, "settled": True, "share": 10, "per_proposer": 3, "per_voter": 1,
    }  # fmt: skip
    case = {
        "named": 1,
        "open": 1,
        "convicted": 0,
        "total": 9,
        "guilty": [4] * 16,
        "innocent": [2] * 16,
        "held": [7] * 16,
    }
    return result | {k: v for k, v in changes.items() if k in result}, case | {
        k: v for k, v in changes.items() if k in case
    }


def test_a_round_says_who_was_accused_and_what_was_not_measured() -> None:
    row = describe_round(3, *board_rows())
    first, second = row["proposers"]
    assert (first["verdict"], first["median"]) == ("ACCUSED_NORM", -1_397)
    assert first["accusation"] == {"state": "open", "held": "7", "guilty": 4, "innocent": 2, "total": 9}
    assert (second["verdict"], second["median"], second["manifest"], second["accusation"]) == (
        "UNOPENED",
        None,
        "",
        None,
    )
    assert describe_round(3, *board_rows(convicted=1, open=0))["proposers"][0]["accusation"]["state"] == "convicted"
    assert describe_round(3, *board_rows(open=0))["proposers"][0]["accusation"]["state"] == "cleared"
    assert describe_round(3, *board_rows(tallied=False))["proposers"][0]["median"] is None
    made_up = make_round(3, size=type("Two", (), {"seats": 2, "participants": 6})())
    assert row.keys() == made_up.keys() and {*first, "slashed"} == made_up["proposers"][0].keys()


class FakeBoard:
    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.rows = board_rows()

    async def view(self, _contract: str, function: str, *args: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked.append((function, *args))
        return {"progress": (5, 2), "round_result": self.rows[0], "case_view": self.rows[1]}[function]


def test_what_can_change_no_more_is_read_once_and_slashes_that_are_found_later_are_added() -> None:
    async def main() -> None:
        board, news = FakeBoard(), History(FakeQueries())  # type: ignore[arg-type]
        rounds = Rounds(board, news)
        page = await rounds.page(1)
        assert [row["round"] for row in page["rounds"]] == [5, 4, 3, 2, 1]
        board.rows = board_rows(convicted=1, open=0)  # the accusations are decided
        await rounds.page(1)
        board.asked.clear()
        await rounds.page(1)
        assert board.asked == [("progress", 1), ("round_result", 1, 5), ("case_view", 1, 5)]  # the running one alone
        assert page["rounds"][3]["proposers"][0]["slashed"] == "0"
        await news.step(250, 1)
        again = (await rounds.page(1, before=3))["rounds"]
        assert [(row["round"], row["proposers"][0]["slashed"]) for row in again] == [(2, "5"), (1, "5")]
        for task, before in ((0, None), (1, 0), (1 << 53, None)):
            with pytest.raises(Misuse):
                await rounds.page(task, before=before)

    trio.run(main)


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


# The log


def test_the_end_of_a_log_is_read_when_it_grew_and_its_lines_are_known_by_their_place(tmp_path: Path) -> None:
    path = tmp_path / "peer.log"
    assert read_tail(path, Tail()) == Tail()
    lines = [f"2026-11-21T15:00:00.{n % 1000:03} INFO    flock_peers.x: line {n}\n" for n in range(3_000)]
    path.write_text("".join(lines) + "2026-11-21T15:00:01.000 INFO    half a l")
    tail = read_tail(path, Tail())
    assert len(tail.rows) == MAX_LINES and tail.rows[-1]["text"] == "line 2999"
    assert read_tail(path, tail) is tail
    with path.open("a") as file:
        file.write("ine\nTraceback (most recent call last):\n" + "x" * 2_000 + "\n")
    grown = read_tail(path, tail)
    new = [row for row in grown.rows if row["id"] > tail.rows[-1]["id"]]
    assert [row["text"][:20] for row in new] == ["2026-11-21T15:00:01.", "Traceback (most rece", "x" * 20]
    assert new[-1]["level"] is None and len(new[-1]["text"]) == MAX_LINE_CHARS
    assert grown.rows[-1]["id"] == path.stat().st_size
    path.write_bytes(b"\xff" * TAIL_BYTES * 2)  # one endless line
    assert read_tail(path, grown).rows == ()
    path.write_text("".join(line.rstrip() + "x" * 900 + "\n" for line in lines[:100]))
    assert {row["level"] for row in read_tail(path, tail).rows} == {"INFO"}  # no half of a line where the end begins


def test_a_log_that_begins_anew_is_told_from_its_first_line_on() -> None:
    told = Told()
    assert told.tell(Look(1, log=Tail(1, 900, ({"id": 900, "text": "old"},), series=1)), 0) is not None
    assert (
        told.tell(Look(2, {"peer": b"1"}, {"peer": 2}, Tail(2, 5, (), series=2)), 0) is not None
    )  # half a line so far
    said = told.tell(Look(3, log=Tail(2, 30, ({"id": 30, "text": "new"},), series=2)), 0)
    assert b'"new"' in (said or b"")


class _RotatedAtOnce(type(Path())):  # type: ignore[misc]
    """A log that is rotated between being opened and being looked at, the first time."""

    def open(self, *arguments: Any, **named: Any) -> Any:
        file = super().open(*arguments, **named)
        old = self.with_name("peer.log.1")
        if not old.exists():
            self.rename(old)
            Path(self).write_bytes(b"old 1\nnew 12\n")  # as long as what is read
        return file


def test_a_log_that_is_rotated_while_it_is_read_is_told_by_the_file_that_was_read(tmp_path: Path) -> None:
    """Or the new file's number would stand for the old one's lines, and its own would never be told."""
    path = _RotatedAtOnce(tmp_path / "peer.log")
    Path(path).write_bytes(b"old 1\nold 12\n")
    first = read_tail(path, Tail())
    assert [row["text"] for row in first.rows] == ["old 1", "old 12"]
    second = read_tail(path, first)
    assert [row["text"] for row in second.rows] == ["old 1", "old 12", "old 1", "new 12"]
    assert second.file != first.file and second.series == first.series
    assert [row["id"] for row in second.rows] == [6, 13, 19, 26]


def write_log(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def test_a_live_page_loses_no_line_and_forgets_none_when_the_log_is_rotated(tmp_path: Path) -> None:
    path, told = tmp_path / "peer.log", Told()

    def look(tail: Tail) -> tuple[Tail, dict[str, Any] | None]:
        tail = read_tail(path, tail)
        said = told.tell(Look(1, log=tail), 0)
        return tail, None if said is None else json.loads(said)["log"]

    write_log(path, "one", "two")
    tail, log = look(Tail())
    assert log == {"reset": True, "rows": list(tail.rows)}
    write_log(path, "the last before the rotation")
    path.rename(tmp_path / "peer.log.1")
    write_log(path, "the first after it")
    tail, log = look(tail)
    assert log is not None and not log["reset"]
    assert [row["text"] for row in log["rows"]] == ["the last before the rotation", "the first after it"]
    assert look(tail)[1] is None
    fresh = read_tail(path, Tail())  # a peer that starts now
    assert [row["text"] for row in fresh.rows] == [row["text"] for row in tail.rows]
    path.write_text("cut\n")  # in place, as `copytruncate` of logrotate
    tail, log = look(tail)
    assert log is not None and not log["reset"] and [row["text"] for row in log["rows"]] == ["cut"]
    for number in (2, 1):  # nobody looked in between
        path.rename(tmp_path / f"peer.log.{number}")
        write_log(path, "much later")
    tail, log = look(tail)
    assert log is not None and log["reset"] and [row["text"] for row in log["rows"]] == ["much later"] * 2


# Stakes and the peer


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


# The files


def test_the_page_loads_nothing_from_elsewhere_and_makes_no_element_of_text() -> None:
    assets = load_assets()
    assert {"/", "/page/main.js", "/page/base.css", "/page/vendor/uPlot.iife.min.js"} <= set(assets)
    assert not any(path.endswith("LICENSE") for path in assets) and (STATIC / "vendor" / "uPlot.LICENSE").is_file()
    for path, (data, _) in assets.items():
        text = data.decode()
        foreign = set(re.findall(r"https?://[^\s\"'`)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not foreign or "vendor" in path, (path, foreign)
        if path.endswith(".js") and "vendor" not in path:
            for word in (
                "innerHTML",
                "outerHTML",
                "insertAdjacent",
                "document.write",
                "eval(",
                "new Function",
                "srcdoc",
            ):
                assert word not in text, (path, word)
    index = assets["/"][0].decode()
    assert set(re.findall(r'(?:src|href)="([^"#]+)"', index)) <= set(assets)
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|style=", index)
    policy = make_policy(4280)
    assert "default-src 'none'" in policy and "unsafe" not in policy and "require-trusted-types-for" in policy


def test_the_page_names_the_audits_own_bounds() -> None:
    text = (STATIC / "plots.js").read_text()
    for name, value in (("GUILTY", GUILTY_FROM), ("SUSPECT", SUSPECT_FROM)):
        assert f"const {name} = {value // 10_000};" in text


def test_every_module_that_is_imported_is_shipped() -> None:
    assets = load_assets()
    for path, (data, _) in assets.items():
        if path.endswith(".js"):
            for name in re.findall(r'from "\./([\w.]+)"', data.decode()):
                assert f"/page/{name}" in assets, (path, name)
