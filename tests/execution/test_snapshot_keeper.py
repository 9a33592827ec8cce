"""Snapshots of a running peer: made at the ends of epochs, two kept, told to others; nothing of it stops the peer."""

import logging
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from clock_support import on_stepped_clock
from snapshot_support import BLOCKS, EPOCH, CertifiedChain, Server, account

from flock_chain.codec import decode, encode
from flock_chain.errors import InvalidEncoding, Refused
from flock_chain.execution import records
from flock_peers import snapshots
from flock_peers.snapshots import Snapshot, compute_due, compute_spacing, decode_headers, decode_list, open_index
from flock_peers.store.blob_store import BlobStore


@pytest.fixture(scope="module")
def chain() -> CertifiedChain:
    return CertifiedChain()


def make_server(chain: CertifiedChain, folder: Path, *heights: int) -> Server:
    folder.mkdir(exist_ok=True)
    return Server(chain, folder, *heights)


def test_snapshots_are_due_at_the_ends_of_epochs_and_thin_out_as_the_chain_grows() -> None:
    assert [compute_due(height, 64) for height in (0, 63, 64, 127, 128, 2_047)] == [0, 0, 64, 64, 128, 1_984]
    assert (compute_spacing(2_047, 64), compute_spacing(2_048, 64), compute_spacing(100_000, 64)) == (64, 128, 4_096)
    last = 0
    for height in range(1, 70_000):
        due = compute_due(height, 64)
        assert due >= last and due % 64 == 0 and height - due <= max(64, height // 16)
        last = due


def test_two_peers_make_the_same_file_of_the_same_block(chain: CertifiedChain, tmp_path: Path) -> None:
    one, two = make_server(chain, tmp_path / "1", 8), make_server(chain, tmp_path / "2", 8)
    assert one.snapshots.rows == two.snapshots.rows and one.snapshots.rows[0].height == 8


def test_the_newest_two_are_kept_and_the_disk_of_the_others_is_freed(chain: CertifiedChain, tmp_path: Path) -> None:
    server = make_server(chain, tmp_path, 4, 8, 12)
    assert [row.height for row in server.snapshots.rows] == [8, 12]
    files = [path for path in (tmp_path / "blobs" / "files").iterdir()]
    assert sorted(path.stat().st_size for path in files) == sorted(row.size for row in server.snapshots.rows)
    assert not list((tmp_path / "snapshots").glob("*.part"))


def test_a_crash_before_a_blob_is_stored_leaves_no_offer_and_no_blob_that_nobody_drops(
    chain: CertifiedChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server(chain, tmp_path, 4)

    def crash(*_arguments: object, **_named: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(BlobStore, "put_file", crash)
    with pytest.raises(KeyboardInterrupt):
        server.snapshots.make(8)
    monkeypatch.undo()
    after = open_index(tmp_path / "snapshots", BlobStore(tmp_path / "blobs"))
    assert [row.height for row in after.rows] == [4]
    after.prune()
    again = Server.__new__(Server)
    again.chain = chain
    again.snapshots = snapshots.Snapshots(again, BlobStore(tmp_path / "blobs"), tmp_path / "snapshots", EPOCH)
    for height in (8, 12):
        again.snapshots.make(height)
    assert len(list((tmp_path / "blobs" / "files").iterdir())) == 2


@pytest.mark.parametrize("write", [1, 2])
def test_a_crash_at_either_write_of_the_index_leaves_no_blob_that_it_does_not_name(
    chain: CertifiedChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    server = make_server(chain, tmp_path, 4)
    left, store = [write], snapshots.SnapshotIndex._store

    def crash(index: snapshots.SnapshotIndex, rows: list[Snapshot]) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        store(index, rows)

    monkeypatch.setattr(snapshots.SnapshotIndex, "_store", crash)
    with pytest.raises(KeyboardInterrupt):
        server.snapshots.make(8)
    after = open_index(tmp_path / "snapshots", BlobStore(tmp_path / "blobs"))
    files = {path.name for path in (tmp_path / "blobs" / "files").iterdir()}
    assert files == {row.digest.hex() for row in after.rows}


def test_a_damaged_index_is_made_anew(chain: CertifiedChain, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_server(chain, tmp_path, 4)
    for damage in (b"[{]", b"7", b'[{"height": 4}]', b"\xff"):
        (tmp_path / "snapshots" / "index.json").write_bytes(damage)
        assert open_index(tmp_path / "snapshots", BlobStore(tmp_path / "blobs")).rows == []
    assert "is damaged" in caplog.text


def test_what_a_damaged_index_does_not_name_any_more_is_dropped_and_nothing_else(
    chain: CertifiedChain, tmp_path: Path
) -> None:
    server = make_server(chain, tmp_path, 4, 8)
    other = server.blobs.put_object(b"of somebody else")
    (tmp_path / "snapshots" / "index.json").write_bytes(b"[{]")
    blobs = BlobStore(tmp_path / "blobs")
    open_index(tmp_path / "snapshots", blobs).prune()
    assert list((tmp_path / "blobs" / "files").iterdir()) == [] and blobs.owners() == ["own"]
    assert blobs.used == len(b"of somebody else") and blobs.has(other)


def test_a_snapshot_that_would_crowd_out_the_adapters_is_not_made(chain: CertifiedChain, tmp_path: Path) -> None:
    server = make_server(chain, tmp_path)
    server.blobs.quota = 100_000
    with pytest.raises(Refused, match="too many for a quota"):
        server.snapshots.make(4)
    assert server.snapshots.rows == [] and server.blobs.used == 0


@on_stepped_clock
async def test_a_running_peer_makes_the_one_that_is_due_and_then_each_at_its_height(tmp_path: Path) -> None:
    server = make_server(CertifiedChain(9), tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.snapshots.run)
        await wait_for(server, [8])
        for _ in range(3):
            server.chain.grow()
        await wait_for(server, [8, 12])
        server.chain.grow()
        await trio.sleep(100)
        assert [row.height for row in server.snapshots.rows] == [8, 12]
        nursery.cancel_scope.cancel()


async def wait_for(server: Server, heights: list[int]) -> None:
    for _ in range(100):
        await trio.sleep(1)
        if [row.height for row in server.snapshots.rows] == heights:
            return
    raise AssertionError([row.height for row in server.snapshots.rows])


@on_stepped_clock
async def test_a_snapshot_that_cannot_be_made_is_said_once_and_costs_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    chain = CertifiedChain(5)
    del chain.store.rows[records.read_block(chain.store, 4).state_root]
    server = make_server(chain, tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.snapshots.run)
        await trio.sleep(20)
        for _ in range(3):
            chain.grow()
        await wait_for(server, [8])
        nursery.cancel_scope.cancel()
    assert caplog.text.count("no snapshot of block 4") == 1


@on_stepped_clock
async def test_what_is_offered_is_a_short_list_and_headers_come_in_bounded_parts(
    chain: CertifiedChain, tmp_path: Path
) -> None:
    server = make_server(chain, tmp_path, 8, 12)
    assert decode_list(await server.answer(encode(["list"]))) == server.snapshots.rows
    headers = decode_headers(await server.answer(encode(["headers", 3, 5])), 5)
    assert headers == [records.read_block(chain.store, height).header.encoded for height in range(3, 8)]
    assert len(decode(await server.answer(encode(["headers", 1, 1 << 40])))) == BLOCKS
    assert decode(await server.answer(encode(["headers", BLOCKS + 1, 1]))) == []
    for request in (["headers", 0, 1], ["headers", 1, 0], ["headers", 1], ["all"], 7):
        with pytest.raises(InvalidEncoding):
            await server.snapshots.answer(account(1), encode(request))


@on_stepped_clock
async def test_whoever_asks_for_headers_on_and_on_leaves_the_loop_to_consensus(
    chain: CertifiedChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "HEADERS_AT_ONCE", 2)
    server, read, turns = make_server(chain, tmp_path), list[int](), list[int]()
    real = records.read_header
    monkeypatch.setattr(records, "read_header", lambda reader, height: (read.append(height), real(reader, height))[1])

    async def ask() -> None:
        assert len(decode(await server.answer(encode(["headers", 1, 12])))) == 12

    async def consensus() -> None:
        while True:
            turns.append(len(read))
            await trio.sleep(snapshots.HEADERS_PAUSE / 5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(consensus)
        async with trio.open_nursery() as askers:
            for _ in range(5):
                askers.start_soon(ask)
        nursery.cancel_scope.cancel()
    assert read == list(range(1, 13)) * 5  # one after the other
    assert max(later - earlier for earlier, later in pairwise(turns)) <= 2


def test_an_offer_that_is_none_is_refused() -> None:
    good = [1, bytes(32), bytes(32), 10]
    assert decode_list(encode([good])) == [Snapshot(1, bytes(32), bytes(32), 10)]
    bad_rows = ([0, *good[1:]], [*good[:3], 0], [*good[:3], 1 << 40], [1, bytes(31), *good[2:]], good[:3], 7)
    for rows in ([good] * 9, *([row] for row in bad_rows), 7):
        with pytest.raises(InvalidEncoding):
            decode_list(encode(rows))
    for headers in ([b""] * 3, [7], 7):
        with pytest.raises(InvalidEncoding):
            decode_headers(encode(headers), 2)
