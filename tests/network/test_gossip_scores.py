"""A spammer loses its place and then its hearing; an honest peer, also a slow one, loses nothing."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
from gossip_support import HELLO, TOPIC, accept, rpc, signed, wait_for_topic, write_gossip
from libp2p.pubsub.pb import rpc_pb2
from network_support import QUICK, Inbox, in_trio, key, open_attacker, open_hosts, wait_until

from flock_chain.crypto import Account
from flock_peers.network.gossip import Gossip
from flock_peers.network.gossip_scores import GRAYLIST, WEIGHTS, Scorer
from flock_peers.network.host import Host
from flock_peers.network.identity import peer_id_of
from flock_peers.network.limits import Limits
from flock_peers.network.link import Link

GRAFT = rpc(control=rpc_pb2.ControlMessage(graft=[rpc_pb2.ControlGraft(topicID=TOPIC)]))
HONEST, SPAMMER = key(2).account, key(50).account


def _is_good(_account: Account, payload: bytes) -> bool:
    return not payload.startswith(b"bad")


def _gossip(host: Host) -> Gossip:
    assert host._gossip is not None
    return host._gossip


@asynccontextmanager
async def _meshed(limits: Limits = QUICK) -> AsyncIterator[tuple[Host, Host, Inbox, Link]]:
    """A victim, an honest peer, and a stranger, all in the victim's mesh."""
    async with open_hosts(2, limits) as (a, b):
        inbox = Inbox()
        a.subscribe(TOPIC, _is_good, inbox)
        b.subscribe(TOPIC, accept, Inbox())
        await wait_for_topic([a, b])
        async with open_attacker(50, a) as link:
            await write_gossip(link, HELLO + GRAFT)
            await wait_until(lambda: set(_gossip(a).mesh_of(TOPIC)) == {HONEST, SPAMMER})
            yield a, b, inbox, link


async def _spam(link: Link, seqnos: range, payload: bytes) -> None:
    await write_gossip(link, b"".join(rpc(publish=[signed(50, seqno, payload)]) for seqno in seqnos))


@in_trio()
async def test_one_invalid_message_costs_the_place_in_the_mesh_and_not_the_ear() -> None:
    async with _meshed() as (a, _b, inbox, link):
        await _spam(link, range(1, 2), b"bad")
        await wait_until(lambda: _gossip(a).mesh_of(TOPIC) == [HONEST])
        await write_gossip(link, GRAFT)
        await _spam(link, range(2, 3), b"good")
        await wait_until(lambda: inbox.payloads == [b"good"])
        assert _gossip(a).mesh_of(TOPIC) == [HONEST]


@in_trio()
async def test_who_is_below_zero_is_not_taken_into_the_mesh() -> None:
    async with open_hosts(1) as (a,):
        inbox = Inbox()
        a.subscribe(TOPIC, _is_good, inbox)
        async with open_attacker(50, a) as link:
            bad, good = (rpc(publish=[signed(50, number, data)]) for number, data in ((1, b"bad"), (2, b"good")))
            await write_gossip(link, HELLO + bad + GRAFT + good)
            await wait_until(lambda: inbox.payloads == [b"good"])
            assert not _gossip(a).mesh_of(TOPIC)


@in_trio()
async def test_who_spams_invalid_messages_is_not_heard_any_more_and_the_honest_are() -> None:
    async with _meshed() as (a, b, inbox, link):
        await _spam(link, range(1, 60), b"bad")
        await wait_until(lambda: _gossip(a).score_of(SPAMMER) < GRAYLIST)
        await _spam(link, range(60, 65), b"good, from a liar")
        b.publish(TOPIC, b"good")
        await wait_until(lambda: b"good" in inbox.payloads)
        await trio.testing.wait_all_tasks_blocked(0.2)
        assert inbox.payloads == [b"good"]
        await wait_until(lambda: _gossip(a).mesh_of(TOPIC) == [HONEST])
        assert _gossip(a).score_of(HONEST) >= 0


@in_trio()
async def test_a_flood_of_valid_messages_ends_on_the_graylist() -> None:
    async with _meshed(Limits(gossip_rate=20, gossip_burst=50)) as (a, b, inbox, link):
        await _spam(link, range(1, 1000), b"flood")
        await wait_until(lambda: _gossip(a).score_of(SPAMMER) < GRAYLIST)
        b.publish(TOPIC, b"heard")
        await wait_until(lambda: b"heard" in inbox.payloads)
        assert inbox.payloads.count(b"flood") < 100
        await wait_until(lambda: _gossip(a).mesh_of(TOPIC) == [HONEST])


@in_trio()
async def test_an_rpc_of_thousands_of_messages_is_cut_at_the_rate_at_once() -> None:
    async with _meshed(Limits(gossip_rate=20, gossip_burst=50)) as (a, b, inbox, link):
        message = signed(50, 1, b"x")
        await write_gossip(link, rpc(publish=[message] * 2000))
        await wait_until(lambda: _gossip(a).score_of(SPAMMER) < GRAYLIST)
        b.publish(TOPIC, b"heard")
        await wait_until(lambda: inbox.payloads == [b"x", b"heard"])


@in_trio()
async def test_a_burst_of_honest_messages_costs_nothing() -> None:
    async with _meshed() as (a, b, inbox, _link):
        for number in range(300):
            b.publish(TOPIC, b"%d" % number)
        await wait_until(lambda: len(inbox.received) == 300)
        assert _gossip(a).score_of(HONEST) >= 0
        assert HONEST in _gossip(a).mesh_of(TOPIC)


@in_trio()
async def test_an_honest_peer_that_is_slow_keeps_its_place_and_holds_up_nobody() -> None:
    async with open_hosts(3) as (a, b, c):
        inboxes = [Inbox() for _ in range(3)]
        for host, inbox in zip((a, b, c), inboxes, strict=True):
            host.subscribe(TOPIC, accept, inbox)
        await wait_for_topic([a, b, c])
        await wait_until(lambda: len(_gossip(a).mesh_of(TOPIC)) == 2)
        gate = trio.Event()
        _stop_reading(c, gate)
        for number in range(100):
            a.publish(TOPIC, b"%d" % number + bytes(3000))
        await wait_until(lambda: len(inboxes[1].received) == 100)
        await trio.sleep(2.5)  # of its own heartbeats, which judge
        assert _gossip(a).score_of(c.account) >= 0 and c.account in _gossip(a).mesh_of(TOPIC)
        gate.set()
        await wait_until(lambda: len(inboxes[2].received) == 100)
        assert a.is_connected(c.account)


def _stop_reading(host: Host, gate: trio.Event) -> None:
    assert host._stack is not None
    for links in host._stack.links.values():
        for link in links:
            receive = link._below.receive_into

            async def wait(buffer: memoryview, receive: Any = receive) -> int:
                await gate.wait()
                return int(await receive(buffer))

            link._below.receive_into = wait  # type: ignore[method-assign]


@in_trio()
async def test_an_honest_peer_that_others_feed_a_flood_does_not_pass_for_a_spammer() -> None:
    """Each of four keeps to its limit; the honest one between them hears all, and sends no more than is let through."""
    async with open_hosts(2, replace(QUICK, gossip_rate=25, gossip_burst=100)) as (a, b):
        heard = [Inbox(), Inbox()]
        for host, inbox in zip((a, b), heard, strict=True):
            host.subscribe(TOPIC, accept, inbox)
        await wait_for_topic([a, b])
        await wait_until(lambda: _gossip(b).mesh_of(TOPIC) == [a.account])
        async with AsyncExitStack() as stack:
            for number in range(50, 55):
                link = await stack.enter_async_context(open_attacker(number, b))
                await write_gossip(link, b"".join(rpc(publish=[signed(number, n, b"x")]) for n in range(1, 100)))
            await wait_until(lambda: len(heard[1].received) >= 450)
            await wait_until(lambda: len(heard[0].received) >= 60)
            await trio.sleep(1)
        assert _gossip(a).score_of(b.account) >= 0 and b.account in _gossip(a).mesh_of(TOPIC)
        b.publish(TOPIC, b"mine")
        await wait_until(lambda: b"mine" in heard[0].payloads)


@in_trio()
async def test_a_bug_in_our_own_validator_is_nobodys_fault() -> None:
    def broken(_account: Account, _payload: bytes) -> bool:
        raise ZeroDivisionError("a bug")

    async with open_hosts(2) as (a, b):
        a.subscribe(TOPIC, broken, Inbox())
        b.subscribe(TOPIC, accept, Inbox())
        await wait_for_topic([a, b])
        for number in range(30):
            b.publish(TOPIC, b"%d" % number)
        await trio.sleep(1.5)
        assert _gossip(a).score_of(HONEST) >= 0 and _gossip(a).mesh_of(TOPIC) == [HONEST]


# --- the score by itself

_PEER = peer_id_of(key(7))


def test_what_speaks_against_a_peer_lowers_its_score_and_what_speaks_for_it_raises_it() -> None:
    scorer = Scorer()
    assert scorer.total(_PEER) == 0
    scorer.on_first_delivery(_PEER, TOPIC)
    assert scorer.total(_PEER) > 0
    scorer.on_invalid_message(_PEER, TOPIC)
    assert -11 < scorer.total(_PEER) < -9  # stock subtracts: a negative weight would be a reward
    scorer = Scorer()
    scorer.penalize_behavior(_PEER, WEIGHTS.p5_behavior_penalty_threshold)
    assert scorer.total(_PEER) == 0
    scorer.penalize_behavior(_PEER, 50)
    assert scorer.total(_PEER) == -50


@pytest.mark.parametrize(("above", "is_deaf"), [(5, False), (9, False), (60, True)])
def test_only_who_is_far_above_the_rate_for_long_is_graylisted(above: int, is_deaf: bool) -> None:
    scorer = Scorer()
    for _ in range(60):
        scorer.penalize_behavior(_PEER, above)
        scorer.on_heartbeat()
    assert (scorer.total(_PEER) < GRAYLIST) is is_deaf
    assert is_deaf or scorer.total(_PEER) == 0


def test_a_bad_peer_is_forgiven_after_minutes_and_a_reconnect_does_not_help() -> None:
    scorer = Scorer()
    for _ in range(40):
        scorer.on_invalid_message(_PEER, TOPIC)
    scorer.remove_peer(_PEER)
    scorer.add_peer(_PEER)
    assert scorer.total(_PEER) < GRAYLIST
    scorer.remove_peer(_PEER)
    seconds = 0
    while scorer.total(_PEER) < -1:
        scorer.on_heartbeat()
        seconds += 1
    assert 60 < seconds < 600
    scorer.on_heartbeat()
    assert _PEER not in scorer.invalid_messages and not scorer._gone


def test_a_good_peer_that_left_is_forgotten_and_the_bad_ones_are_bounded() -> None:
    scorer = Scorer()
    scorer.on_first_delivery(_PEER, TOPIC)
    scorer.remove_peer(_PEER)
    assert not scorer.first_message_deliveries
    for number in range(1, 1100):
        peer = peer_id_of(key(number))
        scorer.on_invalid_message(peer, TOPIC)
        scorer.remove_peer(peer)
    assert len(scorer._gone) == len(scorer.invalid_messages) == 1024


def test_what_is_counted_of_a_peer_after_it_left_goes_by_itself() -> None:
    scorer = Scorer()
    scorer.on_join_mesh(_PEER, TOPIC)
    scorer.remove_peer(_PEER)
    scorer.on_first_delivery(_PEER, TOPIC)
    scorer.penalize_behavior(_PEER, 200)
    scorer.penalize_ihave_spam(_PEER)
    assert scorer.total(_PEER) < 0
    for _ in range(120):
        scorer.on_heartbeat()
    tables = [scorer.first_message_deliveries, scorer.behavior_penalty, scorer.ihave_spam_penalties]
    tables += [scorer.time_in_mesh, scorer.mesh_message_deliveries, scorer.app_specific_scores]
    assert not any(tables) and not scorer._suspects
