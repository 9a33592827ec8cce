"""Targets: what comes from a connection, from the first byte on: handshakes, frames, names, requests, gossip, blobs."""

import tempfile
from dataclasses import fields
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import trio
from fuzz_mutators import behind, mutate_bytes, mutate_msgpack
from fuzz_seeds import golden
from fuzz_streams import ScriptedStream, make_link, split_pieces
from fuzz_target import PEER, Target, in_trio
from libp2p.crypto.ed25519 import create_new_key_pair as create_ed25519
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.protocol_muxer.exceptions import MultiselectError
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.pubsub.pb import rpc_pb2
from libp2p.security.noise.pb import noise_pb2
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamError
from libp2p.utils import encode_varint_prefixed
from multiaddr import Multiaddr
from noise.connection import Keypair, NoiseConnection

from flock_chain.crypto import Key
from flock_chain.errors import InvalidEncoding, InvalidRemote, Unavailable
from flock_peers.network import bitswap, dht, hello, mdns, requests
from flock_peers.network.blob_server import BlobServer
from flock_peers.network.blob_wire import OBJECT, REQUEST, BlobLimits, Traffic, ask_object
from flock_peers.network.gossip import Gossip, Topic
from flock_peers.network.identity import key_pair_of, parse_address, peer_id_of
from flock_peers.network.limits import MIB, Limits, TokenBucket
from flock_peers.network.link import ProtocolNames, Stream, _negotiate
from flock_peers.network.peer_table import Buckets
from flock_peers.network.session import MAX_PLAINTEXT, Noise, NoiseSession
from flock_peers.network.stack import Stack
from flock_peers.network.yamux import MAX_INBOUND_STREAMS, Muxer
from flock_peers.network.yamux_frame import WINDOW_BYTES
from flock_peers.store.blob_store import BlobStore

_KEY, _OTHER = Key(b"\x07" * 32), Key(b"\x08" * 32)
_BROKEN = (InvalidRemote, Unavailable)
_MULTISTREAM = b"\x13/multistream/1.0.0\n"
_LIMITS = Limits(frame_bytes=1_024, frame_seconds=5.0)
_mutate_behind_piece = behind(1, mutate_bytes)


# ---- hello, addresses, frames, requests


def _run_hello(data: bytes) -> None:
    theirs = hello.decode_hello(data)
    assert theirs.version != hello.VERSION or theirs.encode() == data
    hello.explain_upgrades(theirs, bytes(32), PEER, "somewhere")
    assert all(address.account == PEER for address in hello.listen_addresses(theirs, PEER))


def _run_addresses(data: bytes) -> None:
    found = hello.decode_addresses(data, 4)
    assert len(found) <= 4 and all(parse_address(str(address)) == address for address in found)


def _run_address(data: bytes) -> None:
    address = parse_address(data.decode("latin-1"))
    assert parse_address(str(address)) == address and 0 < address.port < 65_536
    assert isinstance(address.is_dialable_hearsay, bool) and isinstance(address.is_loopback, bool)


def _stream(data: bytes) -> tuple[Stream, ScriptedStream]:
    piece, rest = split_pieces(data)
    scripted = ScriptedStream(rest, piece)
    return Stream(scripted, make_link()), scripted


def _run_frames(data: bytes) -> None:
    async def script() -> None:
        stream, _ = _stream(data)
        while (payload := await stream.read_frame(1_024, 5)) is not None:
            assert len(payload) <= 1_024

    in_trio(script)


def _run_answer(data: bytes) -> None:
    async def script() -> None:
        stream, _ = _stream(data)

        async def open_it(_protocol: str) -> Stream:
            return stream

        link: Any = SimpleNamespace(account=PEER, limits=_LIMITS, open=open_it)
        assert len(await requests.ask(link, "/x/1", b"question", 5)) <= _LIMITS.frame_bytes

    in_trio(script)


# ---- names of protocols


def _run_names(data: bytes) -> None:
    """The side that answers: whatever is offered, a handler or an error of the protocol."""

    async def script() -> None:
        async def handler(_stream: Any) -> None:
            return None

        piece, rest = split_pieces(data)
        scripted = ScriptedStream(rest, piece)
        multiselect = Multiselect({"/x/1": handler, "/flock/hello/1": handler})  # type: ignore[dict-item]
        name, _ = await multiselect.negotiate(ProtocolNames(scripted), 5)  # type: ignore[arg-type]
        assert name in ("/x/1", "/flock/hello/1")

    in_trio(script)


def _run_chosen_name(data: bytes) -> None:
    """The side that asks."""

    async def script() -> None:
        piece, rest = split_pieces(data)
        await _negotiate(ScriptedStream(rest, piece), "/x/1")

    in_trio(script)


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
    muxer = Muxer(_Session(is_initiator), peer_id_of(_OTHER))  # type: ignore[arg-type]
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


# ---- gossip


def _make_gossip() -> Any:
    async def handle(_author: Any, _payload: bytes) -> None:
        return None

    async def on_link(_link: Any) -> None:
        return None

    stack = Stack(_KEY, Limits(), announce=[], protocols={}, open_protocols=frozenset(), on_link=on_link)
    buckets = Buckets(*[TokenBucket(1.0, 1e18, lambda: 0.0) for _ in fields(Buckets)])
    topics = {"t": Topic(lambda _author, _payload: True, handle)}
    gossip = Gossip(stack, topics, lambda _account: buckets, lambda *_arguments: None)
    pubsub = gossip._pubsub
    pubsub.subscribed_topics_send["t"], pubsub.subscribed_topics_receive["t"] = trio.open_memory_channel(1)
    gossip._pubsub.router.mesh["t"] = set()
    return gossip


_GOSSIP: list[Any] = []


def _run_gossip(data: bytes) -> None:
    async def script() -> None:
        if not _GOSSIP:
            _GOSSIP.append(_make_gossip())
        pubsub = _GOSSIP[0]._pubsub
        pubsub._handle_dead_peer = lambda _peer: None
        pubsub._manager = SimpleNamespace(is_running=True, run_task=lambda *_args, name=None: None)  # noqa: ARG005
        piece, rest = split_pieces(data)
        stream = ScriptedStream(rest, piece)
        stream.muxed_stream = stream
        stream.muxed_conn = SimpleNamespace(peer_id=peer_id_of(_OTHER), link=SimpleNamespace(closed=trio.Event()))
        await pubsub.continuously_read_stream(stream)

    in_trio(script)


def _gossip_seeds() -> list[bytes]:
    pair = key_pair_of(_OTHER)
    message = rpc_pb2.Message(data=b"hi", topicIDs=["t"], from_id=peer_id_of(_OTHER).to_bytes(), seqno=bytes(8))
    message.signature = pair.private_key.sign(b"libp2p-pubsub:" + message.SerializeToString())
    message.key = pair.public_key.serialize()
    control = rpc_pb2.ControlMessage(
        graft=[rpc_pb2.ControlGraft(topicID="t")], prune=[rpc_pb2.ControlPrune(topicID="t")],
        ihave=[rpc_pb2.ControlIHave(topicID="t", messageIDs=[b"x"])],
        iwant=[rpc_pb2.ControlIWant(messageIDs=[b"x"])],
    )  # fmt: skip
    subscriptions = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid="t"), rpc_pb2.RPC.SubOpts(subscribe=False)]
    rows = [rpc_pb2.RPC(publish=[message]), rpc_pb2.RPC(control=control), rpc_pb2.RPC(subscriptions=subscriptions)]
    return [b"\0" + encode_varint_prefixed(row.SerializeToString()) for row in rows]


# ---- blobs


_FOLDER = tempfile.TemporaryDirectory(prefix="fuzz-blobs-")  # removed when the process ends
_STORES: list[BlobStore] = []


def _run_blob_request(data: bytes) -> None:
    if not _STORES:
        _STORES.append(BlobStore(Path(_FOLDER.name)))
        _STORES[0].put_object(b"an object")

    async def script() -> None:
        stream, scripted = _stream(data)
        server = BlobServer(_STORES[0], BlobLimits(), Traffic())
        try:
            await server.serve(stream)
        finally:
            assert len(scripted.written) <= 16 * len(data) + 16

    in_trio(script)


def _run_blob_answer(data: bytes) -> None:
    async def script() -> None:
        stream, _ = _stream(data)
        found = await ask_object(stream, bytes(32))
        assert found is None or len(found) <= 1 << 20

    in_trio(script)


def _blob_requests() -> list[bytes]:
    from hashlib import sha256

    request = REQUEST.pack(OBJECT, sha256(b"an object").digest(), 0, 0)
    return [b"\0" + request, b"\0" + golden("network", "blob request")[0] + request]


# ---- discovery


def _run_provider(data: bytes) -> None:
    """What a provider record says of where somebody is, as the library hands it over."""
    try:
        addresses = [Multiaddr(data)]
    except Exception:  # noqa: BLE001 - the library refuses it, and hands over nothing
        raise InvalidEncoding("no multiaddr") from None
    found = dht._to_addresses([SimpleNamespace(peer_id=peer_id_of(_OTHER), addrs=addresses)])
    assert all(address.peer_id == peer_id_of(_OTHER) and address.is_dialable_hearsay for address in found)


def _run_dht_request(data: bytes) -> None:
    left = dht.Message.FromString(dht.check_request(data))
    assert not left.closerPeers and len(left.providerPeers) <= 1


def _run_sighting(data: bytes) -> None:
    sighting = mdns.decode_text(data)
    assert len(sighting.genesis_hash) == 32 and 0 < len(sighting.addresses) <= mdns.MAX_ADDRESSES


def _run_bitswap(data: bytes) -> None:
    async def script() -> None:
        async def get(_digest: bytes) -> bytes | None:
            return b"a block"

        stream, scripted = _stream(data)

        async def open_it(_protocol: str) -> Stream:
            return Stream(scripted, make_link())

        stream.link.open = open_it  # type: ignore[method-assign]
        gateway = bitswap.BitswapGateway(get, trio.current_time)
        try:
            await gateway.serve(bitswap.BITSWAP_PROTOCOLS[0], stream)
        finally:
            assert len(scripted.written) <= 64 * len(data) + 64

    in_trio(script)


def _discovery_targets() -> list[Target]:
    (address,) = hello.decode_addresses(golden("network", "peer exchange")[0], 1)
    request = dht.Message(type=dht.Message.ADD_PROVIDER, key=b"\x12\x20" + bytes(32))
    request.providerPeers.add(id=peer_id_of(_OTHER).to_bytes(), addrs=[b"\x04\xc0\x00\x02\x07\x06\x10\x68"])
    record = b"".join(
        bytes([len(item)]) + item for item in (b"genesis=" + b"ab" * 32, b"dnsaddr=" + str(address).encode())
    )
    wants = bitswap.Message()
    wants.wantlist.entries.add(block=b"\x01\x55\x12\x20" + bytes(32))
    multiaddr = Multiaddr(str(address).rsplit("/p2p/", 1)[0]).to_bytes()
    return [
        Target("dht_request", _run_dht_request, lambda: [request.SerializeToString()], mutate_bytes),
        Target("dht_provider", _run_provider, lambda: [multiaddr], mutate_bytes),
        Target("mdns", _run_sighting, lambda: [record], mutate_bytes),
        Target("bitswap", _run_bitswap, lambda: [b"\0" + encode_varint_prefixed(wants.SerializeToString())],
               _mutate_behind_piece, _BROKEN),
    ]  # fmt: skip


def targets() -> list[Target]:
    libp2p = (BaseLibp2pError,)
    addresses = golden("network", "peer exchange")[0]
    return [
        Target("hello", _run_hello, lambda: golden("network", "hello"), mutate_msgpack),
        Target("peer_exchange", _run_addresses, lambda: [addresses], mutate_msgpack),
        Target("address", _run_address, lambda: [addresses[3:]], mutate_bytes, (InvalidEncoding,)),
        Target("frames", _run_frames, lambda: [b"\x03" + b"\0\0\0\2hi\0\0\0\0"], _mutate_behind_piece, _BROKEN),
        Target(
            "request_answer", _run_answer, lambda: [b"\0\0\0\0\4\0yes", b"\0\0\0\0\3\1no"], _mutate_behind_piece,
            _BROKEN,
        ),
        Target(
            "protocol_names", _run_names, lambda: [b"\1" + _MULTISTREAM + b"\3ls\n\5/x/1\n"], _mutate_behind_piece,
            (MultiselectError,),
        ),
        Target(
            "protocol_answer", _run_chosen_name, lambda: [b"\5" + _MULTISTREAM + b"\5/x/1\n"], _mutate_behind_piece,
            (*_BROKEN, MuxedStreamError),
        ),
        Target("noise_handshake", _run_handshake, lambda: [b"\0\0\x20" + bytes(range(1, 33)), b"\1\0\4abcd"],
               _mutate_behind_piece, libp2p),
        Target("noise_payload", _run_payload, _payloads, mutate_bytes, libp2p, max_bytes=MAX_PLAINTEXT // 16),
        Target("noise_frames", _run_noise_frames, lambda: [b"\3\0\2\0a\0\3\1bc", b"\0\0\1\0\0\0"],
               _mutate_behind_piece),
        Target("yamux", _run_yamux, _yamux_seeds, mutate_yamux, ()),
        Target("gossip", _run_gossip, _gossip_seeds, _mutate_behind_piece, (*libp2p, *_BROKEN)),
        Target("blob_request", _run_blob_request, _blob_requests, _mutate_behind_piece, _BROKEN),
        Target("blob_answer", _run_blob_answer, lambda: [b"\3\0\0\0\5bytes", b"\0\xff\xff\xff\xff"],
               _mutate_behind_piece, _BROKEN),
        *_discovery_targets(),
    ]  # fmt: skip
