"""One run of libp2p, wrapped: Noise only, guarded tasks and streams, own dialer and listener, every slot given back.

What the stock pieces do wrong is said where it is mended. Knows links and protocols; no genesis, no messages.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.basic_host import BasicHost
from libp2p.host.defaults import get_default_protocols
from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.exceptions import MuxerUpgradeFailure
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from flock_chain.crypto import Account, Key
from flock_chain.errors import FlockError, InvalidRemote, Misuse, Unavailable
from flock_peers.network.complaints import Complaints
from flock_peers.network.connection import BufferedConnection, remote_host
from flock_peers.network.identity import Address, key_pair_of, peer_id_of
from flock_peers.network.limits import Limits
from flock_peers.network.link import MAX_PROTOCOL_NAME, Link, ProtocolNames, Stream
from flock_peers.network.session import Noise, NoiseSession
from flock_peers.network.slots import Slots, find_crowd
from flock_peers.network.yamux import Muxer

log = logging.getLogger(__name__)

StreamHandler = Callable[[Stream], Awaitable[None]]
LinkHandler = Callable[[Link], Awaitable[None]]
_RESET_SECONDS = 2.0
_NEVER = 1e9
_ACCEPT_PAUSE = 0.1  # after a failed accept (no file descriptors left)

# libp2p logs each closed stream and has its own opinion of what an error is; what matters is logged here.
logging.getLogger("libp2p").setLevel(logging.CRITICAL + 1)


class Guard:
    """A service manager whose tasks cannot take the service down: stock, one raising task ends all the others."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def run_task(self, task: Callable[..., Awaitable[Any]], *args: Any, name: str | None = None) -> None:
        self._manager.run_task(partial(contained, task), *args, name=name or getattr(task, "__name__", "task"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)


async def contained(task: Callable[..., Awaitable[Any]], *args: Any) -> None:
    """Run a task whose failure is worth a line in the log and nothing more."""
    try:
        await task(*args)
    except Exception as error:  # noqa: BLE001 - the edge of a task that a remote can make raise
        log.info("network: task %s failed: %r", getattr(task, "__name__", task), error)


class GuardedService:
    """Mixin for libp2p services. Their daemon tasks still end them: then the supervisor starts a new stack."""

    _manager: Any

    @property
    def manager(self) -> Any:
        return Guard(self._manager)


class _Upgrader(TransportUpgrader):
    """Noise only, and our muxer: the stock MuxerMultistream creates the stock Yamux whatever class it was given."""

    def __init__(self, key: Key, limits: Limits) -> None:
        noise = Noise(key_pair_of(key), noise_privkey=create_x25519_key_pair().private_key)
        super().__init__({NOISE: noise}, {YAMUX: Muxer})
        self._limits = limits

    async def upgrade_connection(self, conn: NoiseSession, peer_id: ID) -> Muxer:
        conn.below.set_authenticated()
        try:
            await self.muxer_multistream._selector.select(
                conn, conn.is_initiator, max(1, round(self._limits.negotiate_seconds))
            )
        except Exception as error:
            raise MuxerUpgradeFailure(f"no muxer agreed: {error}") from error
        return Muxer(conn, peer_id, Link(peer_id, conn.below, self._limits, outbound=conn.is_initiator))


class _NoAutoConnector(AutoConnector):
    """Who is dialed is decided by our connector alone; the stock one has no switch."""

    async def maybe_connect(self) -> None:
        return None


class _Swarm(GuardedService, Swarm):
    def _init_connection_management(self) -> None:
        super()._init_connection_management()
        self.auto_connector = _NoAutoConnector(self, auto_connect_interval=_NEVER)

    def _schedule_auto_connect(self) -> None:
        return None


class _Libp2pHost(BasicHost):
    """The IHost that pubsub and identify see. Opens streams on live links only; never dials, never identifies."""

    def __init__(self, swarm: Swarm, stack: "Stack", announce: list[Multiaddr]) -> None:
        super().__init__(swarm, announce_addrs=announce, disable_identify_address_discovery=True)
        self.stack = stack
        handlers = get_default_protocols(self)
        self.multiselect.handlers = {name: handlers[name] for name in handlers if name != ID_PUSH}

    def _schedule_identify(self, peer_id: ID, *, reason: str) -> None:  # noqa: ARG002 - stock signature
        return None

    async def connect(self, peer_info: Any) -> None:
        """Stock services dial whom a remote names to them; our connector alone decides."""
        raise SwarmException(f"not dialed: {peer_info.peer_id}")

    async def new_stream(self, peer_id: ID, protocol_ids: Any) -> Any:
        link = self.stack.newest_link(peer_id)
        if link is None:
            raise SwarmException(f"no admitted connection to {peer_id}")
        return await link.open_net_stream(str(protocol_ids[0]))

    async def _swarm_stream_handler(self, net_stream: Any) -> None:
        """Stock, an exception in here (four bytes of invalid UTF-8 will do) kills the whole host."""
        try:
            await self.stack.serve_stream(net_stream)
        except Exception as error:  # noqa: BLE001 - the edge of a task that a remote can make raise
            if isinstance(error, Unavailable):  # a broken stream is ordinary
                log.debug("network: stream of 0x%s: %s", net_stream.muxed_conn.link.account.hex(), error)
            else:
                link = net_stream.muxed_conn.link
                self.stack.complaints.note(f"0x{link.account.hex()} at {link.remote_host}", f"stream failed: {error!r}")
            with trio.CancelScope(deadline=trio.current_time() + _RESET_SECONDS, shield=True):
                await net_stream.reset()


class Stack:
    """A running swarm. `links` holds every connection with a proved identity, admitted or not."""

    def __init__(
        self, key: Key, limits: Limits, *, announce: list[Address], protocols: Mapping[str, StreamHandler],
        open_protocols: frozenset[str], on_link: LinkHandler,
        complaints: Complaints | None = None, is_favoured: Callable[[Account], bool] = lambda _account: False,
        guest_protocols: frozenset[str] = frozenset(), take_guest: Callable[[Link], bool] = lambda _link: False,
    ) -> None:  # fmt: skip
        """`is_favoured`: who has a place when a crowd has taken all."""
        self.limits = limits
        self.complaints = complaints or Complaints(trio.current_time)
        self._guest_protocols, self._take_guest = guest_protocols, take_guest
        self.links: dict[ID, list[Link]] = {}
        self.open_circuit: Callable[[Address], Awaitable[trio.SocketStream]] | None = None
        self._open_protocols, self._on_link = open_protocols, on_link
        self._slots, self._is_favoured = Slots(limits, trio.current_time), is_favoured
        self._outbound = 0
        self._sockets: set[BufferedConnection] = set()
        peer_id = peer_id_of(key)
        store = PeerStore()
        store.add_key_pair(peer_id, key_pair_of(key))
        self.swarm = _Swarm(peer_id, store, _Upgrader(key, limits), [TCP()], connection_config=_config(limits))
        self.host = _Libp2pHost(self.swarm, self, [Multiaddr(str(a).rsplit("/p2p/", 1)[0]) for a in announce])
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
            name, handler = await self.host.multiselect.negotiate(
                ProtocolNames(net_stream), max(1, round(self.limits.negotiate_seconds))
            )
            is_for_guest = name in self._guest_protocols and (link.admitted.is_set() or self._take_guest(link))
            if name not in self._open_protocols and not is_for_guest:
                with trio.move_on_after(self.limits.hello_seconds):
                    await link.admitted.wait()
                if not link.admitted.is_set():
                    raise InvalidRemote(f"asked for {name} without a hello")
            net_stream.set_protocol(name)
            await handler(net_stream)
        finally:
            link.streams_in -= 1

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

    async def accept(self, stream: trio.SocketStream, ip: str) -> None:
        """Life of an incoming connection; `ip` is what its places are counted by."""
        no_room = self._slots.begin(ip)
        if no_room:
            self.complaints.note(ip, f"refused: {no_room}")
            stream.socket.close()
            return
        below = self._adopt(stream)
        try:
            link = await self._shake_hands(below, ip)
            if link is not None:
                await link.closed.wait()
        finally:
            below.abort()
            self._slots.end(ip)

    async def _shake_hands(self, below: BufferedConnection, ip: str) -> Link | None:
        try:
            with trio.fail_after(self.limits.handshake_seconds):
                muxed = await self.swarm.upgrade_inbound_raw_conn(
                    RawConnection(below, False), Multiaddr("/ip4/0.0.0.0/tcp/0")
                )
            link = self._register(self._swarm_conn_of(muxed))
        except trio.TooSlowError:
            self.complaints.note(ip, f"no handshake within {self.limits.handshake_seconds:g} s")
            return None
        except Exception as error:  # noqa: BLE001 - the edge of a task that a remote can make raise
            self.complaints.note(ip, f"handshake failed: {_innermost(error)}")
            return None
        finally:
            self._slots.end_handshake(ip)
        return link if self._make_room(link) else None

    def _make_room(self, link: Link) -> bool:
        """Where all places are taken, a stranger gets none, and one of the crowd gives way to who is favoured."""
        if self._slots.connected <= self.limits.max_inbound:
            return True
        if self._is_favoured(link.account):
            others = [x for row in self.links.values() for x in row if not x.outbound and not x.closed.is_set()]
            crowd = find_crowd([x for x in others if not self._is_favoured(x.account)], lambda x: x.remote_host)
            if crowd is not None:
                self.complaints.note(f"0x{crowd.account.hex()} at {crowd.remote_host}", "gives way to a peer we need")
                crowd.abort()
                return True
        self.complaints.note(
            f"0x{link.account.hex()} at {link.remote_host}", f"refused: {self.limits.max_inbound} connections already"
        )
        return False

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
                self.complaints.note(f"0x{link.account.hex()} at {link.remote_host}", f"cut off: {link.breach}")
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


def _config(limits: Limits) -> ConnectionConfig:
    """No auto-connector, no pruner, no memory watch: our own slots are the limit."""
    most = 4 * (limits.max_inbound + limits.max_outbound)
    return ConnectionConfig(
        max_connections=most, min_connections=0, low_watermark=0, high_watermark=most, auto_connect_interval=_NEVER,
        max_connections_per_peer=most, inbound_upgrade_timeout=limits.handshake_seconds,
        outbound_upgrade_timeout=limits.handshake_seconds, enable_health_monitoring=False,
    )  # fmt: skip


def _reason(error: OSError) -> str:
    """trio tries every address of a name, and hides the one error that there mostly is."""
    cause = error.__cause__
    if isinstance(cause, ExceptionGroup):
        cause = cause.exceptions[0]
    inner = cause if isinstance(cause, OSError) else error
    return inner.strerror or str(inner)


def _innermost(error: BaseException) -> str:
    """libp2p says three times that something failed, and what it was in the last cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _explain(address: Address, error: BaseException) -> Exception:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PeerIDMismatchesPubkey) or "mismatch" in str(cause).lower():
            return InvalidRemote(f"{address}: another peer answers there (its key does not match the address)")
        cause = cause.__cause__
    return Unavailable(f"{address}: no libp2p peer answers there, or it has no room ({error})")
