"""Providers that send without an end, late, or unasked; and readers that take nothing. What is held stays bounded."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from network_support import in_trio, is_healthy, key, open_attacker, open_hosts, wait_until

from flock_chain.content import CHUNK_BYTES
from flock_peers.network.blob_wire import BLOBS, CHUNKS, LENGTH, OBJECT, REQUEST, BlobLimits
from flock_peers.network.blobs import BlobService
from flock_peers.network.host import Host
from flock_peers.network.identity import peer_id_of
from flock_peers.network.link import Stream
from flock_peers.network.muxed_stream import BULK_WINDOW_BYTES
from flock_peers.store.blob_store import BlobStore

FAST = BlobLimits(chunk_seconds=2.0, object_seconds=2.0, hedge_seconds=0.1, retry_seconds=0.02, range_chunks=2)
Provider = Callable[[Stream, BlobStore, int, bytes, int], Awaitable[None]]


async def _give(stream: Stream, store: BlobStore, kind: int, digest: bytes, index: int) -> None:
    data = store.get_object(digest) if kind == OBJECT else store.read_chunk(digest, index)
    await stream.write(LENGTH.pack(len(data or b"")) + (data or b""))


async def endless(stream: Stream, store: BlobStore, kind: int, digest: bytes, index: int) -> None:
    """The right bytes, and then rubbish for ever."""
    await _give(stream, store, kind, digest, index)
    while True:
        await stream.write(os.urandom(CHUNK_BYTES))


async def unasked(stream: Stream, store: BlobStore, kind: int, digest: bytes, index: int) -> None:
    """Everything that it has, three times, although one chunk was asked for."""
    for _ in range(3):
        for other in range(6):
            await _give(stream, store, kind, digest, other)
    await _give(stream, store, kind, digest, index)


async def drips(stream: Stream, store: BlobStore, kind: int, digest: bytes, index: int) -> None:
    """The right bytes, one every now and then."""
    if kind == OBJECT:
        return await _give(stream, store, kind, digest, index)
    data = store.read_chunk(digest, index) or b""
    await stream.write(LENGTH.pack(len(data)))
    for place in range(len(data)):
        await stream.write(data[place : place + 1])
        await trio.sleep(0.05)


def _provide(host: Host, store: BlobStore, provider: Provider) -> None:
    async def serve(stream: Stream) -> None:
        while not await stream.is_at_end():
            kind, digest, first, count = REQUEST.unpack(await stream.read_exactly(REQUEST.size))
            for index in range(first, first + max(1, count)):
                await provider(stream, store, kind, digest, index)

    host.on_stream(BLOBS, serve)


@asynccontextmanager
async def _watched(host: Host) -> AsyncIterator[list[int]]:
    """The most that all streams of one connection ever held, unread."""
    most = [0]

    async def look() -> None:
        while True:
            await trio.sleep(0.002)
            for links in host._stack.links.values() if host._stack else ():
                for link in links:
                    if link.swarm_conn is not None:
                        streams = link.swarm_conn.muxed_conn.streams.values()
                        most[0] = max(most[0], sum(stream.buffered_bytes for stream in streams))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        yield most
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("provider", [endless, unasked, drips], ids=lambda provider: provider.__name__)
@in_trio()
async def test_a_provider_without_an_end_is_replaced_and_named_and_fills_no_memory(
    tmp_path: Path, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    source = tmp_path / "source"
    source.write_bytes(os.urandom(6 * CHUNK_BYTES + 12_345))
    async with open_hosts(3) as (bad, good, fetcher), _watched(fetcher) as most:
        store = BlobStore(tmp_path / "good")
        file = store.put_file(source)
        _provide(bad, store, provider)
        BlobService(good, store, FAST)
        service = BlobService(fetcher, BlobStore(tmp_path / "fetched"), FAST)
        path = await service.fetch_file(file, [bad.account, good.account])
        assert path.read_bytes() == source.read_bytes()
        assert most[0] <= FAST.ranges_in_flight * BULK_WINDOW_BYTES + CHUNK_BYTES
        assert fetcher.is_connected(bad.account)  # lost as a provider, not as a peer
        assert await is_healthy(fetcher)
        assert any(
            f"0x{bad.account.hex()}" in row.getMessage() and "file " in row.getMessage() for row in caplog.records
        )


@in_trio()
async def test_accounts_that_take_nothing_hold_no_place_that_somebody_else_could_use(tmp_path: Path) -> None:
    """Eight accounts with eight streams each kept everybody from all files, for a minute with each chunk."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(4 * CHUNK_BYTES))
    limits = BlobLimits(server_slots=4, server_streams_per_peer=2)
    async with open_hosts(2) as (server, friend):
        service = BlobService(server, BlobStore(tmp_path / "server"), limits)
        reader = BlobService(friend, BlobStore(tmp_path / "friend"), limits)
        file = await service.add_file(source)
        async with open_attacker(50, server) as first, open_attacker(51, server) as second:
            for link in (first, second, first, second):
                stream = await link.open(BLOBS)
                await stream.write(REQUEST.pack(CHUNKS, file, 0, 4) * 16)
            assert server._stack is not None
            links = [server._stack.links[peer_id_of(key(number))][0] for number in (50, 51)]
            await wait_until(lambda: sum(
                stream.send_credit == 0 for link in links for stream in link.swarm_conn.muxed_conn.streams.values()
            ) == 4)  # fmt: skip
            with trio.fail_after(limits.sure_seconds / 2):
                assert (await reader.fetch_file(file, [server.account])).read_bytes() == source.read_bytes()
        assert await is_healthy(server)


@in_trio()
async def test_readers_that_take_nothing_hold_one_chunk_each_and_not_the_others_slots(
    tmp_path: Path,
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(4 * CHUNK_BYTES))
    limits = BlobLimits(chunk_seconds=5.0, object_seconds=20.0)
    async with open_hosts(2) as (server, friend):
        service = BlobService(server, BlobStore(tmp_path / "server"), limits)
        reader = BlobService(friend, BlobStore(tmp_path / "friend"), limits)
        file = await service.add_file(source)
        async with open_attacker(50, server) as link:
            streams = [await link.open(BLOBS) for _ in range(8)]
            for stream in streams:
                for _ in range(16):
                    await stream.write(REQUEST.pack(CHUNKS, file, 0, 4))
            assert server._stack is not None
            (waiting,) = server._stack.links[peer_id_of(key(50))]
            served = waiting.swarm_conn.muxed_conn.streams.values()
            await wait_until(lambda: sum(stream.send_credit == 0 for stream in served) >= len(streams))
            assert (await reader.fetch_file(file, [server.account])).read_bytes() == source.read_bytes()
            assert all(stream.sendable <= CHUNK_BYTES for stream in served)
        assert await is_healthy(server)
