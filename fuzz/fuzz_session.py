"""Targets: the Noise handshake, what it proves, sealed frames, and the muxer inside them."""

from random import Random
from types import SimpleNamespace
from typing import Any

import trio
from fuzz_mutators import behind, mutate_bytes
from fuzz_streams import split_pieces
from fuzz_target import Target, in_trio
from libp2p.crypto.ed25519 import create_new_key_pair as create_ed25519
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.security.noise.pb import noise_pb2
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamError
from noise.connection import Keypair, NoiseConnection

from flock_chain.crypto import Key
from flock_peers.network.identity import key_pair_of, peer_id_of
from flock_peers.network.limits import MIB
from flock_peers.network.session import MAX_PLAINTEXT, Noise, NoiseSession
from flock_peers.network.yamux import MAX_INBOUND_STREAMS, Muxer
from flock_peers.network.yamux_frame import WINDOW_BYTES

_KEY, _OTHER = Key(b"\x07" * 32), Key(b"\x08" * 32)
_mutate_behind_piece = behind(1, mutate_bytes)


# ---- noise


class _Pipe:
    """A raw connection: what the other side says is given, what we say goes to `on_write`."""

    def __init__(self, data: bytes, is_initiator: bool) -> None:
        self._data, self.is_initiator = bytearray(data), is_initiator
        self.on_write: Any = None
        self.stream = SimpleNamespace()
        self.read_write_closer = self

    def feed(self, data: bytes) -> None:
        self._data += data

    async def read(self, n: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._data:
            raise ConnectionClosedError("no more", transport="fuzz")
        count = len(self._data) if n is None else n
        taken = bytes(self._data[:count])
        del self._data[:count]
        return taken

    async def write(self, data: bytes) -> None:
        if self.on_write is not None:
            self.on_write(data)

    async def close(self) -> None:
        pass

    def get_remote_address(self) -> tuple[str, int]:
        return "192.0.2.9", 4_200


_STATIC = create_x25519(b"\x05" * 32) if create_x25519.__code__.co_argcount else create_x25519()
_NOISE = Noise(key_pair_of(_KEY), noise_privkey=_STATIC.private_key)
_ATTACKER_STATIC = b"\x06" * 32
_NOISE_NAME = b"Noise_XX_25519_ChaChaPoly_SHA256"


def _run_handshake(data: bytes) -> None:
    """Bytes of somebody who does not know Noise; the first says which side we are."""

    async def script() -> None:
        pipe: Any = _Pipe(data[1:], bool(data[:1] and data[0] & 1))
        if pipe.is_initiator:
            await _NOISE.secure_outbound(pipe, peer_id_of(_OTHER))
        else:
            await _NOISE.secure_inbound(pipe)

    in_trio(script)


def _run_payload(data: bytes) -> None:
    """A peer that speaks Noise well, and whose identity, inside the last message, is `data`."""

    async def script() -> None:
        theirs = NoiseConnection.from_name(_NOISE_NAME)
        theirs.set_keypair_from_private_bytes(Keypair.STATIC, _ATTACKER_STATIC)
        theirs.set_as_initiator()
        theirs.start_handshake()
        first = theirs.write_message(b"")
        pipe: Any = _Pipe(len(first).to_bytes(2, "big") + first, False)

        def answer(message: bytes) -> None:
            theirs.read_message(message[2:])
            last = theirs.write_message(data)
            pipe.feed(len(last).to_bytes(2, "big") + last)

        pipe.on_write = answer
        session = await _NOISE.secure_inbound(pipe)
        assert session.get_remote_peer() is not None

    in_trio(script)


def _payloads() -> list[bytes]:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    static = X25519PrivateKey.from_private_bytes(_ATTACKER_STATIC).public_key().public_bytes_raw()
    signed = b"noise-libp2p-static-key:" + static
    found = []
    for pair in (key_pair_of(_OTHER), create_ed25519(b"\x04" * 32)):
        message = noise_pb2.NoiseHandshakePayload(
            identity_key=pair.public_key.serialize(), identity_sig=pair.private_key.sign(signed)
        )
        found.append(message.SerializeToString())
    return found


class _Cipher:
    """Opens what begins with its counter."""

    def decrypt(self, nonce: bytes, data: memoryview, _more: None) -> bytes:
        from cryptography.exceptions import InvalidTag

        if not len(data) or data[0] != nonce[4]:
            raise InvalidTag
        return bytes(data[1:])


def _run_noise_frames(data: bytes) -> None:
    """Cut anywhere, the same plaintext comes out."""
    piece, rest = split_pieces(data)

    def open_all(step: int) -> tuple[bytes, bool]:
        session: Any = NoiseSession.__new__(NoiseSession)
        session._decrypt, session._received, session._inbox, session._filled = _Cipher().decrypt, 0, bytearray(1_024), 0
        opened, at = b"", 0
        try:
            while at < len(rest):
                part = rest[at : at + min(step, len(session._inbox) - session._filled)]
                session._inbox[session._filled : session._filled + len(part)] = part
                session._filled, at = session._filled + len(part), at + len(part)
                opened += b"".join(session._open_messages())
                assert session._filled < len(session._inbox) <= 320 << 10, "no room for the next read"
        except ConnectionClosedError:
            return b"", True
        return opened, False

    assert open_all(piece) == open_all(len(rest) or 1)


# ---- yamux


class _Session:
    def __init__(self, is_initiator: bool) -> None:
        self.is_initiator = is_initiator
        self.below: Any = SimpleNamespace(
            abort_soon=lambda: None, abort=lambda: None, wake=lambda: None, remote=("192.0.2.9", 1), unread_bytes=MIB
        )

    def set_source(self, _source: Any) -> None:
        pass


def _feed_muxer(data: bytes, step: int, is_initiator: bool) -> tuple[bytes, list[Any], bool]:
    muxer = Muxer(_Session(is_initiator), peer_id_of(_OTHER), clock=lambda: 0.0)  # type: ignore[arg-type]
    failed = False
    try:
        for start in range(0, len(data), step):
            muxer._feed(data[start : start + step])
    except (MuxedStreamError, MuxedConnUnavailable, ConnectionClosedError):
        failed = True
    assert len(muxer.streams) <= MAX_INBOUND_STREAMS
    rows = []
    for number, stream in sorted(muxer.streams.items()):
        held = b"".join(stream._chunks)
        assert len(held) <= WINDOW_BYTES, "more than the window is held"
        rows.append((number, held, stream.send_credit, stream.is_reset, stream.is_receive_closed))
    return b"".join(bytes(piece) for piece in muxer.outgoing.take(1 << 30)), rows, failed


def _run_yamux(data: bytes) -> None:
    piece, rest = split_pieces(data)
    is_initiator, rest = bool(rest[:1] and rest[0] & 1), rest[1:]
    whole, cut = _feed_muxer(rest, len(rest) or 1, is_initiator), _feed_muxer(rest, piece, is_initiator)
    assert whole[0] == cut[0] and whole[2] == cut[2], "how the bytes are cut makes a difference"
    assert whole[2] or whole[1] == cut[1]
    assert len(whole[0]) <= len(rest) + 64, "more is answered than was said"


def _yamux(*frames: tuple[int, int, int, bytes | int]) -> bytes:
    out = b"\x05\x00"
    for kind, flags, stream, body in frames:
        length = body if isinstance(body, int) else len(body)
        out += bytes([0, kind]) + flags.to_bytes(2, "big") + stream.to_bytes(4, "big") + length.to_bytes(4, "big")
        out += body if isinstance(body, bytes) else b""
    return out


def _yamux_seeds() -> list[bytes]:
    return [
        _yamux((1, 1, 1, 0), (0, 0, 1, b"data"), (0, 4, 1, b"end"), (2, 1, 0, 7)),
        _yamux((0, 1, 3, b"both"), (1, 0, 3, 70_000), (1, 8, 3, 0), (2, 2, 0, 1)),
        _yamux((1, 1, 5, 0), (3, 0, 0, 0)),
    ]


def mutate_yamux(data: bytes, random: Random) -> bytes:
    """Whole frames: put in, taken out, repeated; else bytes."""
    head, rows = data[:2], [data[start : start + 12] for start in range(2, len(data), 12)]
    if random.random() < 0.4 or not rows:
        return _mutate_behind_piece(data, random)
    frame = _yamux(
        (random.randrange(5), random.choice((0, 1, 2, 4, 8, 5, 9)), random.choice((0, 1, 2, 3, 5, 1 << 31)),
         random.choice((b"", b"x", b"y" * 40, 0, 1, 1 << 18, (1 << 18) + 1, (1 << 32) - 1))))[2:]  # fmt: skip
    place = random.randrange(len(rows) + 1)
    rows[place:place] = [frame] * random.choice((1, 1, 1, 2, 70))
    return head + b"".join(rows)


def targets() -> list[Target]:
    libp2p = (BaseLibp2pError,)
    return [
        Target("noise_handshake", _run_handshake, lambda: [b"\0\0\x20" + bytes(range(1, 33)), b"\1\0\4abcd"],
               _mutate_behind_piece, libp2p),
        Target("noise_payload", _run_payload, _payloads, mutate_bytes, libp2p, max_bytes=MAX_PLAINTEXT // 16),
        Target("noise_frames", _run_noise_frames, lambda: [b"\3\0\2\0a\0\3\1bc", b"\0\0\1\0\0\0"],
               _mutate_behind_piece),
        Target("yamux", _run_yamux, _yamux_seeds, mutate_yamux, ()),
    ]  # fmt: skip
