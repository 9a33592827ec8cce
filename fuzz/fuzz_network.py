"""Targets: what comes inside a connection: hello, frames, names, requests, blobs; and what tells of others."""

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio
from fuzz_mutators import behind, mutate_bytes, mutate_msgpack
from fuzz_seeds import golden
from fuzz_streams import ScriptedStream, make_link, split_pieces
from fuzz_target import PEER, Target, in_trio
from libp2p.bitswap.pb import bitswap_pb2
from libp2p.kad_dht.pb import kademlia_pb2 as kademlia
from libp2p.protocol_muxer.exceptions import MultiselectError
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.utils import encode_varint_prefixed
from multiaddr import Multiaddr

from flock_chain.crypto import Key
from flock_chain.errors import InvalidEncoding, InvalidRemote, Unavailable
from flock_peers.network import bitswap, dht, hello, mdns, requests
from flock_peers.network.blob_server import BlobServer
from flock_peers.network.blob_wire import OBJECT, REQUEST, BlobLimits, Traffic, ask_object
from flock_peers.network.identity import parse_address, peer_id_of
from flock_peers.network.limits import Limits
from flock_peers.network.link import ProtocolNames, Stream, _negotiate
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
        multiselect = Multiselect({"/x/1": handler, "/flock/hello/1": handler})
        name, _ = await multiselect.negotiate(ProtocolNames(scripted), 5)
        assert name in ("/x/1", "/flock/hello/1")

    in_trio(script)


def _run_chosen_name(data: bytes) -> None:
    """The side that asks."""

    async def script() -> None:
        piece, rest = split_pieces(data)
        await _negotiate(ScriptedStream(rest, piece), "/x/1")

    in_trio(script)


# ---- blobs


_FOLDER = tempfile.TemporaryDirectory(prefix="fuzz-blobs-")  # removed when the process ends
_STORES: list[BlobStore] = []


def _run_blob_request(data: bytes) -> None:
    if not _STORES:
        _STORES.append(BlobStore(Path(_FOLDER.name)))
        _STORES[0].put_object(b"an object")

    async def script() -> None:
        stream, scripted = _stream(data)
        server = BlobServer(_STORES[0], BlobLimits(), Traffic(), lambda _account: False)
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
    left = kademlia.Message.FromString(dht.check_request(data))
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

        setattr(stream.link, "open", open_it)  # noqa: B010 - mypy compares the names of what it takes
        gateway = bitswap.BitswapGateway(get, trio.current_time)
        try:
            await gateway.serve(bitswap.BITSWAP_PROTOCOLS[0], stream)
        finally:
            assert len(scripted.written) <= 64 * len(data) + 64

    in_trio(script)


def _discovery_targets() -> list[Target]:
    (address,) = hello.decode_addresses(golden("network", "peer exchange")[0], 1)
    request = kademlia.Message(type=kademlia.Message.ADD_PROVIDER, key=b"\x12\x20" + bytes(32))
    request.providerPeers.add(id=peer_id_of(_OTHER).to_bytes(), addrs=[b"\x04\xc0\x00\x02\x07\x06\x10\x68"])
    record = b"".join(
        bytes([len(item)]) + item for item in (b"genesis=" + b"ab" * 32, b"dnsaddr=" + str(address).encode())
    )
    wants = bitswap_pb2.Message()
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
        Target("blob_request", _run_blob_request, _blob_requests, _mutate_behind_piece, _BROKEN),
        Target("blob_answer", _run_blob_answer, lambda: [b"\3\0\0\0\5bytes", b"\0\xff\xff\xff\xff"],
               _mutate_behind_piece, _BROKEN),
        *_discovery_targets(),
    ]  # fmt: skip
