"""A disk that is full, read-only or failing: said in words, nothing durable lost, nothing signed on a guess."""

import errno
import os
from pathlib import Path

import pytest
import trio
from consensus_support import DOMAIN, block_id, real_key
from disk_support import largest_file
from driver_support import Cluster, on_mock_clock, run_inline

from flock_chain.consensus.types import Kind
from flock_chain.errors import Misuse
from flock_p2p.cli import find_cause
from flock_peers.driver.journal import open_journal
from flock_peers.home import Home, write_private
from flock_peers.store import record_log
from flock_peers.store.chain_store import ChainStore
from flock_peers.store.disk import DiskTrouble
from flock_peers.store.record_log import open_record_log
from flock_peers.store.signer_file import open_signer_file


def test_a_log_that_a_full_disk_cut_short_takes_nothing_more_and_opens_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log, _ = open_record_log(path)
    log.append(7, b"durable")
    log.sync()
    with largest_file(path.stat().st_size + 5), pytest.raises(DiskTrouble, match="ulimit -f"):
        log.append(7, b"cut in the middle")
    assert path.stat().st_size > log.size  # half a record is there
    for action in (lambda: log.append(7, b"again"), log.sync, lambda: log.rewrite([])):
        with pytest.raises(DiskTrouble):
            action()  # there is room again, but a whole record after half a one would be damage
    log.close()
    assert open_record_log(path)[1] == [(7, b"durable")]


def test_what_a_killed_process_left_unsynced_is_durable_before_anybody_acts_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the campaign: killed after a write, started again, the vote sent again from memory; then a power loss
    took the record, and the vote was out without it."""
    synced: list[int] = []
    log, _ = open_record_log(tmp_path / "log")
    log.append(7, b"written, and then kill -9")
    whole = os.fsync

    def noting(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        whole(descriptor)

    monkeypatch.setattr(record_log.os, "fsync", noting)
    assert open_record_log(tmp_path / "log")[1] == [(7, b"written, and then kill -9")]
    assert synced == [(tmp_path / "log").stat().st_ino]


def test_a_sync_that_failed_once_is_never_reported_as_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = open_record_log(tmp_path / "log")
    log.append(7, b"one")
    whole = os.fsync

    def failing(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(record_log.os, "fsync", failing)
    with pytest.raises(DiskTrouble, match="fails to read or write"):
        log.sync()
    monkeypatch.setattr(record_log.os, "fsync", whole)  # the kernel forgot the error together with the pages
    with pytest.raises(DiskTrouble):
        log.sync()
    log.close()


def test_a_chain_that_cannot_be_written_keeps_every_block_before(tmp_path: Path) -> None:
    with ChainStore(tmp_path) as store:
        store.commit({b"one": bytes(5_000)})
        with largest_file(64 << 10), pytest.raises(DiskTrouble, match="what was final stays final"):
            store.commit({b"two": bytes(1 << 20), b"one": None})
    with ChainStore(tmp_path) as store:
        assert store.get(b"one") == bytes(5_000) and store.get(b"two") is None
        store.commit({b"two": b"there is room"})


def test_a_file_that_does_not_fit_leaves_the_old_one_and_no_rest(tmp_path: Path) -> None:
    write_private(tmp_path / "file", b"old")
    with largest_file(100), pytest.raises(DiskTrouble, match=str(tmp_path / "file")):
        write_private(tmp_path / "file", bytes(1_000))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


@on_mock_clock
async def test_a_signature_that_could_not_be_stored_never_leaves_the_journal(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, real_key(0), DOMAIN, final_height=0, run_blocking=run_inline)
    signer = journal.signer
    assert signer is not None
    _, first = signer.sign(Kind.NOTARIZE, 1, 1, block_id("x"))
    _, second = signer.sign(Kind.FINALIZE, 1, 1, block_id("x"))
    assert first and second
    journal.append_signed(first)
    await journal.sync()
    journal.append_signed(second)
    with largest_file((tmp_path / "signer.log").stat().st_size + 3), pytest.raises(DiskTrouble):
        await journal.sync()
    with pytest.raises(DiskTrouble):
        await journal.sync()  # also with room again: the record is gone from the list, not from the signer's memory
    journal.close()
    file = open_signer_file(tmp_path / "signer.log", real_key(0), DOMAIN, final_height=0)
    assert file.signer.records()[1:] == [first]
    file.close()


@pytest.mark.parametrize("is_listener", [False, True])
def test_a_peer_whose_chain_cannot_be_written_ends_and_says_so(tmp_path: Path, is_listener: bool) -> None:
    """A listener too: it must not take its own disk for a peer that does not answer, and ask for ever."""

    @on_mock_clock
    async def run() -> None:
        async with trio.open_nursery() as nursery:
            cluster = Cluster(tmp_path, nursery, 4, listeners=1)

            async def refuse(_block: bytes, _certificate: bytes) -> None:
                raise DiskTrouble("chain.mdb: the disk is full")

            cluster.peers[4 if is_listener else 3].ledger.commit = refuse  # type: ignore[method-assign]
            cluster.start()
            cluster.submit(b"transaction")
            await trio.sleep(30)
            nursery.cancel_scope.cancel()

    with pytest.raises(BaseExceptionGroup) as caught:
        run()
    assert isinstance(find_cause(caught.value), DiskTrouble)


def test_the_edge_of_the_process_names_the_disk_for_errors_of_the_system() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/home/x/rounds/1")
    assert "rounds/1: the disk is full; free some space" in str(find_cause(BaseExceptionGroup("", [full])))
    assert "read-only" in str(find_cause(OSError(errno.EROFS, "Read-only file system", "/home/x")))
    assert find_cause(OSError(errno.ECONNRESET, "Connection reset by peer")) is None


def test_a_home_where_nothing_can_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    home = Home(tmp_path / "file" / "home")
    with pytest.raises(Misuse, match="a file is in the way; name another --home"), home.lock():
        pass
