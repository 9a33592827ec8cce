"""Gossip reaches everybody, and neither garbage nor a bug in a validator ends it."""

import logging
import os
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from libp2p.exceptions import ValidationError
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.score import PeerScorer
from libp2p.utils import encode_varint_prefixed
from network_support import Inbox, in_trio, is_healthy, key, open_attacker, open_hosts, wait_until

from flock_chain.crypto import Account
from flock_peers.network.gossip import _SCORES, Inflow
from flock_peers.network.host import Host
from flock_peers.network.identity import key_pair_of, peer_id_of
from flock_peers.network.limits import Limits
from flock_peers.network.link import Link

TOPIC = "flock-test"


def _accept(_account: Account, _payload: bytes) -> bool:
    return True


async def _wait_for_topic(hosts: list[Host]) -> None:
    await wait_until(lambda: all(len(host.topic_peers(TOPIC)) >= len(hosts) - 1 for host in hosts))


@in_trio(30)
async def test_a_message_reaches_every_subscriber_once_with_its_author() -> None:
    async with open_hosts(5) as hosts:
        inboxes = [Inbox() for _ in hosts]
        for host, inbox in zip(hosts, inboxes, strict=True):
            host.subscribe(TOPIC, _accept, inbox)
        await _wait_for_topic(hosts)
        for number in range(40):  # more than stock spam protection lets through
            assert hosts[number % 5].publish(TOPIC, b"%d" % number)
        await wait_until(lambda: all(len(inbox.received) == 40 for inbox in inboxes))
        expected = sorted((hosts[number % 5].account, b"%d" % number) for number in range(40))
        assert all(sorted(inbox.received) == expected for inbox in inboxes)


@in_trio()
async def test_an_invalid_message_goes_nowhere_and_a_raising_validator_is_contained() -> None:
    def validate(_account: Account, payload: bytes) -> bool:
        if payload == b"raise":
            raise ZeroDivisionError("a bug in the validator")
        return payload != b"bad"

    async with open_hosts(2) as (a, b):
        inbox = Inbox()
        a.subscribe(TOPIC, validate, inbox)
        b.subscribe(TOPIC, _accept, Inbox())
        await _wait_for_topic([a, b])
        for payload in (b"bad", b"raise", b"good"):
            b.publish(TOPIC, payload)
        await wait_until(lambda: inbox.received)
        assert inbox.payloads == [b"good"]
        assert a.counters.restarts == 0


def _rpc(**fields: Any) -> bytes:
    return encode_varint_prefixed(rpc_pb2.RPC(**fields).SerializeToString())


def _signed(number: int, seqno: int, data: bytes) -> Any:
    pair = key_pair_of(key(number))
    message = rpc_pb2.Message(
        data=data, topicIDs=[TOPIC], from_id=peer_id_of(key(number)).to_bytes(), seqno=seqno.to_bytes(8, "big")
    )
    message.signature = pair.private_key.sign(b"libp2p-pubsub:" + message.SerializeToString())
    message.key = pair.public_key.serialize()
    return message


async def _write_gossip(link: Link, data: bytes) -> None:
    net_stream = await link.open_net_stream(str(PROTOCOL_ID_V11))
    await net_stream.write(data)


_HELLO = _rpc(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC)])
_ATTACKS = {
    "random bytes": encode_varint_prefixed(os.urandom(300)),
    "no length": b"\xff" * 64,
    "huge length": b"\xff\xff\xff\xff\x0f" + b"x" * 100,
    "junk key": _rpc(publish=[rpc_pb2.Message(
        data=b"x", topicIDs=[TOPIC], from_id=b"\x12\x20" + b"i" * 32, seqno=b"1" * 8, signature=b"zz", key=b"\xff")]),
    "empty author": _rpc(publish=[rpc_pb2.Message(data=b"x", topicIDs=[TOPIC], from_id=b"", signature=b"z", key=b"")]),
    "odd control": _HELLO + _rpc(control=rpc_pb2.ControlMessage(
        graft=[rpc_pb2.ControlGraft(topicID="nope")], prune=[rpc_pb2.ControlPrune(topicID="nope")],
        ihave=[rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=[b"\xff\xfe"])],
        iwant=[rpc_pb2.ControlIWant(messageIDs=[b"zz"])])),
}  # fmt: skip


@pytest.mark.parametrize("attack", _ATTACKS)
@in_trio()
async def test_garbage_on_gossip_does_not_end_it(attack: str) -> None:
    async with open_hosts(2) as (a, b):
        inbox = Inbox()
        a.subscribe(TOPIC, _accept, inbox)
        b.subscribe(TOPIC, _accept, Inbox())
        await _wait_for_topic([a, b])
        async with open_attacker(50, a) as link:
            await _write_gossip(link, _ATTACKS[attack])
            async with open_attacker(51, a) as second:  # its good message comes after the garbage was read
                await _write_gossip(second, _HELLO + _rpc(publish=[_signed(51, 1, b"after")]))
                await wait_until(lambda: b"after" in inbox.payloads)
        b.publish(TOPIC, b"still here")
        await wait_until(lambda: b"still here" in inbox.payloads)
        assert a.counters.restarts == 0
        assert await is_healthy(a)


@in_trio()
async def test_a_forged_author_is_not_believed() -> None:
    async with open_hosts(2) as (a, b):
        inbox = Inbox()
        a.subscribe(TOPIC, _accept, inbox)
        b.subscribe(TOPIC, _accept, Inbox())
        await _wait_for_topic([a, b])
        forged = _signed(50, 1, b"forged")
        forged.from_id = peer_id_of(key(2)).to_bytes()
        async with open_attacker(50, a) as link:
            await _write_gossip(link, _HELLO + _rpc(publish=[forged]) + _rpc(publish=[_signed(50, 2, b"own name")]))
            await wait_until(lambda: inbox.received)
        assert inbox.received == [(key(50).account, b"own name")]


@in_trio()
async def test_a_flood_is_cut_at_the_rate_of_its_forwarder_and_the_others_are_heard() -> None:
    async with open_hosts(2, Limits(gossip_rate=1, gossip_burst=20)) as (a, b):
        inbox = Inbox()
        a.subscribe(TOPIC, _accept, inbox)
        b.subscribe(TOPIC, _accept, Inbox())
        await _wait_for_topic([a, b])
        async with open_attacker(50, a) as link:
            flood = b"".join(_rpc(publish=[_signed(50, number, b"flood")]) for number in range(1, 201))
            await _write_gossip(link, _HELLO + flood)
            await wait_until(lambda: len(inbox.received) >= 20)
            b.publish(TOPIC, b"heard")
            await wait_until(lambda: b"heard" in inbox.payloads)
            await trio.testing.wait_all_tasks_blocked(0.2)
        assert inbox.payloads.count(b"flood") < 30


@in_trio()
async def test_a_packet_of_thousands_of_messages_stops_nobody() -> None:
    """An attack found it: stock makes a task of each at once, at a cost that grows with their number squared."""
    async with open_hosts(2) as (a, b):
        inbox = Inbox()
        a.subscribe(TOPIC, _accept, inbox)
        b.subscribe(TOPIC, _accept, Inbox())
        await _wait_for_topic([a, b])
        message = rpc_pb2.Message(data=b"x", topicIDs=[TOPIC], from_id=b"i", seqno=b"1")
        async with open_attacker(50, a) as link:
            await _write_gossip(link, _HELLO + _rpc(publish=[message] * 4_000))
            b.publish(TOPIC, b"heard")
            with trio.fail_after(5):
                await wait_until(lambda: b"heard" in inbox.payloads)
        assert a.counters.restarts == 0


@in_trio()
async def test_what_breaks_the_form_of_gossip_is_named_by_account(caplog: pytest.LogCaptureFixture) -> None:
    control = rpc_pb2.ControlMessage(graft=[rpc_pb2.ControlGraft(topicID="nope")]).SerializeToString()
    odd = control.replace(b"nope", b"\xff\xfe\xfd\xfc")
    with caplog.at_level(logging.INFO):
        async with open_hosts(1) as (a,), open_attacker(50, a) as link:
            await _write_gossip(link, encode_varint_prefixed(b"\x1a" + bytes([len(odd)]) + odd))
            await wait_until(lambda: "gossip: UnicodeDecodeError" in caplog.text)
    assert any(key(50).account.hex() in line for line in caplog.messages if "UnicodeDecodeError" in line)


class _Untold(SimpleNamespace):
    def __str__(self) -> str:
        raise AssertionError("written out as text")

    __repr__ = __format__ = __str__  # type: ignore[assignment]


@in_trio()
async def test_a_message_that_is_not_valid_is_never_written_out() -> None:
    """An attack found it: stock writes each into the text of an error, 0.3 s for one of 1 MiB, on the only loop."""
    seen: list[bytes] = []

    def refuse(_account: Account, payload: bytes) -> bool:
        seen.append(payload)
        return False

    async with open_hosts(1) as (a,):
        a.subscribe(TOPIC, refuse, Inbox())
        await trio.testing.wait_all_tasks_blocked(0.05)
        forwarder = peer_id_of(key(50))
        message = _Untold(topicIDs=[TOPIC], from_id=forwarder.to_bytes(), seqno=b"1", data=b"large")
        assert a._gossip is not None
        for _ in range(3):
            with pytest.raises(ValidationError):
                await a._gossip._pubsub.validate_msg(forwarder, message)
        assert seen == [b"large"]  # asked once, remembered then


@in_trio()
async def test_what_waits_to_be_looked_at_is_bounded_in_number_in_bytes_and_by_its_forwarders_rate() -> None:
    forwarder, small, large = peer_id_of(key(50)), SimpleNamespace(data=b"x"), SimpleNamespace(data=bytes(1 << 20))
    for message, most in ((small, 4_096), (large, 16)):
        inflow = Inflow(lambda _forwarder: True)
        for _ in range(5_000):
            inflow.put(forwarder, message)
        taken = 0
        with trio.move_on_after(0.5):
            while True:
                assert await inflow.take() == (forwarder, message)
                taken += 1
        assert taken == most
    refused = Inflow(lambda _forwarder: False)
    refused.put(forwarder, small)
    with trio.move_on_after(0.05) as scope:
        await refused.take()
    assert scope.cancelled_caught


def test_messages_that_are_not_valid_cost_their_forwarder_its_score() -> None:
    scorer, peer = PeerScorer(_SCORES), peer_id_of(key(1))
    for _ in range(10):
        scorer.on_invalid_message(peer, TOPIC)
    assert scorer.score(peer, [TOPIC]) == -10
    for _ in range(400):
        scorer.on_invalid_message(peer, TOPIC)
    assert scorer.is_graylisted(peer, [TOPIC])
