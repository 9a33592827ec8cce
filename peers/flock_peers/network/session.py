"""Noise after the handshake: the same bytes as stock, but read in gulps and written without waiting.

The handshake itself is libp2p's. Message counters go on where it left them.
"""

import struct
from collections import deque
from typing import Any

from cryptography.exceptions import InvalidTag
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.security.secure_session import SecureSession

from flock_peers.network.connection import BufferedConnection

MAX_PLAINTEXT = 65535 - 16  # a Noise message with its tag has a length of two bytes
_NONCE = struct.Struct("<4xQ")
_LENGTH_BYTES = 2


class NoiseSession(SecureSession):
    """One reader, any number of writers; `send` is synchronous, so a message is never cut by a cancellation."""

    def __init__(self, session: SecureSession) -> None:
        self.__dict__.update(session.__dict__)
        transport: Any = session.conn
        self.below: BufferedConnection = transport.read_writer.read_write_closer.stream
        protocol = transport.noise_state.noise_protocol
        self._encrypt = protocol.cipher_state_encrypt.cipher.cipher.encrypt
        self._decrypt = protocol.cipher_state_decrypt.cipher.cipher.decrypt
        self._sent: int = protocol.cipher_state_encrypt.n
        self._received: int = protocol.cipher_state_decrypt.n
        self._sealed = b""  # the beginning of a message that is not here yet
        self._plain: deque[bytes] = deque()

    def send(self, data: bytes) -> None:
        """Raises ConnectionClosedError. For waiting there is `below.wait_room`."""
        view = memoryview(data)
        for start in range(0, len(view), MAX_PLAINTEXT):
            sealed = self._encrypt(_NONCE.pack(self._sent), view[start : start + MAX_PLAINTEXT], None)
            self._sent += 1
            self.below.put(len(sealed).to_bytes(_LENGTH_BYTES, "big"))
            self.below.put(sealed)

    async def write(self, data: bytes) -> None:
        self.send(data)

    async def read_some(self) -> bytes:
        """The next piece of plaintext; empty at the end. Raises ConnectionClosedError for bytes that are not ours."""
        while not self._plain:
            data = await self.below.read_some()
            if not data:
                return b""
            self._open_messages(self._sealed + data if self._sealed else data)
        return self._plain.popleft()

    def _open_messages(self, data: bytes) -> None:
        view, position, end = memoryview(data), 0, len(data)
        while end - position >= _LENGTH_BYTES:
            length = (data[position] << 8) | data[position + 1]
            start = position + _LENGTH_BYTES
            if end - start < length:
                break
            try:
                plain = self._decrypt(_NONCE.pack(self._received), view[start : start + length], None)
            except InvalidTag as error:
                raise ConnectionClosedError("not a message of this Noise session", transport="noise") from error
            self._received += 1
            if plain:
                self._plain.append(plain)
            position = start + length
        self._sealed = data[position:]

    async def read(self, n: int | None = None) -> bytes:
        """Up to n bytes: for the negotiation of the muxer, which reads a byte at a time."""
        if n == 0:
            return b""
        data = await self.read_some()
        if not data:
            raise ConnectionClosedError("connection closed", transport="noise")
        if n is not None and len(data) > n:
            self._plain.appendleft(data[n:])
            data = data[:n]
        return data

    async def close(self) -> None:
        await self.below.close()


class Noise(NoiseTransport):
    async def secure_inbound(self, conn: Any) -> NoiseSession:
        return NoiseSession(await super().secure_inbound(conn))

    async def secure_outbound(self, conn: Any, peer_id: Any) -> NoiseSession:
        return NoiseSession(await super().secure_outbound(conn, peer_id))
