"""GossipSub 1.1 for one stack: guarded, rate-limited per forwarder, with settings that are not the stock ones."""

import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import trio
from libp2p.exceptions import ParseError, ValidationError
from libp2p.io.exceptions import IncompleteReadError
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.pubsub import gossipsub as gossipsub_module
from libp2p.pubsub import pubsub as pubsub_module
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import Pubsub, ValidationResult
from libp2p.pubsub.pubsub_notifee import PubsubNotifee
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.pubsub.score import ScoreParams, TopicScoreParams
from libp2p.tools.anyio_service import background_trio_service

from flock_chain.crypto import Account
from flock_chain.errors import FlockError, InvalidEncoding
from flock_peers.network.identity import account_of
from flock_peers.network.limits import TokenBucket
from flock_peers.network.link import Link
from flock_peers.network.stack import Guard, GuardedService, Stack

log = logging.getLogger(__name__)

Validator = Callable[[Account, bytes], bool]
GossipHandler = Callable[[Account, bytes], Awaitable[None]]
GOSSIP_PROTOCOL = str(PROTOCOL_ID_V11)
_OUT_QUEUE = 1024  # messages waiting for one slow peer
_IN_QUEUE, _IN_QUEUE_BYTES = 4096, 16 << 20  # messages of others that wait to be looked at, of all forwarders
_SUBSCRIPTION_QUEUE = 4096  # messages waiting for our own handler
_DEGREE, _DEGREE_LOW, _DEGREE_HIGH = 6, 4, 12
_HEARTBEAT_SECONDS = 1
_SCORES = ScoreParams(
    # An invalid message costs its forwarder a point for about ten seconds; a hundred points shut it up. (The library
    # subtracts this weight, unlike those of the first two.)
    p1_time_in_mesh=TopicScoreParams(weight=0.01, cap=10, decay=0.99),
    p2_first_message_deliveries=TopicScoreParams(weight=0.1, cap=50, decay=0.9),
    p4_invalid_messages=TopicScoreParams(weight=1, cap=1000, decay=0.9),
    p5_behavior_penalty_weight=1, p5_behavior_penalty_decay=0.9,
    gossip_threshold=-50, publish_threshold=-100, graylist_threshold=-200,
)  # fmt: skip


class _WideQueue(RpcQueue):
    """Stock: 32 messages."""

    def __init__(self, max_size: int = _OUT_QUEUE, max_message_size: int = 1 << 20) -> None:
        super().__init__(max_size, max_message_size)


pubsub_module.RpcQueue = _WideQueue
pubsub_module.SUBSCRIPTION_CHANNEL_SIZE = _SUBSCRIPTION_QUEUE


@dataclass(frozen=True)
class Topic:
    validator: Validator  # sync; False, or an exception, means that the message goes nowhere
    handler: GossipHandler


class _Router(GuardedService, GossipSub):
    def _get_peers_to_send(
        self, topic_ids: Iterable[str], msg_forwarder: ID, origin: ID, msg_id: bytes | None = None
    ) -> Iterable[ID]:
        """Own messages go to everybody who subscribes, not to the mesh alone ("flood publishing" in the 1.1 paper).

        With at most some fifty peers that is cheap, and nothing is lost while the mesh is being mended.
        """
        topics = list(topic_ids)
        chosen = set(super()._get_peers_to_send(topics, msg_forwarder, origin, msg_id))
        if self.pubsub is not None and msg_forwarder == self.pubsub.my_id:
            for topic in topics:
                chosen.update(self.pubsub.peer_topics.get(topic, ()))
        return chosen - {msg_forwarder, origin}


class Inflow:
    """Messages of others that wait for their turn: bounded in number and in bytes, and by each forwarder's rate."""

    def __init__(self, allow: Callable[[ID], bool]) -> None:
        self._allow = allow
        self._waiting: deque[tuple[ID, Any]] = deque()
        self._bytes = 0
        self._wake = trio.Event()

    def put(self, forwarder: ID, message: Any) -> None:
        size = len(message.data)
        if not self._allow(forwarder) or len(self._waiting) >= _IN_QUEUE or self._bytes + size > _IN_QUEUE_BYTES:
            return
        self._waiting.append((forwarder, message))
        self._bytes += size
        self._wake.set()

    async def take(self) -> tuple[ID, Any]:
        """A checkpoint each time: a packet of thousands must not keep the loop to itself."""
        await trio.lowlevel.checkpoint()
        while not self._waiting:
            self._wake = trio.Event()
            await self._wake.wait()
        forwarder, message = self._waiting.popleft()
        self._bytes -= len(message.data)
        return forwarder, message


class _InflowGuard(Guard):
    """Stock, each message of a packet becomes a task at once, and finding a task's parent looks at all tasks: one
    packet of 3,000 tiny messages stops the loop for seconds, one of 100,000 for hours."""

    def __init__(self, manager: Any, inflow: Inflow) -> None:
        super().__init__(manager)
        self._inflow = inflow

    def run_task(self, task: Callable[..., Awaitable[Any]], *args: Any, name: str | None = None) -> None:
        if getattr(task, "__name__", "") == "push_msg":
            self._inflow.put(*args)
        else:
            super().run_task(task, *args, name=name)


class _Pubsub(GuardedService, Pubsub):
    inflow: Inflow
    opening: set[ID]

    @property
    def manager(self) -> Any:
        return _InflowGuard(self._manager, self.inflow)

    async def continuously_read_stream(self, stream: Any) -> None:
        """Stock, a name that is not UTF-8 raises UnicodeDecodeError, a packet that is none DecodeError."""
        try:
            await super().continuously_read_stream(stream)
        except (StreamError, ParseError, IncompleteReadError):
            raise  # the stock handler knows these
        except Exception as error:
            self._handle_dead_peer(stream.muxed_conn.peer_id)
            raise InvalidEncoding(f"gossip: {type(error).__name__}: {error}") from error

    async def _handle_new_peer(self, peer_id: ID) -> None:
        """Stock, two connections at once make two streams, and what is queued for the first is lost."""
        if peer_id in self.opening:
            return
        self.opening.add(peer_id)
        try:
            await super()._handle_new_peer(peer_id)
        finally:
            self.opening.discard(peer_id)

    async def validate_msg(self, msg_forwarder: ID, msg: Any) -> None:
        """Stock writes the whole message into its error's text: 0.3 s for one of 1 MiB, each time that it comes."""
        msg_id = self._msg_id_constructor(msg)
        result = self.validation_cache.get(msg_id)
        if result is None:
            is_valid = all(row.validator(msg_forwarder, msg) for row in self.get_msg_validators(msg))
            result = ValidationResult(is_valid=is_valid, timestamp=time.time())
            self.validation_cache.put(msg_id, result)
        if not result.is_valid:
            raise ValidationError("not valid")

    async def push_msg(self, msg_forwarder: ID, msg: Any) -> None:
        """Stock, a message with a junk key or a raising validator ends the service."""
        try:
            await super().push_msg(msg_forwarder, msg)
        except Exception as error:  # noqa: BLE001 - the edge of a task that a remote can make raise
            log.info("gossip: message of %s dropped: %r", msg_forwarder, error)


class Gossip:
    """`topics` is the host's table, shared: a topic that is added there is subscribed with `add_topic`."""

    def __init__(self, stack: Stack, topics: Mapping[str, Topic], bucket_of: Callable[[Account], TokenBucket]) -> None:
        self._stack, self._topics, self._bucket_of = stack, topics, bucket_of
        self._router = _Router(
            [PROTOCOL_ID_V11], _DEGREE, _DEGREE_LOW, _DEGREE_HIGH,
            heartbeat_interval=_HEARTBEAT_SECONDS, heartbeat_initial_delay=0.5,
            gossip_window=6, gossip_history=10, score_params=_SCORES,
            adaptive_gossip_enabled=False, spam_protection_enabled=False, eclipse_protection_enabled=False,
        )  # fmt: skip
        self._pubsub = _Pubsub(
            stack.host, self._router, strict_signing=True, max_inbound_rpc_size=stack.limits.gossip_message_bytes
        )
        self._pubsub.inflow = self._inflow = Inflow(self._allow)
        self._pubsub.opening = set()
        # Sequence numbers must grow over restarts: stock starts at the seconds, and repeats itself after a busy run.
        self._pubsub.counter = time.time_ns()
        # Peers are announced to pubsub once they are admitted, not when they connect.
        notifees = stack.swarm.notifees
        self._notifee = next(n for n in notifees if isinstance(n, PubsubNotifee))
        notifees.remove(self._notifee)
        self._queue: trio.MemorySendChannel[tuple[str, bytes]]
        self._queue, self._to_publish = trio.open_memory_channel(stack.limits.publish_queue)
        self._nursery: trio.Nursery

    def _allow(self, forwarder: ID) -> bool:
        return self._bucket_of(account_of(forwarder)).take()

    async def on_admitted(self, link: Link) -> None:
        await self._notifee.connected(self._stack.swarm, link.swarm_conn)

    def on_gone(self, link: Link) -> None:
        """Forget the gossip stream of that link; pubsub opens another one where the peer has another link."""
        stream = self._pubsub.peers.get(link.peer_id)
        if stream is None or stream.muxed_conn.link is link:
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

    def add_topic(self, name: str) -> None:
        self._nursery.start_soon(self._follow, name)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        async with (
            background_trio_service(self._pubsub),
            background_trio_service(self._router),
            trio.open_nursery() as self._nursery,
        ):
            await self._pubsub.wait_until_ready()
            for name in self._topics:
                self.add_topic(name)
            self._nursery.start_soon(self._publish_all)
            self._nursery.start_soon(self._take_in)
            yield
            self._nursery.cancel_scope.cancel()

    async def _take_in(self) -> None:
        while True:
            await self._pubsub.push_msg(*await self._inflow.take())

    async def _publish_all(self) -> None:
        async for topic, payload in self._to_publish:
            try:
                await self._pubsub.publish(topic, payload)
            except Exception as error:  # noqa: BLE001 - one message that cannot be sent is not the end of gossip
                log.warning("gossip: cannot publish on %s: %r", topic, error)

    async def _follow(self, name: str) -> None:
        topic = self._topics[name]

        def validate(_forwarder: ID, message: Any) -> bool:
            try:
                return list(message.topicIDs) == [name] and bool(
                    topic.validator(account_of(ID(message.from_id)), message.data)
                )
            except FlockError as error:
                log.info("gossip: invalid message on %s: %s", name, error)
            except Exception:
                log.exception("gossip: the validator of %s failed", name)
            return False

        self._pubsub.set_topic_validator(name, validate, False)
        subscription = await self._pubsub.subscribe(name)
        while True:
            message = await subscription.get()
            try:
                await topic.handler(account_of(ID(message.from_id)), bytes(message.data))
            except Exception:
                log.exception("gossip: the handler of %s failed", name)


def _replace_signed_records() -> None:
    """Every RPC carries the sender's signed address record; stock signs, parses and stores it each time.

    Addresses are learned from hello alone, so what arrives is ignored; what goes out is made once per host.
    """
    make_record = pubsub_module.env_to_send_in_RPC
    records: WeakKeyDictionary[Any, tuple[bytes, bool]] = WeakKeyDictionary()

    def own_record(host: Any) -> tuple[bytes, bool]:
        if host not in records:
            records[host] = (make_record(host)[0], False)
        return records[host]

    for module in (pubsub_module, gossipsub_module):
        module.env_to_send_in_RPC = own_record
        module.maybe_consume_signed_record = lambda _message, _host, _peer: True


_replace_signed_records()
