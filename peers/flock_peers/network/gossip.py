"""Gossip for one stack: topics with their validators and handlers, what is published, and who hears it."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11
from libp2p.pubsub.pubsub_notifee import PubsubNotifee
from libp2p.tools.anyio_service import background_trio_service

from flock_chain.crypto import Account
from flock_chain.errors import FlockError, InvalidRemote
from flock_peers.network.frame_room import FrameRoom
from flock_peers.network.gossip_pubsub import GossipPubsub
from flock_peers.network.guarded import tell_failure
from flock_peers.network.identity import account_of, alias_of
from flock_peers.network.link import Link
from flock_peers.network.peer_table import Buckets
from flock_peers.network.stack import Stack

log = logging.getLogger(__name__)

Validator = Callable[[Account, bytes], bool]
GossipHandler = Callable[[Account, bytes], Awaitable[None]]
GOSSIP_PROTOCOL = str(PROTOCOL_ID_V11)


@dataclass(frozen=True)
class Topic:
    validator: Validator  # sync, from the bytes alone; False, or an exception, means that the message goes nowhere
    handler: GossipHandler


class Gossip:
    """`topics` is the host's table, shared: a topic that is added there is subscribed with `add_topic`."""

    def __init__(
        self, stack: Stack, topics: Mapping[str, Topic], buckets_of: Callable[[Account], Buckets],
        blame: Callable[[Account, str, InvalidRemote], None], room: FrameRoom,
        complain: Callable[[Account, str, str], None],
    ) -> None:  # fmt: skip
        self._stack, self._topics = stack, topics
        self._complain = lambda peer, what, kind: complain(_party(peer), f"gossip: {what}", kind)
        self._pubsub = GossipPubsub(
            stack,
            lambda peer: buckets_of(_party(peer)),
            lambda peer, error: blame(_party(peer), "gossip", error),
            lambda link: room.claim(_party(link.peer_id), link.remote_host),
            self._complain,
        )
        # Peers are announced to pubsub once they are admitted, not when they connect.
        notifees = stack.swarm.notifees
        self._notifee = next(n for n in notifees if isinstance(n, PubsubNotifee))
        notifees.remove(self._notifee)
        self._queue: trio.MemorySendChannel[tuple[str, bytes]]
        self._queue, self._to_publish = trio.open_memory_channel(stack.limits.publish_queue)
        self._nursery: trio.Nursery

    async def on_admitted(self, link: Link) -> None:
        await self._notifee.connected(self._stack.swarm, link.swarm_conn)

    def on_gone(self, link: Link) -> None:
        """Forget the gossip stream of that link; pubsub opens another one where the peer has another link."""
        stream = self._pubsub.peers.get(link.peer_id)
        if self._stack.newest_link(link.peer_id) is None:
            self._pubsub.forget(link.peer_id)
        elif stream is None or stream.muxed_conn.link is link:
            self._pubsub._handle_dead_peer(link.peer_id)

    def publish(self, topic: str, payload: bytes) -> bool:
        """False when the queue is full."""
        try:
            self._queue.send_nowait((topic, payload))
        except trio.WouldBlock:
            return False
        return True

    def peers_of(self, topic: str) -> list[Account]:
        return [account_of(peer) for peer in self._pubsub.peer_topics.get(topic, ())]

    def mesh_of(self, topic: str) -> list[Account]:
        """Those who are sent every message, and send theirs."""
        return [_party(peer) for peer in self._pubsub.router.mesh.get(topic, ())]

    def score_of(self, account: Account) -> float:
        """Of a peer that is connected."""
        scorer = self._pubsub.router.scorer
        return next((scorer.total(peer) for peer in self._stack.links if _party(peer) == account), 0.0)

    def add_topic(self, name: str) -> None:
        self._nursery.start_soon(self._follow, name)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        async with (
            background_trio_service(self._pubsub),
            background_trio_service(self._pubsub.router),
            trio.open_nursery() as self._nursery,
        ):
            await self._pubsub.wait_until_ready()
            for name in self._topics:
                self.add_topic(name)
            self._nursery.start_soon(self._publish_all)
            yield
            self._nursery.cancel_scope.cancel()

    async def _publish_all(self) -> None:
        async for topic, payload in self._to_publish:
            try:
                await self._pubsub.publish(topic, payload)
            except Exception as error:  # noqa: BLE001 - one message that cannot be sent is not the end of gossip
                log.warning("gossip: cannot publish on %s: %r", topic, error)

    async def _follow(self, name: str) -> None:
        topic = self._topics[name]

        def validate(forwarder: ID, message: Any) -> bool | None:
            """None: it goes nowhere, and nobody is to blame."""
            try:
                return bool(topic.validator(account_of(ID(message.from_id)), message.data))
            except FlockError as error:
                self._complain(forwarder, f"passes on what is not valid on {name}: {error}", "gossip: invalid")
                return False
            except Exception:  # noqa: BLE001 - told with its traceback
                tell_failure(f"gossip: the validator of {name} failed")
                return None

        self._pubsub.set_topic_validator(name, validate, False)
        subscription = await self._pubsub.subscribe(name)
        while True:
            message = await subscription.get()
            self._pubsub.note_taken(message)
            try:
                await topic.handler(account_of(ID(message.from_id)), bytes(message.data))
            except Exception:  # noqa: BLE001 - told with its traceback
                tell_failure(f"gossip: the handler of {name} failed")


def _party(peer: ID) -> Account:
    """Whom its messages count for: a guest's key may be of another kind."""
    try:
        return account_of(peer)
    except InvalidRemote:
        return alias_of(peer)
