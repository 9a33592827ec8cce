"""One run of libp2p, wrapped: own dialer and listener, who is let in, guarded streams, every slot given back.

Knows links and protocols; no genesis, no messages. The stock pieces are mended in `mended`.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.exceptions import IOException
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.protocol_muxer.exceptions import MultiselectError
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from flock_chain.crypto import Account, Key
from flock_chain.errors import FlockError, InvalidRemote, Misuse, Unavailable
from flock_peers.network.complaints import Complaints, Tolerance
from flock_peers.network.connection import BufferedConnection, remote_host
from flock_peers.network.guarded import contained
from flock_peers.network.identity import Address, key_pair_of, peer_id_of
from flock_peers.network.limits import Limits
from flock_peers.network.link import MAX_PROTOCOL_NAME, CutShort, Link, ProtocolNames, Stream
from flock_peers.network.mended import MendedHost, MendedSwarm, Upgrader, make_config
from flock_peers.network.slots import Slots, find_crowd, group_of
from flock_peers.network.window_room import WindowRoom

log = logging.getLogger(__name__)

StreamHandler = Callable[[Stream], Awaitable[None]]
LinkHandler = Callable[[Link], Awaitable[None]]
_ACCEPT_PAUSE = 0.1  # after a failed accept (no file descriptors left)
# Identify is asked once a connection, and js-libp2p opens a stream for each ping. Bitswap and the DHT do not count:
# there each message or question of an honest peer has a stream of its own.
_CHORES = ("/ipfs/id/", "/ipfs/ping/")
_LIBP2P_STREAMS = Tolerance("streams of libp2p's own protocols", 30)


class Stack:
    """A running swarm. `links` holds every connection with a proved identity, admitted or not."""

    def __init__(
        self, key: Key, limits: Limits, *, announce: list[Address], protocols: Mapping[str, StreamHandler],
        open_protocols: frozenset[str], on_link: LinkHandler,
        complaints: Complaints | None = None, is_favoured: Callable[[Account], bool] = lambda _account: False,
        guest_protocols: frozenset[str] = frozenset(), take_guest: Callable[[Link], bool] = lambda _link: False,
        is_stranger: Callable[[Account], bool] = lambda _account: True,
        is_known: Callable[[str], bool] = lambda _ip: False,
    ) -> None:  # fmt: skip
        """`is_favoured`: who has a place when a crowd has taken all. `is_stranger`: who shares strangers' memory.
        `is_known`: whether a peer that is needed comes from an address."""
        self.limits = limits
        self.complaints = complaints or Complaints(trio.current_time)
        self._guest_protocols, self._take_guest = guest_protocols, take_guest
        self.links: dict[ID, list[Link]] = {}
        self.open_circuit: Callable[[Address], Awaitable[trio.SocketStream]] | None = None
        self._open_protocols, self._on_link = open_protocols, on_link
        self._slots, self._is_favoured = Slots(limits, trio.current_time, is_known), is_favoured
        self._outbound = 0
        self._sockets: set[BufferedConnection] = set()
        peer_id = peer_id_of(key)
        store = PeerStore()
        store.add_key_pair(peer_id, key_pair_of(key))
        self.windows = WindowRoom(limits, is_stranger)
        upgrader = Upgrader(key, limits, self.windows)
        self.swarm = MendedSwarm(peer_id, store, upgrader, [TCP()], connection_config=make_config(limits))
        self.host = MendedHost(self.swarm, self, [Multiaddr(str(a).rsplit("/p2p/", 1)[0]) for a in announce])
        self._nursery: trio.Nursery
        for name, handler in protocols.items():
            self.add_protocol(name, handler)

    def add_protocol(self, name: str, handler: StreamHandler) -> None:
        if len(name) > MAX_PROTOCOL_NAME:
            raise Misuse(f"protocol name {name!r}: longer than {MAX_PROTOCOL_NAME}")

        async def serve(net_stream: Any) -> None:
            stream = Stream(net_stream, net_stream.muxed_conn.link)
            try:
                await handler(stream)
            except BaseException:
                await stream.reset()
                raise
            await stream.close()

        self.host.set_stream_handler(name, serve)

    def newest_link(self, peer_id: ID) -> Link | None:
        """The newest admitted one: after a crash of the other side an old connection may only look alive."""
        links = self.links.get(peer_id, ())
        alive = [x for x in links if (x.admitted.is_set() or x.is_guest) and not x.closed.is_set() and not x.is_bulk]
        return alive[-1] if alive else None

    # --- streams

    async def serve_stream(self, net_stream: Any) -> None:
        link: Link = net_stream.muxed_conn.link
        if link.streams_in >= self.limits.streams_per_peer:
            raise InvalidRemote(f"more than {self.limits.streams_per_peer} streams at once")
        link.streams_in += 1
        try:
            name, handler = await self._agree(net_stream)
            is_for_guest = name in self._guest_protocols and (link.admitted.is_set() or self._take_guest(link))
            if name not in self._open_protocols and not is_for_guest:
                with trio.move_on_after(self.limits.hello_seconds):
                    await link.admitted.wait()
                if not link.admitted.is_set():
                    raise InvalidRemote(f"asked for {name} without a hello")
            if name.startswith(_CHORES):
                who = f"0x{link.account.hex()} at {link.remote_host}"
                self.complaints.tally(who, _LIBP2P_STREAMS, f"opens {name} again and again")
            net_stream.set_protocol(name)
            await handler(net_stream)
        finally:
            link.streams_in -= 1
            net_stream.muxed_stream.abandon()

    async def _agree(self, net_stream: Any) -> tuple[Any, Any]:
        try:
            return await self.host.multiselect.negotiate(
                ProtocolNames(net_stream), max(1, round(self.limits.negotiate_seconds))
            )
        except MultiselectError as error:
            text = f"no protocol agreed: {_innermost(error)}"
            if isinstance(_find_root(error), StreamError | MuxedStreamError | IOException):
                raise CutShort(text) from error
            raise InvalidRemote(text) from error

    # --- connections

    async def dial(self, address: Address) -> Link:
        """Raises Unavailable (nobody there, no room) or InvalidRemote (somebody else is there)."""
        if self._outbound >= self.limits.max_outbound:
            raise Unavailable(f"already {self._outbound} outgoing connections")
        self._outbound += 1
        below: BufferedConnection | None = None
        link: Link | None = None
        try:
            with trio.fail_after(self.limits.dial_seconds / 2):
                below = self._adopt(await self._reach(address))
            with trio.fail_after(self.limits.handshake_seconds):
                conn = await self.swarm.upgrade_outbound_raw_conn(RawConnection(below, True), address.peer_id)
            link = self._register(conn)
            return link
        except trio.TooSlowError as error:
            raise Unavailable(f"{address}: no answer") from error
        except OSError as error:
            raise Unavailable(f"{address}: nobody answers there ({_reason(error)})") from error
        except SwarmException as error:
            raise _explain(address, error) from error
        except BaseLibp2pError as error:  # a peer that is killed in the middle of the handshake
            raise Unavailable(f"{address}: the connection was lost in the handshake ({error})") from error
        except FlockError:
            raise
        except Exception as error:  # stock, bytes of invalid UTF-8 for a protocol's name raise UnicodeDecodeError
            raise InvalidRemote(f"{address}: breaks the handshake ({type(error).__name__}: {error})") from error
        finally:
            if link is None:
                self._outbound -= 1
                if below is not None:
                    below.abort()

    async def _reach(self, address: Address) -> trio.SocketStream:
        if address.relay is None:
            return await trio.open_tcp_stream(address.host, address.port)
        if self.open_circuit is None:
            raise Unavailable(f"{address}: the network is starting")
        return await self.open_circuit(address)

    async def _accept(self, listener: trio.SocketListener) -> None:
        while True:
            try:
                stream = await listener.accept()
            except (OSError, trio.BrokenResourceError) as error:
                log.warning("network: cannot accept a connection: %s", error)
                await trio.sleep(_ACCEPT_PAUSE)
                continue
            self._nursery.start_soon(contained, self._serve_inbound, stream)

    async def _serve_inbound(self, stream: trio.SocketStream) -> None:
        """Stock, the slot of an inbound connection is never given back, and there is no limit per address."""
        ip = remote_host(stream)
        if ip == "?":  # closed again already
            stream.socket.close()
            return
        await self.accept(stream, ip)

    async def accept(self, stream: trio.SocketStream, ip: str, dialer: str = "") -> None:
        """Life of an incoming connection; `ip` is what its places are counted by. `dialer`: of `Slots.begin`."""
        shaking = trio.CancelScope()
        who = f"{ip}, circuit of {dialer}" if dialer else ip
        no_room = self._slots.begin(ip, shaking.cancel, dialer=dialer)
        if no_room:
            self._complain_of_stranger(who, f"refused: {no_room}", "refused")
            stream.socket.close()
            return
        below = self._adopt(stream)
        try:
            link = await self._shake_hands(below, ip, who, shaking)
            if link is not None:
                await link.closed.wait()
        finally:
            below.abort()
            self._slots.end(ip)

    async def _shake_hands(
        self, below: BufferedConnection, ip: str, who: str, scope: trio.CancelScope
    ) -> Link | None:  # fmt: skip
        link: Link | None = None
        try:
            with scope, trio.fail_after(self.limits.handshake_seconds):
                muxed = await self.swarm.upgrade_inbound_raw_conn(
                    RawConnection(below, False), Multiaddr("/ip4/0.0.0.0/tcp/0")
                )
                link = self._register(self._swarm_conn_of(muxed))
        except trio.TooSlowError:
            self._complain_of_stranger(who, f"no handshake within {self.limits.handshake_seconds:g} s", "silent")
            return None
        except Exception as error:  # noqa: BLE001 - the edge of a task that a remote can make raise
            self._complain_of_stranger(who, f"handshake failed: {_innermost(error)}", "handshake")
            return None
        finally:
            self._slots.end_handshake(ip, scope.cancel)
        if link is None:
            self._complain_of_stranger(who, "gives way in its handshake: others come, and have fewer", "silent")
        return link if link is not None and self._make_room(link) else None

    def _complain_of_stranger(self, who: str, what: str, kind: str) -> None:
        """Before anything is proved: of the accounts that a relay names there are as many as a crowd likes."""
        self.complaints.note(who, what, kind=kind, is_proved=False)

    def _make_room(self, link: Link) -> bool:
        """Where all places are taken, a stranger gets none, and one of the crowd gives way to who is favoured."""
        if self._slots.connected <= self.limits.max_inbound:
            return True
        others = [x for row in self.links.values() for x in row if not x.outbound and not x.closed.is_set()]
        self._tell_of_the_largest_group([x for x in others if x is not link])
        if self._is_favoured(link.account):
            crowd = find_crowd([x for x in others if not self._is_favoured(x.account)], lambda x: x.remote_host)
            if crowd is not None:
                self.complaints.note(f"0x{crowd.account.hex()} at {crowd.remote_host}", "gives way to a peer we need")
                crowd.abort()
                return True
        self.complaints.note(
            f"0x{link.account.hex()} at {link.remote_host}", f"refused: {self.limits.max_inbound} connections already"
        )
        return False

    def _tell_of_the_largest_group(self, links: list[Link]) -> None:
        """Who is refused may be honest; who has the places may be an eclipse."""
        for group, count in Counter(group_of(link.remote_host) for link in links).most_common(1):
            places = f"{count} of the {self.limits.max_inbound} places for incoming connections"
            self.complaints.note(group, f"has {places}, and all are taken")

    def _adopt(self, stream: trio.SocketStream) -> BufferedConnection:
        below = BufferedConnection(stream, self.limits)
        self._sockets.add(below)
        self._nursery.start_soon(contained, self._write_out, below)
        return below

    async def _write_out(self, below: BufferedConnection) -> None:
        try:
            await below.run_writer()
        finally:
            self._sockets.discard(below)

    def _swarm_conn_of(self, muxed: Any) -> Any:
        for conn in self.swarm.get_connections(muxed.peer_id):
            if conn.muxed_conn is muxed:
                return conn
        raise SwarmException("connection closed during the handshake")

    def _register(self, swarm_conn: Any) -> Link:
        link: Link = swarm_conn.muxed_conn.link
        link.swarm_conn = swarm_conn
        who = f"0x{link.account.hex()} at {link.remote_host}"
        link.complain = lambda what: self.complaints.note(who, what, kind="frames")
        siblings = self.links.setdefault(link.peer_id, [])
        siblings.append(link)
        for extra in siblings[: -self.limits.max_links_per_peer]:
            extra.abort()
        self._nursery.start_soon(contained, self._watch, link)
        return link

    async def _watch(self, link: Link) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(contained, self._on_link, link)
                await link.closed.wait()
                nursery.cancel_scope.cancel()
        finally:
            if link.breach:
                who = f"0x{link.account.hex()} at {link.remote_host}"
                self.complaints.note(who, f"cut off: {link.breach}", kind="cut off")
            if link.outbound:
                self._outbound -= 1
            siblings = self.links.get(link.peer_id, [])
            siblings.remove(link)
            if not siblings:
                self.links.pop(link.peer_id, None)

    # --- life

    @asynccontextmanager
    async def run(self, listener: trio.SocketListener | None) -> AsyncIterator[None]:
        """An error of the body comes out as it is: the cancellation that ends the swarm would swallow it."""
        failure: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                async with background_trio_service(self.swarm):
                    if listener is not None:
                        nursery.start_soon(self._accept, listener)
                    try:
                        yield
                    except Exception as error:  # noqa: BLE001 - raised again below
                        failure = error
                    finally:
                        for below in list(self._sockets):  # closing them one by one, politely, takes 0.2 s each
                            below.abort()
                        nursery.cancel_scope.cancel()
        finally:
            for below in list(self._sockets):
                below.abort()
        if failure is not None:
            raise failure


def _reason(error: OSError) -> str:
    """trio tries every address of a name, and hides the one error that there mostly is."""
    cause = error.__cause__
    if isinstance(cause, ExceptionGroup):
        cause = cause.exceptions[0]
    inner = cause if isinstance(cause, OSError) else error
    return inner.strerror or str(inner)


def _innermost(error: BaseException) -> str:
    """libp2p says three times that something failed, and what it was in the last cause."""
    error = _find_root(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _find_root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _explain(address: Address, error: BaseException) -> Exception:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PeerIDMismatchesPubkey) or "mismatch" in str(cause).lower():
            return InvalidRemote(f"{address}: another peer answers there (its key does not match the address)")
        cause = cause.__cause__
    return Unavailable(f"{address}: no libp2p peer answers there, or it has no room ({error})")
