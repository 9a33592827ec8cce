"""What gossip keeps of what it hears: within bounds, for a time, and nothing that a peer makes up."""

import pytest
import trio
import trio.testing
from gossip_support import HELLO, TOPIC, hear_attacker, listen, pubsub_of, rpc, signed, write_gossip
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_varint_prefixed
from network_support import PATIENCE, Inbox, in_trio, key, open_attacker, open_hosts, wait_until

from flock_peers.network.gossip_memory import Cache, SeenIds
from flock_peers.network.identity import peer_id_of


@in_trio()
async def test_topics_that_a_peer_invents_are_not_remembered() -> None:
    async with open_hosts(1) as (a,):
        names = [f"invented {number}" for number in range(100)]
        control = rpc_pb2.ControlMessage(
            prune=[rpc_pb2.ControlPrune(topicID=name, backoff=1 << 40) for name in names],
            graft=[rpc_pb2.ControlGraft(topicID=name) for name in names],
            ihave=[rpc_pb2.ControlIHave(topicID=name, messageIDs=[b"x"]) for name in names],
        )
        many = rpc_pb2.Message(data=b"x", topicIDs=[TOPIC, *names], from_id=b"x", seqno=b"x")
        await hear_attacker(a, rpc(control=control) + rpc(publish=[many]))
        router = pubsub_of(a).router
        assert not router.back_off and not router.ihave_message_limits and not router.graft_flood_tracking
        assert {topic for row in router.scorer.invalid_messages.values() for topic in row} <= {TOPIC}
        assert set(router.mesh) == {TOPIC}


@in_trio()
async def test_nothing_is_kept_of_a_message_beyond_its_seconds_in_the_cache() -> None:
    """Stock keeps the time of every delivery for ever, and up to a thousand whole messages."""
    async with open_hosts(1) as (a,):
        inbox = Inbox()
        await listen(a, inbox)
        for number in range(50):
            a.publish(TOPIC, b"%d" % number)
        await wait_until(lambda: len(inbox.received) == 50)
        router = pubsub_of(a).router
        assert not router.recent_message_deliveries and not router.equivocation_detection
        assert not router._pending_messages and len(router.mcache.msgs) == 50


_FORMS = [("seqno", 9), ("seqno", 0), ("seqno", 100_000), ("key", 65), ("from_id", 65), ("signature", 129)]


@pytest.mark.parametrize(("field", "size"), _FORMS)
@in_trio()
async def test_a_message_of_another_form_ends_the_connection_and_nothing_of_it_is_kept(field: str, size: int) -> None:
    async with open_hosts(1) as (a,):
        await listen(a, Inbox())
        message = signed(50, 1, b"x")
        setattr(message, field, bytes(size))
        async with open_attacker(50, a) as link:
            await write_gossip(link, HELLO + rpc(publish=[message]))
            with trio.fail_after(PATIENCE):
                await link.closed.wait()
        assert not len(pubsub_of(a).seen_messages) and not pubsub_of(a).router.mcache.msgs


@in_trio()
async def test_fields_that_we_do_not_know_are_neither_kept_nor_forwarded() -> None:
    """No signature covers them: whoever forwards a message could make it a megabyte."""
    async with open_hosts(1) as (a,):
        message = rpc_pb2.Message()
        padding = b"\xfa\x07" + encode_varint_prefixed(bytes(100_000))  # field 127
        message.ParseFromString(signed(50, 1, b"padded").SerializeToString() + padding)
        assert message.ByteSize() > 100_000
        inbox = await hear_attacker(a, rpc(publish=[message]))
        assert inbox.payloads == [b"padded", b"after"]
        assert all(row.ByteSize() < 1_000 for row in pubsub_of(a).router.mcache.msgs.values())


@in_trio()
async def test_topics_that_a_peer_leaves_again_are_not_remembered() -> None:
    async with open_hosts(1) as (a,):
        names = [f"{number}" for number in range(20)]
        in_and_out = [rpc_pb2.RPC.SubOpts(subscribe=is_in, topicid=name) for name in names for is_in in (True, False)]
        inbox = Inbox()
        await listen(a, inbox)
        async with open_attacker(50, a) as link:
            await write_gossip(link, HELLO + rpc(subscriptions=in_and_out))
            await write_gossip(link, rpc(publish=[signed(50, 1, b"x")]))
            await wait_until(lambda: inbox.received)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert set(pubsub_of(a).peer_topics) <= {TOPIC}
        replayed = pubsub_of(a)._replayed_recent_topics
        other = peer_id_of(key(51))
        for topic in (TOPIC, "invented"):  # as after a replay to one who took our stream
            replayed.setdefault(other, set()).add(topic)
            pubsub_of(a)._forget_subscription(other, topic)
        assert replayed == {other: {TOPIC}}


@in_trio()
async def test_nothing_is_kept_of_a_peer_that_never_took_our_stream_and_left() -> None:
    """Stock forgets the score of those alone to whom it could open a stream of its own."""
    async with open_hosts(1) as (a,):
        await hear_attacker(a, rpc(publish=[signed(50, 1, b"x")]) + rpc(subscriptions=[rpc_pb2.RPC.SubOpts()] * 2))
        await wait_until(lambda: not a._stack.links)  # type: ignore[union-attr]
        await trio.testing.wait_all_tasks_blocked(0.05)
        scorer = pubsub_of(a).router.scorer
        assert not scorer.first_message_deliveries and not scorer._suspects and not scorer.behavior_penalty
        assert not pubsub_of(a).peer_topics and not pubsub_of(a).peer_queues


def test_ids_are_seen_for_two_minutes_are_not_renewed_and_are_bounded() -> None:
    now = [0.0]
    seen = SeenIds(lambda: now[0], most=100)
    assert seen.add(b"a") and not seen.add(b"a") and seen.has(b"a")
    now[0] = 119.0
    assert seen.has(b"a") and not seen.add(b"a")
    now[0] = 120.0
    assert not seen.has(b"a") and len(seen) == 0
    for number in range(150):
        assert seen.add(b"%d" % number)
    assert len(seen) == 100 and not seen.has(b"49") and seen.has(b"50")


def test_the_messages_that_can_be_asked_for_are_bounded_in_bytes_and_time() -> None:
    cache = Cache(2, 3, most_bytes=10_000)
    rows = [rpc_pb2.Message(data=bytes(1_000), from_id=b"a", seqno=bytes([number])) for number in range(20)]
    for row in [*rows, *rows]:
        cache.put(row)
    assert len(cache.msgs) == 6 and cache.get(rows[0].from_id + rows[0].seqno) is rows[0]
    for _ in range(3):
        cache.shift()
    assert not cache.msgs and cache._bytes == 0
    cache.put(rows[19])
    assert len(cache.msgs) == 1
