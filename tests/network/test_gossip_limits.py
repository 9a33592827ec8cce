"""What a peer can make gossip keep, send, or dial: little."""

import logging
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
from google.protobuf.message import DecodeError
from gossip_support import HELLO, TOPIC, accept, rpc, signed, wait_for_topic, write_gossip
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.pubsub.pb import rpc_pb2
from libp2p.stream_muxer.exceptions import MuxedStreamEOF
from libp2p.utils import encode_varint_prefixed
from network_support import PATIENCE, QUICK, Inbox, in_trio, key, open_attacker, open_hosts, wait_until

from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote
from flock_peers.network.frame_room import FrameRoom
from flock_peers.network.gossip_memory import Cache, SeenIds
from flock_peers.network.gossip_pubsub import GossipPubsub
from flock_peers.network.gossip_wire import MAX_CONTROL_BYTES, MAX_PARTS, OutQueue, RpcReader, encode_rpc, parse_rpc
from flock_peers.network.host import Host
from flock_peers.network.identity import peer_id_of
from flock_peers.network.limits import Limits


def _pubsub(host: Host) -> GossipPubsub:
    assert host._gossip is not None
    return host._gossip._pubsub


async def _subscribe(host: Host, inbox: Inbox) -> None:
    host.subscribe(TOPIC, accept, inbox)
    await wait_until(lambda: TOPIC in _pubsub(host).topic_ids)


async def _after(host: Host, data: bytes) -> Inbox:
    """An attacker sends it; returns once a message that it sent after it has arrived."""
    inbox = Inbox()
    host.subscribe(TOPIC, accept, inbox)
    async with open_attacker(50, host) as link:
        await write_gossip(link, HELLO + data + rpc(publish=[signed(50, 1 << 40, b"after")]))
        await wait_until(lambda: b"after" in inbox.payloads)
    return inbox


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
        await _after(a, rpc(control=control) + rpc(publish=[many]))
        router = _pubsub(a).router
        assert not router.back_off and not router.ihave_message_limits and not router.graft_flood_tracking
        assert {topic for row in router.scorer.invalid_messages.values() for topic in row} <= {TOPIC}
        assert set(router.mesh) == {TOPIC}


@in_trio()
async def test_subscriptions_are_bounded_in_number_and_length() -> None:
    async with open_hosts(1) as (a,):
        long_name = rpc(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid="x" * 10_000)])
        several = rpc(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=f"{n}") for n in range(100)])
        await _after(a, long_name + several)
        assert all(len(name) < 300 for name in _pubsub(a).peer_topics)
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
        await _subscribe(a, inbox)
        a.publish(TOPIC, bytes(10_000))
        await wait_until(lambda: inbox.received)
        router, peer = _pubsub(a).router, peer_id_of(key(50))
        queue = _pubsub(a).peer_queues[peer] = OutQueue()
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
        await _after(a, rpc(control=control))
        assert not dialed
        with pytest.raises(Exception, match="not dialed"):
            await a._stack.host.connect(rpc_pb2.PeerInfo and type("Info", (), {"peer_id": "x"}))


@in_trio()
async def test_nothing_is_kept_of_a_message_beyond_its_seconds_in_the_cache() -> None:
    """Stock keeps the time of every delivery for ever, and up to a thousand whole messages."""
    async with open_hosts(1) as (a,):
        inbox = Inbox()
        await _subscribe(a, inbox)
        for number in range(50):
            a.publish(TOPIC, b"%d" % number)
        await wait_until(lambda: len(inbox.received) == 50)
        router = _pubsub(a).router
        assert not router.recent_message_deliveries and not router.equivocation_detection
        assert not router._pending_messages and len(router.mcache.msgs) == 50


@in_trio()
async def test_each_peer_is_sent_its_own_control_messages_only() -> None:
    """Stock adds what the peers before it were sent to whoever is grafted."""
    async with open_hosts(1) as (a,):
        router, peers = _pubsub(a).router, [peer_id_of(key(number)) for number in (61, 62)]
        queues = [_pubsub(a).peer_queues.setdefault(peer, OutQueue()) for peer in peers]
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
        await _subscribe(a, inbox)
        a.publish(TOPIC, b"recent")
        await wait_until(lambda: inbox.received)
        late = Inbox()
        b.subscribe(TOPIC, accept, late)
        await wait_until(lambda: late.payloads == [b"recent"])
        await wait_for_topic([a, b])
        pubsub, peer = _pubsub(a), peer_id_of(key(2))
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
            assert [len(streams) for streams in _pubsub(a)._read_from.values()] == [2]
        await wait_until(lambda: not _pubsub(a)._read_from)


@in_trio()
async def test_what_waits_for_our_own_handler_is_bounded_in_number_and_bytes() -> None:
    for size, most in ((1, 4_096), (1 << 20, 15)):  # 15 of 1 MiB, with what each costs beside it
        gate, inbox = trio.Event(), Inbox()

        async def wait(account: Account, payload: bytes, gate: trio.Event = gate, inbox: Inbox = inbox) -> None:
            await gate.wait()
            await inbox(account, payload)

        async with open_hosts(1) as (a,):
            a.subscribe(TOPIC, accept, wait)
            pubsub = _pubsub(a)
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


_FORMS = [("seqno", 9), ("seqno", 0), ("seqno", 100_000), ("key", 65), ("from_id", 65), ("signature", 129)]


@pytest.mark.parametrize(("field", "size"), _FORMS)
@in_trio()
async def test_a_message_of_another_form_ends_the_connection_and_nothing_of_it_is_kept(field: str, size: int) -> None:
    async with open_hosts(1) as (a,):
        await _subscribe(a, Inbox())
        message = signed(50, 1, b"x")
        setattr(message, field, bytes(size))
        async with open_attacker(50, a) as link:
            await write_gossip(link, HELLO + rpc(publish=[message]))
            with trio.fail_after(PATIENCE):
                await link.closed.wait()
        assert not len(_pubsub(a).seen_messages) and not _pubsub(a).router.mcache.msgs


@in_trio()
async def test_fields_that_we_do_not_know_are_neither_kept_nor_forwarded() -> None:
    """No signature covers them: whoever forwards a message could make it a megabyte."""
    async with open_hosts(1) as (a,):
        message = rpc_pb2.Message()
        padding = b"\xfa\x07" + encode_varint_prefixed(bytes(100_000))  # field 127
        message.ParseFromString(signed(50, 1, b"padded").SerializeToString() + padding)
        assert message.ByteSize() > 100_000
        inbox = await _after(a, rpc(publish=[message]))
        assert inbox.payloads == [b"padded", b"after"]
        assert all(row.ByteSize() < 1_000 for row in _pubsub(a).router.mcache.msgs.values())


@in_trio()
async def test_topics_that_a_peer_leaves_again_are_not_remembered() -> None:
    async with open_hosts(1) as (a,):
        names = [f"{number}" for number in range(20)]
        in_and_out = [rpc_pb2.RPC.SubOpts(subscribe=is_in, topicid=name) for name in names for is_in in (True, False)]
        inbox = Inbox()
        await _subscribe(a, inbox)
        async with open_attacker(50, a) as link:
            await write_gossip(link, HELLO + rpc(subscriptions=in_and_out))
            await write_gossip(link, rpc(publish=[signed(50, 1, b"x")]))
            await wait_until(lambda: inbox.received)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert set(_pubsub(a).peer_topics) <= {TOPIC}
        replayed = _pubsub(a)._replayed_recent_topics
        other = peer_id_of(key(51))
        for topic in (TOPIC, "invented"):  # as after a replay to one who took our stream
            replayed.setdefault(other, set()).add(topic)
            _pubsub(a)._forget_subscription(other, topic)
        assert replayed == {other: {TOPIC}}


@in_trio()
async def test_nothing_is_kept_of_a_peer_that_never_took_our_stream_and_left() -> None:
    """Stock forgets the score of those alone to whom it could open a stream of its own."""
    async with open_hosts(1) as (a,):
        await _after(a, rpc(publish=[signed(50, 1, b"x")]) + rpc(subscriptions=[rpc_pb2.RPC.SubOpts()] * 2))
        await wait_until(lambda: not a._stack.links)  # type: ignore[union-attr]
        await trio.testing.wait_all_tasks_blocked(0.05)
        scorer = _pubsub(a).router.scorer
        assert not scorer.first_message_deliveries and not scorer._suspects and not scorer.behavior_penalty
        assert not _pubsub(a).peer_topics and not _pubsub(a).peer_queues


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


# --- the wire


class _Bytes:
    def __init__(self, data: bytes, cuts: list[int]) -> None:
        self.data, self.cuts, self.step = data, cuts, 0

    async def read(self, most: int) -> bytes:
        if not self.data:
            raise MuxedStreamEOF
        count = min(most, self.cuts[self.step % len(self.cuts)])
        self.step += 1
        taken, self.data = self.data[:count], self.data[count:]
        return taken


async def _read_all(stream: _Bytes, most: int, room: int = 1 << 20) -> list[bytes]:
    limits = Limits(small_frame_bytes=1_000, half_read_bytes_per_peer=room)
    frames = FrameRoom(limits, lambda _account: True, lambda *_words: None)
    found = []
    with frames.claim(Account(bytes(20))) as claim:
        reader = RpcReader(stream, most, claim, PATIENCE)
        while (data := await reader.read()) is not None:
            assert frames.total == (len(data) if len(data) > 1_000 else 0)
            found.append(data if not claim.refused else b"%d" % claim.refused)
    assert frames.total == 0
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 127, 128, 5000, 100_000]), max_size=6),
    st.lists(st.integers(1, 300) | st.just(70_000), min_size=1, max_size=5),
)
def test_rpcs_are_read_however_their_bytes_are_cut(sizes: list[int], cuts: list[int]) -> None:
    rpcs = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    data = b"".join(encode_varint_prefixed(row) for row in rpcs)
    assert trio.run(_read_all, _Bytes(data, cuts), 1 << 20) == rpcs
    assert trio.run(_read_all, _Bytes(data[:-1], cuts), 1 << 20) == rpcs[:-1]


@pytest.mark.parametrize("cuts", [[9], [70_000], [3, 64 << 10]])
def test_an_rpc_without_room_is_read_past_and_the_next_is_read(cuts: list[int]) -> None:
    rpcs = [b"a" * 1_000, b"b" * 5_001, b"c" * 5_000, b"d" * 90_000, b"", b"e" * 1_001]
    data = b"".join(encode_varint_prefixed(row) for row in rpcs)
    found = trio.run(_read_all, _Bytes(data, cuts), 1 << 20, 5_000)
    assert found == [rpcs[0], b"5001", rpcs[2], b"90000", b"", rpcs[5]]


class _Silent(_Bytes):
    """Says what it has, and then nothing, without an end."""

    async def read(self, most: int) -> bytes:
        if not self.data:
            await trio.sleep_forever()
        return await super().read(most)


@pytest.mark.parametrize("size", [100, 100_000])
def test_an_rpc_that_never_ends_gives_its_room_back_and_one_that_never_begins_may_wait(size: int) -> None:
    async def main() -> None:
        begun, frames = trio.current_time(), FrameRoom(Limits(), lambda _account: False, lambda *_words: None)
        rpcs = encode_varint_prefixed(b"whole") + encode_varint_prefixed(bytes(size))[:-1]
        with pytest.raises(InvalidRemote, match="not complete after 30 s"), frames.claim(Account(bytes(20))) as claim:
            reader = RpcReader(_Silent(rpcs, [7]), 1 << 20, claim, 30.0)
            assert await reader.read() == b"whole"
            with trio.fail_after(3_600):
                await reader.read()
        assert trio.current_time() - begun == pytest.approx(30.0) and frames.total == 0
        with frames.claim(Account(bytes(20))) as claim, trio.move_on_after(3_600) as scope:
            await RpcReader(_Silent(b"", [7]), 1 << 20, claim, 30.0).read()
        assert scope.cancelled_caught  # nothing was begun

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@in_trio()
async def test_an_rpc_without_room_is_paid_for_names_its_peer_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = replace(QUICK, half_read_bytes_per_peer=64 << 10, gossip_byte_rate=1.0)
    async with open_hosts(1, limits) as (host,):
        with caplog.at_level(logging.INFO, "flock_peers.network.complaints"):
            inbox = await _after(host, rpc(publish=[signed(50, 1, bytes(200_000))]))
        assert inbox.payloads == [b"after"] and host._room.total == 0
        assert key(50).account.hex() in caplog.text and "one peer has at most 64 KiB" in caplog.text
        left = host._table.buckets_of(key(50).account).gossip_bytes._tokens
        assert left < limits.gossip_byte_burst - 200_000


@pytest.mark.parametrize("data", [b"\xff" * 9, b"\x81\x80\x80\x01"])
def test_a_length_that_is_too_large_is_an_error_before_anything_is_read(data: bytes) -> None:
    with pytest.raises(InvalidRemote):
        trio.run(_read_all, _Bytes(data, [3]), 1 << 20)


@in_trio()
async def test_what_waits_for_a_slow_peer_is_bounded_in_number_and_bytes() -> None:
    queue = OutQueue(most_messages=10, most_bytes=1000)
    assert [queue.push(bytes(10)) for _ in range(12)] == [True] * 10 + [False] * 2
    assert await queue.pop() == (bytes(100), 10)
    assert queue.push(bytes(999)) and not queue.push(bytes(2))
    assert queue.push(b"!", priority=True)
    assert await queue.pop() == (b"!" + bytes(999), 2)
    queue.close()
    assert not queue.push(b"late") and await queue.pop() is None
    assert OutQueue().push(rpc_pb2.RPC()) and encode_rpc(rpc_pb2.RPC()) == b"\0"


@pytest.mark.parametrize(
    "data",
    [
        b"\x12\x00" * (MAX_PARTS + 1),
        b"\x92\x00\x00" * (MAX_PARTS + 1),  # the same tag, written longer
        b"\x0a\x00" * (MAX_PARTS + 1),
        b"\x78\x01" * (MAX_PARTS + 1),  # a field that we do not know
        b"\x78\x01" + rpc_pb2.RPC(control=rpc_pb2.ControlMessage(iwant=[
            rpc_pb2.ControlIWant(messageIDs=[b""] * (MAX_CONTROL_BYTES // 2))])).SerializeToString(),
        b"\x1a\xff\xff", b"\x0b\x0c", b"\xff" * 9, b"\x0a\xff\xff\xff\xff\xff\xff\x01",
    ],
)  # fmt: skip
def test_an_rpc_that_would_grow_when_it_is_parsed_is_refused_before(data: bytes) -> None:
    with pytest.raises(InvalidRemote):
        parse_rpc(data)


_FIELDS = [b"\x12\x00", b"\x0a\x02\x08\x01", b"\x1a\x00", b"\x79" + bytes(8), b"\x7d" + bytes(4), b"\x78\x80\x01"]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.lists(st.sampled_from([*_FIELDS, b"\xfa\x07\x01x"]), max_size=9).map(b"".join))
def test_looking_through_an_rpc_changes_nothing_of_what_it_says(data: bytes) -> None:
    expected = rpc_pb2.RPC()
    try:
        expected.ParseFromString(data)
    except DecodeError:
        with pytest.raises(InvalidRemote):
            parse_rpc(data)
        return
    try:
        assert parse_rpc(data) == expected
    except InvalidRemote as error:  # stricter in two things that no encoder writes
        assert "wire type" in str(error) or "five bytes" in str(error)


def test_a_half_read_rpc_of_a_greedy_stranger_gives_way_and_its_next_one_is_read() -> None:
    class Pausing(_Bytes):
        async def read(self, most: int) -> bytes:
            await trio.sleep(1)
            return await super().read(most)

    async def main() -> None:
        limits = Limits(half_read_bytes_of_strangers=400_000)
        frames = FrameRoom(limits, lambda _account: False, lambda *_words: None)
        data = encode_varint_prefixed(bytes(300_000)) + encode_varint_prefixed(b"next")
        with frames.claim(Account(bytes(20))) as claim, frames.claim(Account(bytes([1] * 20))) as other:
            reader = RpcReader(Pausing(data, [100_000]), 1 << 20, claim, 30.0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_expect, reader, [b"", b"next"])
                await trio.sleep(2.5)
                assert claim.can_give_way and other.take(200_000) and frames.total == 200_000

    async def _expect(reader: RpcReader, rpcs: list[bytes]) -> None:
        assert [await reader.read() for _ in rpcs] == rpcs

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
