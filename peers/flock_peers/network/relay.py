"""Connections through a third peer, for those that nobody can dial: py-libp2p's circuit relay v2 below our own stack.

A circuit is a stream, and our stack wants a socket: a socket pair stands between, so that Noise, the muxer, hello and
every limit are those of any connection. The relay sees sealed bytes alone. Knows no address book.

In front of the library stands a gate, on both sides: it would open circuits to us for anybody, and take from a stranger
any number of requests on a stream, each with a signed record that it verifies and keeps for ever.
"""

import logging
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from google.protobuf.message import DecodeError
from libp2p.exceptions import ParseError
from libp2p.host.exceptions import StreamFailure
from libp2p.io.exceptions import IncompleteReadError, MessageTooLarge
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, PeerId, Status
from libp2p.relay.circuit_v2.protocol import PROTOCOL_ID as HOP
from libp2p.relay.circuit_v2.protocol import CircuitV2Protocol
from libp2p.relay.circuit_v2.resources import RelayLimits
from libp2p.relay.circuit_v2.utils import read_delimited_msg, write_delimited_msg
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote, Unavailable
from flock_peers.network.guarded import contained
from flock_peers.network.identity import account_of
from flock_peers.network.link import CutShort, Link
from flock_peers.network.relay_places import HOP_STREAMS_PER_MINUTE_OF_NETWORK, CircuitPlaces, HopStreams, Places
from flock_peers.network.slots import group_of
from flock_peers.network.stack import Stack

log = logging.getLogger(__name__)

# A relay lends 16 places, and 16 circuits at a time to each: an adapter fits into one; a life of it does not.
CIRCUITS = 16
RELAY_LIMITS = RelayLimits(
    duration=3_600, data=1 << 30, max_circuit_conns=2 * CIRCUITS,  # those that have just given way count still
    max_reservations=16,
)  # fmt: skip
RENEW_SECONDS = 300.0  # a reservation lasts an hour, unless others wait; nobody is told when it is over
_ASK_SECONDS = 10.0
_READ = 64 << 10
MAX_REQUEST_BYTES = 1 << 10  # a kind and a peer take 50, an own reservation with its voucher 400

RELAYED = "relayed by"  # and whom, in place of an address: all circuits of one relay have the places of one


class _Circuit(CircuitV2Protocol):
    """Stock behind the gate, and an incoming circuit goes the way of an accepted socket. `is_own_relay`: whom this peer
    asked to relay to it."""

    def __init__(
        self, stack: Stack, *, allow_hop: bool, is_own_relay: Callable[[Account], bool],
        is_favoured: Callable[[Account], bool],
    ) -> None:  # fmt: skip
        super().__init__(stack.host, RELAY_LIMITS, allow_hop=allow_hop)
        self._stack, self._is_own_relay = stack, is_own_relay
        self._streams = HopStreams(trio.current_time, is_favoured)
        self._places = Places(RELAY_LIMITS.max_reservations, trio.current_time, is_favoured)
        self._lent = CircuitPlaces(CIRCUITS, trio.current_time, is_favoured)
        self._carried: Counter[Account] = Counter()  # circuits to this peer, by the relay

    async def _handle_stop_stream(self, stream: Any) -> None:
        """Circuits have places of their own, so whoever could open some would have two kinds of them, and could keep
        everybody out who comes by a relay. Nor are they of the relay's own streams: strangers would take them all."""
        link: Link = stream.muxed_conn.link
        if not self._is_own_relay(link.account):
            raise InvalidRemote("opens a circuit to this peer, which asked it for none")
        if self._carried[link.account] >= RELAY_LIMITS.max_circuit_conns:
            raise InvalidRemote(f"more than {RELAY_LIMITS.max_circuit_conns} circuits at once to this peer")
        self._carried[link.account] += 1
        try:
            with link.uncounted():
                await super()._handle_stop_stream(stream)
        finally:
            self._carried[link.account] -= 1

    async def handle_incoming_connection(self, stream: Any, remote_peer_id: bytes) -> None:
        """`remote_peer_id` is the relay's word; Noise proves who it is."""
        stream.muxed_stream.carry_circuit()
        place = f"{RELAYED} 0x{stream.muxed_conn.link.account.hex()}"
        ours, theirs = make_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(contained, self._stack.accept, theirs, place, _name_of(remote_peer_id))
            await pump(stream, ours)
            nursery.cancel_scope.cancel()

    async def _handle_hop_stream(self, stream: Any) -> None:
        """One request, as the specification has it."""
        link: Link = stream.muxed_conn.link
        with self._streams.take(link.account):
            if link.is_circuit:
                raise InvalidRemote("asks to be relayed by way of a circuit")
            request = await _read_request(stream)
            try:
                if not self._has_share(link):
                    await _decline(stream)
                elif request.type == HopMessage.RESERVE:
                    await self._reserve(stream, request)
                else:
                    await self._connect(stream, request)
            finally:  # stock remembers the streams of every circuit there ever was
                self._active_relays.clear()
                with trio.CancelScope(deadline=trio.current_time() + 1, shield=True):
                    await self._close_stream(stream)

    def _has_share(self, link: Link) -> bool:
        """Who asks may be honest, and hears of it; named is the network."""
        if self._streams.take_share(link):
            return True
        what = f"asks to be relayed more than {HOP_STREAMS_PER_MINUTE_OF_NETWORK} times a minute, by all its accounts"
        self._stack.complaints.note(group_of(link.remote_host), what, kind="relay")
        return False

    async def _connect(self, stream: Any, request: HopMessage) -> None:
        link: Link = stream.muxed_conn.link
        with self._lent.take(request.peer.id, link, stream.muxed_stream, self._tell_who_gives_way) as lent:
            if lent is not None:
                await self._handle_connect(stream, request)
                return
        await _decline(stream)

    async def _send_status(self, stream: Any, code: Any, message: str, limit: Any = None) -> None:
        """Of a circuit: now whom it is lent to has answered. Noted before this waits for who asked to take it."""
        self._lent.note_heard(stream.muxed_stream)
        await super()._send_status(stream, code, message, limit)

    def _tell_who_gives_way(self, dialer: Link, why: str) -> None:
        self._stack.complaints.note(f"0x{dialer.account.hex()} at {dialer.remote_host}", why, kind="circuit")

    async def _reserve(self, stream: Any, request: HopMessage) -> None:
        if self._find_room(stream.muxed_conn.link):
            await self._handle_reserve(stream, request)  # which takes the place before it waits for anything
        else:
            await _decline(stream)

    def _find_room(self, asker: Link) -> bool:
        """Stock keeps a place for an hour, also for whom it heard of once, and gives a free one to whoever is first."""
        self.resource_manager._clean_expired()
        places = self.resource_manager._reservations
        if asker.peer_id in places:
            return True
        holders = {peer_id: self._stack.newest_link(peer_id) for peer_id in places}
        for peer_id in [peer_id for peer_id, link in holders.items() if link is None]:
            del places[peer_id]
        has_place, worst = self._places.ask(asker, [link for link in holders.values() if link is not None])
        if worst is not None:
            del places[worst.peer_id]
            who = f"0x{worst.account.hex()} at {worst.remote_host}"
            self._stack.complaints.note(
                who, "loses its place at this relay to who has less, has waited for it, or is needed", kind="place"
            )
        return has_place

    async def _relay_data(
        self, src_stream: Any, dst_stream: Any, peer_id: ID,  # noqa: ARG002
        deadline: float | None = None, circuit_data_limit: list[int] | None = None,
    ) -> None:  # fmt: skip
        """One direction. Stock, the end of a circuit closes the next one of the same peer, found under its name."""
        src_stream.muxed_stream.count_apart()
        left = circuit_data_limit or [RELAY_LIMITS.data]
        try:
            with trio.move_on_after(RELAY_LIMITS.duration if deadline is None else deadline - time.monotonic()):
                while data := await src_stream.read(_READ):
                    self._lent.note_said(src_stream.muxed_stream, len(data))
                    self._lent.note_heard(dst_stream.muxed_stream)
                    left[0] -= len(data)
                    if left[0] < 0:
                        return
                    await dst_stream.write(data)
        except Exception as error:  # noqa: BLE001 - a circuit that ends, however it does
            log.debug("circuit of others: %r", error)
        finally:
            with trio.CancelScope(deadline=trio.current_time() + 1, shield=True):
                await src_stream.reset()
                await dst_stream.reset()


async def _decline(stream: Any) -> None:
    await write_delimited_msg(stream, HopMessage(type=HopMessage.STATUS, status=Status.RESOURCE_LIMIT_EXCEEDED))


def _name_of(peer_id: bytes) -> str:
    """What the log calls whom a relay names; what is no peer of ours is told by its beginning."""
    try:
        return f"0x{account_of(ID(peer_id)).hex()}"
    except InvalidRemote:
        return f"the peer {peer_id[:40].hex()}"


async def _read_request(stream: Any) -> HopMessage:
    """Nobody looks at the record in it, which the library would verify and keep. Raises InvalidRemote."""
    try:
        with trio.fail_after(_ASK_SECONDS):
            request = HopMessage.FromString(await read_varint_prefixed_bytes_limited(stream, MAX_REQUEST_BYTES))
    except (IncompleteReadError, MuxedStreamError, StreamError) as error:
        raise CutShort(f"asks to be relayed, and breaks off: {error!r}") from error
    except (DecodeError, MessageTooLarge, ParseError, trio.TooSlowError) as error:
        raise InvalidRemote(f"no request to be relayed: {error!r}") from error
    if request.type not in (HopMessage.RESERVE, HopMessage.CONNECT):
        raise InvalidRemote(f"no request to be relayed: a message of type {request.type}")
    if request.type == HopMessage.RESERVE:  # for the asker alone: stock takes the word of anybody for anybody else
        request.ClearField("peer")
    return request


class Circuits:
    """One run of it, on one stack. `is_relay`: lends others circuits through this peer."""

    def __init__(
        self, stack: Stack, *, is_relay: bool, is_own_relay: Callable[[Account], bool],
        is_favoured: Callable[[Account], bool],
    ) -> None:  # fmt: skip
        self._circuit = _Circuit(stack, allow_hop=is_relay, is_own_relay=is_own_relay, is_favoured=is_favoured)
        self._nursery: trio.Nursery

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        async with background_trio_service(self._circuit), trio.open_nursery() as self._nursery:
            yield
            self._nursery.cancel_scope.cancel()

    async def reserve(self, relay: Link) -> None:
        """Be reachable through a connected relay for an hour. Raises Unavailable where it lends none."""
        stream = await self._ask(relay, HopMessage(type=HopMessage.RESERVE))
        await stream.reset()

    async def open(self, relay: Link, peer_id: ID) -> trio.SocketStream:
        """A socket whose other end is that peer's, by way of the relay. Raises Unavailable."""
        request = HopMessage(type=HopMessage.CONNECT, peer=PeerId(id=peer_id.to_bytes()))
        stream = await self._ask(relay, request)
        stream.muxed_stream.carry_circuit()
        ours, theirs = make_pair()
        self._nursery.start_soon(contained, pump, stream, ours)
        return theirs

    async def _ask(self, relay: Link, request: HopMessage) -> Any:
        """The stream, once the relay agreed. Else it is reset: nobody else would."""
        who, stream, is_agreed = f"relay 0x{relay.account.hex()}", None, False
        try:
            with trio.fail_after(_ASK_SECONDS):
                stream = await relay.open_net_stream(str(HOP))
                await write_delimited_msg(stream, request)
                answer = await read_delimited_msg(stream, HopMessage)
            is_agreed = bool(answer.type == HopMessage.STATUS and answer.status == Status.OK)
        except (SwarmException, StreamFailure) as error:
            raise Unavailable(f"{who} relays nothing: {error}") from error
        except trio.TooSlowError as error:
            raise Unavailable(f"{who} did not answer within {_ASK_SECONDS:.0f} s") from error
        except Exception as error:
            raise Unavailable(f"{who}: no answer that could be read ({error!r})") from error
        finally:
            if stream is not None and not is_agreed:
                with trio.CancelScope(deadline=trio.current_time() + 1, shield=True):
                    await stream.reset()
        if not is_agreed:
            raise Unavailable(f"{who} declines, with status {answer.status}")
        return stream


def make_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    first, second = socket.socketpair()
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in (first, second))
    return ours, theirs


async def pump(stream: Any, ours: trio.SocketStream) -> None:
    """Bytes in both directions, until either end is gone."""

    async def inwards() -> None:
        while data := await stream.read(_READ):
            await ours.send_all(data)

    async def outwards() -> None:
        while data := await ours.receive_some(_READ):
            await stream.write(data)

    async def until_end(way: Callable[[], Awaitable[None]]) -> None:
        try:
            await way()
        except Exception as error:  # noqa: BLE001 - a circuit that ends, however it does
            log.debug("circuit: %r", error)
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_end, inwards)
            nursery.start_soon(until_end, outwards)
    finally:
        ours.socket.close()
        with trio.CancelScope(deadline=trio.current_time() + 1, shield=True):
            await stream.reset()
