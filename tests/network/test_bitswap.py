"""Guests and the bitswap gateway: what somebody without hello may do, and how little of it."""

import logging
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import trio
import trio.testing
from cid import make_cid
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.bitswap.pb.bitswap_pb2 import Message
from network_support import GENESIS_HASH, LOOPBACK, PATIENCE, QUICK, in_trio, key, open_attacker, open_hosts, wait_until

from flock_chain.content import CID_PREFIX, format_cid
from flock_chain.errors import FlockError, InvalidRemote, Unavailable
from flock_peers.network import bitswap, turns
from flock_peers.network.bitswap import (
    BITSWAP_PROTOCOLS,
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

PROTOCOL = BITSWAP_PROTOCOLS[0]
WELCOMING = replace(QUICK, guests=1, hello_seconds=2.0)


def test_a_content_id_is_what_an_independent_library_makes_of_it() -> None:
    digest = sha256(b"a manifest").digest()
    theirs = make_cid(format_cid(digest))
    assert (theirs.version, theirs.codec, theirs.multihash) == (1, "raw", b"\x12\x20" + digest)
    assert theirs.encode("base32").decode() == format_cid(digest) and theirs.buffer == CID_PREFIX + digest


def wants(*digests: bytes, **options: object) -> bytes:
    message = Message()
    for digest in digests:
        message.wantlist.entries.add(block=CID_PREFIX + digest, **options)
    data = message.SerializeToString()
    return encode_varint(len(data)) + data


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


async def give_a_megabyte(_digest: bytes) -> bytes:
    return bytes(1 << 20)


async def give_little(_digest: bytes) -> bytes:
    return b"a block"


async def give_nothing(_digest: bytes) -> None:
    return None


class FakeLink:
    def __init__(self) -> None:
        self.opened = 0

    async def open(self, _protocol: str) -> "FakeStream":
        self.opened += 1
        return FakeStream(self, b"")


class FakeStream:
    account = key(2).account
    remote_host = "127.0.0.1"

    def __init__(self, link: FakeLink, data: bytes) -> None:
        self.link, self._data = link, data

    async def is_at_end(self) -> bool:
        return not self._data

    async def read_exactly(self, count: int) -> bytes:
        if len(self._data) < count:
            raise Unavailable("stream ended")
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    async def write(self, data: bytes) -> None: ...
    async def close(self) -> None: ...
    async def reset(self) -> None: ...


def test_one_asker_gets_a_megabyte_a_second_and_then_nothing() -> None:
    """In virtual time: what is above the rate waits, what is far above it is refused."""

    async def main() -> None:
        gateway = BitswapGateway(give_a_megabyte, trio.current_time)
        started = trio.current_time()
        for _ in range(14):
            await gateway.serve(PROTOCOL, FakeStream(FakeLink(), wants(bytes(32))))  # type: ignore[arg-type]
        assert 9 < trio.current_time() - started < 12
        outcomes: list[str] = []

        async def ask() -> None:
            try:
                await gateway.serve(PROTOCOL, FakeStream(FakeLink(), wants(bytes(32))))  # type: ignore[arg-type]
                outcomes.append("given")
            except InvalidRemote as error:
                outcomes.append(str(error))

        async with trio.open_nursery() as nursery:
            for _ in range(64):
                nursery.start_soon(ask)
        assert 10 < outcomes.count("given") < 25
        assert all("its share" in outcome for outcome in outcomes if outcome != "given")

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_askers_that_take_nothing_hold_a_few_blocks_in_memory_and_not_for_long() -> None:
    holding, most = 0, 0

    class NeverTaken(FakeStream):
        async def write(self, data: bytes) -> None:
            nonlocal holding, most
            if len(data) < 1 << 20:
                return
            holding += 1
            most = max(most, holding)
            try:
                await trio.sleep_forever()
            finally:
                holding -= 1

    class SlowLink(FakeLink):
        async def open(self, _protocol: str) -> FakeStream:
            return NeverTaken(self, b"")

    async def main() -> None:
        begun, given_up, told = trio.current_time(), 0, set[bytes]()
        gateway = BitswapGateway(
            give_a_megabyte, trio.current_time, on_lost=lambda account, _seconds: told.add(account)
        )  # fmt: skip

        async def ask(number: int) -> None:
            nonlocal given_up
            stream = FakeStream(SlowLink(), wants(bytes(32)))
            stream.account = key(number).account
            with pytest.raises(Unavailable, match="not taken in time"):
                await gateway.serve(PROTOCOL, stream)  # type: ignore[arg-type]
            given_up += 1

        async with trio.open_nursery() as nursery:
            for number in range(1, 21):
                nursery.start_soon(ask, number)
        assert (most, holding, given_up, len(told)) == (8, 0, 20, 20) and trio.current_time() - begun < 120

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_one_asker_that_takes_nothing_holds_one_turn_and_the_next_asker_does_not_wait_for_it() -> None:
    class NeverTaken(FakeStream):
        async def write(self, _data: bytes) -> None:
            await trio.sleep_forever()

    class SlowLink(FakeLink):
        async def open(self, _protocol: str) -> FakeStream:
            return NeverTaken(self, b"")

    async def main() -> None:
        gateway, given_up = BitswapGateway(give_little, trio.current_time), 0

        async def hold() -> None:
            nonlocal given_up
            with pytest.raises(Unavailable, match="not taken in time"):
                await gateway.serve(PROTOCOL, FakeStream(SlowLink(), wants(bytes(32))))  # type: ignore[arg-type]
            given_up += 1

        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(hold)
            await trio.sleep(1)
            honest = FakeStream(FakeLink(), wants(bytes(32)))
            honest.account = key(3).account
            begun = trio.current_time()
            await gateway.serve(PROTOCOL, honest)  # type: ignore[arg-type]
            assert trio.current_time() - begun < 1 and given_up == 0
        assert given_up == 16 and trio.current_time() - begun > 400  # one after the other

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


class Unread(FakeStream):
    """Nobody takes what is written to it."""

    async def write(self, _data: bytes) -> None:
        await trio.sleep_forever()


class UnreadLink(FakeLink):
    async def open(self, _protocol: str) -> FakeStream:
        return Unread(self, b"")


def from_host(number: int, host: str, link: FakeLink, *digests: bytes) -> FakeStream:
    stream = FakeStream(link, wants(*digests or [bytes(32)]))
    stream.account, stream.remote_host = key(number).account, host
    return stream


@pytest.mark.parametrize(
    ("crowd", "asker", "is_favoured", "seconds"),
    [
        (["8.8.8.8"] * 9, "9.9.9.9", False, 0),
        (["8.8.8.8"] * 9, "8.8.8.8", True, 0),
        ([f"8.8.{number}.8" for number in range(9)], "9.9.9.9", False, 20),
        (["8.8.8.8"] * 9, "8.8.8.9", False, 20),
    ],
    ids=["of another network", "of the same, but no stranger", "of a tenth network", "of the same network"],
)
def test_a_crowd_of_accounts_that_take_nothing_does_not_hold_all_turns(
    crowd: list[str], asker: str, is_favoured: bool, seconds: float
) -> None:
    """Each with as many streams as it may have. An answer takes two turns: to look, and to give."""
    honest = key(99).account

    async def main() -> None:
        gateway = BitswapGateway(give_little, trio.current_time, lambda who: is_favoured and who == honest)

        async def hold(number: int, host: str) -> None:
            with suppress(Unavailable):
                await gateway.serve(PROTOCOL, from_host(number, host, UnreadLink()))  # type: ignore[arg-type]

        async with trio.open_nursery() as nursery:
            for number, host in enumerate(crowd):
                for _ in range(16):
                    nursery.start_soon(hold, 10 + number, host)
            await trio.sleep(1)
            begun = trio.current_time()
            await gateway.serve(PROTOCOL, from_host(99, asker, FakeLink()))  # type: ignore[arg-type]
            assert trio.current_time() - begun <= seconds
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_turn_is_sure_where_nobody_has_fewer_and_lasts_where_nobody_waits() -> None:
    async def main(others: int) -> list[float]:
        gateway, ended = BitswapGateway(give_little, trio.current_time), list[float]()

        async def hold(number: int) -> None:
            with pytest.raises(Unavailable):
                await gateway.serve(PROTOCOL, from_host(number, f"8.8.{number}.8", UnreadLink()))  # type: ignore[arg-type]
            ended.append(round(trio.current_time() - begun))

        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(1, 9 + others):
                nursery.start_soon(hold, number)
        return ended

    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(main, 0, clock=clock) == [30] * 8
    assert trio.run(main, 1, clock=trio.testing.MockClock(autojump_threshold=0)) == [10] * 8 + [40]


def test_what_is_refused_is_nobodys_debt_and_a_network_has_its_share_whatever_others_ask_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bitswap, "_LONGEST_WAIT", 2.0)  # so that a test need not ask for a hundred

    async def main() -> None:
        gateway, refused = BitswapGateway(give_a_megabyte, trio.current_time), 0

        async def ask(number: int, host: str) -> None:
            nonlocal refused
            try:
                await gateway.serve(PROTOCOL, from_host(number, host, FakeLink()))  # type: ignore[arg-type]
            except InvalidRemote:
                refused += 1

        async with trio.open_nursery() as nursery:
            for number in range(1, 5):
                for _ in range(9):
                    nursery.start_soon(ask, number, "8.8.8.8")
            await trio.sleep(1)
            begun = trio.current_time()
            await gateway.serve(PROTOCOL, from_host(99, "9.9.9.9", FakeLink()))  # type: ignore[arg-type]
            assert trio.current_time() - begun < 1
        assert refused > 9
        await ask(98, "8.8.8.8")  # pays for what was given, not for what was refused
        assert refused < 24

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_fresh_networks_one_after_the_other_take_no_more_than_the_whole_rate_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody has a large block of addresses: each network has a share, and more of them come than are kept."""
    monkeypatch.setattr(bitswap, "_LONGEST_WAIT", 2.0)
    monkeypatch.setattr(bitswap, "_DEEPEST_DEBT", 3.0)
    monkeypatch.setattr(bitswap, "_TRACKED", 7)

    async def main() -> None:
        gateway, given = BitswapGateway(give_a_megabyte, trio.current_time), 0
        for number in range(60):
            with suppress(InvalidRemote):
                link = from_host(1 + number % 200, f"9.{number}.9.9", FakeLink())
                await gateway.serve(PROTOCOL, link)  # type: ignore[arg-type]
                given += 1
        seconds = trio.current_time()
        most = bitswap._ALL_BURST + (3.0 + seconds) * bitswap._ALL_RATE
        assert 8 <= given <= 1 + most / 2**20
        assert seconds < 60
        assert len(gateway._shares) == len(gateway._askers) == 7

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


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
