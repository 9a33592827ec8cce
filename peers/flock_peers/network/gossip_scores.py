"""What each neighbour in gossip is worth: the weights and their reasons, and a memory of who was bad. Knows no sockets.

In this library penalties have positive weights and are subtracted. Scores are points; 0 is a stranger. Who is below 0
is pruned from the mesh, below -50 gets no gossip, below -100 is sent nothing, below -200 is not listened to at all.
"""

import math
from collections.abc import Callable

from libp2p.peer.id import ID
from libp2p.pubsub.score import PeerScorer, ScoreParams, TopicScoreParams

GRAYLIST = -200.0
_REMEMBERED = 1024  # bad peers that have left; the oldest goes first
_FORGIVEN = -1.0  # points: then a bad peer that has left is forgotten
_FORGOTTEN = 0.01  # of a penalty that decayed: a tenth of a point

WEIGHTS = ScoreParams(
    # P1, time in the mesh: off. The library counts entries into the mesh, so leaving and coming back would earn points.
    p1_time_in_mesh=TopicScoreParams(weight=0.0),
    # P2, first to deliver a message: at most 5 points, which prefers useful peers where a mesh is too large, and do not
    # pay for one invalid message. Halves in 7 s.
    p2_first_message_deliveries=TopicScoreParams(weight=0.1, cap=50, decay=0.9),
    # P3, deliveries that are missing from the mesh: off. It punishes the honest peer that is merely slow.
    p3_mesh_message_deliveries=TopicScoreParams(weight=0.0),
    # P4, invalid messages: an honest peer forwards none, since everybody's validator decides alike from the bytes
    # alone. One costs the place in the mesh, twenty within half a minute the ear. Halves in 23 s; 100 count.
    p4_invalid_messages=TopicScoreParams(weight=10.0, cap=100, decay=0.97),
    # P5, behaviour: a point for each message above the rate limit, ten for a GRAFT right after a PRUNE, five for IHAVE
    # or IWANT too often. The first hundred are free: a burst of a whole network passes through its honest members.
    # Decays to a half in 7 s, so 30 a second above the limit is the graylist, and 10 a second above it is nothing.
    p5_behavior_penalty_weight=1.0, p5_behavior_penalty_decay=0.9, p5_behavior_penalty_threshold=100.0,
    # P6 and P7 off: no opinion from above; and a laboratory, a demo or a router is one address with many peers. How
    # many connections one address may have is limited elsewhere.
    p6_appl_slack_weight=0.0, p7_ip_colocation_weight=0.0,
    gossip_threshold=-50.0, publish_threshold=-100.0, graylist_threshold=GRAYLIST,
    accept_px_threshold=math.inf,  # addresses from gossip are nobody's word
)  # fmt: skip


class Scorer(PeerScorer):
    """Remembers what speaks against a peer when it disconnects: stock, coming back wipes the slate clean.

    Only peers with something against them are computed; stock computes every peer's score for every message.
    """

    def __init__(self) -> None:
        super().__init__(WEIGHTS)
        self.on_offence: Callable[[ID, str], None] = lambda _peer, _what: None  # hears of each
        self._suspects: set[ID] = set()
        self._gone: dict[ID, None] = {}

    def total(self, peer: ID) -> float:
        """Over all topics it has to do with."""
        topics = {*self.first_message_deliveries.get(peer, ()), *self.invalid_messages.get(peer, ())}
        return self.score(peer, sorted(topics))

    def is_bad(self, peer: ID) -> bool:
        """Below zero."""
        return peer in self._suspects and self.total(peer) < 0

    def is_graylisted(self, peer: ID, topics: list[str]) -> bool:  # noqa: ARG002 - it is over all topics
        return peer in self._suspects and self.total(peer) < GRAYLIST

    def allow_publish(self, peer: ID, topics: list[str]) -> bool:
        return peer not in self._suspects or super().allow_publish(peer, topics)

    def allow_gossip(self, peer: ID, topics: list[str]) -> bool:
        return peer not in self._suspects or super().allow_gossip(peer, topics)

    # --- what speaks against a peer

    def _suspect(self, peer: ID, what: str) -> None:
        self._suspects.add(peer)
        self.on_offence(peer, what)

    def on_invalid_message(self, peer: ID, topic: str) -> None:
        self._suspect(peer, "passes on a message that is not valid")
        super().on_invalid_message(peer, topic)

    def penalize_behavior(self, peer: ID, amount: float = 1.0) -> None:
        self._suspect(peer, "sends more than its rate: dropped")
        super().penalize_behavior(peer, amount)

    def penalize_graft_flood(self, peer: ID, amount: float = 10.0) -> None:
        self._suspect(peer, "asks for a place in the mesh right after it lost it")
        super().penalize_graft_flood(peer, amount)

    def penalize_iwant_spam(self, peer: ID, amount: float = 5.0) -> None:
        self._suspect(peer, "asks for messages too often")
        super().penalize_iwant_spam(peer, amount)

    def penalize_ihave_spam(self, peer: ID, amount: float = 5.0) -> None:
        self._suspect(peer, "tells of messages too often")
        super().penalize_ihave_spam(peer, amount)

    # --- coming and going

    def add_peer(self, peer: ID) -> None:
        self._gone.pop(peer, None)

    def remove_peer(self, peer: ID) -> None:
        if not self.is_bad(peer):
            self._forget(peer)
            return
        self.first_message_deliveries.pop(peer, None)
        self._gone.pop(peer, None)
        self._gone[peer] = None
        if len(self._gone) > _REMEMBERED:
            self._forget(next(iter(self._gone)))

    def _forget(self, peer: ID) -> None:
        self._gone.pop(peer, None)
        self._suspects.discard(peer)
        super().remove_peer(peer)

    def on_join_mesh(self, peer: ID, topic: str) -> None:
        """P1 is off; stock's count of it never decays."""

    def on_heartbeat(self, dt_seconds: float = 1.0) -> None:
        super().on_heartbeat(dt_seconds)
        for peer in [peer for peer in self._gone if self.total(peer) > _FORGIVEN]:
            self._forget(peer)
        self._suspects = {peer for peer in self._suspects if self._has_penalty(peer)}
        self._drop_what_decayed()

    def _drop_what_decayed(self) -> None:
        """Stock keeps it until the peer leaves: for ever, where a last message is counted after that."""
        deliveries = (self.first_message_deliveries, self.mesh_message_deliveries)
        for counts in (*deliveries, self.invalid_messages, self.time_in_mesh):
            for peer in [peer for peer, row in counts.items() if max(row.values(), default=0.0) <= _FORGOTTEN]:
                del counts[peer]
        penalties = (self.behavior_penalty, self.graft_flood_penalties, self.iwant_spam_penalties)
        for table in (*penalties, self.ihave_spam_penalties, self.equivocation_penalties, self.app_specific_scores):
            for peer in [peer for peer, value in table.items() if value <= _FORGOTTEN]:
                del table[peer]

    def _has_penalty(self, peer: ID) -> bool:
        behavior = (self.behavior_penalty, self.graft_flood_penalties, self.iwant_spam_penalties)
        found = [table[peer] for table in (*behavior, self.ihave_spam_penalties) if peer in table]
        found += self.invalid_messages.get(peer, {}).values()
        return any(value > _FORGOTTEN for value in found)
