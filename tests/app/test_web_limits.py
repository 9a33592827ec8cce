"""What the HTTP server grants one caller: places, times, bytes, and whom a browser brings; on a clock of the tests."""

import logging
from typing import Any

import pytest
import trio
import trio.testing
from network_support import in_trio
from rpc_support import serving
from web_support import (
    KEY,
    PORT,
    ROUTES,
    UPGRADE,
    ask,
    greet,
    head,
    on_virtual_clock,
    read_all,
    read_some,
    serving_by_hand,
)

from flock_p2p.web import server
from flock_p2p.web.connection import IDLE_SECONDS, MAX_HEAD_BYTES, REQUEST_SECONDS, SEND_SECONDS
from flock_p2p.web.guard import EVENT_BYTES, HEADER_BYTES
from flock_p2p.web.messages import Request, Response, Route, Socket
from flock_p2p.web.metrics import gauge
from flock_p2p.web.recent import FRESH_SECONDS, Recent
from flock_p2p.web.server import MAX_CONNECTIONS, REQUESTS_PER_SECOND
from flock_p2p.web.unread import SMALL_BYTES
from flock_p2p.web.websocket import PING_SECONDS, SILENT_SECONDS

FEW = 20  # requests at once


# ---- places


@on_virtual_clock
async def test_who_finds_no_place_is_closed_at_once_and_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with serving_by_hand() as listener:
        held = [listener.dial() for _ in range(MAX_CONNECTIONS)]
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        for _ in range(50):
            assert await read_all(listener.dial()) == b""
        assert trio.current_time() == began
        assert len([row for row in caplog.records if "connections are open" in row.message]) == 1
        await held[0].aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert (await ask(listener, head("GET", "/"))).startswith(b"HTTP/1.1 200 OK")


# ---- times


@on_virtual_clock
async def test_a_silent_connection_is_closed_and_one_that_asks_again_is_not() -> None:
    async with serving_by_hand() as listener:
        silent, began = listener.dial(), trio.current_time()
        assert await read_all(silent) == b""
        assert trio.current_time() - began == pytest.approx(IDLE_SECONDS)
        asking = listener.dial()
        for _ in range(3):
            await asking.send_all(head("GET", "/"))
            assert (await read_some(asking, b"hello ")).startswith(b"HTTP/1.1 200")
            await trio.sleep(IDLE_SECONDS - 1)
        assert await read_all(asking) == b""


@on_virtual_clock
async def test_a_head_and_a_body_that_come_byte_by_byte_are_cut_off() -> None:
    """Slow senders would hold their places for ever, each byte a new lease."""
    posted = head("POST", "/wallets", "Content-Length: 90\r\n")
    async with serving_by_hand() as listener:
        for sent_first, dribbled in ((b"", head("GET", "/", "A: " + "a" * 900)), (posted, b"a" * 90)):
            stream, began = listener.dial(), trio.current_time()
            await stream.send_all(sent_first)
            with pytest.raises(trio.BrokenResourceError):
                for byte in dribbled:
                    await stream.send_all(bytes([byte]))
                    await trio.sleep(1)
            assert trio.current_time() - began <= REQUEST_SECONDS + 2


@on_virtual_clock
async def test_who_does_not_read_its_answer_is_let_go() -> None:
    async with serving_by_hand() as listener:
        stream, began = listener.dial_slow(), trio.current_time()
        await stream.send_all(head("GET", "/"))
        await trio.sleep(SEND_SECONDS + 1)
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(head("GET", "/"))
        assert trio.current_time() - began < IDLE_SECONDS


@on_virtual_clock
async def test_answers_that_nobody_reads_take_so_much_room_in_all_and_small_ones_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = 2 * SMALL_BYTES
    monkeypatch.setattr(server, "UNREAD_BYTES", 2 * size)

    async def answer(_request: Request) -> Response:
        return Response(200, b"x" * size)

    async def talk(socket: Socket) -> None:
        await socket.receive()
        await socket.send(b"x" * size)

    routes = ROUTES | {"/large": Route({"GET": answer}), "/wallets": Route({}, converse=talk)}
    async with serving_by_hand(routes) as listener:
        for _ in range(2):
            await listener.dial_slow().send_all(head("GET", "/large"))
        await trio.sleep(1)
        assert (await ask(listener, head("GET", "/large"))).startswith(b"HTTP/1.1 503")
        assert (await ask(listener, head("GET", "/"))).startswith(b"HTTP/1.1 200")
        stream = await open_socket(listener)
        await stream.send_all(frame(0x1, b""))
        assert len(await read_all(stream)) < SMALL_BYTES
        await trio.sleep(SEND_SECONDS)
        for _ in range(3):  # who reads gives the room back
            assert (await ask(listener, head("GET", "/large"))).startswith(b"HTTP/1.1 200")
        stream = await open_socket(listener)
        await stream.send_all(frame(0x1, b""))
        assert len(await read_all(stream)) > size


@on_virtual_clock
async def test_an_answer_alone_may_take_more_than_all_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "UNREAD_BYTES", 1)

    async def answer(_request: Request) -> Response:
        return Response(200, b"x" * (SMALL_BYTES + 1))

    async with serving_by_hand({"/": Route({"GET": answer})}) as listener:
        assert (await ask(listener, head("GET", "/"))).startswith(b"HTTP/1.1 200")


# ---- sizes


@on_virtual_clock
async def test_a_head_that_is_too_large_or_no_http_is_answered_and_ends_the_connection() -> None:
    async with serving_by_hand() as listener:
        huge = head("GET", "/", "A: " + "a" * MAX_HEAD_BYTES)
        assert (await ask(listener, huge)).startswith(b"HTTP/1.1 431")
        many = head("GET", "/", "".join(f"H{number}: {'1' * 60}\r\n" for number in range(500)))
        assert (await ask(listener, many)).startswith(b"HTTP/1.1 431")
        assert (await ask(listener, head("GET", "/", "a:\r\n" * 5_000))).startswith(b"HTTP/1.1 431")
        for broken in (
            b"\0\xff" * 99 + b"\r\n\r\n",
            head("GET", "/", " folded: 1\r\n"),
            head("GET", "/", "Host: 2\r\n"),
        ):
            assert (await ask(listener, broken)).startswith((b"HTTP/1.1 400", b"HTTP/1.1 421")), broken
        both = head("POST", "/wallets", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n") + b"0\r\n\r\n"
        smuggled = await ask(listener, both + head("GET", "/"))
        assert smuggled.count(b"hello") <= 2 and b"400" not in smuggled[:12]


@on_virtual_clock
async def test_a_flood_of_pieces_and_of_lines_is_read_slowly_and_others_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where each takes as long to read as many bytes: of a body, in a head, and behind a body."""
    rate, burst, count = 64 << 10, 128 << 10, 1_000
    monkeypatch.setattr(server, "BYTES_PER_SECOND", rate)
    monkeypatch.setattr(server, "BURST_BYTES", burst)
    routes = {"/": Route({"GET": greet, "POST": greet}, max_body=count)}
    pieces = count * EVENT_BYTES // 8
    lines, last = b"a:\r\n" * count, b"\r\n"
    chunked = head("POST", "/", "Transfer-Encoding: chunked\r\n")
    async with serving_by_hand(routes) as listener:
        for flood, least in (
            (chunked + b"1\r\nx\r\n" * (count // 8) + b"0\r\n" + last, pieces),
            (head("GET", "/")[:-2] + lines + last, count * HEADER_BYTES),
            (chunked + b"0\r\n" + lines + last, count * HEADER_BYTES),
        ):
            began, flooding = trio.current_time(), listener.dial()
            await flooding.send_all(flood)
            assert (await ask(listener, head("GET", "/"))).startswith(b"HTTP/1.1 200")
            assert (await read_some(flooding, b"hello")).startswith(b"HTTP/1.1 200")
            assert trio.current_time() - began > (least - burst) / rate * 0.9, flood[:9]
            await trio.sleep(burst / rate)


@in_trio()
async def test_who_sends_too_much_is_told_so_before_the_connection_ends(tmp_path: Any) -> None:
    """Over a real socket: what is not read makes the system throw away an answer that was sent."""
    async with serving(tmp_path) as served:
        for _ in range(5):
            stream = await trio.open_tcp_stream("127.0.0.1", served.port)
            length = 3 << 20
            host = f"127.0.0.1:{served.port}"
            await stream.send_all(head("POST", "/rpc", f"Content-Length: {length}\r\n", host=host))
            with trio.move_on_after(5):
                await stream.send_all(b" " * length)
            assert (await read_all(stream)).startswith(b"HTTP/1.1 413")


@on_virtual_clock
async def test_an_answer_without_content_has_no_length_of_one() -> None:
    async with serving_by_hand() as listener:
        answer = await ask(listener, head("OPTIONS", "/", f"Origin: http://127.0.0.1:{PORT}\r\n"))
        assert answer.startswith(b"HTTP/1.1 204") and b"content-length" not in answer.lower()


@on_virtual_clock
async def test_a_flood_of_requests_is_refused_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BURST_REQUESTS", FEW)
    async with serving_by_hand() as listener:
        answers = [await ask(listener, head("GET", "/")) for _ in range(FEW + 1)]
        assert answers[FEW - 1].startswith(b"HTTP/1.1 200") and answers[-1].startswith(b"HTTP/1.1 429")
        await trio.sleep(2 / REQUESTS_PER_SECOND)
        assert (await ask(listener, head("GET", "/"))).startswith(b"HTTP/1.1 200")


# ---- whom a browser brings


@on_virtual_clock
async def test_a_page_that_may_use_the_wallets_route_may_use_no_other() -> None:
    page = "http://localhost:5173"
    async with serving_by_hand(origins=frozenset({page})) as listener:
        for origin in (page, "moz-extension://8e"):
            named = f"Origin: {origin}\r\n"
            posted = head("POST", "/wallets", named + "Content-Length: 2\r\n") + b"hi"
            assert b"hello hi" in await ask(listener, posted), origin
            assert (await ask(listener, head("GET", "/", named))).startswith(b"HTTP/1.1 403"), origin


@on_virtual_clock
async def test_a_page_elsewhere_cannot_make_a_browser_ask_as_an_image_or_a_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such requests name no origin, and would use up the rate that wallets and scrapers share."""
    monkeypatch.setattr(server, "BURST_REQUESTS", FEW)
    image = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n"
    frame = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n"
    link = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
    own = "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n"
    typed = "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
    async with serving_by_hand() as listener:
        for _ in range(FEW + 1):
            assert (await ask(listener, head("GET", "/", image))).startswith(b"HTTP/1.1 403")
        assert (await ask(listener, head("GET", "/", frame))).startswith(b"HTTP/1.1 403")
        for welcome in (link, own, typed, ""):
            assert (await ask(listener, head("GET", "/", welcome))).startswith(b"HTTP/1.1 200"), welcome


@on_virtual_clock
async def test_at_http_s_own_port_browsers_leave_the_port_out() -> None:
    async with serving_by_hand(port=80) as listener:
        for host in ("localhost", "127.0.0.1", "127.0.0.1:80"):
            assert (await ask(listener, head("GET", "/", host=host))).startswith(b"HTTP/1.1 200"), host
        own = head("GET", "/", "Origin: http://localhost\r\n", host="localhost")
        assert (await ask(listener, own)).startswith(b"HTTP/1.1 200")
        assert (await ask(listener, head("GET", "/", host="evil.example"))).startswith(b"HTTP/1.1 421")
    async with serving_by_hand() as listener:
        assert (await ask(listener, head("GET", "/", host="localhost"))).startswith(b"HTTP/1.1 421")


# ---- WebSockets


async def open_socket(listener: Any) -> Any:
    stream = listener.dial()
    await stream.send_all(head("GET", "/wallets", UPGRADE + KEY))
    assert (await read_some(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    return stream


def frame(opcode: int, data: bytes, *, is_last: bool = True) -> bytes:
    """As a client: masked, here with zeros."""
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xff" + len(data).to_bytes(8, "big")
    return bytes([opcode | (0x80 if is_last else 0)]) + length + bytes(4) + data


@on_virtual_clock
async def test_a_socket_is_pinged_and_let_go_when_it_is_silent() -> None:
    async with serving_by_hand() as listener:
        stream, began = await open_socket(listener), trio.current_time()
        assert await read_some(stream, b"\x89\x00") == b"\x89\x00"
        assert trio.current_time() - began == pytest.approx(PING_SECONDS)
        for _ in range(5):  # who answers stays
            await stream.send_all(frame(0xA, b""))
            assert await read_some(stream, b"\x89\x00") == b"\x89\x00"
        began = trio.current_time()
        await read_all(stream)
        assert trio.current_time() - began == pytest.approx(SILENT_SECONDS - PING_SECONDS)


@on_virtual_clock
async def test_a_request_for_a_socket_that_is_no_proper_one_is_answered() -> None:
    async with serving_by_hand() as listener:
        assert (await ask(listener, head("GET", "/wallets", UPGRADE))).startswith(b"HTTP/1.1 400")
        older = UPGRADE.replace("13", "8") + KEY
        assert (await ask(listener, head("GET", "/wallets", older))).startswith(b"HTTP/1.1 400")
        assert (await ask(listener, head("GET", "/", UPGRADE + KEY))).startswith(b"HTTP/1.1 400")


@on_virtual_clock
async def test_a_flood_of_frames_and_bytes_is_read_slowly_and_others_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Empty fragments, pings and large messages: none of them is a call, so no limit of calls holds them up."""
    rate, burst = 64 << 10, 128 << 10
    monkeypatch.setattr(server, "BYTES_PER_SECOND", rate)
    monkeypatch.setattr(server, "BURST_BYTES", burst)
    flood = 4 * burst
    async with serving_by_hand() as listener:
        for data in (frame(0x0, b"", is_last=False), frame(0x9, b""), frame(0x1, b"x" * 70_000)):
            stream, began = await open_socket(listener), trio.current_time()
            count = flood // max(len(data), EVENT_BYTES)
            first = frame(0x1, b"", is_last=False) if data[0] == 0 else b""
            await stream.send_all(first + data * count + frame(0x8, b""))
            assert (await ask(listener, head("GET", "/"))).startswith(b"HTTP/1.1 200")
            await read_all(stream)
            assert trio.current_time() - began > (flood - burst) / rate * 0.9, data[:1]
            await trio.sleep(burst / rate)


# ---- what is answered


@on_virtual_clock
async def test_a_status_is_asked_for_once_a_second_however_many_want_it() -> None:
    asked = []

    async def ask_status() -> int:
        await trio.sleep(0.3)
        asked.append(trio.current_time())
        return len(asked)

    recent = Recent(ask_status)
    found: list[int] = []

    async def want() -> None:
        found.append(await recent.get())

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(want)
    assert found == [1] * 100
    await trio.sleep(FRESH_SECONDS)
    assert await recent.get() == 2


def test_a_number_that_is_none_is_said_as_prometheus_reads_it() -> None:
    """The loss of a training that has diverged must not take all other metrics away."""
    for value, text in (
        (float("nan"), "NaN"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (3.0, "3"),
        (0.5, "0.5"),
    ):
        assert gauge("a", "A.", value).render().splitlines()[-1] == f"a {text}"


@on_virtual_clock
async def test_a_route_that_fails_says_so_and_the_connection_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_request: Request) -> Response:
        raise ValueError("a bug")

    async with serving_by_hand({"/": Route({"GET": fail})}) as listener:
        stream = listener.dial()
        for _ in range(2):
            await stream.send_all(head("GET", "/"))
            assert (await read_some(stream, b"see its log")).startswith(b"HTTP/1.1 500")
    assert "a bug" in caplog.text
