"""Targets: what relays and the DHT say to us, by py-libp2p's own readers below our gates."""

from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing
from fuzz_mutators import behind, mutate_bytes
from fuzz_streams import ScriptedStream, make_link, split_pieces
from fuzz_target import Target, in_trio
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.network.exceptions import SwarmException
from libp2p.peer.peerstore import PeerStore
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, PeerId, Status, StopMessage
from libp2p.utils import encode_varint_prefixed

from flock_chain.crypto import Key
from flock_chain.errors import InvalidRemote, Unavailable
from flock_peers.network import dht, relay
from flock_peers.network.identity import peer_id_of
from flock_peers.network.link import CutShort

_US, _OTHER = peer_id_of(Key(b"\x07" * 32)), peer_id_of(Key(b"\x08" * 32))
_KEY = b"\x12\x20" + bytes(32)
_mutate = behind(1, mutate_bytes)


def _in_virtual_time(script: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """The library sleeps where it is asked nonsense."""
    in_trio(script, is_virtual=True)


class _NetStream(ScriptedStream):
    def __init__(self, data: bytes) -> None:
        piece, rest = split_pieces(data)
        super().__init__(rest, piece)
        self.muxed_conn = SimpleNamespace(peer_id=_OTHER, link=make_link())

    def is_open(self) -> bool:
        return True

    def carry_circuit(self) -> None:
        pass


class _Host:
    """As much of a host as the library asks for; whoever is asked says `data`."""

    def __init__(self, data: bytes | None) -> None:
        self._data, self._store = data, PeerStore()

    async def new_stream(self, _peer: Any, _protocols: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if self._data is None:
            raise SwarmException("not connected")
        return dht._Query(_NetStream(self._data))

    def get_peerstore(self) -> PeerStore:
        return self._store

    def get_id(self) -> Any:
        return _US

    def get_addrs(self) -> list[Any]:
        return []

    def get_connected_peers(self) -> list[Any]:
        return [_OTHER]

    def set_stream_handler(self, *_arguments: Any) -> None:
        pass


def _run_relay_answer(data: bytes) -> None:
    """Of a relay that we asked for a place."""

    async def script() -> None:
        stream = _NetStream(data)

        async def open_it(_protocol: str) -> Any:
            await trio.lowlevel.checkpoint()
            return stream

        link: Any = make_link()
        link.open_net_stream = open_it
        circuits = relay.Circuits.__new__(relay.Circuits)
        await circuits._ask(link, HopMessage(type=HopMessage.RESERVE))

    _in_virtual_time(script)


def _make_circuit(*, is_relay: bool) -> relay._Circuit:
    async def accept(stream: trio.SocketStream, _place: str, _dialer: str) -> None:
        stream.socket.close()
        await trio.lowlevel.checkpoint()

    stack: Any = SimpleNamespace(
        host=_Host(None), accept=accept, newest_link=lambda _peer: None,
        complaints=SimpleNamespace(note=lambda *_what, **_kind: None),
    )  # fmt: skip
    return relay._Circuit(
        stack, allow_hop=is_relay, is_own_relay=lambda _account: True, is_favoured=lambda _account: False
    )


def _run_relay_stop(data: bytes) -> None:
    """A relay that says that somebody wants to reach us, and what that one sends. Nothing may come out of it."""

    async def script() -> None:
        await _make_circuit(is_relay=False)._handle_stop_stream(_NetStream(data))

    _in_virtual_time(script)


def _run_relay_hop(data: bytes) -> None:
    """Whoever asks us to relay."""

    async def script() -> None:
        await _make_circuit(is_relay=True)._handle_hop_stream(_NetStream(data))

    _in_virtual_time(script)


def _run_dht_answer(data: bytes) -> None:
    async def script() -> None:
        host: Any = _Host(data)
        kad = KadDHT(host, DHTMode.SERVER, enable_values=False)
        for peer in await kad.peer_routing._query_peer_for_closest(_OTHER, _KEY):
            assert peer != _US
        found, _ = await kad.provider_store._get_providers_from_peer_with_closers(_OTHER, _KEY)
        assert all(address.is_dialable_hearsay for address in dht._to_addresses(found))
        assert len(host.get_peerstore().peer_ids()) <= 2 + len(data)

    _in_virtual_time(script)


def _frame(*messages: Any) -> bytes:
    return b"\0" + b"".join(encode_varint_prefixed(message.SerializeToString()) for message in messages)


def _dht_answers() -> list[bytes]:
    peers = [Message.Peer(id=_OTHER.to_bytes(), addrs=[b"\x04\xc0\x00\x02\x07\x06\x10\x68"])]
    return [
        _frame(Message(type=Message.FIND_NODE, key=_KEY, closerPeers=peers)),
        _frame(Message(type=Message.GET_PROVIDERS, key=_KEY, closerPeers=peers, providerPeers=peers)),
    ]


def targets() -> list[Target]:
    peer = PeerId(id=_OTHER.to_bytes(), addrs=[b"\x04\xc0\x00\x02\x07\x06\x10\x68"])
    agreed = HopMessage(type=HopMessage.STATUS, status=Status.OK)
    asked = [HopMessage(type=HopMessage.RESERVE), HopMessage(type=HopMessage.CONNECT, peer=peer)]
    return [
        Target("relay_answer", _run_relay_answer, lambda: [_frame(agreed)], _mutate, (Unavailable,)),
        Target("relay_stop", _run_relay_stop, lambda: [_frame(StopMessage(type=StopMessage.CONNECT, peer=peer))],
               _mutate, ()),
        Target("relay_hop", _run_relay_hop, lambda: [*map(_frame, asked), _frame(*asked)], _mutate,
               (InvalidRemote, CutShort)),
        Target("dht_answer", _run_dht_answer, _dht_answers, _mutate, ()),
    ]  # fmt: skip
