"""Peers that nobody can dial are reached through a third one, which sees sealed bytes alone."""

from contextlib import suppress
from typing import Any

import pytest
import trio
from libp2p.host.exceptions import StreamFailure
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.envelope import Envelope, seal_record
from libp2p.peer.peer_record import PeerRecord
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, PeerId, Status, StopMessage
from libp2p.relay.circuit_v2.protocol import STOP_PROTOCOL_ID
from libp2p.relay.circuit_v2.utils import write_delimited_msg
from libp2p.stream_muxer.exceptions import MuxedStreamError
from network_support import GENESIS_HASH, LOOPBACK, Inbox, in_trio, key, open_attacker, wait_until
from relay_support import HOP, LONELY, ask, circuit, library_of, link_from

from flock_chain.errors import InvalidEncoding, InvalidRemote, Unavailable
from flock_peers.network.host import Host, open_host
from flock_peers.network.identity import key_pair_of, parse_address, peer_id_of
from flock_peers.network.link import Link
from flock_peers.network.relay_places import (
    HOP_STREAMS_AT_ONCE,
    HOP_STREAMS_PER_MINUTE,
    HOP_STREAMS_PER_MINUTE_OF_NETWORK,
    HopStreams,
)

STOP = str(STOP_PROTOCOL_ID)


def test_the_address_of_a_circuit_names_both() -> None:
    text = f"/ip4/203.0.113.7/tcp/4001/p2p/{peer_id_of(key(1))}/p2p-circuit/p2p/{peer_id_of(key(2))}"
    address = parse_address(text)
    assert str(address) == text and address.account == key(2).account
    assert address.relay_address.account == key(1).account and address.relay_address.port == 4001
    for wrong in (
        text + "/p2p-circuit",
        text.replace("p2p-circuit", "p2p"),
        text.replace(str(peer_id_of(key(1))), str(peer_id_of(key(2)))),
    ):
        with pytest.raises(InvalidEncoding):
            parse_address(wrong)


def count_allowances(host: Host) -> int:
    """Of circuits, apart from those of their connections."""
    assert host._stack is not None
    links = [link for links in host._stack.links.values() for link in links if not link.closed.is_set()]
    streams = [stream for link in links for stream in link.swarm_conn.muxed_conn.streams.values()]
    return sum(stream.allowance is not None for stream in streams)


@in_trio()
async def test_two_peers_talk_through_a_relay_and_prove_their_keys_to_each_other() -> None:
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY, is_relay=True) as relay,
        open_host(key(2), LOOPBACK, GENESIS_HASH, LONELY, via=[relay.address]) as hidden,
        open_host(key(3), LOOPBACK, GENESIS_HASH, LONELY) as caller,
    ):
        await wait_until(lambda: hidden.address == circuit(relay, 2))  # reserved
        inbox = Inbox()
        hidden.on_message("/test/1", inbox)
        assert await caller.connect(circuit(relay, 2)) == hidden.account
        assert hidden.is_connected(caller.account)
        for number in range(20):
            caller.send(hidden.account, "/test/1", bytes([number]) * 50_000)
        await wait_until(lambda: len(inbox.received) == 20)
        assert [count_allowances(host) for host in (hidden, caller, relay)] == [
            1,
            1,
            0,
        ]  # the relay is told by who says it
        lost = trio.Event()

        async def on_disconnected(_account: bytes) -> None:
            lost.set()

        hidden.on_disconnected(on_disconnected)
        relay.disconnect(caller.account)
        await lost.wait()  # nothing else was between them
        await wait_until(lambda: hidden.is_connected(caller.account))  # and it is made again


@in_trio()
async def test_a_relay_that_was_not_asked_to_be_one_lends_nothing() -> None:
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY) as plain,
        open_host(key(2), LOOPBACK, GENESIS_HASH, LONELY, via=[plain.address]) as hidden,
        open_host(key(3), LOOPBACK, GENESIS_HASH, LONELY) as caller,
    ):
        await wait_until(lambda: plain.is_connected(hidden.account))
        with pytest.raises(Unavailable, match="relays nothing"):
            await caller.connect(circuit(plain, 2))
        await trio.sleep(0.2)
        assert "p2p-circuit" not in hidden.address


@in_trio()
async def test_nobody_is_reached_who_did_not_ask_for_it() -> None:
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY, is_relay=True) as relay,
        open_host(key(2), LOOPBACK, GENESIS_HASH, LONELY, bootstrap=[relay.address]) as silent,
        open_host(key(3), LOOPBACK, GENESIS_HASH, LONELY) as caller,
    ):
        await wait_until(lambda: relay.is_connected(silent.account))
        with pytest.raises(Unavailable, match="declines"):
            await caller.connect(circuit(relay, 2))
        assert not silent.is_connected(caller.account)


# --- who may not


def name_of(number: int) -> PeerId:
    return PeerId(id=peer_id_of(key(number)).to_bytes())


async def ends(stream: Any) -> bool:
    """Whether the other side says nothing, and ends it."""
    try:
        return not await stream.read(1)
    except (MuxedStreamError, StreamError):
        return True


async def is_refused(link: Link, protocol: str, message: Any = None) -> bool:
    """A reset overtakes what came before it: that the protocol was agreed, too."""
    try:
        stream = await link.open_net_stream(protocol)
        if message is not None:
            await write_delimited_msg(stream, message)
    except (StreamFailure, StreamError):
        return True
    return await ends(stream)


@in_trio()
async def test_nobody_opens_a_circuit_to_a_peer_but_a_relay_that_it_uses(caplog: pytest.LogCaptureFixture) -> None:
    """It would have the places of all circuits: those of whoever comes by a relay."""
    caplog.set_level("INFO")
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY, is_relay=True) as relay,
        open_host(key(2), LOOPBACK, GENESIS_HASH, LONELY, via=[relay.address]) as hidden,
        open_attacker(66, hidden) as stranger,
    ):
        await wait_until(lambda: hidden.address == circuit(relay, 2))
        assert await is_refused(stranger, STOP, StopMessage(type=StopMessage.CONNECT, peer=name_of(67)))
        assert f"0x{key(66).account.hex()} at 127.0.0.1: stream failed: InvalidRemote('opens a circuit" in caplog.text


@in_trio()
async def test_one_account_has_half_of_its_streams_for_circuits_and_who_takes_more_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY, is_relay=True) as relay,
        open_attacker(66, relay) as greedy,
        open_attacker(67, relay) as other,
    ):
        streams = [await greedy.open_net_stream(HOP) for _ in range(HOP_STREAMS_AT_ONCE)]
        assert await is_refused(greedy, HOP)
        assert f"0x{key(66).account.hex()} at 127.0.0.1: stream failed: InvalidRemote('more than 8" in caplog.text
        reserve = HopMessage(type=HopMessage.RESERVE)
        for stream in (await other.open_net_stream(HOP), streams[0]):
            assert await ask(stream, reserve) == Status.OK
        assert await ends(streams[0])  # one request a stream
        assert await ask(await greedy.open_net_stream(HOP), reserve) == Status.OK  # there is room for one again


def test_circuits_are_asked_for_at_a_rate_and_another_account_is_not_held_up() -> None:
    now = [0.0]
    streams = HopStreams(lambda: now[0], lambda _who: False)
    for _ in range(HOP_STREAMS_PER_MINUTE):
        with streams.take(key(1).account):
            pass
    with pytest.raises(InvalidRemote, match="64 streams a minute"), streams.take(key(1).account):
        pass
    with streams.take(key(2).account):
        pass
    now[0] += 1.0
    with streams.take(key(1).account):
        pass
    for number in range(2_000):
        with streams.take(key(10 + number).account):
            pass
    assert len(streams._rates) <= 1_024 and not streams._open


def test_a_network_asks_a_relay_at_a_rate_whatever_number_of_keys_it_has() -> None:
    """Each key had a rate of its own, and keys cost nothing."""
    now, needed = [0.0], link_from("8.8.8.4", 3)
    streams = HopStreams(lambda: now[0], {needed.account}.__contains__)
    asked = [streams.take_share(link_from(f"8.8.8.{number % 200}", 100 + number)) for number in range(500)]
    assert asked == [True] * HOP_STREAMS_PER_MINUTE_OF_NETWORK + [False] * (500 - HOP_STREAMS_PER_MINUTE_OF_NETWORK)
    assert streams.take_share(link_from("8.8.9.1", 1)), "another network"
    assert streams.take_share(needed)
    now[0] += 60 / HOP_STREAMS_PER_MINUTE_OF_NETWORK
    assert [streams.take_share(link_from("8.8.8.4", number)) for number in (4, 5)] == [True, False]
    for number in range(2_000):
        streams.take_share(link_from(f"9.{number % 200}.{number // 200}.1", number + 1))
    assert len(streams._networks) <= 1_024


@in_trio()
async def test_a_network_that_asks_a_running_relay_too_often_is_declined_and_named_and_no_other_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    reserve = HopMessage(type=HopMessage.RESERVE)
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY, is_relay=True) as relay,
        open_attacker(66, relay, source="127.0.0.66") as one_of_many,
        open_attacker(67, relay, source="127.0.0.67") as other,
    ):
        streams = library_of(relay)._streams = HopStreams(lambda: 0.0, lambda _who: False)
        assert await ask(await one_of_many.open_net_stream(HOP), reserve) == Status.OK
        for _ in range(HOP_STREAMS_PER_MINUTE_OF_NETWORK):
            streams.take_share(link_from("127.0.0.66", 68))
        stream = await one_of_many.open_net_stream(HOP)
        assert await ask(stream, reserve) == Status.RESOURCE_LIMIT_EXCEEDED and await ends(stream)
        assert await ask(await other.open_net_stream(HOP), reserve) == Status.OK
    told = [line for line in caplog.messages if "asks to be relayed" in line]
    assert len(told) == 1 and "127.0.0.66: asks to be relayed more than 256" in told[0] and "0x" not in told[0]


@in_trio()
async def test_what_is_no_request_to_a_relay_is_refused_and_nothing_of_a_request_is_kept() -> None:
    """The library verified a signed record in each, and kept it for ever, with as many addresses as 64 KiB hold."""
    pair = key_pair_of(key(66))
    record: Envelope = seal_record(PeerRecord(peer_id_of(key(66)), [], seq=1), pair.private_key)
    asks = HopMessage(type=HopMessage.RESERVE, senderRecord=record.marshal_envelope())
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY, is_relay=True) as relay,
        open_attacker(66, relay) as stranger,
    ):
        assert await ask(await stranger.open_net_stream(HOP), asks) == Status.OK
        assert peer_id_of(key(66)) not in library_of(relay).host.get_peerstore().peer_ids()
        padded = HopMessage(type=HopMessage.RESERVE, senderRecord=bytes(2_000))
        for wrong in (padded, HopMessage(type=HopMessage.STATUS)):
            assert await is_refused(stranger, HOP, wrong)
        stream = await stranger.open_net_stream(HOP)
        await stream.write(b"\x03\xff\xff\xff")
        assert await ends(stream)


@in_trio()
async def test_a_relay_remembers_no_circuit_that_is_over() -> None:
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY, is_relay=True) as relay,
        open_attacker(66, relay) as target,
        open_attacker(67, relay) as caller,
    ):
        assert await ask(await target.open_net_stream(HOP), HopMessage(type=HopMessage.RESERVE)) == Status.OK
        connect = HopMessage(type=HopMessage.CONNECT, peer=name_of(66))  # which does not speak STOP
        with suppress(StreamError):  # the library says that it failed, and resets the stream at once
            assert await ask(await caller.open_net_stream(HOP), connect) == Status.CONNECTION_FAILED
        await wait_until(lambda: not library_of(relay)._active_relays)


@in_trio()
async def test_a_relay_relays_nothing_by_way_of_another() -> None:
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY, is_relay=True) as relay,
        open_host(key(2), LOOPBACK, GENESIS_HASH, LONELY, via=[relay.address], is_relay=True) as hidden,
        open_host(key(3), LOOPBACK, GENESIS_HASH, LONELY) as caller,
    ):
        await wait_until(lambda: hidden.address == circuit(relay, 2))
        await caller.connect(circuit(relay, 2))
        link = caller._table.newest_link(hidden.account)
        assert link is not None and await is_refused(link, HOP, HopMessage(type=HopMessage.RESERVE))
