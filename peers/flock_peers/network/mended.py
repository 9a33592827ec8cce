"""libp2p's upgrader, swarm and host with what is wrong in the stock ones mended, each where it is said.

Knows links; who is let in, and what streams are for, is the stack's.
"""

import logging
from typing import TYPE_CHECKING, Any

import trio
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.host.basic_host import BasicHost
from libp2p.host.defaults import get_default_protocols
from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect import DEFAULT_NEGOTIATE_TIMEOUT, Multiselect
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.transport.exceptions import MuxerUpgradeFailure
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from flock_chain.crypto import Key
from flock_chain.errors import Unavailable
from flock_peers.network.complaints import Tolerance
from flock_peers.network.guarded import GuardedService
from flock_peers.network.identity import key_pair_of
from flock_peers.network.limits import Limits
from flock_peers.network.link import CutShort, Link, ProtocolNames
from flock_peers.network.session import Noise, NoiseSession
from flock_peers.network.window_room import WindowRoom
from flock_peers.network.yamux import Muxer

if TYPE_CHECKING:
    from flock_peers.network.stack import Stack

log = logging.getLogger(__name__)

_RESET_SECONDS = 2.0
_NEVER = 1e9
# A peer that is killed cuts one frame on each of its streams, one that gives up a question maybe one.
_CUT_SHORT = Tolerance("frames cut short", 8)

# libp2p logs each closed stream and has its own opinion of what an error is; what matters is logged here.
logging.getLogger("libp2p").setLevel(logging.CRITICAL + 1)


class _Names(Multiselect):
    """Security and muxer are agreed on within the bounds that names of streams have."""

    async def negotiate(
        self, communicator: Any, negotiate_timeout: int = DEFAULT_NEGOTIATE_TIMEOUT
    ) -> tuple[Any, Any]:  # fmt: skip
        return await super().negotiate(ProtocolNames(communicator.read_writer), negotiate_timeout)


class Upgrader(TransportUpgrader):
    """Noise only, and our muxer: the stock MuxerMultistream creates the stock Yamux whatever class it was given."""

    def __init__(self, key: Key, limits: Limits, room: WindowRoom) -> None:
        noise = Noise(key_pair_of(key), noise_privkey=create_x25519_key_pair().private_key)
        super().__init__({NOISE: noise}, {YAMUX: Muxer})
        self._limits, self._room = limits, room
        for selector in (self.security_multistream._selector, self.muxer_multistream._selector):
            selector.multiselect = _Names(dict.fromkeys(selector.handlers))

    async def upgrade_connection(self, conn: NoiseSession, peer_id: ID) -> Muxer:
        conn.below.set_authenticated()
        try:
            await self.muxer_multistream._selector.select(
                conn, conn.is_initiator, max(1, round(self._limits.negotiate_seconds))
            )
        except Exception as error:
            raise MuxerUpgradeFailure(f"no muxer agreed: {error}") from error
        link = Link(peer_id, conn.below, self._limits, outbound=conn.is_initiator)
        return Muxer(conn, peer_id, link, self._room)


class _NoAutoConnector(AutoConnector):
    """Who is dialed is decided by our connector alone; the stock one has no switch."""

    async def maybe_connect(self) -> None:
        return None


class MendedSwarm(GuardedService, Swarm):
    def _init_connection_management(self) -> None:
        super()._init_connection_management()
        self.auto_connector = _NoAutoConnector(self, auto_connect_interval=_NEVER)

    def _schedule_auto_connect(self) -> None:
        return None


class MendedHost(BasicHost):
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
            link = net_stream.muxed_conn.link
            who, complaints = f"0x{link.account.hex()} at {link.remote_host}", self.stack.complaints
            if isinstance(error, CutShort):
                complaints.tally(who, _CUT_SHORT, f"breaks off in the middle of what it says, often: {error}")
            elif isinstance(error, Unavailable):  # a broken stream is ordinary
                log.debug("network: stream of %s: %s", who, error)
            else:
                complaints.note(who, f"stream failed: {error!r}", kind=f"stream {net_stream.get_protocol()}")
            with trio.CancelScope(deadline=trio.current_time() + _RESET_SECONDS, shield=True):
                await net_stream.reset()


def make_config(limits: Limits) -> ConnectionConfig:
    """No auto-connector, no pruner, no memory watch: our own slots are the limit."""
    most = 4 * (limits.max_inbound + limits.max_outbound)
    return ConnectionConfig(
        max_connections=most, min_connections=0, low_watermark=0, high_watermark=most, auto_connect_interval=_NEVER,
        max_connections_per_peer=most, inbound_upgrade_timeout=limits.handshake_seconds,
        outbound_upgrade_timeout=limits.handshake_seconds, enable_health_monitoring=False,
    )  # fmt: skip
