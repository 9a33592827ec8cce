"""The reading and judging half of gossip: RPCs within limits, one at a time per peer; who breaks a rule is told on.

A peer's RPCs are worked off in its own task, in order: who sends much waits for itself. Stock starts a task for every
message of an RPC, hears of no limit but its size, and forgives bad signatures.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import trio
from libp2p.peer.id import ID
from libp2p.pubsub import gossipsub as gossipsub_module
from libp2p.pubsub import pubsub as pubsub_module
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.validators import signature_validator

from flock_chain.errors import InvalidEncoding, InvalidRemote, InvalidSignature, Unavailable
from flock_peers.network.frame_room import Claim
from flock_peers.network.gossip_memory import SeenIds, size_of
from flock_peers.network.gossip_router import Router
from flock_peers.network.gossip_wire import OutQueue, RpcReader, parse_rpc
from flock_peers.network.guarded import GuardedService
from flock_peers.network.limits import TokenBucket
from flock_peers.network.link import Link
from flock_peers.network.peer_table import Buckets
from flock_peers.network.stack import Stack

log = logging.getLogger(__name__)

_SUBSCRIPTION_QUEUE, _SUBSCRIPTION_BYTES = 4096, 16 << 20  # messages waiting for our own handlers
_MAX_SUBSCRIPTIONS = 128  # in one RPC; a peer of ours has one topic
_MAX_TOPICS_OF_A_PEER = 32
_MAX_TOPIC_BYTES = 256
_STREAMS_OF_A_PEER = 2  # read at once, the newest: an old connection may only look alive
_RPC_COST = 4 << 10  # of an RPC beside its bytes: two thousand a second are read, however small they are
_SEQNO_BYTES, _MAX_KEY_BYTES, _MAX_SIGNATURE_BYTES = 8, 64, 128  # of secp256k1: 37, in an id 39, and at most 72
# We send nobody more than a part of what it lets through, so that no flood which others feed us looks like ours.
_PACE, _PACE_BURST = 0.8, 0.4

pubsub_module.SUBSCRIPTION_CHANNEL_SIZE = _SUBSCRIPTION_QUEUE

Blame = Callable[[ID, InvalidRemote], None]


class GossipPubsub(GuardedService, Pubsub):
    router: Router
    seen_messages: Any  # SeenIds

    def __init__(
        self, stack: Stack, buckets_of: Callable[[ID], Buckets], blame: Blame, claim_of: Callable[[Link], Claim],
        complain: Callable[[ID, str, str], None],
    ) -> None:  # fmt: skip
        super().__init__(
            stack.host, Router(), strict_signing=True, max_inbound_rpc_size=stack.limits.gossip_message_bytes,
            max_subscriptions_per_peer=_MAX_TOPICS_OF_A_PEER,
        )  # fmt: skip
        self._stack, self._buckets_of, self._blame, self._claim_of = stack, buckets_of, blame, claim_of
        self._complain = complain
        self.router.scorer.on_offence = lambda peer, what: complain(peer, what, "gossip: offences")
        self.seen_messages.stop()  # its thread
        self.seen_messages = SeenIds(trio.current_time)
        self._waiting_bytes = 0  # for our own handlers
        self._opening: set[ID] = set()
        self._read_from: defaultdict[ID, list[Any]] = defaultdict(list)
        # Sequence numbers must grow over restarts: stock starts at the seconds, and repeats itself after a busy run.
        self.counter = time.time_ns()

    # --- peers

    async def _handle_new_peer(self, peer_id: ID) -> None:
        """Stock, two connections at once make two streams, and what is queued for the first is lost; and a topic that
        is subscribed while the stream opens is in no hello, and announced to nobody."""
        if peer_id in self._opening:
            return
        self._opening.add(peer_id)
        topics = set(self.topic_ids)
        try:
            await super()._handle_new_peer(peer_id)
        finally:
            self._opening.discard(peer_id)
        if peer_id in self.peer_queues and topics != set(self.topic_ids):
            self.peer_queues[peer_id].push(self.get_hello_packet())

    async def handle_sending_messages(self, peer_id: ID, stream: Any, queue: Any) -> None:
        """Stock writes each RPC by itself, as fast as it can; where a stream ends, it gives up a newer one."""
        limits = self._stack.limits
        pace = TokenBucket(_PACE * limits.gossip_rate, _PACE_BURST * limits.gossip_burst, trio.current_time)
        try:
            while (batch := await queue.pop()) is not None:
                await trio.sleep(pace.debit(batch[1]))
                await stream.muxed_stream.write(batch[0])
        except Exception as error:  # noqa: BLE001 - the edge of a task that a remote can make raise
            log.debug("gossip: sending to %s ended: %r", peer_id, error)
            if self.peer_queues.get(peer_id) is queue:
                self._handle_dead_peer(peer_id)

    def forget(self, peer_id: ID) -> None:
        """Its last connection is gone. Stock keeps the score of whoever never let us open a stream."""
        self._handle_dead_peer(peer_id)
        self.router.scorer.remove_peer(peer_id)

    # --- reading

    async def stream_handler(self, stream: Any) -> None:
        peer = stream.muxed_conn.peer_id
        streams = self._read_from[peer]
        streams.append(stream)
        try:
            for extra in streams[:-_STREAMS_OF_A_PEER]:
                await extra.reset()
            await self.continuously_read_stream(stream)
        except Unavailable:
            pass  # a broken stream is nobody's fault
        except InvalidRemote as error:
            await stream.reset()
            self._blame(peer, error)
        finally:
            streams.remove(stream)
            if not streams:
                self._read_from.pop(peer, None)

    async def continuously_read_stream(self, stream: Any) -> None:
        peer = stream.muxed_conn.peer_id
        with self._claim_of(stream.muxed_conn.link) as claim:
            most, seconds = self.max_inbound_rpc_size, self._stack.limits.frame_seconds
            reader = RpcReader(stream.muxed_stream, most, claim, seconds)
            while await self._read_rpc(peer, stream.muxed_conn.link, reader, claim):
                pass

    async def _read_rpc(self, peer: ID, link: Link, reader: RpcReader, claim: Claim) -> bool:
        """False at the end. A function of its own: a stream that waits for its next RPC must not keep the last one."""
        data = await reader.read()
        if data is None:
            return False
        wait = self._buckets_of(peer).gossip_bytes.debit(len(data) + claim.refused + _RPC_COST)
        if wait > 0:
            self._complain(peer, "sends more bytes than its rate: read more slowly", "gossip: rate")
            until = trio.current_time() + wait
            with claim.reading():  # who waits for its rate may lose its room as well
                await trio.sleep_until(until)
            if claim.refused:
                await trio.sleep_until(until)
        else:  # a sleep that is over at once takes ten times as much
            await trio.lowlevel.checkpoint()
        if claim.refused:
            data = b""
        if link.closed.is_set():
            return False  # what came before the end would be kept for a peer that has been forgotten
        if self.router.is_deaf_to(peer):
            self._charge(peer)  # or it would be forgiven while it floods on
            return True
        try:
            await self._on_rpc(peer, parse_rpc(data))
        except UnicodeDecodeError as error:  # a name that is not UTF-8 shows when it is read
            raise InvalidEncoding(f"a name in an RPC: {error}") from error
        return True

    async def _on_rpc(self, peer: ID, rpc: Any) -> None:
        if len(rpc.subscriptions) > _MAX_SUBSCRIPTIONS:
            raise InvalidRemote(f"{len(rpc.subscriptions)} subscriptions in one RPC, at most {_MAX_SUBSCRIPTIONS}")
        for subscription in rpc.subscriptions:
            if len(_encode_topic(subscription.topicid)) <= _MAX_TOPIC_BYTES and self._charge(peer):
                self.handle_subscription(peer, subscription)
        for done, message in enumerate(rpc.publish):
            if not self._charge(peer):
                self.router.scorer.penalize_behavior(peer, len(rpc.publish) - done - 1)
                break
            if len(message.topicIDs) == 1 and message.topicIDs[0] in self.topic_ids:
                await self.push_msg(peer, message)
                await trio.lowlevel.checkpoint()  # an RPC of thousands must not keep the loop to itself
        if rpc.HasField("control") and self._charge(peer):
            await self.router.handle_rpc(rpc, peer)

    def _charge(self, peer: ID) -> bool:
        """False above the peer's rate; that counts against it."""
        if self._buckets_of(peer).gossip.take():
            return True
        self.router.scorer.penalize_behavior(peer, 1.0)
        return False

    def _forget_subscription(self, peer_id: ID, topic: str) -> None:
        """Stock replays six seconds of messages each time that a peer leaves a topic of ours and comes back."""
        replayed = self._replayed_recent_topics.get(peer_id, set()) & {topic} & self.topic_ids
        super()._forget_subscription(peer_id, topic)
        if replayed:
            self._replayed_recent_topics.setdefault(peer_id, set()).update(replayed)

    # --- judging

    async def push_msg(self, msg_forwarder: ID, msg: Any) -> None:
        """Ours, or somebody's. Raises InvalidRemote: no honest peer forwards what nobody signed, or of another form."""
        is_ours = msg_forwarder == self.my_id
        if not is_ours:
            _check_form(msg)
        if self._is_msg_seen(msg):
            return
        if not is_ours:
            _check_signature(msg)
            if msg.from_id == self.my_id.to_bytes():  # so old that we have forgotten it
                return
        topic = msg.topicIDs[0]
        validator = self.topic_validators.get(topic)
        verdict = True if validator is None else validator.validator(msg_forwarder, msg)
        if verdict is False and not is_ours:
            # Not remembered by its id: an author who signs a good and a bad message with one number could have those
            # punished who forward the good one.
            self.router.scorer.on_invalid_message(msg_forwarder, topic)
        if verdict is not True:
            return
        msg = _copy(msg)
        self._mark_msg_seen(msg)
        if not is_ours:
            self.router.scorer.on_first_delivery(msg_forwarder, topic)
        self.notify_subscriptions(msg)
        await self.router.publish(msg_forwarder, msg)

    def notify_subscriptions(self, publish_message: Any) -> None:
        """Stock bounds their number alone."""
        size, channel = size_of(publish_message), self.subscribed_topics_send.get(publish_message.topicIDs[0])
        if channel is None or self._waiting_bytes + size > _SUBSCRIPTION_BYTES:
            return
        try:
            channel.send_nowait(publish_message)
        except trio.WouldBlock:
            return
        self._waiting_bytes += size

    def note_taken(self, message: Any) -> None:
        """A handler's turn has come for a message of `notify_subscriptions`."""
        self._waiting_bytes -= size_of(message)


def _encode_topic(topic: Any) -> bytes:
    """The parser hands on as bytes what is not UTF-8."""
    if isinstance(topic, bytes):
        raise InvalidEncoding("a subscription to a topic whose name is not UTF-8")
    return bytes(topic.encode())


def _check_form(message: Any) -> None:
    """What the signature does not cover, and what we keep, has its size."""
    if len(message.seqno) != _SEQNO_BYTES:
        raise InvalidRemote(f"a message with a sequence number of {len(message.seqno)} bytes, not {_SEQNO_BYTES}")
    if max(len(message.from_id), len(message.key)) > _MAX_KEY_BYTES or len(message.signature) > _MAX_SIGNATURE_BYTES:
        lengths = [len(row) for row in (message.from_id, message.key, message.signature)]
        raise InvalidRemote(f"a message with an author, a key and a signature of {lengths} bytes")


def _check_signature(message: Any) -> None:
    try:
        is_signed = signature_validator(message)
    except Exception as error:
        raise InvalidSignature(f"a message with a junk key: {error!r}") from error
    if not is_signed:
        raise InvalidSignature("a message that its author did not sign")


def _copy(message: Any) -> Any:
    """The fields that we know: others would be forwarded. And a part of an RPC keeps all of it in memory."""
    return rpc_pb2.Message(
        from_id=message.from_id, data=message.data, seqno=message.seqno, topicIDs=list(message.topicIDs),
        signature=message.signature, key=message.key,
    )  # fmt: skip


def _replace_in_stock() -> None:
    """Our queue; and every RPC of stock carries its sender's address record, signed anew and checked each time.

    Addresses are learned from hello alone, so what arrives is ignored; what goes out is made once per host.
    """
    make_record = pubsub_module.env_to_send_in_RPC

    def own_record(host: Any) -> tuple[bytes, bool]:
        record: bytes | None = getattr(host, "gossip_record", None)
        if record is None:
            record = host.gossip_record = make_record(host)[0]
        return record, False

    pubsub_module.RpcQueue = OutQueue
    for module in (pubsub_module, gossipsub_module):
        module.env_to_send_in_RPC = own_record
        module.maybe_consume_signed_record = lambda _message, _host, _peer: True


_replace_in_stock()
