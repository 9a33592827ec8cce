"""Second connections for files: beside an ordinary one, never in place of it, few, and closed when idle."""

from dataclasses import replace
from pathlib import Path

import trio
from network_support import PATIENCE, QUICK, Inbox, in_trio, open_attacker, open_hosts, wait_until

from flock_chain.content import CHUNK_BYTES
from flock_peers.network.blob_wire import BLOBS, BlobLimits
from flock_peers.network.blobs import BlobService
from flock_peers.network.bulk import BULK
from flock_peers.network.hello import VERSION, Hello
from flock_peers.network.host import Host
from flock_peers.network.link import Link, Stream
from flock_peers.store.blob_store import BlobStore

ALWAYS = BlobLimits(bulk_bytes=0)


def _bulk(host: Host, other: Host) -> Link | None:
    return host._table.bulk_link(other.account)


async def _serve(stream: Stream) -> None:
    await stream.wait_gone()


@in_trio()
async def test_a_large_file_comes_over_a_connection_of_its_own_and_messages_over_the_other(tmp_path: Path) -> None:
    async with open_hosts(2) as (a, b):
        services = [BlobService(host, BlobStore(tmp_path / str(n)), ALWAYS) for n, host in enumerate((a, b))]
        inbox = Inbox()
        b.on_message("/test/1", inbox)
        (tmp_path / "file").write_bytes(bytes(CHUNK_BYTES))
        digest = await services[0].add_file(tmp_path / "file")
        await services[1].fetch_file(digest)
        there, here = _bulk(a, b), _bulk(b, a)
        assert there is not None and here is not None and here.outbound and not there.outbound
        assert a._table.newest_link(b.account) is not there  # though it is the newest of all
        assert a._stack is not None and a._stack.newest_link(there.peer_id) is not there
        assert a.send(b.account, "/test/1", b"vote")
        await wait_until(lambda: inbox.payloads == [b"vote"])
        assert a.connected() == [b.account] and len(a._table._peers[b.account].links) == 1


@in_trio()
async def test_a_small_file_needs_none(tmp_path: Path) -> None:
    async with open_hosts(2) as (a, b):
        services = [BlobService(host, BlobStore(tmp_path / str(n))) for n, host in enumerate((a, b))]
        (tmp_path / "file").write_bytes(bytes(CHUNK_BYTES))
        await services[1].fetch_file(await services[0].add_file(tmp_path / "file"))
        assert _bulk(b, a) is None


@in_trio()
async def test_many_at_once_open_one_and_it_is_closed_when_idle() -> None:
    async with open_hosts(2, replace(QUICK, bulk_idle_seconds=0.4)) as (a, b):
        a.on_stream(BLOBS, _serve)
        streams: list[Stream] = []

        async def open_one() -> None:
            streams.append(await b.open_stream(a.account, BLOBS, bulk=True))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(open_one)
        (link,) = {stream.link for stream in streams}
        assert link is _bulk(b, a)
        await trio.sleep(1.0)
        assert not link.closed.is_set()  # it is in use
        for stream in streams:
            await stream.close()
        await wait_until(link.closed.is_set)
        await wait_until(lambda: _bulk(a, b) is None)
        assert a.is_connected(b.account) and b.is_connected(a.account)


@in_trio()
async def test_who_cannot_be_dialed_is_asked_over_the_connection_that_is_there() -> None:
    async with open_hosts(2) as (a, b):
        a.on_stream(BLOBS, _serve)
        b.book.entries[a.account].addresses.clear()
        stream = await b.open_stream(a.account, BLOBS, bulk=True)
        assert stream.link is b._table.newest_link(a.account)


@in_trio()
async def test_a_failed_dial_is_not_repeated_for_each_stream() -> None:
    async with open_hosts(2, replace(QUICK, max_bulk_inbound=0)) as (a, b):
        a.on_stream(BLOBS, _serve)
        tried: list[object] = []
        dial, b._bulk._dial = b._bulk._dial, lambda address: (tried.append(address), dial(address))[1]
        for _ in range(3):
            stream = await b.open_stream(a.account, BLOBS, bulk=True)
            assert stream.link is b._table.newest_link(a.account)
        assert len(tried) == 1
        assert a.is_connected(b.account)


@in_trio()
async def test_it_ends_with_the_last_ordinary_connection() -> None:
    async with open_hosts(2) as (a, b):
        a.on_stream(BLOBS, _serve)
        link = (await b.open_stream(a.account, BLOBS, bulk=True)).link
        assert link is _bulk(b, a)
        for ordinary in list(b._table._peers[a.account].links):
            ordinary.abort()
        with trio.fail_after(PATIENCE):
            await link.closed.wait()


@in_trio()
async def test_who_is_banned_loses_it_too() -> None:
    async with open_hosts(2) as (a, b):
        a.on_stream(BLOBS, _serve)
        link = (await b.open_stream(a.account, BLOBS, bulk=True)).link
        b.ban(a.account, "test")
        with trio.fail_after(PATIENCE):
            await link.closed.wait()


@in_trio()
async def test_a_stranger_gets_none_without_an_ordinary_connection() -> None:
    async with open_hosts(1) as (a,):
        async with open_attacker(7, a, hello=False) as link:
            stream = await link.open(BULK)
            await stream.write_frame(Hello(VERSION, a.genesis_hash, bytes(32), ()).encode())
            with trio.fail_after(PATIENCE):
                await link.closed.wait()
        assert not a._table._peers


@in_trio()
async def test_a_connection_does_not_become_another_kind_once_it_is_admitted() -> None:
    async with open_hosts(1) as (a,), open_attacker(7, a) as link:
        stream = await link.open(BULK)
        await stream.write_frame(Hello(VERSION, a.genesis_hash, bytes(32), ()).encode())
        await stream.read_frame(4096, PATIENCE)
        assert a._table.bulk_link(link_account(a)) is None
        kept = a._table.newest_link(link_account(a))
        assert kept is not None and not kept.is_bulk


def link_account(host: Host) -> bytes:
    (account,) = host._table._peers
    return account
