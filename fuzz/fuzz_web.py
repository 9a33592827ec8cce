"""Targets: what programs and pages on this machine send to the peer's own server, and files that people hand on."""

import json
from pathlib import Path
from typing import Any

import trio
import trio.testing
from fuzz_mutators import behind, mutate_bytes, mutate_json, mutate_safetensors
from fuzz_streams import split_pieces
from fuzz_target import Target, in_trio, make_folder

from flock_chain import ecvrf
from flock_chain.crypto import Key
from flock_chain.errors import Misuse
from flock_p2p.rpc.endpoint import Endpoint
from flock_p2p.web.connection import Connection
from flock_p2p.web.guard import Bucket
from flock_p2p.web.messages import Converse, Request, Response, Socket
from flock_p2p.web.unread import Unread
from flock_peers.training.document import read_weight_shapes

_mutate = behind(1, mutate_bytes)
_UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


# ---- HTTP, WebSocket, JSON-RPC


class _Stream(trio.abc.Stream):
    """The other side says `data`, in pieces, and is gone; what we say is counted."""

    def __init__(self, data: bytes, piece: int) -> None:
        self._data, self._piece, self.sent = data, max(1, piece), 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        del max_bytes
        taken, self._data = self._data[: self._piece], self._data[self._piece :]
        return taken

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.sent += len(data)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class _Site:
    def __init__(self, most: int) -> None:
        self._most = most

    def check(self, _request: Request) -> Response | None:
        return None

    def max_body(self, _request: Request) -> int:
        return self._most

    async def handle(self, request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        assert len(request.body) <= self._most
        return Response(200, b"ok")

    def accept(self, _request: Request) -> Response | Converse:
        return self._converse

    async def _converse(self, socket: Socket) -> None:
        while (message := await socket.receive()) is not None:
            assert len(message) <= 1 << 20


def _serve(data: bytes, piece: int) -> None:
    async def script() -> None:
        stream = _Stream(data, piece)
        await Connection(stream, _Site(1_024), Bucket(1e9, 1e9), Unread(1 << 20)).serve()
        assert stream.sent <= 2_048 + 64 * len(data), "a small request has a large answer"

    in_trio(script)


def _run_http(data: bytes) -> None:
    piece, rest = split_pieces(data)
    _serve(rest, piece)


def _run_websocket(data: bytes) -> None:
    """After the request to become one."""
    piece, rest = split_pieces(data)
    _serve(_UPGRADE + rest, piece)


def _frame(head: int, body: bytes) -> bytes:
    """Masked with zeros, as a browser masks with chance."""
    return bytes([head, 0x80 | len(body)]) + bytes(4) + body


def _run_json_rpc(data: bytes) -> None:
    async def call(name: str, parameters: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return [name, list(parameters)]

    async def script() -> None:
        answer = await Endpoint(lambda: 0.0).answer(data, call)
        rows = json.loads(answer) if answer is not None else []
        for row in rows if isinstance(rows, list) else [rows]:
            assert row["jsonrpc"] == "2.0" and ("result" in row) != ("error" in row)

    in_trio(script)


def _calls() -> list[bytes]:
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [{"to": "0x00"}, "latest"]}
    return [json.dumps(row).encode() for row in (call, [call, {**call, "id": "x"}], {"jsonrpc": "2.0", "method": "a"})]


# ---- files and proofs


_FOLDER = make_folder("fuzz-base")


def _run_base_weights(data: bytes) -> None:
    """The header of a base model's file, which a task's creator chose."""
    path = Path(_FOLDER.name) / "model.safetensors"
    path.write_bytes(data)
    shapes = read_weight_shapes(path.parent)
    assert all(isinstance(side, int) and side >= 0 for shape in shapes.values() for side in shape)


def _weights() -> list[bytes]:
    header = {"model.q_proj.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {}}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little") + text + bytes(24)]


_SEED = ecvrf.derive_seed(Key(b"\x07" * 32))
_PROOF = ecvrf.prove(_SEED, b"beacon")


def _run_draw_proof(data: bytes) -> None:
    """One key and input, one proof that is valid: whatever else is accepted is a finding."""
    key, proof = data[:32], data[32:]
    output = ecvrf.verify(key, b"beacon", proof)
    if key == ecvrf.public_key(_SEED):
        assert (output is not None) == (proof == _PROOF)
    assert output is None or len(output) == 64


def targets() -> list[Target]:
    get = b"GET /api/state?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    post = b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    chunked = b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    odd = _UPGRADE.replace(b"localhost", b"l\xd3calhost")  # a finding
    frames = [_frame(0x81, b"{}"), _frame(0x01, b"a") + _frame(0x80, b"b"), _frame(0x89, b"ping") + _frame(0x88, b"")]
    requests = (get + post, chunked, _UPGRADE + frames[0], odd)
    return [
        Target("http", _run_http, lambda: [b"\0" + row for row in requests], _mutate, ()),
        Target("websocket", _run_websocket, lambda: [b"\0" + row for row in frames], _mutate, ()),
        Target("json_rpc", _run_json_rpc, _calls, mutate_json, ()),
        Target("base_weights", _run_base_weights, _weights, mutate_safetensors, (Misuse,)),
        Target("draw_proof", _run_draw_proof, lambda: [ecvrf.public_key(_SEED) + _PROOF], mutate_bytes, ()),
    ]  # fmt: skip
