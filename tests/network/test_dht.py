"""Provider records: who has a content, told by peers that may lie, over connections that are there."""

from types import SimpleNamespace

import pytest
import trio
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from multiaddr import Multiaddr
from network_support import GENESIS_HASH, LOOPBACK, QUICK, in_trio, key, open_hosts, wait_until

from flock_chain.errors import InvalidRemote
from flock_peers.network.bitswap import encode_varint, read_varint
from flock_peers.network.dht import DHT_PROTOCOL, MAX_KEYS, _to_addresses, announce_forever, check_request
from flock_peers.network.host import open_host
from flock_peers.network.identity import peer_id_of
from flock_peers.network.link import Stream

DIGEST = b"d" * 32


@in_trio()
async def test_a_content_is_found_at_a_peer_that_was_not_connected() -> None:
    """One and three know two alone; three says that it has something; one finds it, and connects."""
    lonely = type(QUICK)(**{**vars(QUICK), "exchanged_addresses": 0})
    async with (
        open_host(key(2), LOOPBACK, GENESIS_HASH, lonely, dht=True) as two,
        open_host(key(1), LOOPBACK, GENESIS_HASH, lonely, bootstrap=[two.address], dht=True) as one,
        open_host(key(3), LOOPBACK, GENESIS_HASH, lonely, bootstrap=[two.address], dht=True) as three,
    ):
        await two.wait_for_peers(2)
        await wait_until(lambda: two.account in three.connected() and two.account in one.connected())
        assert await one.find_providers(DIGEST) == []
        assert await three.provide(DIGEST)
        assert not one.is_connected(three.account)
        while not (found := await one.find_providers(DIGEST)):  # a record is sent and not acknowledged
            await trio.sleep(0.1)
        assert found == [three.account]
        assert one.is_connected(three.account)


@in_trio()
async def test_without_the_option_there_is_no_dht() -> None:
    async with open_hosts(2) as (a, b):
        assert not await a.provide(DIGEST) and await b.find_providers(DIGEST) == []
        with pytest.raises(Exception, match="does not speak it"):
            await a.open_stream(b.account, DHT_PROTOCOL)


@in_trio()
async def test_a_flood_of_records_fills_no_memory_and_names_nobody_but_its_sender() -> None:
    async with open_hosts(3, dht=True) as (a, b, c):
        store = a._dht._kad.provider_store  # type: ignore[union-attr]
        for number in range(MAX_KEYS + 100):
            store.add_provider(number.to_bytes(34, "big"), store.host.get_peerstore() and _info(c.address))
        stream = await b.open_stream(a.account, DHT_PROTOCOL)
        message = Message(type=Message.ADD_PROVIDER, key=b"\x12\x20" + DIGEST)
        message.providerPeers.add(id=_info(c.address).peer_id.to_bytes(), addrs=[_info(c.address).addrs[0].to_bytes()])
        data = message.SerializeToString()
        await stream.write(encode_varint(len(data)) + data)
        await wait_until(lambda: len(store.providers) <= MAX_KEYS)
        assert b"\x12\x20" + DIGEST not in store.providers  # b speaks for c


@in_trio()
async def test_questions_to_a_peer_that_never_ends_a_stream_leave_no_stream_behind() -> None:
    asked: list[int] = []

    async def answer_without_end(stream: Stream) -> None:
        message = Message.FromString(await stream.read_exactly(await read_varint(stream, 8 << 10)))
        asked.append(message.type)
        if message.type == Message.FIND_NODE:
            data = Message(type=Message.FIND_NODE, key=message.key).SerializeToString()
            await stream.write(encode_varint(len(data)) + data)
        await trio.sleep_forever()

    async with open_hosts(2, dht=True) as (a, b):
        b._stack.add_protocol(DHT_PROTOCOL, answer_without_end)  # type: ignore[union-attr]
        (links,) = a._stack.links.values()  # type: ignore[union-attr]
        for number in range(3):
            await a.provide(bytes([number]) * 32)
        assert asked.count(Message.ADD_PROVIDER) == 3
        for link in links:
            streams = link.swarm_conn.muxed_conn.streams.values()
            await wait_until(lambda rows=streams: not any(row.is_send_closed for row in rows))


def _info(address: str) -> object:
    from libp2p.peer.peerinfo import info_from_p2p_addr
    from multiaddr import Multiaddr

    return info_from_p2p_addr(Multiaddr(address))


def test_a_request_is_stripped_of_what_the_library_would_verify_and_keep() -> None:
    message = Message(type=Message.ADD_PROVIDER, key=DIGEST, senderRecord=b"r" * 99)
    for _ in range(9):
        message.providerPeers.add(id=b"x", addrs=[b"a"] * 9, signedRecord=b"s")
        message.closerPeers.add(id=b"y")
    left = Message.FromString(check_request(message.SerializeToString()))
    assert not left.senderRecord and not left.closerPeers
    assert [(len(row.addrs), row.signedRecord) for row in left.providerPeers] == [(4, b"")]


@pytest.mark.parametrize(
    "message",
    [
        Message(type=Message.PUT_VALUE, key=DIGEST), Message(type=Message.GET_PROVIDERS), Message(type=Message.PING),
        Message(type=Message.FIND_NODE, key=b"k" * 65),
    ],
)  # fmt: skip
def test_values_and_odd_keys_are_refused(message: Message) -> None:
    with pytest.raises(InvalidRemote):
        check_request(message.SerializeToString())


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_pass_the_gate_but_requests(data: bytes) -> None:
    try:
        left = Message.FromString(check_request(data))
    except InvalidRemote:
        return
    except DecodeError as error:
        raise AssertionError from error
    assert left.type in (Message.FIND_NODE, Message.GET_PROVIDERS, Message.ADD_PROVIDER)


def test_what_is_kept_is_told_a_few_at_a_time_and_again_only_when_nobody_heard() -> None:
    told: list[bytes] = []
    kept = {bytes([number]) for number in range(20)}

    async def provide(digest: bytes) -> bool:
        told.append(digest)
        return digest != b"\x07" or told.count(b"\x07") > 1

    async def main() -> None:
        with trio.move_on_after(25):
            await announce_forever(lambda: set(kept), provide)
        assert len(told) == 16
        with trio.move_on_after(70):
            await announce_forever(lambda: set(kept), provide)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert set(told) == kept and told.count(b"\x07") == 2


@pytest.mark.parametrize("raw", [b"D\xc0\x00\x02\x07\x06\x00", b"\x35\x02\xff\xfe", b"\xff" * 9, b""])
def test_a_record_with_an_address_that_is_none_says_nothing_and_raises_nothing(raw: bytes) -> None:
    """A fuzzer found it: the library reads a record's addresses when they are printed."""
    good = Multiaddr("/ip4/192.0.2.7/tcp/4200")
    info = SimpleNamespace(peer_id=peer_id_of(key(7)), addrs=[Multiaddr(raw), good])
    assert [str(address) for address in _to_addresses([info])] == [f"{good}/p2p/{info.peer_id}"]
