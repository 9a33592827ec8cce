"""Who has a content: Kademlia provider records, by py-libp2p's implementation behind a gate of our own.

Records are hints where to dial and whom to ask, nothing more. Lookups go over admitted connections alone; the library
gets a peer store of its own, bounded, and only messages about providers and closer peers, without signed records.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
from google.protobuf.message import DecodeError
from libp2p.kad_dht import kad_dht as kad_module
from libp2p.kad_dht import peer_routing as routing_module
from libp2p.kad_dht import provider_store as provider_module
from libp2p.kad_dht.common import PROTOCOL_ID
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils.varint import encode_varint_prefixed, read_varint_prefixed_bytes_limited
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from flock_chain.errors import FlockError, InvalidRemote
from flock_peers.network.identity import Address, parse_address
from flock_peers.network.limits import TokenBucket
from flock_peers.network.link import Link, Stream
from flock_peers.network.stack import Stack

log = logging.getLogger(__name__)

DHT_PROTOCOL = str(PROTOCOL_ID)
MAX_MESSAGE_BYTES = 8 << 10  # a request names a key and one peer; the library takes 4 MiB
MAX_KEYS = 4_096  # content ids of which we keep providers; the library forgets none for two days
MAX_KNOWN = 512  # peers with addresses; the library's own store has no bound
FIND_SECONDS = 10.0
ANNOUNCE_SECONDS, ANNOUNCE_AT_ONCE = 30.0, 16  # a new content is told to the twenty closest peers
_MULTIHASH = b"\x12\x20"  # sha2-256, 32 bytes
_REQUESTS = {Message.FIND_NODE, Message.GET_PROVIDERS, Message.ADD_PROVIDER}
_RATE, _BURST = 20.0, 100.0  # messages a second of one peer
_ADDRESS_SECONDS = 3_600


class _KeyedStore(PeerStore):
    """Forgets whom it heard of first; what is connected is put back when it connects."""

    def add_addrs(self, peer_id: ID, addrs: Sequence[Multiaddr], ttl: int = 0) -> None:
        ids = self.peer_ids()
        if len(ids) >= MAX_KNOWN and peer_id not in ids:
            self.clear_peerdata(ids[0])
        super().add_addrs(peer_id, list(addrs)[:4], ttl)


class _DhtHost:
    """What the library sees of the host: live connections, own addresses, its own store of peers."""

    def __init__(self, stack: Stack) -> None:
        self._stack, self._store = stack, _KeyedStore()
        self.get_addrs = stack.host.get_addrs
        self.get_id = stack.host.get_id

    async def new_stream(self, peer_id: ID, protocol_ids: Any) -> "_Query":
        return _Query(await self._stack.host.new_stream(peer_id, protocol_ids))

    def get_peerstore(self) -> PeerStore:
        return self._store

    def get_connected_peers(self) -> list[ID]:
        return [peer_id for peer_id in self._stack.links if self._stack.newest_link(peer_id) is not None]

    def set_stream_handler(self, protocol: str, handler: Any) -> None:
        """The gate is registered instead."""


class _Query:
    """A stream of the library's own. Stock ends its half and leaves the rest: of a peer that never ends its own, each
    question would keep a stream and a window of bytes for as long as it is connected."""

    def __init__(self, net_stream: Any) -> None:
        ours = Stream(net_stream, net_stream.muxed_conn.link)
        self.muxed_conn = net_stream.muxed_conn
        self.read, self.write, self.close, self.reset = net_stream.read, net_stream.write, ours.close, ours.reset


class _Replay:
    """A stream of the library's kind, of which the next message was read and checked already."""

    def __init__(self, net_stream: Any, next_message: Callable[[], Any]) -> None:
        self.muxed_conn = net_stream.muxed_conn
        self.write, self.close, self.reset = net_stream.write, net_stream.close, net_stream.reset
        self._next, self._buffer = next_message, b""

    async def read(self, n: int | None = None) -> bytes:
        if not self._buffer:
            self._buffer = await self._next()
        count = len(self._buffer) if n is None else n
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken


class Dht:
    """One run of it, on one stack. `clock` paces what a peer may ask."""

    def __init__(self, stack: Stack, clock: Callable[[], float]) -> None:
        self._stack, self._clock = stack, clock
        self._host = _DhtHost(stack)
        self._kad = KadDHT(self._host, DHTMode.SERVER, enable_values=False)
        self._buckets: dict[ID, TokenBucket] = {}
        stack.host.set_stream_handler(DHT_PROTOCOL, self._serve)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        async with background_trio_service(self._kad):
            yield

    async def on_admitted(self, link: Link, addresses: Sequence[Address]) -> None:
        if addresses:
            known = [Multiaddr(str(address).rsplit("/p2p/", 1)[0]) for address in addresses]
            self._host.get_peerstore().add_addrs(link.peer_id, known, _ADDRESS_SECONDS)
            await self._kad.add_peer(link.peer_id, skip_server_mode_check=True)

    def on_gone(self, link: Link) -> None:
        self._buckets.pop(link.peer_id, None)

    async def provide(self, digest: bytes) -> bool:
        return bool(await self._kad.provider_store.provide(_MULTIHASH + digest))

    async def find(self, digest: bytes) -> list[Address]:
        """Where somebody says that it is; nobody has checked that."""
        with trio.move_on_after(FIND_SECONDS):
            found = await self._kad.provider_store.find_providers(_MULTIHASH + digest)
            return _to_addresses(found)
        return []

    async def _serve(self, net_stream: Any) -> None:
        peer_id = net_stream.muxed_conn.peer_id
        if len(self._buckets) > MAX_KNOWN:
            self._buckets.clear()
        bucket = self._buckets.setdefault(peer_id, TokenBucket(_RATE, _BURST, self._clock))

        async def next_message() -> bytes:
            data = await read_varint_prefixed_bytes_limited(net_stream, MAX_MESSAGE_BYTES)
            await trio.sleep(bucket.debit())
            self._make_room()
            return bytes(encode_varint_prefixed(check_request(data)))

        await self._kad.handle_stream(_Replay(net_stream, next_message))

    def _make_room(self) -> None:
        """The keys that we do not provide ourselves go, the oldest first."""
        store = self._kad.provider_store
        for key in list(store.providers)[: max(0, len(store.providers) - MAX_KEYS + 1)]:
            if key not in store.providing_keys:
                del store.providers[key]


def check_request(data: bytes) -> bytes:
    """A request of ours, without the records that the library would verify and keep. Raises InvalidRemote."""
    try:
        message = Message.FromString(data)
    except DecodeError as error:
        raise InvalidRemote("dht: no message") from error
    if message.type not in _REQUESTS or not 0 < len(message.key) <= 64:
        raise InvalidRemote(f"dht: a message of type {message.type} with a key of {len(message.key)} bytes")
    message.ClearField("senderRecord")
    message.ClearField("record")
    message.ClearField("closerPeers")
    del message.providerPeers[1:]
    for peer in message.providerPeers:
        peer.ClearField("signedRecord")
        del peer.addrs[4:]
    return bytes(message.SerializeToString())


def _to_addresses(found: Sequence[Any]) -> list[Address]:
    addresses = []
    for info in found:
        for raw in info.addrs[:4]:
            try:
                text = str(raw)  # parsed here, not before: a stranger's record may hold any bytes
                address = parse_address(text if "/p2p/" in text else f"{text}/p2p/{info.peer_id}")
            except (FlockError, MultiaddrError, ValueError):
                continue
            if address.is_dialable_hearsay and address.peer_id == info.peer_id:
                addresses.append(address)
    return addresses


async def announce_forever(list_kept: Callable[[], set[bytes]], provide: Callable[[bytes], Any]) -> None:
    """Tells the network of what is kept here, a few contents at a time; the library says it again every 22 hours."""
    told: set[bytes] = set()
    while True:
        kept = list_kept()
        told &= kept
        for digest in sorted(kept - told)[:ANNOUNCE_AT_ONCE]:
            if await provide(digest):
                told.add(digest)
        await trio.sleep(ANNOUNCE_SECONDS)


def _leave_out_signed_records() -> None:
    """Addresses are learned from hello; a record of somebody else is one more signature to check, and one more peer
    to keep for ever."""
    for module in (kad_module, routing_module, provider_module):
        module.maybe_consume_signed_record = lambda *_arguments: True
        module.env_to_send_in_RPC = lambda _host: (b"", False)


_leave_out_signed_records()
