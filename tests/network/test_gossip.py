"""Gossip reaches everybody, and neither garbage nor a bug in a validator ends it."""

import logging
import os
from types import SimpleNamespace

import pytest
import trio
import trio.testing
from gossip_support import HELLO, TOPIC, accept, pubsub_of, rpc, signed, wait_for_topic, write_gossip
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_varint_prefixed
from network_support import PATIENCE, Inbox, in_trio, is_healthy, key, open_attacker, open_hosts, wait_until

from flock_chain.crypto import Account
from flock_chain.errors import InvalidEncoding
from flock_peers.network.identity import peer_id_of
from flock_peers.network.limits import Limits


@in_trio()
async def test_a_message_reaches_every_subscriber_once_with_its_author() -> None:
    async with open_hosts(5) as hosts:
        inboxes = [Inbox() for _ in hosts]
        for host, inbox in zip(hosts, inboxes, strict=True):
            host.subscribe(TOPIC, accept, inbox)
        await wait_for_topic(hosts)
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
        b.subscribe(TOPIC, accept, Inbox())
        await wait_for_topic([a, b])
        for payload in (b"bad", b"raise", b"good"):
            b.publish(TOPIC, payload)
        await wait_until(lambda: inbox.received)
        assert inbox.payloads == [b"good"]
        assert a.counters.restarts == 0


_ATTACKS = {
    "random bytes": encode_varint_prefixed(os.urandom(300)),
    "no length": b"\xff" * 64,
    "huge length": b"\xff\xff\xff\xff\x0f" + b"x" * 100,
    "junk key": rpc(publish=[rpc_pb2.Message(
        data=b"x", topicIDs=[TOPIC], from_id=b"\x12\x20" + b"i" * 32, seqno=b"1" * 8, signature=b"zz", key=b"\xff")]),
    "empty author": rpc(publish=[rpc_pb2.Message(data=b"x", topicIDs=[TOPIC], from_id=b"", signature=b"z", key=b"")]),
    "odd control": HELLO + rpc(control=rpc_pb2.ControlMessage(
        graft=[rpc_pb2.ControlGraft(topicID="nope")], prune=[rpc_pb2.ControlPrune(topicID="nope")],
        ihave=[rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=[b"\xff\xfe"])],
        iwant=[rpc_pb2.ControlIWant(messageIDs=[b"zz"])])),
}  # fmt: skip


@pytest.mark.parametrize("attack", _ATTACKS)
@in_trio()
async def test_garbage_on_gossip_does_not_end_it(attack: str) -> None:
    async with open_hosts(2) as (a, b):
        inbox = Inbox()
        a.subscribe(TOPIC, accept, inbox)
        b.subscribe(TOPIC, accept, Inbox())
        await wait_for_topic([a, b])
        async with open_attacker(50, a) as link:
            await write_gossip(link, _ATTACKS[attack])
            async with open_attacker(51, a) as second:  # its good message comes after the garbage was read
                await write_gossip(second, HELLO + rpc(publish=[signed(51, 1, b"after")]))
                await wait_until(lambda: b"after" in inbox.payloads)
        b.publish(TOPIC, b"still here")
        await wait_until(lambda: b"still here" in inbox.payloads)
        assert a.counters.restarts == 0
        assert await is_healthy(a)


@in_trio()
async def test_who_forwards_a_forged_author_is_banned_and_not_believed() -> None:
    async with open_hosts(2) as (a, b):
        inbox = Inbox()
        a.subscribe(TOPIC, accept, inbox)
        b.subscribe(TOPIC, accept, Inbox())
        await wait_for_topic([a, b])
        forged = signed(50, 1, b"forged")
        forged.from_id = peer_id_of(key(2)).to_bytes()
        async with open_attacker(50, a) as link:
            await write_gossip(link, HELLO + rpc(publish=[signed(50, 2, b"own name")]) + rpc(publish=[forged]))
            with trio.fail_after(PATIENCE):
                await link.closed.wait()
        await wait_until(lambda: inbox.received)
        assert inbox.received == [(key(50).account, b"own name")]
        assert a._table.ban_left(key(50).account) > 500 and not a._table.ban_left(key(2).account)


@in_trio()
async def test_a_flood_is_cut_at_the_rate_of_its_forwarder_and_the_others_are_heard() -> None:
    # One of the burst is the subscription.
    async with open_hosts(2, Limits(gossip_rate=1, gossip_burst=21)) as (a, b):
        inbox = Inbox()
        a.subscribe(TOPIC, accept, inbox)
        b.subscribe(TOPIC, accept, Inbox())
        await wait_for_topic([a, b])
        async with open_attacker(50, a) as link:
            flood = b"".join(rpc(publish=[signed(50, number, b"flood")]) for number in range(1, 201))
            await write_gossip(link, HELLO + flood)
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
        a.subscribe(TOPIC, accept, inbox)
        b.subscribe(TOPIC, accept, Inbox())
        await wait_for_topic([a, b])
        message = rpc_pb2.Message(data=b"x", topicIDs=[TOPIC], from_id=b"i", seqno=b"1")
        async with open_attacker(50, a) as link:
            await write_gossip(link, HELLO + rpc(publish=[message] * 15_000))
            b.publish(TOPIC, b"heard")
            with trio.fail_after(PATIENCE):
                await wait_until(lambda: b"heard" in inbox.payloads)
        assert a.counters.restarts == 0


@in_trio()
async def test_what_breaks_the_form_of_gossip_is_named_by_account(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with open_hosts(1) as (a,), open_attacker(50, a) as link:
            await write_gossip(link, encode_varint_prefixed(b"\x1a\xff\xff"))
            with trio.move_on_after(5):
                await link.closed.wait()
    assert any(
        key(50).account.hex() in line for line in caplog.messages if "gossip: an RPC that is no protobuf" in line
    )


@in_trio()
async def test_messages_that_are_not_valid_fill_no_log_and_who_passes_them_on_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A line for each, without a rate: 21 of them of each identity."""

    def refuse(_account: Account, _payload: bytes) -> bool:
        raise InvalidEncoding("no such thing")

    async with open_hosts(1) as (a,):
        a.subscribe(TOPIC, refuse, Inbox())
        await trio.testing.wait_all_tasks_blocked(0.05)
        with caplog.at_level(logging.INFO):
            for number in range(10):
                await pubsub_of(a).push_msg(peer_id_of(key(50)), signed(51, number, b"x"))
    lines = [line for line in caplog.messages if "no such thing" in line or key(51).account.hex() in line]
    assert len(lines) == 1 and key(50).account.hex() in lines[0]


class _Untold(SimpleNamespace):
    def __str__(self) -> str:
        raise AssertionError("written out as text")

    __repr__ = __format__ = __str__  # type: ignore[assignment]


@in_trio()
async def test_a_message_that_is_not_valid_is_never_written_out_and_costs_each_time() -> None:
    """An attack found it: stock writes each into the text of an error, 0.3 s for one of 1 MiB, on the only loop."""
    seen: list[bytes] = []

    def refuse(_account: Account, payload: bytes) -> bool:
        seen.append(payload)
        return False

    async with open_hosts(1) as (a,):
        a.subscribe(TOPIC, refuse, Inbox())
        await trio.testing.wait_all_tasks_blocked(0.05)
        forwarder, message = peer_id_of(key(50)), signed(50, 1, b"large")
        untold = _Untold(
            topicIDs=[TOPIC], from_id=message.from_id, seqno=message.seqno, data=message.data,
            signature=message.signature, key=message.key,
        )  # fmt: skip
        pubsub = pubsub_of(a)
        for _ in range(3):
            await pubsub.push_msg(forwarder, untold)
        assert seen == [b"large"] * 3 and pubsub.router.scorer.total(forwarder) == -30
        while not pubsub.router.is_deaf_to(forwarder):
            await pubsub.push_msg(forwarder, untold)
        assert len(seen) == 21  # it has no more than so many chances


@in_trio()
async def test_nobody_is_punished_for_the_good_one_of_two_messages_with_one_number() -> None:
    """Were a verdict remembered by author and number, an author could have honest forwarders pruned."""

    def is_good(_account: Account, payload: bytes) -> bool:
        return payload == b"good"

    async with open_hosts(1) as (a,):
        inbox = Inbox()
        a.subscribe(TOPIC, is_good, inbox)
        await trio.testing.wait_all_tasks_blocked(0.05)
        pubsub, liar, honest = pubsub_of(a), peer_id_of(key(50)), peer_id_of(key(51))
        await pubsub.push_msg(liar, signed(50, 1, b"bad"))
        await pubsub.push_msg(honest, signed(50, 1, b"good"))
        await wait_until(lambda: inbox.payloads == [b"good"])
        assert pubsub.router.scorer.total(liar) < 0 < pubsub.router.scorer.total(honest)
