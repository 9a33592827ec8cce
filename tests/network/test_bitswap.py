"""Guests and the bitswap gateway: what it answers, and what somebody without hello may do."""

import logging
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import trio
from bitswap_support import PROTOCOL, FakeLink, FakeStream, wants
from cid import make_cid
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.bitswap.pb.bitswap_pb2 import Message
from network_support import GENESIS_HASH, LOOPBACK, PATIENCE, QUICK, in_trio, key, open_attacker, open_hosts, wait_until

from flock_chain.content import CID_PREFIX, format_cid
from flock_chain.errors import FlockError, InvalidRemote, Unavailable
from flock_peers.network import bitswap, turns
from flock_peers.network.bitswap import (
    MAX_REQUEST_BYTES,
    MAX_WANTS,
    BitswapGateway,
    decode_message,
    encode_varint,
    read_varint,
    serve_bitswap,
)
from flock_peers.network.hello import PEERS
from flock_peers.network.host import Host, open_host
from flock_peers.network.link import Stream
from flock_peers.network.stack import _LIBP2P_STREAMS
from flock_peers.store.blob_store import BlobStore

WELCOMING = replace(QUICK, guests=1, hello_seconds=2.0)


def test_a_content_id_is_what_an_independent_library_makes_of_it() -> None:
    digest = sha256(b"a manifest").digest()
    theirs = make_cid(format_cid(digest))
    assert (theirs.version, theirs.codec, theirs.multihash) == (1, "raw", b"\x12\x20" + digest)
    assert theirs.encode("base32").decode() == format_cid(digest) and theirs.buffer == CID_PREFIX + digest


class Asker:
    """Asks over a host's stream, and takes the answers on those that the other side opens."""

    def __init__(self, host: Host) -> None:
        self._host, self.answers = host, list[Message]()
        host.on_stream(PROTOCOL, self._take)

    async def _take(self, stream: Stream) -> None:
        while not await stream.is_at_end():
            self.answers.append(decode_message(await stream.read_exactly(await read_varint(stream, 2 << 20))))

    async def ask(self, host: Host, data: bytes) -> Stream:
        stream = await self._host.open_stream(host.account, PROTOCOL)
        await stream.write(data)
        return stream


@in_trio()
async def test_a_block_a_presence_and_an_absence_are_answered_as_they_were_asked_for(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 1 << 30)
    here, unkept, nowhere = store.put_object(b"here"), store.put_object(b"unkept", keep=False), bytes(32)
    async with open_hosts(2) as (a, b):
        serve_bitswap(a, store)
        asker = Asker(b)
        await asker.ask(a, wants(here) + wants(here, wantType=Message.Wantlist.Have))
        await wait_until(lambda: len(asker.answers) == 2)
        assert [(row.prefix, row.data) for row in asker.answers[0].payload] == [(CID_PREFIX, b"here")]
        assert [row.type for row in asker.answers[1].blockPresences] == [Message.Have]
        await asker.ask(a, wants(unkept, nowhere, sendDontHave=True) + wants(unkept, nowhere) + wants(here))
        await wait_until(lambda: len(asker.answers) == 5)
        assert [row.type for answer in asker.answers[2:4] for row in answer.blockPresences] == [Message.DontHave] * 2
        assert asker.answers[4].payload[0].data == b"here"


@in_trio()
@pytest.mark.parametrize(
    "data",
    [
        wants(*([bytes(32)] * (MAX_WANTS + 1))),
        wants(*([bytes(32)] * (MAX_WANTS + 1)), cancel=True),
        encode_varint(MAX_REQUEST_BYTES + 1) + bytes(10),
        encode_varint(1 << 20),
        b"\xff" * 9,
        b"\x04junk",
    ],
)
async def test_junk_ends_the_stream_and_nothing_else(tmp_path: Path, data: bytes) -> None:
    async with open_hosts(2) as (a, b):
        serve_bitswap(a, BlobStore(tmp_path, 1 << 30))
        asker = Asker(b)
        stream = await asker.ask(a, data)
        await stream.wait_gone()
        assert a.is_connected(b.account) and not asker.answers


async def give_nothing(_digest: bytes) -> None:
    return None


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=40)
def test_no_bytes_make_the_gateway_fail_but_in_its_own_way(data: bytes) -> None:
    async def main() -> None:
        gateway = BitswapGateway(give_nothing, trio.current_time)
        try:
            await gateway.serve(PROTOCOL, FakeStream(FakeLink(), data))  # type: ignore[arg-type]
        except (InvalidRemote, Unavailable):
            pass

    trio.run(main)


@in_trio()
async def test_a_peer_that_does_not_take_the_blocks_it_asks_for_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(bitswap, "_TAKE_SECONDS", 0.6)
    monkeypatch.setattr(turns, "UNTAKEN", replace(turns.UNTAKEN, most=0))  # for a second of it
    store = BlobStore(tmp_path, 1 << 30)
    large = store.put_object(bytes(1 << 20))  # four windows
    async with open_hosts(2) as (a, b):
        serve_bitswap(a, store)
        b.on_stream(PROTOCOL, lambda _stream: trio.sleep_forever())
        stream = await b.open_stream(a.account, PROTOCOL)
        await stream.write(wants(large))
        await wait_until(lambda: f"0x{b.account.hex()}: did not take what it asked for in " in caplog.text)


@in_trio()
async def test_without_the_option_nobody_stays_without_hello(tmp_path: Path) -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, replace(QUICK, hello_seconds=0.5)) as a:
        serve_bitswap(a, BlobStore(tmp_path, 1 << 30))
        async with open_attacker(2, a, hello=False) as link:
            with suppress(FlockError):  # on a busy machine its time is over before
                stream = await link.open(PROTOCOL)
                await stream.wait_gone()  # refused after the seconds for hello
            await link.closed.wait()


@in_trio()
async def test_guests_are_few_and_use_nothing_but_the_open_protocols(tmp_path: Path) -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, WELCOMING) as a:
        serve_bitswap(a, BlobStore(tmp_path, 1 << 30))
        async with open_attacker(2, a, hello=False) as guest, open_attacker(3, a, hello=False) as second:
            stream = await guest.open(PROTOCOL)
            await stream.write(wants(bytes(32)))
            with trio.fail_after(PATIENCE):
                await second.closed.wait()
            assert not guest.closed.is_set() and a.connected() == []
            other = await guest.open(PEERS)
            with trio.fail_after(PATIENCE):
                await other.wait_gone()
            assert not guest.closed.is_set()
        async with open_attacker(4, a, hello=False) as third:  # a place is free again
            await third.open(PROTOCOL)
            with trio.move_on_after(5):
                await third.closed.wait()
            assert not third.closed.is_set()


@in_trio()
async def test_who_has_a_stream_for_each_message_is_not_named_and_who_asks_for_pings_without_end_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, WELCOMING) as a:
        serve_bitswap(a, BlobStore(tmp_path, 1 << 30))
        async with open_attacker(2, a, hello=False) as guest:
            for protocol in (PROTOCOL, "/ipfs/ping/1.0.0"):
                for _ in range(_LIBP2P_STREAMS.most + 1):
                    stream = await guest.open(protocol)
                    await stream._net.close()
                    await stream.wait_gone()
                    await stream.close()
            await wait_until(lambda: any("again and again" in line for line in caplog.messages))
    assert not any(PROTOCOL in line for line in caplog.messages)


@in_trio()
async def test_a_full_house_of_guests_keeps_no_peer_out() -> None:
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, WELCOMING) as a,
        open_attacker(2, a, hello=False) as guest,
        open_host(key(3), LOOPBACK, GENESIS_HASH, QUICK) as b,
    ):
        await guest.open("/meshsub/1.1.0")
        await b.connect(a.address)
        assert a.connected() == [b.account]
