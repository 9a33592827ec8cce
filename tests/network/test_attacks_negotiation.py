"""Names of protocols that are none, and streams that never say what they are for."""

from dataclasses import replace

import pytest
import trio
from libp2p.stream_muxer.exceptions import MuxedStreamError
from network_support import (
    GENESIS_HASH,
    LOOPBACK,
    PATIENCE,
    QUICK,
    Inbox,
    in_trio,
    is_healthy,
    key,
    open_attacker,
    wait_until,
)

from flock_chain.errors import Unavailable
from flock_peers.network.host import open_host
from flock_peers.network.link import MAX_PROTOCOL_NAMES

MULTISTREAM = b"\x13/multistream/1.0.0\n"
INVALID_UTF8 = b"\x04\xff\xfe\xfd\n"


@pytest.mark.parametrize(
    "name", [INVALID_UTF8, b"\x01\n", b"\x80\x80\x80\x80\x04" + b"a" * 10_000, b"\x00", b"\xff" * 20]
)
@in_trio()
async def test_a_bad_protocol_name_ends_only_that_stream(name: bytes) -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a:
        inbox = Inbox()
        a.on_message("/test/1", inbox)
        async with open_attacker(50, a) as link:
            for _ in range(3):
                muxed = await link.swarm_conn.muxed_conn.open_stream()
                await muxed.write(MULTISTREAM + name)
            stream = await link.open("/test/1")
            await stream.write_frame(b"fine")
            await wait_until(lambda: inbox.payloads == [b"fine"])
        assert await is_healthy(a)
        assert a.counters.restarts == 0


@in_trio()
async def test_a_peer_has_a_bounded_number_of_streams_and_is_named_for_more(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, replace(QUICK, streams_per_peer=4)) as a:
        a.on_message("/test/1", Inbox())
        async with open_attacker(50, a) as link:
            opened = [await link.open("/test/1") for _ in range(4)]
            with pytest.raises(Unavailable):
                await link.open("/test/1")
            await opened[0].close()
            await wait_until(lambda: link.streams_in == 0)
            with trio.fail_after(PATIENCE):
                while True:
                    try:
                        await link.open("/test/1")
                        break
                    except Unavailable:
                        await trio.sleep(0.02)
        assert await is_healthy(a)
    assert f"0x{key(50).account.hex()} at 127.0.0.1: stream failed: InvalidRemote('more than 4 streams" in caplog.text


@in_trio()
async def test_who_offers_names_without_an_end_is_answered_a_few_times_cut_off_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An attack found it: 64 KB of names from somebody who is nobody yet held up the loop for a tenth of a second."""
    caplog.set_level("INFO")
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a:
        stream = await trio.open_tcp_stream("127.0.0.1", int(a.address.split("/")[4]), local_address="127.0.0.67")
        answers = b""
        try:
            await stream.send_all(MULTISTREAM + b"\x05/abc\n" * 10_000)
            while data := await stream.receive_some(65_536):
                answers += data
        except trio.BrokenResourceError:
            pass
        assert answers.count(b"na\n") <= MAX_PROTOCOL_NAMES
        async with open_attacker(50, a) as link:
            muxed = await link.swarm_conn.muxed_conn.open_stream()
            await muxed.write(MULTISTREAM + b"\x03ls\n" * 5_000)
            with pytest.raises(MuxedStreamError):
                for _ in range(MAX_PROTOCOL_NAMES * 2):
                    await muxed.read(65_536)
        assert await is_healthy(a)
    assert "127.0.0.67: handshake failed: " in caplog.text
    assert f"0x{key(50).account.hex()} at 127.0.0.1: stream failed: " in caplog.text
