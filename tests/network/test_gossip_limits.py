"""What a peer can make gossip read, wait for, send, or dial: little."""

import logging
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
from gossip_support import (
    HELLO,
    TOPIC,
    accept,
    hear_attacker,
    listen,
    pubsub_of,
    rpc,
    signed,
    wait_for_topic,
    write_gossip,
)
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_varint_prefixed
from network_support import PATIENCE, QUICK, Inbox, in_trio, key, open_attacker, open_hosts, wait_until

from flock_chain.crypto import Account
from flock_peers.network.gossip_wire import OutQueue
from flock_peers.network.identity import peer_id_of


@in_trio()
async def test_subscriptions_are_bounded_in_number_and_length() -> None:
    async with open_hosts(1) as (a,):
        long_name = rpc(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid="x" * 10_000)])
        several = rpc(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=f"{n}") for n in range(100)])
        await hear_attacker(a, long_name + several)
        assert all(len(name) < 300 for name in pubsub_of(a).peer_topics)
        async with open_attacker(51, a) as link:
            crowd = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid=f"{number}") for number in range(5000)]
            await write_gossip(link, rpc(subscriptions=crowd))
            with trio.fail_after(PATIENCE):
                await link.closed.wait()


@in_trio()
async def test_who_subscribes_to_a_name_that_is_no_text_is_told_on(caplog: pytest.LogCaptureFixture) -> None:
    """Found by a fuzzer: it came out as an error of ours, for which nobody was to blame."""
    async with open_hosts(1) as (a,):
        with caplog.at_level(logging.INFO, "flock_peers.network"):
            async with open_attacker(51, a) as link:
                names = rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid="nope")])
                await write_gossip(
                    link, encode_varint_prefixed(names.SerializeToString().replace(b"nope", b"\xff\xfeXX"))
                )
                with trio.fail_after(PATIENCE):
                    await link.closed.wait()
        assert "not UTF-8" in caplog.text and "AttributeError" not in caplog.text
        assert a.counters.peers_misbehaved == 1


@in_trio()
async def test_who_asks_for_a_message_a_thousand_times_gets_it_once() -> None:
    async with open_hosts(1) as (a,):
        inbox = Inbox()
        await listen(a, inbox)
        a.publish(TOPIC, bytes(10_000))
        await wait_until(lambda: inbox.received)
        router, peer = pubsub_of(a).router, peer_id_of(key(50))
        queue = pubsub_of(a).peer_queues[peer] = OutQueue()
        (message_id,) = router.mcache.msgs
        await router.handle_iwant(rpc_pb2.ControlIWant(messageIDs=[message_id] * 1000), peer)
        assert len(queue) == 1
        for _ in range(100):
            await router.handle_iwant(rpc_pb2.ControlIWant(messageIDs=[message_id]), peer)
        assert len(queue) <= 5


@in_trio()
async def test_addresses_in_a_prune_are_not_dialed() -> None:
    async with open_hosts(1) as (a,):
        stranger = rpc_pb2.PeerInfo(peerID=peer_id_of(key(60)).to_bytes())
        control = rpc_pb2.ControlMessage(prune=[rpc_pb2.ControlPrune(topicID=TOPIC, peers=[stranger])])
        dialed: list[Any] = []

        async def dial(peer_id: Any, *_arguments: Any, **_options: Any) -> None:
            dialed.append(peer_id)

        assert a._stack is not None
        a._stack.swarm.dial_peer = dial
        await hear_attacker(a, rpc(control=control))
        assert not dialed
        with pytest.raises(Exception, match="not dialed"):
            await a._stack.host.connect(rpc_pb2.PeerInfo and type("Info", (), {"peer_id": "x"}))


@in_trio()
async def test_each_peer_is_sent_its_own_control_messages_only() -> None:
    """Stock adds what the peers before it were sent to whoever is grafted."""
    async with open_hosts(1) as (a,):
        router, peers = pubsub_of(a).router, [peer_id_of(key(number)) for number in (61, 62)]
        queues = [pubsub_of(a).peer_queues.setdefault(peer, OutQueue()) for peer in peers]
        one, other = peers
        await router._emit_control_msgs({one: ["x"], other: ["y"]}, {one: ["z"]}, {one: {"x": [b"id"]}})
        controls = []
        for queue in queues:
            batch = await queue.pop()
            assert batch is not None
            parsed = rpc_pb2.RPC()
            parsed.ParseFromString(batch[0][1:])
            controls.append(parsed.control)
        assert [graft.topicID for graft in controls[0].graft] == ["x"] and len(controls[0].prune) == 1
        assert [graft.topicID for graft in controls[1].graft] == ["y"]
        assert not controls[1].prune and not controls[1].ihave


@in_trio()
async def test_a_peer_that_leaves_and_returns_to_a_topic_is_replayed_to_once() -> None:
    async with open_hosts(2) as (a, b):
        inbox = Inbox()
        await listen(a, inbox)
        a.publish(TOPIC, b"recent")
        await wait_until(lambda: inbox.received)
        late = Inbox()
        b.subscribe(TOPIC, accept, late)
        await wait_until(lambda: late.payloads == [b"recent"])
        await wait_for_topic([a, b])
        pubsub, peer = pubsub_of(a), peer_id_of(key(2))
        sent: list[Any] = []
        pubsub.router._send_messages = lambda *arguments: sent.append(arguments)  # type: ignore[method-assign]
        for subscribe in [False, True] * 20:
            pubsub.handle_subscription(peer, rpc_pb2.RPC.SubOpts(subscribe=subscribe, topicid=TOPIC))
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert not sent


@in_trio()
async def test_only_two_streams_of_a_peer_are_read() -> None:
    async with open_hosts(1) as (a,):
        async with open_attacker(50, a) as link:
            for _ in range(10):
                await write_gossip(link, b"\xff\xff")  # the beginning of a length
            await wait_until(lambda: link.streams_in == 0)
            await trio.testing.wait_all_tasks_blocked(0.1)
            assert [len(streams) for streams in pubsub_of(a)._read_from.values()] == [2]
        await wait_until(lambda: not pubsub_of(a)._read_from)


@in_trio()
async def test_what_waits_for_our_own_handler_is_bounded_in_number_and_bytes() -> None:
    for size, most in ((1, 4_096), (1 << 20, 15)):  # 15 of 1 MiB, with what each costs beside it
        gate, inbox = trio.Event(), Inbox()

        async def wait(account: Account, payload: bytes, gate: trio.Event = gate, inbox: Inbox = inbox) -> None:
            await gate.wait()
            await inbox(account, payload)

        async with open_hosts(1) as (a,):
            a.subscribe(TOPIC, accept, wait)
            pubsub = pubsub_of(a)
            await wait_until(lambda pubsub=pubsub: TOPIC in pubsub.topic_ids)
            message = rpc_pb2.Message(data=bytes(size), topicIDs=[TOPIC], from_id=peer_id_of(key(50)).to_bytes())
            for _ in range(5_000):
                pubsub.notify_subscriptions(message)
            await trio.testing.wait_all_tasks_blocked(0.01)  # the handler has the first, and its place is free
            pubsub.notify_subscriptions(message)
            gate.set()
            await wait_until(lambda inbox=inbox, most=most: len(inbox.received) == most + 1)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(inbox.received) == most + 1 and pubsub._waiting_bytes == 0


@in_trio()
async def test_empty_rpcs_are_read_at_a_rate_and_hold_up_nobody() -> None:
    limits = replace(QUICK, gossip_byte_rate=4096.0 * 10, gossip_byte_burst=4096.0 * 100)
    async with open_hosts(2, limits) as (a, b):
        inbox = Inbox()
        a.subscribe(TOPIC, accept, inbox)
        b.subscribe(TOPIC, accept, Inbox())
        await wait_for_topic([a, b])
        async with open_attacker(50, a) as link:
            await write_gossip(link, HELLO + rpc() * 5_000 + rpc(publish=[signed(50, 1, b"behind them")]))
            b.publish(TOPIC, b"heard")
            await wait_until(lambda: b"heard" in inbox.payloads)
            await trio.sleep(0.5)
            assert inbox.payloads == [b"heard"]


@in_trio()
async def test_an_rpc_without_room_is_paid_for_names_its_peer_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = replace(QUICK, half_read_bytes_per_peer=64 << 10, gossip_byte_rate=1.0)
    async with open_hosts(1, limits) as (host,):
        with caplog.at_level(logging.INFO, "flock_peers.network.complaints"):
            inbox = await hear_attacker(host, rpc(publish=[signed(50, 1, bytes(200_000))]))
        assert inbox.payloads == [b"after"] and host._room.total == 0
        assert key(50).account.hex() in caplog.text and "one peer has at most 64 KiB" in caplog.text
        left = host._table.buckets_of(key(50).account).gossip_bytes._tokens
        assert left < limits.gossip_byte_burst - 200_000
