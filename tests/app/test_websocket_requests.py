"""Requests to become a WebSocket that are none: refused in words, whatever h11 and wsproto say of them."""

import pytest
import trio
import trio.testing

from flock_p2p.web.guard import Bucket
from flock_p2p.web.messages import BrokenSocket
from flock_p2p.web.unread import Unread
from flock_p2p.web.websocket import WebSocket

PROPER = [
    (b"host", b"127.0.0.1"), (b"upgrade", b"websocket"), (b"connection", b"Upgrade"),
    (b"sec-websocket-version", b"13"), (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
]  # fmt: skip


def ask(headers: list[tuple[bytes, bytes]]) -> WebSocket:
    async def read() -> WebSocket:
        stream, _ = trio.testing.memory_stream_pair()
        return WebSocket(stream, headers, b"/socket", b"", Bucket(1e9, 1e9), Unread(1 << 20))

    return trio.run(read)


def test_a_proper_request_is_taken() -> None:
    ask(PROPER)


@pytest.mark.parametrize(
    "headers",
    [
        PROPER[1:],  # as HTTP/0.9 may ask: found by a fuzzer
        [(b"host", "\xe4".encode("latin-1")), *PROPER[1:]],
        PROPER[:-1],
    ],
    ids=["no host", "a host that is no name", "no key"],
)
def test_one_that_names_no_host_or_has_no_key_is_refused_in_words(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(BrokenSocket, match=r"^websocket: "):
        ask(headers)
