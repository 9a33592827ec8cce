"""GossipSub 1.1 with bounds: control messages are believed in small numbers and for our own topics only.

What is overridden here costs memory or CPU without limit in stock, or keeps a mesh from settling; each says which.
"""

import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2

from flock_peers.network.gossip_memory import Cache
from flock_peers.network.gossip_scores import Scorer
from flock_peers.network.gossip_wire import ALL_QUEUES_BYTES, FAIR_QUEUE_BYTES, encode_rpc
from flock_peers.network.guarded import GuardedService

_DEGREE, _DEGREE_LOW, _DEGREE_HIGH = 6, 4, 12
_HEARTBEAT_SECONDS = 1
_WINDOW, _HISTORY = 6, 10  # heartbeats in which a message is advertised, and kept for whoever asks
MAX_CONTROL = 16  # control messages of a kind in one RPC; an honest peer sends one per topic
MAX_IDS = 512  # of one IHAVE or IWANT, in and out: six seconds of 80 messages
_MAX_ANSWER_BYTES = 1 << 20  # to one IWANT
_ASKS_PER_SECOND = 5.0  # IHAVE per topic, IWANT in all; an honest peer sends one a heartbeat


class Router(GuardedService, GossipSub):
    def __init__(self) -> None:
        super().__init__(
            [PROTOCOL_ID_V11], _DEGREE, _DEGREE_LOW, _DEGREE_HIGH,
            heartbeat_interval=_HEARTBEAT_SECONDS, heartbeat_initial_delay=0.5,
            gossip_window=_WINDOW, gossip_history=_HISTORY, do_px=False,
            adaptive_gossip_enabled=False, spam_protection_enabled=False, eclipse_protection_enabled=False,
        )  # fmt: skip
        self.scorer = Scorer()
        self.mcache = Cache(_WINDOW, _HISTORY)
        self.max_iwant_requests_per_second = self.max_ihave_messages_per_second = _ASKS_PER_SECOND

    def is_deaf_to(self, peer: ID) -> bool:
        return self.scorer.is_graylisted(peer, [])

    def add_peer(self, peer_id: ID, protocol_id: Any) -> None:
        super().add_peer(peer_id, protocol_id)
        self.scorer.add_peer(peer_id)

    # --- messages

    async def publish(self, msg_forwarder: ID, pubsub_msg: Any) -> None:
        """Encoded once for all. Stock copies it for each peer, adds its own signed address record, and keeps a list of
        all delivery times and a table of messages for ever, or nearly."""
        self.mcache.put(pubsub_msg)
        data = encode_rpc(rpc_pb2.RPC(publish=[pubsub_msg]))
        topics = list(pubsub_msg.topicIDs)
        for peer in self._get_peers_to_send(topics, msg_forwarder, ID(pubsub_msg.from_id)):
            if self.scorer.allow_publish(peer, topics):
                self.send_encoded(peer, data)

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

    def send_encoded(self, peer_id: ID, data: bytes, priority: bool = False) -> bool:
        """False where it is lost: a crowd of slow readers has one room together, beside a little for everybody."""
        queues = self.pubsub.peer_queues if self.pubsub is not None else {}
        queue = queues.get(peer_id)
        if queue is None:
            return False
        waiting = queue.waiting_bytes
        if waiting > FAIR_QUEUE_BYTES and sum(row.waiting_bytes for row in queues.values()) > ALL_QUEUES_BYTES:
            return False
        return bool(queue.push(data, priority))

    def send_rpc(self, peer_id: ID, rpc: Any, priority: bool = False) -> None:
        self.send_encoded(peer_id, encode_rpc(rpc), priority)

    async def send_recent_messages(self, peer_id: ID, topic: str) -> None:
        """Through the peer's queue. Stock writes them beside it, and waits for the peer."""
        self._send_messages(peer_id, self.mcache.window(topic)[-MAX_IDS:])

    def _send_messages(self, peer_id: ID, ids: Iterable[bytes]) -> None:
        left = _MAX_ANSWER_BYTES
        for message in filter(None, map(self.mcache.get, ids)):
            data = encode_rpc(rpc_pb2.RPC(publish=[message]))
            left -= len(data)
            if left < 0 or not self.send_encoded(peer_id, data):
                return

    # --- control messages

    async def handle_rpc(self, rpc: Any, sender_peer_id: ID) -> None:
        """Stock keeps an entry for each topic that a peer may invent, and answers each."""
        control = rpc.control
        for ihave in control.ihave[:MAX_CONTROL]:
            if ihave.topicID in self.mesh:
                del ihave.messageIDs[MAX_IDS:]
                await self.handle_ihave(ihave, sender_peer_id)
        for iwant in control.iwant[:MAX_CONTROL]:
            await self.handle_iwant(iwant, sender_peer_id)
        for topic in sorted({graft.topicID for graft in control.graft[:MAX_CONTROL]} & self.mesh.keys()):
            await self.handle_graft(rpc_pb2.ControlGraft(topicID=topic), sender_peer_id)
        for prune in control.prune[:MAX_CONTROL]:
            if prune.topicID in self.mesh:
                backoff = min(prune.backoff, self.prune_back_off)
                await self.handle_prune(rpc_pb2.ControlPrune(topicID=prune.topicID, backoff=backoff), sender_peer_id)

    async def handle_iwant(self, iwant_msg: Any, sender_peer_id: ID) -> None:
        """Stock sends a message as often as its id is in the list, in one RPC of any size."""
        if self._check_iwant_rate_limit(sender_peer_id):
            self._send_messages(sender_peer_id, dict.fromkeys(iwant_msg.messageIDs[:MAX_IDS]))

    async def handle_graft(self, graft_msg: Any, sender_peer_id: ID) -> None:
        if self.scorer.is_bad(sender_peer_id):
            await self.emit_prune(graft_msg.topicID, sender_peer_id, False, False)
            return
        await super().handle_graft(graft_msg, sender_peer_id)

    # --- heartbeats

    def mesh_heartbeat(self) -> tuple[defaultdict[ID, list[str]], defaultdict[ID, list[str]]]:
        """As in 1.1, who is below zero leaves the mesh; stock waits until it is too large. Who was pruned, for whatever
        reason, is not grafted a second later, which the other side would take for a flood."""
        self._forget_back_offs()
        bad = defaultdict(list)
        for topic, peers in self.mesh.items():
            for peer in [peer for peer in peers if self.scorer.is_bad(peer)]:
                peers.discard(peer)
                self._add_back_off(peer, topic, False)
                bad[peer].append(topic)
        grafts, prunes = super().mesh_heartbeat()
        for peer, topics in prunes.items():
            for topic in topics:
                self._add_back_off(peer, topic, False)
        for peer, topics in bad.items():
            prunes[peer] += topics
        return grafts, prunes

    def _forget_back_offs(self) -> None:
        """Stock keeps those of peers that have gone."""
        now = time.time()
        for topic, back_offs in self.back_off.items():
            self.back_off[topic] = {peer: until for peer, until in back_offs.items() if until > now}

    async def on_peer_subscribed(self, peer_id: ID, topic: str) -> None:
        if not self.scorer.is_bad(peer_id):
            await super().on_peer_subscribed(peer_id, topic)

    def _get_in_topic_gossipsub_peers_from_minus(self, topic: str, *arguments: Any, **options: Any) -> list[ID]:
        """Nobody below zero is grafted, or told what there is."""
        found = super()._get_in_topic_gossipsub_peers_from_minus(topic, *arguments, **options)
        return [peer for peer in found if not self.scorer.is_bad(peer)]

    def _perform_opportunistic_grafting(self, _topic: str, _peers_to_graft: Any) -> int:
        """Off: stock takes in whoever is as good as half of the others, each second, up to the largest mesh."""
        return 0

    async def _maintain_mesh_quality(self, topic: str) -> None:
        """Off: stock trades the worst of the mesh for a better one each second, until all are backing off."""

    async def _emit_control_msgs(
        self, peers_to_graft: dict[ID, list[str]], peers_to_prune: dict[ID, list[str]],
        peers_to_gossip: dict[ID, dict[str, list[bytes]]],
    ) -> None:  # fmt: skip
        """One RPC for each peer. Stock sends whoever is grafted also what the ones before it were sent."""
        for peer in dict.fromkeys([*peers_to_graft, *peers_to_prune, *peers_to_gossip]):
            control = rpc_pb2.ControlMessage(
                graft=[rpc_pb2.ControlGraft(topicID=topic) for topic in peers_to_graft.get(peer, ())],
                prune=[
                    rpc_pb2.ControlPrune(topicID=topic, backoff=self.prune_back_off)
                    for topic in peers_to_prune.get(peer, ())
                ],
                ihave=[
                    rpc_pb2.ControlIHave(topicID=topic, messageIDs=ids[-MAX_IDS:])
                    for topic, ids in peers_to_gossip.get(peer, {}).items()
                ],
            )
            self.send_rpc(peer, rpc_pb2.RPC(control=control), priority=True)
