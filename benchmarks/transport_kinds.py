"""Four ways to move bytes between two processes: raw TCP, raw TLS 1.3, libp2p as it comes, and ours.

Each serves the same: a count of eight bytes comes in, that many bytes go out, again and again.
"""

import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from libp2p import create_yamux_muxer_option, new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as StockNoise
from multiaddr import Multiaddr

from flock_chain.crypto import Key
from flock_chain.errors import FlockError
from flock_peers.network.host import open_host
from flock_peers.network.link import Stream

GENESIS_HASH = b"benchmark genesis hash, 32 bytes"
PROTOCOL = "/benchmark/bytes/1"
COUNT = struct.Struct(">Q")
BLOCK = 1 << 20
_BYTES = bytes(BLOCK)

Read = Callable[[int], Awaitable[bytes]]
Write = Callable[[bytes], Awaitable[None]]
Channel = tuple[Read, Write]
Connect = Callable[[int], Any]  # how many streams; an async context of that many channels


async def serve(read: Read, write: Write) -> None:
    while header := await _read_exactly(read, COUNT.size):
        (left,) = COUNT.unpack(header)
        while left:
            count = min(left, BLOCK)
            await write(_BYTES if count == BLOCK else _BYTES[:count])
            left -= count


async def fetch(channel: Channel, count: int) -> None:
    read, write = channel
    await write(COUNT.pack(count))
    while count:
        data = await read(min(count, BLOCK))
        if not data:
            raise EOFError("the server closed the stream")
        count -= len(data)


async def _read_exactly(read: Read, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = await read(count - len(data))
        if not more:
            return b""
        data += more
    return data


# --- raw


def make_certificate(folder: Path) -> Path:
    """A self-signed one, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "benchmark")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def _tls(certificate: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if certificate else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if certificate:
        context.load_cert_chain(certificate)
    else:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@asynccontextmanager
async def serve_raw(certificate: Path | None) -> AsyncIterator[str]:
    async def handle(stream: Any) -> None:
        try:
            if certificate:
                stream = trio.SSLStream(stream, _tls(certificate), server_side=True)
            await serve(stream.receive_some, stream.send_all)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        yield str(listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def dial_raw(port: str, is_tls: bool) -> AsyncIterator[Connect]:
    """Streams are connections of their own."""

    @asynccontextmanager
    async def connect(count: int) -> AsyncIterator[list[Channel]]:
        async with AsyncExitStack() as stack:
            channels: list[Channel] = []
            for _ in range(count):
                stream: Any = await trio.open_tcp_stream("127.0.0.1", int(port))
                if is_tls:
                    stream = trio.SSLStream(stream, _tls(None), server_hostname="benchmark")
                    await stream.do_handshake()
                stack.push_async_callback(trio.aclose_forcefully, stream)
                channels.append((stream.receive_some, stream.send_all))
            yield channels

    yield connect


# --- libp2p as it comes


def _stock_host(number: int) -> Any:
    pair = create_new_key_pair(number.to_bytes(32, "big"))
    noise = StockNoise(pair, noise_privkey=create_x25519_key_pair().private_key)
    return new_host(key_pair=pair, sec_opt={NOISE: noise}, muxer_opt=create_yamux_muxer_option())


@asynccontextmanager
async def serve_stock() -> AsyncIterator[str]:
    host = _stock_host(1)

    async def handle(stream: Any) -> None:
        try:
            await serve(stream.read, stream.write)
        except Exception:  # noqa: BLE001 - however it says that the other side is gone
            pass

    host.set_stream_handler(TProtocol(PROTOCOL), handle)
    async with host.run(listen_addrs=[Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        yield str(host.get_addrs()[0])


@asynccontextmanager
async def dial_stock(address: str) -> AsyncIterator[Connect]:
    host = _stock_host(2)
    info = info_from_p2p_addr(Multiaddr(address))

    @asynccontextmanager
    async def connect(count: int) -> AsyncIterator[list[Channel]]:
        streams = [await host.new_stream(info.peer_id, [TProtocol(PROTOCOL)]) for _ in range(count)]
        yield [(stream.read, stream.write) for stream in streams]
        for stream in streams:
            await stream.reset()

    async with host.run(listen_addrs=[]):
        await host.connect(info)
        yield connect


# --- ours


@asynccontextmanager
async def serve_ours() -> AsyncIterator[str]:
    async with open_host(Key(bytes(31) + b"\1"), ("127.0.0.1", 0), GENESIS_HASH) as host:

        async def handle(stream: Stream) -> None:
            try:
                await serve(stream.read_some, stream.write)
            except FlockError:
                pass

        host.on_stream(PROTOCOL, handle)
        yield host.address


@asynccontextmanager
async def dial_ours(address: str) -> AsyncIterator[Connect]:
    """All streams on one connection."""
    async with open_host(Key(bytes(31) + b"\2"), ("127.0.0.1", 0), GENESIS_HASH) as host:
        account = await host.connect(address)

        @asynccontextmanager
        async def connect(count: int) -> AsyncIterator[list[Channel]]:
            streams = [await host.open_stream(account, PROTOCOL) for _ in range(count)]
            for stream in streams:
                stream.expect_bulk()
            yield [(stream.read_some, stream.write) for stream in streams]
            for stream in streams:
                await stream.reset()

        yield connect
