"""Gossip that a test writes by hand: signed messages, RPCs, and a stream to put them on."""

from typing import Any

from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_varint_prefixed
from network_support import Inbox, key, open_attacker, wait_until

from flock_chain.crypto import Account
from flock_peers.network.gossip_pubsub import GossipPubsub
from flock_peers.network.host import Host
from flock_peers.network.identity import key_pair_of, peer_id_of
from flock_peers.network.link import Link

TOPIC = "flock-test"


def rpc(**fields: Any) -> bytes:
    return encode_varint_prefixed(rpc_pb2.RPC(**fields).SerializeToString())


def signed(number: int, seqno: int, data: bytes) -> Any:
    pair = key_pair_of(key(number))
    message = rpc_pb2.Message(
        data=data, topicIDs=[TOPIC], from_id=peer_id_of(key(number)).to_bytes(), seqno=seqno.to_bytes(8, "big")
    )
    message.signature = pair.private_key.sign(b"libp2p-pubsub:" + message.SerializeToString())
    message.key = pair.public_key.serialize()
    return message


async def write_gossip(link: Link, data: bytes) -> None:
    net_stream = await link.open_net_stream(str(PROTOCOL_ID_V11))
    await net_stream.write(data)


def accept(_account: Account, _payload: bytes) -> bool:
    return True


async def wait_for_topic(hosts: list[Host]) -> None:
    await wait_until(lambda: all(len(host.topic_peers(TOPIC)) >= len(hosts) - 1 for host in hosts))


HELLO = rpc(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC)])


def pubsub_of(host: Host) -> GossipPubsub:
    assert host._gossip is not None
    return host._gossip._pubsub


async def listen(host: Host, inbox: Inbox) -> None:
    host.subscribe(TOPIC, accept, inbox)
    await wait_until(lambda: TOPIC in pubsub_of(host).topic_ids)


async def hear_attacker(host: Host, data: bytes) -> Inbox:
    """An attacker sends it; returns once a message that it sent after it has arrived."""
    inbox = Inbox()
    host.subscribe(TOPIC, accept, inbox)
    async with open_attacker(50, host) as link:
        await write_gossip(link, HELLO + data + rpc(publish=[signed(50, 1 << 40, b"after")]))
        await wait_until(lambda: b"after" in inbox.payloads)
    return inbox
