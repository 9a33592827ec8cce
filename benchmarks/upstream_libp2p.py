"""Defects of py-libp2p, each reproduced on the unmodified library. A function returns what was seen, or None where the
defect is gone. Nothing here uses this project's own network code."""

import os
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519
from libp2p.custom_types import TProtocol
from libp2p.network.exceptions import SwarmException
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils import encode_varint_prefixed
from multiaddr import Multiaddr

MULTISTREAM = b"\x13/multistream/1.0.0\n"
GOSSIP = TProtocol("/meshsub/1.1.0")
IDLE = TProtocol("/idle/1")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _make_host(seed: int) -> Any:
    pair = create_new_key_pair(bytes([seed]) * 32)
    return new_host(key_pair=pair, sec_opt={NOISE: Noise(pair, noise_privkey=create_x25519().private_key)})


@asynccontextmanager
async def _listening(host: Any, port: int) -> AsyncIterator[Any]:
    address = Multiaddr(f"/ip4/127.0.0.1/tcp/{port}")
    async with host.run(listen_addrs=[address]):
        yield info_from_p2p_addr(Multiaddr(f"{address}/p2p/{host.get_id()}"))


async def _is_alive(info: Any, seed: int) -> bool:
    """Whether a newcomer can open a stream."""
    other = _make_host(seed)
    with trio.move_on_after(8):
        try:
            async with other.run(listen_addrs=[]):
                await other.connect(info)
                await other.new_stream(info.peer_id, [TProtocol("/ipfs/ping/1.0.0")])
                return True
        except Exception:  # noqa: BLE001 - whatever it is, there is no answer
            return False
    return False


async def _run_victim(attack: Any, *, service: Any = None) -> str | None:
    """Runs a host in this process; what ends it is the finding."""
    port, ended = _free_port(), ""
    try:
        async with trio.open_nursery() as nursery:
            host = _make_host(1)

            async def idle(_stream: Any) -> None:
                await trio.sleep_forever()

            host.set_stream_handler(IDLE, idle)
            async with _listening(host, port) as info:
                if service is None:
                    await attack(info, port)
                else:
                    await service(host, attack, info, port)
                await trio.sleep(0.5)
                if not await _is_alive(info, 9):
                    ended = "it answers nobody any more"
            nursery.cancel_scope.cancel()
    except BaseException as error:  # noqa: BLE001 - the finding
        inner = error
        while isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        ended = f"the host ended with {type(inner).__name__}: {inner}"[:160]
    return ended or None


# ---- the host


async def plaintext() -> str | None:
    """The default host accepts connections without encryption or proof of identity."""
    async with _listening(new_host(), port := _free_port()):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(MULTISTREAM + b"\x11/plaintext/2.0.0\n")
        await trio.sleep(0.5)
        said = await stream.receive_some(1_000)
        await stream.aclose()
    return "/plaintext/2.0.0 is agreed to" if b"/plaintext/2.0.0" in said else None


async def invalid_name() -> str | None:
    """Four bytes of invalid UTF-8 for a protocol's name, from any connected peer."""

    async def attack(info: Any, _port: int) -> None:
        other = _make_host(2)
        async with other.run(listen_addrs=[]):
            await other.connect(info)
            connection = other.get_network().get_connections(info.peer_id)[0]
            stream = await connection.muxed_conn.open_stream()
            await stream.write(MULTISTREAM + b"\x04\xff\xfe\xfd\n")
            await trio.sleep(1)

    return await _run_victim(attack)


async def raising_handler() -> str | None:
    """An exception in one stream's handler."""

    async def attack(info: Any, _port: int) -> None:
        other = _make_host(2)
        async with other.run(listen_addrs=[]):
            await other.connect(info)
            await other.new_stream(info.peer_id, [TProtocol("/boom/1")])
            await trio.sleep(1)

    async def service(host: Any, attack: Any, info: Any, port: int) -> None:
        async def boom(_stream: Any) -> None:
            raise ValueError("a bug in a handler")

        host.set_stream_handler(TProtocol("/boom/1"), boom)
        await attack(info, port)

    return await _run_victim(attack, service=service)


async def inbound_slots() -> str | None:
    """Connections that were closed again: their places never come back."""
    async with _listening(_make_host(1), _free_port()) as info:
        for number in range(300):
            other = _make_host(2)
            try:
                with trio.fail_after(8):
                    async with other.run(listen_addrs=[]):
                        await other.connect(info)
            except Exception as error:  # noqa: BLE001 - the finding
                return f"after {number} connections, each closed again, nobody gets in ({type(error).__name__})"
    return None


async def dial_error() -> str | None:
    """What a listener says in the handshake comes out of `connect` as an error that is none of libp2p's."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]

    async def speak(stream: trio.SocketStream) -> None:
        await stream.send_all(MULTISTREAM + b"\x07/noise\n" + b"\x00\x04abcd")
        await trio.sleep(1)

    host = _make_host(1)
    info = info_from_p2p_addr(Multiaddr(f"/ip4/127.0.0.1/tcp/{port}/p2p/{_make_host(2).get_id()}"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, speak, [listener])
        async with host.run(listen_addrs=[]):
            network = host.get_network()
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            from libp2p.io.trio import TrioTCPStream
            from libp2p.network.connection.raw_connection import RawConnection

            found: str | None = None
            try:
                await network.upgrade_outbound_raw_conn(RawConnection(TrioTCPStream(stream), True), info.peer_id)
            except SwarmException:
                pass
            except Exception as error:  # noqa: BLE001 - the finding
                found = f"{type(error).__module__}.{type(error).__name__} instead of SwarmException"
        nursery.cancel_scope.cancel()
    return found


async def shared_port() -> str | None:
    """Two hosts listen on one port, and neither says so."""
    port = _free_port()
    async with _listening(_make_host(1), port), _listening(_make_host(2), port):
        return "both listen on the same port"


# ---- the muxer


def _data_frame(stream: int, body: bytes) -> bytes:
    return struct.pack("!BBHII", 0, 0, 0, stream, len(body)) + body


async def ignored_window() -> str | None:
    """A peer that ignores flow control fills the receiver's memory."""
    held = 0

    async def attack(info: Any, _port: int) -> None:
        other = _make_host(2)
        async with other.run(listen_addrs=[]):
            await other.connect(info)
            stream = await other.new_stream(info.peer_id, [IDLE])
            muxed: Any = other.get_network().get_connections(info.peer_id)[0].muxed_conn
            body = os.urandom(60_000)
            with trio.move_on_after(10):
                for _ in range(32 * 1024 * 1024 // len(body)):
                    await muxed.secured_conn.write(_data_frame(stream.muxed_stream.stream_id, body))
            await trio.sleep(1)

    async def service(host: Any, attack: Any, info: Any, port: int) -> None:
        nonlocal held

        async def look() -> None:
            nonlocal held
            while True:
                await trio.sleep(0.2)
                for connections in host.get_network().connections.values():
                    for connection in connections if isinstance(connections, list) else [connections]:
                        buffers = getattr(connection.muxed_conn, "stream_buffers", {})
                        held = max(held, sum(len(buffer) for buffer in buffers.values()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await attack(info, port)
            nursery.cancel_scope.cancel()

    await _run_victim(attack, service=service)
    return f"{held >> 20} MiB are held for a stream whose window is 256 KiB" if held > 1 << 20 else None


async def cancelled_write() -> str | None:
    """A write that is given up, as a timeout does, leaves half a Noise message: the whole connection is lost."""
    async with _listening(victim := _make_host(1), _free_port()) as info:

        async def idle(_stream: Any) -> None:
            await trio.sleep_forever()

        victim.set_stream_handler(IDLE, idle)
        other = _make_host(2)
        async with other.run(listen_addrs=[]):
            await other.connect(info)
            for _ in range(30):
                stream = await other.new_stream(info.peer_id, [IDLE])
                with trio.move_on_after(0.003):
                    await stream.write(os.urandom(8 << 20))
            try:
                with trio.fail_after(8):
                    await other.new_stream(info.peer_id, [TProtocol("/ipfs/ping/1.0.0")])
            except Exception as error:  # noqa: BLE001 - the finding
                return f"no stream can be opened any more ({type(error).__name__})"
    return None


# ---- gossip


async def _with_gossip(host: Any, attack: Any, info: Any, port: int, validator: Any = None) -> None:
    gossip = GossipSub([GOSSIP], 6, 4, 12)
    pubsub = Pubsub(host, gossip, strict_signing=True)
    if validator is not None:
        pubsub.set_topic_validator("t", validator, False)
    async with background_trio_service(pubsub), background_trio_service(gossip):
        await pubsub.wait_until_ready()
        await pubsub.subscribe("t")
        await attack(info, port)
        if not pubsub.manager.is_running:
            raise RuntimeError("the gossip service has ended")


def _packet(**fields: Any) -> bytes:
    return bytes(encode_varint_prefixed(rpc_pb2.RPC(**fields).SerializeToString()))


async def _gossip(info: Any, data: bytes, seconds: float = 1.5) -> None:
    other = _make_host(2)
    async with other.run(listen_addrs=[]):
        await other.connect(info)
        stream = await other.new_stream(info.peer_id, [GOSSIP])
        await stream.write(data)
        await trio.sleep(seconds)


async def junk_key() -> str | None:
    """A gossip message whose key is three bytes of junk."""
    message = rpc_pb2.Message(
        data=b"x", topicIDs=["t"], from_id=b"\x12\x20" + bytes(32), seqno=bytes(8), signature=b"zz", key=b"\xff\xff\xff"
    )
    return await _run_victim(lambda info, _port: _gossip(info, _packet(publish=[message])), service=_with_gossip)


async def gossip_garbage() -> str | None:
    """A gossip packet that is no protobuf."""
    data = encode_varint_prefixed(b"\xff" * 300)
    return await _run_victim(lambda info, _port: _gossip(info, data), service=_with_gossip)


async def gossip_name() -> str | None:
    """A GRAFT for a topic whose name is not UTF-8: proto2 does not check it, and the answer cannot be made."""
    control = rpc_pb2.ControlMessage(graft=[rpc_pb2.ControlGraft(topicID="nope")]).SerializeToString()
    odd = control.replace(b"nope", b"\xff\xfe\xfd\xfc")
    data = encode_varint_prefixed(b"\x1a" + bytes([len(odd)]) + odd)
    return await _run_victim(lambda info, _port: _gossip(info, data), service=_with_gossip)


async def raising_validator() -> str | None:
    """A topic's validator that raises."""

    def validate(_peer: Any, _message: Any) -> bool:
        raise ValueError("a bug in a validator")

    pair = create_new_key_pair(bytes([2]) * 32)
    from libp2p.peer.id import ID

    me = ID.from_pubkey(pair.public_key)
    message = rpc_pb2.Message(data=b"x", topicIDs=["t"], from_id=me.to_bytes(), seqno=bytes(8))
    message.signature = pair.private_key.sign(b"libp2p-pubsub:" + message.SerializeToString())
    message.key = pair.public_key.serialize()

    async def service(host: Any, attack: Any, info: Any, port: int) -> None:
        await _with_gossip(host, attack, info, port, validate)

    return await _run_victim(lambda info, _port: _gossip(info, _packet(publish=[message])), service=service)


async def gossip_tasks() -> str | None:
    """One packet of thousands of messages: the cost grows with their number squared."""
    seconds: dict[int, float] = {}
    message = rpc_pb2.Message(data=b"x", topicIDs=["t"], from_id=b"i", seqno=b"1")
    for count in (1_000, 4_000):
        longest = 0.0

        async def attack(info: Any, _port: int, count: int = count) -> None:
            nonlocal longest

            async def look() -> None:
                nonlocal longest
                while True:
                    start = time.perf_counter()
                    await trio.sleep(0.01)
                    longest = max(longest, time.perf_counter() - start)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(look)
                await _gossip(info, _packet(publish=[message] * count), 5)
                nursery.cancel_scope.cancel()

        await _run_victim(attack, service=_with_gossip)
        seconds[count] = longest
    if seconds[4_000] < 4 * seconds[1_000]:
        return None
    return " and ".join(f"{count:,} messages stop the loop for {taken:.1f} s" for count, taken in seconds.items())


async def gossip_text() -> str | None:
    """What a large message costs that a validator refuses, the second time that it comes."""
    from libp2p.exceptions import ValidationError

    host = _make_host(1)
    pubsub = Pubsub(host, GossipSub([GOSSIP], 6, 4, 12), strict_signing=True)
    pubsub.set_topic_validator("t", lambda _peer, _message: False, False)
    message = rpc_pb2.Message(data=os.urandom(1 << 20), topicIDs=["t"], from_id=b"i", seqno=b"1")
    taken = 0.0
    for _ in range(2):
        start = time.process_time()
        try:
            await pubsub.validate_msg(host.get_id(), message)
        except ValidationError:
            taken = time.process_time() - start
    return f"{taken:.2f} s of CPU for one of 1 MiB" if taken > 0.02 else None


async def gossip_defaults() -> str | None:
    """Settings that surprise."""
    gossip = GossipSub([GOSSIP], 6, 4, 12)
    interval = gossip.heartbeat_interval
    most = getattr(gossip, "max_messages_per_topic_per_second", None)
    spam = getattr(gossip, "spam_protection_enabled", None)
    return f"heartbeat every {interval} s; spam protection {spam}, {most} messages a second" if interval > 10 else None


async def same_muxer() -> str | None:
    """A muxer class of one's own is accepted and never used."""
    from libp2p.stream_muxer.muxer_multistream import MuxerMultistream

    class Own(Yamux):  # type: ignore[misc]
        pass

    import inspect

    multistream = MuxerMultistream({TProtocol("/yamux/1.0.0"): Own}, 5)
    source = inspect.getsource(multistream.new_conn)
    return "new_conn() names Yamux itself instead of the class it was given" if "Yamux(" in source else None


CASES = {
    case.__name__: case
    for case in (
        plaintext, invalid_name, raising_handler, inbound_slots, dial_error, shared_port, ignored_window,
        cancelled_write, junk_key, gossip_garbage, gossip_name, raising_validator, gossip_tasks, gossip_text,
        gossip_defaults, same_muxer,
    )
}  # fmt: skip
