"""What a page is told: its sections, their bounds, who may ask, and that nothing is told twice."""

import json
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
import trio
from clock_support import on_stepped_clock
from network_support import in_trio
from page_support import HOSTILE, FakeState, Size, make_sections, serving_page
from rpc_support import OTHER, USER, Served, exchange, serving
from trio_websocket import ConnectionClosed, open_websocket_url

from flock_chain.errors import Misuse, Unavailable
from flock_contracts.addresses import BOARD
from flock_contracts.loader import load
from flock_p2p.page.feed import MAX_SECTION_BYTES, Feed, Told, encode
from flock_p2p.page.log_tail import Tail
from flock_p2p.page.rounds import ROUNDS_AT_ONCE
from flock_p2p.page.routes import MAX_PAGES, parse_numbers

COIN = 10**18
MAX_MESSAGE_BYTES = 1 << 20  # of everything at once, at every limit
SECTIONS = {
    "peer", "peers", "training", "measured", "transfers", "stakes", "left", "tasks", "chain", "task", "round", "rounds",
    "events",
}  # fmt: skip


def skeleton(value: Any) -> Any:
    """Names alone: of a list what its first entry consists of."""
    if isinstance(value, dict):
        return {name: skeleton(each) for name, each in value.items()}
    return [skeleton(value[0])] if isinstance(value, list) and value else None


async def get(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await exchange(stream, method, path, b"", {"host": f"127.0.0.1:{port}", **named})
    return answer.status, answer.body


async def open_hostile_task(served: Served) -> None:
    """By this peer; two others bond, one with a domain that is no text."""
    terms = {"min_participants": 4, "min_bond": COIN, "audit_rounds": 2}
    wanted = {"name": HOSTILE, "terms": terms, "pot": str(7 * COIN), "reference": f"How many?\n{HOSTILE}\n",
              "server_lr_thousandths": 1_500}  # fmt: skip
    opened = await served.peer.control.methods()["open_task"](wanted)
    assert served.peer._retention._is_opening(opened["document"]) and not served.peer._retention._is_opening("ab" * 12)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.peer.sender.run)
            while not await served.peer.ledger.view("TaskBoard", "task_count"):
                await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
    for key, domain in ((USER, b"<b>records</b>"), (OTHER, b"\xff\xfe")):
        join = load("TaskBoard").encode("join_task", 1, domain.ljust(32, b"\0"))
        await served.receipt(await served.send(key, BOARD, join, value=2 * COIN, gas=2_000_000))


async def check_references(served: Served) -> None:
    """Task 1 is the only one."""
    read = served.peer.control.methods()["reference"]
    for params in ({}, {"task": 1}):
        assert await read(params) == {"task": 1, "reference": f"How many?\n{HOSTILE}\n"}
    for other in (0, 2, -1, "1", True, 1.0, None):
        with pytest.raises(Misuse, match=f"there is no task {other!r}; 1 have been opened"):
            await read({"task": other})


async def check_that_no_reference_that_peers_refuse_is_opened(served: Served) -> None:
    control, peer = served.peer.control.methods(), served.peer
    head, pot = peer.ledger.head.height, str(7 * COIN)
    for reference, word in (("x" * 65_537, "1 to 65536 bytes"), ("\ud800", "lone surrogate"), (["a"], "is text")):
        with pytest.raises(Misuse, match=word):
            await control["open_task"]({"pot": pot, "terms": {"audit_rounds": 2}, "reference": reference})
    with pytest.raises(Misuse, match="none was opened on this network yet"):
        await control["reference"]({})
    assert peer.ledger.head.height == head and not await peer.ledger.view("TaskBoard", "task_count")


@in_trio(90)
async def test_a_whole_peer_says_what_its_chain_and_status_say(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await check_that_no_reference_that_peers_refuse_is_opened(served)
        (served.peer.home.log_path).write_text("2026-11-21T15:00:00.000 WARNING flock_peers.x: \x1b[2J<b>\n")
        await open_hostile_task(served)
        await check_references(served)
        told = json.loads((await served.request("GET", "/api/state")).body)
        sections, status = told["sections"], await served.peer.control.status({})
        assert set(sections) == SECTIONS
        assert (sections["chain"]["height"], sections["chain"]["block"]) == (status["height"], status["block"])
        assert [row["height"] for row in sections["chain"]["blocks"]] == list(range(1, status["height"] + 1))
        assert sections["peer"]["balance"] == status["balance"] and sections["peer"]["validators"] == 1
        assert sections["stakes"]["validators"] == [
            {"account": status["account"], "weight": sections["stakes"]["total"]}
        ]
        task = sections["task"]
        assert (task["name"], task["phase"], task["pot"]) == (HOSTILE, "WAITING", str(7 * COIN))
        assert task["server_lr_thousandths"] == 1_500
        assert [row["domain"] for row in task["participants"]] == ["<b>records</b>", "\ufffd\ufffd"]
        assert {row["bond"] for row in task["participants"]} == {str(2 * COIN)}
        assert [row["event"] for row in sections["events"]["rows"]] == ["Joined", "Joined", "TaskOpened"]
        assert sections["events"]["since"] == 1 and sections["round"]["proposers"] == []
        (line,) = told["log"]["rows"]
        assert told["log"]["reset"] and line["id"] == served.peer.home.log_path.stat().st_size
        assert (line["level"], line["source"], line["text"]) == ("WARNING", "flock_peers.x", "\x1b[2J<b>")
        page = json.loads((await served.request("GET", "/api/rounds?task=1")).body)
        assert page["last"] == 1 and page["rounds"] == [sections["round"]]
        same = json.loads((await served.request("GET", "/api/task?task=1")).body)["sections"]
        assert same == {name: sections[name] for name in ("task", "round", "rounds", "measured")}
        for path, code in (("rounds?task=2", 400), ("rounds", 400), ("task?task=9", 400), ("task?task=1&task=1", 400)):
            assert (await served.request("GET", f"/api/{path}")).status == code, path
        made_up = make_sections(Size())
        for name in ("peer", "stakes", "chain", "task"):  # so that what the other tests use has the form of the real
            assert skeleton(sections[name]).keys() == skeleton(made_up[name]).keys(), name
        assert skeleton(task["participants"]) == skeleton(made_up["task"]["participants"])
        assert skeleton(sections["round"]).keys() == skeleton(made_up["round"]).keys()
        assert skeleton(sections["events"]) == skeleton(made_up["events"])
        assert served.site.describe()[0].split()[1] == status["page"] == f"http://127.0.0.1:{served.port}"
        served.peer.measurements.note_pay(1, 2, 7)
        other = (await served.peer.control.status({}))["other_task"]
        assert other["pay"]["total"] == "7"


def test_at_every_limit_a_page_is_told_less_than_a_megabyte() -> None:
    sections = {name: encode(name, value) for name, value in make_sections(Size.largest()).items()}
    assert max(map(len, sections.values())) < MAX_SECTION_BYTES / 2
    assert sum(map(len, sections.values())) < MAX_MESSAGE_BYTES
    assert encode("rounds", ["x" * MAX_SECTION_BYTES]) == b"null"
    with pytest.raises(ValueError):
        encode("peer", float("nan"))


@in_trio(30)
async def test_older_rounds_come_in_pages_and_what_is_no_number_is_refused() -> None:
    async with serving_page(FakeState(Size(rounds=100))) as port:
        numbers: list[int] = []
        while not numbers or numbers[-1] > 1:
            _, body = await get(port, f"/api/rounds?task=1&before={numbers[-1] if numbers else 101}")
            rows = json.loads(body)["rounds"]
            assert len(rows) <= ROUNDS_AT_ONCE
            numbers += [row["round"] for row in rows]
        assert numbers == list(range(100, 0, -1))
    for query in (
        "task=-1",
        "task=1e3",
        "task=",
        "tusk=1",
        "task=1&before=x",
        "task=" + "9" * 16,
        "&".join(["a=1"] * 9),
    ):
        with pytest.raises(Misuse):
            parse_numbers(query, {"task", "before"})
    assert parse_numbers("task=7&before=2", {"task", "before"}) == {"task": 7, "before": 2}


@in_trio(30)
async def test_no_other_page_and_no_other_name_reads_it_and_nothing_can_be_sent() -> None:
    async with serving_page(FakeState()) as port:
        for path in ("/", "/api/state", "/api/rounds?task=1", "/page/main.js"):
            assert (await get(port, path))[0] == 200
            assert (await get(port, path, origin=f"http://localhost:{port}"))[0] == 200
            assert (await get(port, path, host=f"evil.example:{port}"))[0] == 421
            assert (await get(port, path, origin="https://evil.example"))[0] == 403
            assert (await get(port, path, origin="chrome-extension://nkbihfbeogaeaoehlefnkodbefgpgknn"))[0] == 403
            for site in ("cross-site", "same-site"):  # an image or a script of another page, which has no Origin
                assert (await get(port, path, sec_fetch_site=site, sec_fetch_mode="no-cors"))[0] == 403
            framed = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe", "sec_fetch_site": "cross-site"}
            assert (await get(port, path, **framed))[0] == 403
            assert (await get(port, path, **{**framed, "sec_fetch_dest": "document"}))[0] == 200  # a link to it
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                assert (await get(port, path, method))[0] == 405
        for path in ("/page/../page/main.js", "/page/vendor/uPlot.LICENSE", "/page/", "/page/%2e%2e/feed.py"):
            assert (await get(port, path))[0] == 404
        assert (await get(port, "/api/live"))[0] == 405


@in_trio(30)
async def test_a_live_page_is_told_what_changed_and_ends_when_it_speaks() -> None:
    fake = FakeState()
    async with serving_page(fake) as port, open_websocket_url(f"ws://127.0.0.1:{port}/api/live") as client:
        first = json.loads(await client.get_message())
        assert set(first["sections"]) == SECTIONS and first["log"]["reset"] and len(first["log"]["rows"]) == 119
        fake.sections["transfers"] = {"count": 0, "rows": []}
        row = {"id": 120, "at": None, "level": None, "source": None, "text": "more"}
        fake.log = Tail(1, 10, (*fake.log.rows, row))
        second = json.loads(await client.get_message())
        assert second["sections"] == {"transfers": {"count": 0, "rows": []}}
        assert second["log"] == {"reset": False, "rows": [row]}
        fake.log = Tail(2, 5, ({**row, "id": 5},), series=2)  # lines may be missing
        third = json.loads(await client.get_message())
        assert third["sections"] == {} and third["log"] == {"reset": True, "rows": [{**row, "id": 5}]}
        await client.send_message("anything")
        with pytest.raises(ConnectionClosed) as closed:
            await client.get_message()
        assert "takes no messages" in closed.value.reason.reason


@in_trio(30)
async def test_pages_beyond_the_limit_are_told_so_and_a_closed_one_makes_room() -> None:
    async with serving_page(FakeState()) as port, trio.open_nursery() as nursery:
        url = f"ws://127.0.0.1:{port}/api/live"
        scopes = []

        async def follow(task_status: Any) -> None:
            with trio.CancelScope() as scope:
                async with open_websocket_url(url) as client:
                    await client.get_message()
                    task_status.started(scope)
                    await trio.sleep_forever()

        for _ in range(MAX_PAGES):
            scopes.append(await nursery.start(follow))
        async with open_websocket_url(url) as client:
            with pytest.raises(ConnectionClosed) as closed:
                await client.get_message()
            assert f"{MAX_PAGES} pages" in closed.value.reason.reason
        scopes[0].cancel()
        while True:
            try:
                async with open_websocket_url(url) as client:
                    assert json.loads(await client.get_message())["sections"]
                    break
            except ConnectionClosed:
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()


@in_trio(30)
async def test_a_page_whose_browser_was_killed_is_no_fault_of_the_peer(caplog: pytest.LogCaptureFixture) -> None:
    """Its connection is reset, not closed."""
    async with serving_page(FakeState()) as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            head = f"GET /api/live HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            key = "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            await stream.send_all((head + key).encode())
            assert b"101" in await stream.receive_some(20)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for _ in range(3):
            assert (await get(port, "/"))[0] == 200
        await trio.sleep(0.1)
        assert not caplog.records


@on_stepped_clock
async def test_one_look_a_second_serves_every_page_and_a_trouble_passes() -> None:
    fake = FakeState()
    feed, told = Feed(fake), Told()
    for _ in range(20):
        look = await feed.look()
    assert fake.looks == 1
    assert told.tell(look, 7) is not None and told.tell(look, 8) is None
    await trio.sleep(1.0)
    fake.trouble = Unavailable("ledger: 256 views wait already; try again")
    with pytest.raises(Unavailable):
        await feed.look()
    fake.trouble = None
    assert told.tell(await feed.look(), 9) is None  # nothing has changed since
    fake.sections["peer"] = {"account": "0x1"}
    await trio.sleep(1.0)
    assert json.loads(told.tell(await feed.look(), 10) or b"")["sections"] == {"peer": {"account": "0x1"}}
