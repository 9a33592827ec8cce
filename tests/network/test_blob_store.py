"""The blob store: everything by digest, verified, within a quota, and whole after a crash."""

import os
import shutil
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from flock_chain.content import CHUNK_BYTES, compute_chunk_list, split_chunks
from flock_chain.errors import InvalidContent, Misuse, Refused
from flock_peers.store.blob_store import LEFT_FOR_CHAIN, BlobStore
from flock_peers.store.disk import DiskTrouble


def _file(path: Path, size: int) -> Path:
    path.write_bytes(os.urandom(size))
    return path


def test_an_object_is_found_by_its_digest(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put_object(b"hello")
    assert digest == sha256(b"hello").digest() == store.put_object(b"hello")
    assert store.get_object(digest) == b"hello" and store.has(digest)
    assert store.get_object(bytes(32)) is None and not store.has(bytes(32))
    assert store.used == 5


def test_sizes_are_told_though_a_file_goes_while_they_are_read(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    store.put_file(_file(tmp_path / "source", 7))
    (tmp_path / "store" / "files" / ("00" * 32)).symlink_to("gone")  # listed, and not there when it is looked at
    assert store.file_sizes() == {7}


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES - 7])
def test_a_file_is_found_by_the_digest_of_its_chunk_list(tmp_path: Path, size: int) -> None:
    store = BlobStore(tmp_path / "store")
    source = _file(tmp_path / "source", size)
    digest = store.put_file(source)
    assert digest == compute_chunk_list(split_chunks(source.read_bytes())).digest == store.put_file(source)
    path = store.file_path(digest)
    assert path is not None and path.read_bytes() == source.read_bytes()
    chunks = [store.read_chunk(digest, index) for index in range(-(-size // CHUNK_BYTES))]
    assert b"".join(chunk or b"?" for chunk in chunks) == source.read_bytes()
    assert store.read_chunk(digest, len(chunks)) is None


def test_a_damaged_object_is_dropped_instead_of_returned(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put_object(b"hello")
    (tmp_path / "objects" / digest.hex()).write_bytes(b"hullo")
    assert store.get_object(digest) is None
    assert not store.has(digest)


def test_everything_is_there_again_after_a_restart(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    kept, file = store.put_object(b"kept"), store.put_file(_file(tmp_path / "f", 5000))
    loose = store.put_object(b"loose", keep=False)
    (tmp_path / "store" / "objects" / "half.new").write_bytes(b"a crash")
    again = BlobStore(tmp_path / "store", quota=store.used)
    assert again.used == store.used
    again.put_object(b"other", keep=False)  # makes room by dropping what nobody keeps
    assert again.has(kept) and again.has(file) and not again.has(loose)


def test_a_full_quota_drops_the_oldest_that_nobody_keeps_then_refuses_clearly(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, quota=100)
    old, new = store.put_object(b"a" * 40, keep=False), store.put_object(b"b" * 40, keep=False)
    kept = store.put_object(b"c" * 40)
    assert not store.has(old) and store.has(new) and store.has(kept)
    store.keep(new)
    with pytest.raises(Refused, match=r"disk quota: 40 bytes wanted, 20 of 100 are free.*raise the quota"):
        store.put_object(b"d" * 40)
    store.drop(kept)
    store.put_object(b"d" * 40)
    assert store.used == 80


def test_a_file_that_does_not_fit_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store", quota=1000)
    chunks = compute_chunk_list([b"x" * 5000])
    with pytest.raises(Refused):
        store.open_part(chunks)
    assert store.used == 0 and not list((tmp_path / "store" / "parts").iterdir())


def test_a_given_up_fetch_makes_room_for_others(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, quota=1000)
    part = store.open_part(compute_chunk_list([b"x" * 800]))
    with pytest.raises(Refused):
        store.put_object(b"y" * 500)
    part.close()
    store.put_object(b"y" * 500)
    assert store.used == 500


def test_a_part_file_takes_only_matching_chunks_and_resumes_by_hashing(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    data = os.urandom(3 * CHUNK_BYTES + 10)
    pieces = list(split_chunks(data))
    chunks = compute_chunk_list(pieces)
    part = store.open_part(chunks)
    with pytest.raises(InvalidContent):
        part.write(1, pieces[0])
    with pytest.raises(InvalidContent):
        part.write(3, pieces[3] + b"x")
    part.write(2, pieces[2])
    part.write(3, pieces[3])
    part.close()
    raw = tmp_path / "parts" / chunks.digest.hex()
    content = bytearray(raw.read_bytes())
    content[2 * CHUNK_BYTES] ^= 1  # a bad sector
    raw.write_bytes(content)
    part = BlobStore(tmp_path).open_part(chunks)
    assert part.missing() == [0, 1, 2]
    for index in (0, 1, 2):
        part.write(index, pieces[index])
    assert part.missing() == []
    assert part.finish().read_bytes() == data


def test_one_file_is_written_by_one_task_at_a_time(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    chunks = compute_chunk_list([b"x"])
    store.open_part(chunks)
    with pytest.raises(Misuse):
        store.open_part(chunks)


def test_what_is_not_here_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(Misuse):
        BlobStore(tmp_path).keep(bytes(32))


def test_a_full_quota_names_who_needs_how_much_and_what_to_do(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, quota=100)
    store.put_object(b"a" * 60, owner="task-3")
    store.put_object(b"b" * 30, owner="snapshots")
    with pytest.raises(Refused, match=r"needed: 30 by snapshots, 60 by task-3.*this peer's own.*--disk-quota GB"):
        store.put_object(b"c" * 20)
    assert store.usage().kept == {"snapshots": 30, "task-3": 60}


def test_what_two_need_stays_until_both_have_let_it_go(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, quota=60)
    digest = store.put_object(b"a" * 40, owner="task-1")
    store.keep(digest, "task-2")
    store.release_all("task-1")
    with pytest.raises(Refused):
        store.put_object(b"b" * 40)
    assert BlobStore(tmp_path, quota=60).kept_by("task-2") == {digest}
    store.release(digest, "task-2")
    store.put_object(b"b" * 40)
    assert not store.has(digest)


def test_marks_of_an_older_release_hold_until_the_blob_is_dropped(tmp_path: Path) -> None:
    digest = BlobStore(tmp_path).put_object(b"a" * 40, keep=False)
    (tmp_path / "kept" / digest.hex()).touch()
    store = BlobStore(tmp_path, quota=60)
    assert store.owners() == [] and store.usage().kept == {"": 40}
    with pytest.raises(Refused, match="40 by an older release"):
        store.put_object(b"b" * 40)
    store.drop(digest)
    assert not list((tmp_path / "kept").iterdir())


def test_a_mark_without_its_blob_is_forgotten(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put_object(b"a", owner="task-1")
    (tmp_path / "objects" / digest.hex()).unlink()
    assert BlobStore(tmp_path).kept_by("task-1") == set()
    assert not list((tmp_path / "kept" / "task-1").iterdir())


@pytest.mark.parametrize("owner", ["", "../up", "Task", "a" * 41, "1a"])
def test_an_owners_name_is_no_path(tmp_path: Path, owner: str) -> None:
    with pytest.raises(Misuse):
        BlobStore(tmp_path).put_object(b"a", owner=owner)


def test_the_last_of_the_disk_is_left_for_the_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BlobStore(tmp_path)
    chunks = compute_chunk_list([b"x" * 5000])
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=LEFT_FOR_CHAIN + 4999))
    with pytest.raises(DiskTrouble, match=r"5000 bytes wanted.*left for the chain; free some space"):
        store.open_part(chunks)
    assert store.used == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=LEFT_FOR_CHAIN + 5000))
    store.open_part(chunks).close()


def test_a_part_file_with_holes_is_read_only_where_there_is_something(tmp_path: Path) -> None:
    data = os.urandom(4 * CHUNK_BYTES)
    pieces = list(split_chunks(data))
    part = BlobStore(tmp_path).open_part(compute_chunk_list(pieces))
    part.write(2, pieces[2][:1000], memoryview(pieces[2])[1000:])
    assert part.missing() == [0, 1, 3] and part.missing(range(1, 3)) == [1]
    part.close()


def test_no_thread_waits_for_the_disk_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Consensus asks what is used or kept, from the one loop of the peer."""
    store = BlobStore(tmp_path)
    other = store.put_object(b"other")
    syncing, go_on = threading.Event(), threading.Event()
    real = os.fsync

    def slow(file: int) -> None:
        syncing.set()
        assert go_on.wait(10)
        real(file)

    monkeypatch.setattr(os, "fsync", slow)
    thread = threading.Thread(target=store.put_object, args=(b"data",))
    thread.start()
    assert syncing.wait(10)
    done = threading.Event()

    def ask() -> None:
        store.keep(other, "task-1")
        assert store.used == len(b"other") + len(b"data")
        done.set()

    threading.Thread(target=ask).start()
    assert done.wait(5)
    go_on.set()
    thread.join(10)
    assert store.has(sha256(b"data").digest())


def test_a_file_is_as_young_as_its_last_byte_whenever_its_listing_came(tmp_path: Path) -> None:
    data, other = b"x" * 500, b"y" * 500
    chunks = compute_chunk_list([data])
    store = BlobStore(tmp_path, quota=1200)
    digest = store.put_object(chunks.encode(), keep=False)
    older = store.put_object(other, keep=False)
    part = store.open_part(chunks)
    part.write(0, data)
    part.finish()
    store.put_object(b"z" * 400, keep=False)
    assert store.file_path(digest) is not None and not store.has(older)


def test_what_an_owner_still_needs_is_left_out_of_a_release(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    stays, goes = store.put_object(b"a", owner="task-1"), store.put_object(b"b", owner="task-1")
    assert store.release_all("task-1", {stays}) == 1
    assert BlobStore(tmp_path).kept_by("task-1") == {stays} and goes != stays


@pytest.mark.parametrize("is_given_up", [True, False])
def test_who_has_a_file_whole_puts_it_beside_a_fetch_of_it_that_is_under_way(tmp_path: Path, is_given_up: bool) -> None:
    """A peer that goes on computes adapters that it has just asked others for."""
    store, pieces = BlobStore(tmp_path), [b"x" * CHUNK_BYTES, b"y"]
    chunks = compute_chunk_list(pieces)
    part = store.open_part(chunks)
    part.write(1, pieces[1])
    assert store.put_chunks(chunks, iter(pieces), owner="task-1") == chunks.digest
    if not is_given_up:
        part.write(0, pieces[0])
        part.finish()
    part.close()
    path = store.file_path(chunks.digest)
    assert path is not None and path.read_bytes() == b"".join(pieces)
    assert store.kept_by("task-1") == {chunks.digest} and not list((tmp_path / "parts").iterdir())
    assert store.used == chunks.size + len(chunks.encode()) == BlobStore(tmp_path).used


def test_two_who_put_the_same_file_at_once_both_have_it(tmp_path: Path) -> None:
    store, pieces = BlobStore(tmp_path), [b"x" * CHUNK_BYTES, b"y"]
    chunks = compute_chunk_list(pieces)

    def put_in_the_middle_of_it() -> Iterator[bytes]:
        yield pieces[0]
        store.put_chunks(chunks, iter(pieces), owner="task-2")
        yield pieces[1]

    store.put_chunks(chunks, put_in_the_middle_of_it(), owner="task-1")
    assert store.owners() == ["task-1", "task-2"] and not list((tmp_path / "parts").iterdir())
    assert store.used == chunks.size + len(chunks.encode())


def test_a_put_that_fails_leaves_nothing_and_one_that_a_crash_cut_is_begun_anew(tmp_path: Path) -> None:
    store, chunks = BlobStore(tmp_path), compute_chunk_list([b"x" * CHUNK_BYTES, b"y"])
    with pytest.raises(InvalidContent):
        store.put_chunks(chunks, iter([b"x" * CHUNK_BYTES, b"z"]))
    assert store.used == 0 and not list((tmp_path / "parts").iterdir())
    (tmp_path / "parts" / f"{chunks.digest.hex()}.7.new").write_bytes(b"x")
    assert BlobStore(tmp_path).used == 0 and not list((tmp_path / "parts").iterdir())


def test_since_when_somebody_needs_something_is_when_the_last_of_it_was_kept_and_outlasts_a_restart(
    tmp_path: Path,
) -> None:
    store = BlobStore(tmp_path)
    marks = [tmp_path / "kept" / "task-1" / store.put_object(data, owner="task-1").hex() for data in (b"a", b"b", b"c")]
    for mark, since in zip(marks, (100, 300, 200), strict=True):
        os.utime(mark, (since, since))
    assert BlobStore(tmp_path).kept_since("task-1") == 300
    assert store.kept_since("task-2") == 0
    marks[1].unlink()
    assert store.kept_since("task-1") == 200, "somebody removed it"
