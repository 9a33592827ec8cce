"""Target: RPCs of gossip, read as a neighbour sends them."""

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import trio
from fuzz_mutators import behind, mutate_bytes
from fuzz_streams import ScriptedStream, make_link, split_pieces
from fuzz_target import Target, in_trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_varint_prefixed

from flock_chain.crypto import Key
from flock_chain.errors import InvalidRemote, Unavailable
from flock_peers.network.frame_room import FrameRoom
from flock_peers.network.gossip import Gossip, Topic
from flock_peers.network.identity import key_pair_of, peer_id_of
from flock_peers.network.limits import Limits, TokenBucket
from flock_peers.network.peer_table import Buckets
from flock_peers.network.stack import Stack

_KEY, _OTHER = Key(b"\x07" * 32), Key(b"\x08" * 32)
_BROKEN = (InvalidRemote, Unavailable)
_mutate_behind_piece = behind(1, mutate_bytes)


# ---- gossip


def _make_gossip() -> Any:
    async def handle(_author: Any, _payload: bytes) -> None:
        return None

    async def on_link(_link: Any) -> None:
        return None

    stack = Stack(_KEY, Limits(), announce=[], protocols={}, open_protocols=frozenset(), on_link=on_link)
    buckets = Buckets(*[TokenBucket(1.0, 1e18, lambda: 0.0) for _ in fields(Buckets)])
    topics = {"t": Topic(lambda _author, _payload: True, handle)}

    def nobody(*_arguments: object) -> None:
        return None

    room = FrameRoom(Limits(), lambda _account: False, nobody)
    gossip = Gossip(stack, topics, lambda _account: buckets, nobody, room, nobody)
    pubsub = gossip._pubsub
    pubsub.subscribed_topics_send["t"], pubsub.subscribed_topics_receive["t"] = trio.open_memory_channel(1)
    gossip._pubsub.router.mesh["t"] = set()
    return gossip


_GOSSIP: list[Any] = []


def _run_gossip(data: bytes) -> None:
    async def script() -> None:
        if not _GOSSIP:
            _GOSSIP.append(_make_gossip())
        pubsub = _GOSSIP[0]._pubsub
        pubsub._handle_dead_peer = lambda _peer: None
        pubsub._manager = SimpleNamespace(is_running=True, run_task=lambda *_args, name=None: None)  # noqa: ARG005
        piece, rest = split_pieces(data)
        stream = ScriptedStream(rest, piece)
        stream.muxed_stream = stream
        stream.muxed_conn = SimpleNamespace(peer_id=peer_id_of(_OTHER), link=make_link())
        await pubsub.continuously_read_stream(stream)

    in_trio(script)


def _gossip_seeds() -> list[bytes]:
    pair = key_pair_of(_OTHER)
    message = rpc_pb2.Message(data=b"hi", topicIDs=["t"], from_id=peer_id_of(_OTHER).to_bytes(), seqno=bytes(8))
    message.signature = pair.private_key.sign(b"libp2p-pubsub:" + message.SerializeToString())
    message.key = pair.public_key.serialize()
    control = rpc_pb2.ControlMessage(
        graft=[rpc_pb2.ControlGraft(topicID="t")], prune=[rpc_pb2.ControlPrune(topicID="t")],
        ihave=[rpc_pb2.ControlIHave(topicID="t", messageIDs=[b"x"])],
        iwant=[rpc_pb2.ControlIWant(messageIDs=[b"x"])],
    )  # fmt: skip
    subscriptions = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid="t"), rpc_pb2.RPC.SubOpts(subscribe=False)]
    rows = [rpc_pb2.RPC(publish=[message]), rpc_pb2.RPC(control=control), rpc_pb2.RPC(subscriptions=subscriptions)]
    odd = rows[2].SerializeToString().replace(b"t", b"\x80")  # a finding
    return [b"\0" + encode_varint_prefixed(row) for row in [*(row.SerializeToString() for row in rows), odd]]


def targets() -> list[Target]:
    libp2p = (BaseLibp2pError,)
    return [
        Target("gossip", _run_gossip, _gossip_seeds, _mutate_behind_piece, (*libp2p, *_BROKEN)),
    ]  # fmt: skip
