"""Fetching blobs from peers, of which some lie, stall, break off or have nothing."""

import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import trio
from network_support import PATIENCE, in_trio, open_hosts, wait_until

from flock_chain.content import CHUNK_BYTES
from flock_chain.errors import InvalidEncoding, InvalidRemote, Refused, Unavailable
from flock_peers.network import turns
from flock_peers.network.blob_wire import BLOBS, CHUNKS, LENGTH, NOT_HERE, OBJECT, REQUEST, BlobLimits
from flock_peers.network.blobs import BlobService
from flock_peers.network.host import Host
from flock_peers.network.link import Stream
from flock_peers.store.blob_store import BlobStore

FAST = BlobLimits(chunk_seconds=2.0, object_seconds=2.0, hedge_seconds=0.1, retry_seconds=0.02, range_chunks=2)
Sin = Callable[[Stream, BlobStore, int, bytes, int, int], Awaitable[None]]


@asynccontextmanager
async def _services(tmp_path: Path, count: int, limits: BlobLimits = FAST) -> AsyncIterator[list[BlobService]]:
    async with open_hosts(count) as hosts:
        yield [BlobService(host, BlobStore(tmp_path / str(n)), limits) for n, host in enumerate(hosts)]


def _serve_badly(host: Host, store: BlobStore, sin: Sin) -> None:
    async def serve(stream: Stream) -> None:
        while not await stream.is_at_end():
            kind, digest, first, count = REQUEST.unpack(await stream.read_exactly(REQUEST.size))
            await sin(stream, store, kind, digest, first, count)

    host.on_stream(BLOBS, serve)


async def _answer(stream: Stream, data: bytes | None) -> None:
    await stream.write(LENGTH.pack(NOT_HERE if data is None else len(data)) + (data or b""))


async def wrong_bytes(stream: Stream, store: BlobStore, kind: int, digest: bytes, first: int, count: int) -> None:
    if kind == OBJECT:
        await _answer(stream, store.get_object(digest))
    for index in range(first, first + count):
        await _answer(stream, bytes(len(store.read_chunk(digest, index) or b"")))


async def short_bytes(stream: Stream, store: BlobStore, kind: int, digest: bytes, first: int, _count: int) -> None:
    data = store.get_object(digest) if kind == OBJECT else store.read_chunk(digest, first)
    assert data is not None
    await stream.write(LENGTH.pack(len(data)) + data[:-1])
    await stream.close()


async def wrong_length(stream: Stream, _store: BlobStore, _kind: int, _digest: bytes, _first: int, _n: int) -> None:
    await _answer(stream, b"three")


async def huge_length(stream: Stream, _store: BlobStore, _kind: int, _digest: bytes, _first: int, _n: int) -> None:
    await stream.write(LENGTH.pack(0xFFFFFFF0) + bytes(1000))


async def silence(_stream: Stream, _store: BlobStore, _kind: int, _digest: bytes, _first: int, _count: int) -> None:
    await trio.sleep_forever()


async def nothing(stream: Stream, _store: BlobStore, _kind: int, _digest: bytes, _first: int, _count: int) -> None:
    await _answer(stream, None)


def _is_blamed(caplog: pytest.LogCaptureFixture, host: Host) -> bool:
    """By whoever fetched: what it gave, or did not give, is in the log."""
    name = f"0x{host.account.hex()}"
    lines = [row.getMessage() for row in caplog.records]
    return any(name in line and ("object " in line or "file " in line) for line in lines)


SINS = [wrong_bytes, short_bytes, wrong_length, huge_length, silence, nothing]


def _source(tmp_path: Path, chunks: int) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(chunks * CHUNK_BYTES + 12345))
    return path


@in_trio()
async def test_an_object_and_a_file_are_fetched_and_counted(tmp_path: Path) -> None:
    async with _services(tmp_path, 2) as (a, b):
        digest = a.store.put_object(b"manifest")
        assert await b.fetch_object(digest) == b"manifest" == await b.fetch_object(digest)
        source = _source(tmp_path, 5)
        file = await a.add_file(source)
        path = await b.fetch_file(file, [a._host.account])
        assert path.read_bytes() == source.read_bytes()
        assert path == await b.fetch_file(file)
        size = len(b"manifest") + source.stat().st_size + len(a.store.get_object(file) or b"")
        assert b.bytes_received == a.bytes_sent == size == b.traffic.received[a._host.account]
        assert b.store.has(file) and b.store.used == size


@in_trio()
async def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    async with _services(tmp_path, 2) as (a, b):
        assert (await b.fetch_file(await a.add_file(tmp_path / "empty"))).read_bytes() == b""


@in_trio()
async def test_what_nobody_has_is_unavailable_with_reasons(tmp_path: Path) -> None:
    async with _services(tmp_path, 2) as (a, b):
        with pytest.raises(Unavailable, match=f"0x{a._host.account.hex()}: does not have it"):
            await b.fetch_object(bytes(32))
        with pytest.raises(Unavailable):
            await b.fetch_file(bytes(32))
    async with open_hosts(1) as (host,):
        alone = BlobService(host, BlobStore(tmp_path / "alone"))
        with pytest.raises(Unavailable, match="nobody is connected"):
            await alone.fetch_object(bytes(32))


@pytest.mark.parametrize("sin", SINS, ids=lambda sin: sin.__name__)
@in_trio()
async def test_a_bad_provider_is_replaced_by_a_good_one_and_named(
    tmp_path: Path, sin: Sin, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    source = _source(tmp_path, 6)
    async with open_hosts(3) as (bad, good, fetcher):
        store = BlobStore(tmp_path / "good")
        file, small = store.put_file(source), store.put_object(b"small")
        _serve_badly(bad, store, sin)
        BlobService(good, store, FAST)
        service = BlobService(fetcher, BlobStore(tmp_path / "fetched"), FAST)
        assert await service.fetch_object(small, [bad.account, good.account]) == b"small"
        assert _is_blamed(caplog, bad) == (sin not in (nothing, wrong_bytes))  # these give the object, or say no
        path = await service.fetch_file(file, [bad.account, good.account])
        assert path.read_bytes() == source.read_bytes()
        assert fetcher.is_connected(bad.account)  # lost as a provider, not as a peer
        assert _is_blamed(caplog, bad) == (sin is not nothing) and not _is_blamed(caplog, good)


@pytest.mark.parametrize(("hedge_seconds", "is_late"), [(60.0, False), (0.1, True)])
@in_trio()
async def test_whom_nobody_waits_for_any_longer_is_named_only_where_it_was_late(
    hedge_seconds: float, is_late: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with open_hosts(2) as (slow, fetcher):
        store = BlobStore(tmp_path / "slow")
        small = store.put_object(b"small")
        _serve_badly(slow, store, silence)
        service = BlobService(fetcher, BlobStore(tmp_path / "fetched"), replace(FAST, hedge_seconds=hedge_seconds))
        with trio.move_on_after(0.3) as scope:
            await service.fetch_object(small)
        assert scope.cancelled_caught and _is_blamed(caplog, slow) == is_late


@pytest.mark.parametrize("sin", SINS, ids=lambda sin: sin.__name__)
@in_trio()
async def test_bad_providers_alone_are_an_error_in_time(tmp_path: Path, sin: Sin) -> None:
    async with open_hosts(2) as (bad, fetcher):
        store = BlobStore(tmp_path / "bad")
        file = store.put_file(_source(tmp_path, 3))
        _serve_badly(bad, store, sin)
        service = BlobService(fetcher, BlobStore(tmp_path / "fetched"), FAST)
        with trio.fail_after(PATIENCE), pytest.raises(Unavailable):
            await service.fetch_file(file)
        assert service.store.file_path(file) is None


@in_trio()
async def test_a_liar_is_not_asked_again(tmp_path: Path) -> None:
    asked = []

    async def lie(stream: Stream, _store: BlobStore, kind: int, _digest: bytes, _first: int, _count: int) -> None:
        asked.append(kind)
        await _answer(stream, b"a lie")

    async with open_hosts(2) as (bad, fetcher):
        _serve_badly(bad, BlobStore(tmp_path / "bad"), lie)
        service = BlobService(fetcher, BlobStore(tmp_path / "fetched"), FAST)
        for _ in range(3):
            with pytest.raises(Unavailable):
                await service.fetch_object(sha256(b"truth").digest())
        assert asked == [OBJECT]


@in_trio()
async def test_a_fetch_that_was_cut_goes_on_where_it_was(tmp_path: Path) -> None:
    source = _source(tmp_path, 9)
    served: list[int] = []

    async def half(stream: Stream, store: BlobStore, kind: int, digest: bytes, first: int, count: int) -> None:
        if kind == OBJECT:
            return await _answer(stream, store.get_object(digest))
        for index in range(first, first + count):
            served.append(index)
            await _answer(stream, store.read_chunk(digest, index) if len(served) <= 5 else None)

    async with open_hosts(3) as (first, second, fetcher):
        store = BlobStore(tmp_path / "provider")
        file = store.put_file(source)
        _serve_badly(first, store, half)
        service = BlobService(fetcher, BlobStore(tmp_path / "fetched"), FAST)
        with pytest.raises(Unavailable, match="5 of 10 chunks missing"):
            await service.fetch_file(file)
        whole = BlobService(second, store, FAST)
        again = BlobStore(tmp_path / "fetched")  # as after a restart
        service.store = again
        path = await service.fetch_file(file, [second.account])
        assert path.read_bytes() == source.read_bytes()
        assert whole.bytes_sent <= source.stat().st_size - 4 * CHUNK_BYTES + 4096


@in_trio()
async def test_two_fetches_of_one_file_are_one(tmp_path: Path) -> None:
    async with _services(tmp_path, 2) as (a, b):
        file = await a.add_file(_source(tmp_path, 3))
        paths = []

        async def fetch() -> None:
            paths.append(await b.fetch_file(file))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(fetch)
        assert len(set(paths)) == 1
        assert a.bytes_sent < 4 * CHUNK_BYTES


@in_trio()
async def test_a_file_above_the_callers_bound_is_not_fetched(tmp_path: Path) -> None:
    async with _services(tmp_path, 2) as (a, b):
        file = await a.add_file(_source(tmp_path, 2))
        with pytest.raises(InvalidEncoding, match="not allowed"):
            await b.fetch_file(file, max_bytes=CHUNK_BYTES)
        with pytest.raises(InvalidRemote):
            await b.fetch_file(a.store.put_object(b"no chunk list"))


@in_trio()
async def test_a_file_above_the_quota_is_refused_before_it_is_fetched(tmp_path: Path) -> None:
    async with open_hosts(2) as (host, fetcher):
        provider = BlobService(host, BlobStore(tmp_path / "a"), FAST)
        service = BlobService(fetcher, BlobStore(tmp_path / "b", quota=CHUNK_BYTES), FAST)
        file = await provider.add_file(_source(tmp_path, 2))
        with pytest.raises(Refused, match="disk quota"):
            await service.fetch_file(file)
        assert service.bytes_received < 1000


@in_trio()
async def test_the_server_closes_idle_streams_and_refuses_more_than_its_share(tmp_path: Path) -> None:
    limits = BlobLimits(server_idle_seconds=3.0, server_streams_per_peer=2)
    async with _services(tmp_path, 2, limits) as (a, b):
        first, second = [await b._open_stream(a._host.account) for _ in range(2)]
        with pytest.raises(Unavailable), trio.fail_after(PATIENCE):
            third = await b._open_stream(a._host.account)
            await third.read_exactly(1)
        digest = a.store.put_object(b"x")
        await first.write(REQUEST.pack(OBJECT, digest, 0, 0))
        assert await first.read_exactly(5) == LENGTH.pack(1) + b"x"
        with trio.fail_after(PATIENCE):
            await first.wait_gone()
            await second.wait_gone()


@in_trio()
async def test_a_bad_request_ends_the_stream_and_nothing_more(tmp_path: Path) -> None:
    async with _services(tmp_path, 2) as (a, b):
        for request in (REQUEST.pack(9, bytes(32), 0, 0), REQUEST.pack(CHUNKS, bytes(32), 0, 10_000)):
            stream = await b._open_stream(a._host.account)
            await stream.write(request)
            with trio.fail_after(PATIENCE):
                await stream.wait_gone()
        assert await b.fetch_object(a.store.put_object(b"fine")) == b"fine"


@in_trio()
async def test_a_download_survives_the_loss_of_a_provider(tmp_path: Path) -> None:
    source = _source(tmp_path, 12)
    async with open_hosts(3) as (first, second, fetcher):
        store = BlobStore(tmp_path / "provider")
        file = store.put_file(source)
        leaving, staying = BlobService(first, store, FAST), BlobService(second, store, FAST)
        service = BlobService(fetcher, BlobStore(tmp_path / "fetched"), FAST)

        async def leave() -> None:
            await wait_until(lambda: leaving.bytes_sent > CHUNK_BYTES)
            fetcher.ban(first.account, "test: it goes away")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)
            path = await service.fetch_file(file, [first.account, second.account])
            assert path.read_bytes() == source.read_bytes()
            nursery.cancel_scope.cancel()
        assert staying.bytes_sent > 0


@in_trio()
async def test_of_three_providers_one_lies_one_is_killed_and_the_fetch_is_cancelled_and_resumed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = _source(tmp_path, 24)
    async with open_hosts(4) as (lying, dying, good, fetcher):
        store = BlobStore(tmp_path / "provider")
        file = store.put_file(source)
        real = store.read_chunk

        def read_slowly(digest: bytes, index: int) -> bytes | None:
            time.sleep(0.02)  # in a worker thread
            return real(digest, index)

        store.read_chunk = read_slowly  # type: ignore[method-assign]
        _serve_badly(lying, store, wrong_bytes)
        leaving, staying = BlobService(dying, store, FAST), BlobService(good, store, FAST)
        providers = [lying.account, dying.account, good.account]
        service = BlobService(fetcher, BlobStore(tmp_path / "fetched"), FAST)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.fetch_file, file, providers)
            await wait_until(lambda: leaving.bytes_sent > CHUNK_BYTES)
            fetcher.ban(dying.account, "test: it is killed")
            await wait_until(lambda: service.progress()[0].done > 8 * CHUNK_BYTES)
            nursery.cancel_scope.cancel()
        part = tmp_path / "fetched" / "parts" / file.hex()
        assert part.exists() and service.progress() == []
        before = staying.bytes_sent
        path = await service.fetch_file(file, providers)
        assert path.read_bytes() == source.read_bytes()
        assert staying.bytes_sent - before <= source.stat().st_size - 8 * CHUNK_BYTES
        assert f"0x{lying.account.hex()}" in caplog.text and "does not match its digest" in caplog.text
        assert f"file {file.hex()}" in caplog.text


@in_trio()
async def test_many_files_and_objects_at_once_from_one_provider_wait_for_their_turn(tmp_path: Path) -> None:
    async with _services(tmp_path, 2, BlobLimits(server_streams_per_peer=8)) as (a, b):
        files, objects = [], []
        for number in range(12):
            (tmp_path / "file").write_bytes(bytes([number]) * (CHUNK_BYTES + number))
            files.append(await a.add_file(tmp_path / "file"))
            objects.append(a.store.put_object(bytes([number])))
        async with trio.open_nursery() as nursery:
            for digest in files:
                nursery.start_soon(b.fetch_file, digest, [a._host.account])
            for digest in objects:
                nursery.start_soon(b.fetch_object, digest, [a._host.account])
        assert all(b.store.has(digest) for digest in files + objects)


@in_trio()
async def test_a_reader_that_takes_nothing_loses_its_place_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(turns, "UNTAKEN", replace(turns.UNTAKEN, most=0))  # for a second of it
    limits = BlobLimits(server_slots=1, chunk_seconds=1.0, object_seconds=PATIENCE)
    async with _services(tmp_path, 2, limits) as (a, b):
        file = await a.add_file(_source(tmp_path, 2))
        real, begun = a.store.read_chunk, threading.Event()
        a.store.read_chunk = lambda *which: (begun.set(), real(*which))[1]  # type: ignore[method-assign]
        stream = await b._open_stream(a._host.account)
        await stream.write(REQUEST.pack(CHUNKS, file, 0, 2))
        await wait_until(begun.is_set)  # it has the only place, and does not take a chunk
        with trio.fail_after(PATIENCE):
            assert await b.fetch_object(a.store.put_object(b"x")) == b"x"
        await wait_until(lambda: f"0x{b._host.account.hex()}: did not take what it asked for in " in caplog.text)
