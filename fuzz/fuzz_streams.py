"""Scripted streams: what the other side says is the input."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import trio
from fuzz_target import PEER, PEER_KEY
from libp2p.stream_muxer.exceptions import MuxedStreamEOF

from flock_peers.network.identity import peer_id_of

_PEER_ID = peer_id_of(PEER_KEY)


class ScriptedStream:
    """A muxed stream whose other side says `data`, in pieces, and then ends; what we say is counted."""

    def __init__(self, data: bytes, piece: int, end: type[Exception] = MuxedStreamEOF) -> None:
        self._data, self._piece, self._end = data, max(1, piece), end
        self.written = bytearray()
        self.muxed_stream = self
        self.muxed_conn: Any = SimpleNamespace(peer_id=None)
        self.metric_send_channel = None

    async def read(self, n: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        count = min(self._piece, len(self._data)) if n is None else min(self._piece, n, len(self._data))
        if not self._data:
            raise self._end("end of stream")
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.written += data

    def abandon(self) -> None:
        pass

    def grow(self) -> None:
        pass

    def count_apart(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def reset(self) -> None:
        pass


def make_link() -> Any:
    """As much of a link as a stream asks for."""
    return SimpleNamespace(
        account=PEER, peer_id=_PEER_ID, closed=trio.Event(), remote="192.0.2.9:4200", remote_host="192.0.2.9",
        is_circuit=False, uncounted=nullcontext,
    )  # fmt: skip


def split_pieces(data: bytes) -> tuple[int, bytes]:
    """The first byte says in which pieces the rest arrives."""
    return (data[0] or 4_096) if data else 1, data[1:]
