"""Noise after the handshake: the same bytes as stock, but read in gulps and sealed at the moment they leave.

The handshake itself is libp2p's. Message counters go on where it left them.
"""

import struct
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.security.exceptions import HandshakeFailure
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.security.secure_session import SecureSession

from flock_peers.network.connection import BufferedConnection

_TAG_BYTES = 16
MAX_PLAINTEXT = 65535 - _TAG_BYTES  # a Noise message with its tag has a length of two bytes
_NONCE = struct.Struct("<4xQ")
_LENGTH = struct.Struct(">H")
_OVERHEAD = _LENGTH.size + _TAG_BYTES
_INBOX_BYTES = 64 << 10  # grows, while reads fill it, to:
_INBOX_BYTES_MAX = 320 << 10  # one system call for several messages, and the rest of one
_OUTBOX_BYTES_KEPT = 320 << 10  # a batch of the writer; a larger one is let go


class Plaintext(Protocol):
    """What the layer above wants to send: whole pieces, that stay valid until the next await."""

    def take(self, most: int) -> Iterable[bytes | bytearray | memoryview]: ...

    def is_empty(self) -> bool: ...


class NotOurSession(ConnectionClosedError):
    """The other side sent something that its own key did not seal."""


class NoiseSession(SecureSession):
    """One reader. A message is sealed and sent whole by the one writer of the connection, so nothing can cut it."""

    def __init__(self, session: SecureSession) -> None:
        self.__dict__.update(session.__dict__)
        transport: Any = session.conn
        self.below: BufferedConnection = transport.read_writer.read_write_closer.stream
        protocol = transport.noise_state.noise_protocol
        self._encrypt_into = protocol.cipher_state_encrypt.cipher.cipher.encrypt_into
        self._decrypt = protocol.cipher_state_decrypt.cipher.cipher.decrypt
        self._sent: int = protocol.cipher_state_encrypt.n
        self._received: int = protocol.cipher_state_decrypt.n
        self._inbox = bytearray(_INBOX_BYTES)
        self._filled = 0  # of the inbox: a message that is not whole yet
        self._outbox = bytearray()
        self._plain: deque[bytes] = deque()
        self._source: Plaintext | None = None

    # --- out

    def set_source(self, source: Plaintext) -> None:
        """From now on the writer asks `source` for what to send next; `below.wake` tells it that there is something."""
        self._source = source
        self.below.set_source(self)

    def is_empty(self) -> bool:
        return self._source is None or self._source.is_empty()

    def take(self, most: int) -> memoryview:
        """Sealed messages for the writer; valid until the next call."""
        return self._seal(list(self._source.take(most))) if self._source is not None else memoryview(b"")

    def _seal(self, pieces: list[bytes | bytearray | memoryview]) -> memoryview:
        total = sum(len(piece) + _OVERHEAD * -(-len(piece) // MAX_PLAINTEXT) for piece in pieces)
        if len(self._outbox) < total or len(self._outbox) > max(total, _OUTBOX_BYTES_KEPT):
            self._outbox = bytearray(total)
        outbox, position = memoryview(self._outbox), 0
        for piece in pieces:
            view = memoryview(piece)
            for start in range(0, len(view), MAX_PLAINTEXT):
                plain = view[start : start + MAX_PLAINTEXT]
                begin, end = position + _LENGTH.size, position + len(plain) + _OVERHEAD
                _LENGTH.pack_into(outbox, position, end - begin)
                self._encrypt_into(_NONCE.pack(self._sent), plain, None, outbox[begin:end])
                self._sent += 1
                position = end
        return outbox[:position]

    async def write(self, data: bytes) -> None:
        """For the negotiation of the muxer. Raises ConnectionClosedError."""
        self.below.put(self._seal([data]))

    # --- in

    async def read_messages(self) -> list[bytes]:
        """What came, by message; empty at the end. Raises ConnectionClosedError for bytes that are not ours."""
        if self._plain:  # left by `read`
            messages = list(self._plain)
            self._plain.clear()
            return messages
        while True:
            count = await self.below.receive_into(memoryview(self._inbox)[self._filled :])
            if not count:
                return []
            self._filled += count
            if messages := self._open_messages():
                return messages

    def _open_messages(self) -> list[bytes]:
        messages, position, end = [], 0, self._filled
        view = memoryview(self._inbox)
        while end - position >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(view, position)
            start = position + _LENGTH.size
            if end - start < length:
                break
            try:
                plain = self._decrypt(_NONCE.pack(self._received), view[start : start + length], None)
            except InvalidTag as error:
                raise NotOurSession("not a message of this Noise session", transport="noise") from error
            self._received += 1
            position = start + length
            if plain:
                messages.append(plain)
        self._keep(position)
        return messages

    def _keep(self, position: int) -> None:
        """Move the beginning of the next message to the front; widen the inbox where it was full."""
        inbox, rest = self._inbox, self._filled - position
        if self._filled == len(inbox) < _INBOX_BYTES_MAX:
            self._inbox = bytearray(min(2 * len(inbox), _INBOX_BYTES_MAX))
            self._inbox[:rest] = inbox[position : self._filled]
        elif position:
            inbox[:rest] = inbox[position : self._filled]
        self._filled = rest

    async def read(self, n: int | None = None) -> bytes:
        """Up to n bytes: for the negotiation of the muxer, which reads a byte at a time."""
        if n == 0:
            return b""
        if not self._plain:
            self._plain.extend(await self.read_messages())
        if not self._plain:
            raise ConnectionClosedError("connection closed", transport="noise")
        data = self._plain.popleft()
        if n is not None and len(data) > n:
            self._plain.appendleft(data[n:])
            data = data[:n]
        return data

    async def close(self) -> None:
        await self.below.close()


class Noise(NoiseTransport):
    """Stock, what the other side says raises what the layers below raise: ValueError, errors of the noise package."""

    async def secure_inbound(self, conn: Any) -> NoiseSession:
        with _as_failure():
            return NoiseSession(await super().secure_inbound(conn))

    async def secure_outbound(self, conn: Any, peer_id: Any) -> NoiseSession:
        with _as_failure():
            return NoiseSession(await super().secure_outbound(conn, peer_id))


@contextmanager
def _as_failure() -> Iterator[None]:
    try:
        yield
    except BaseLibp2pError:
        raise
    except Exception as error:
        raise HandshakeFailure(f"{type(error).__name__}: {error}") from error
