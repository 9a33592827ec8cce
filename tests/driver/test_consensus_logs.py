"""The record log, the write-ahead log and the signer's file: torn tails, damage, compaction, doubt."""

import os
import stat
from pathlib import Path

import pytest
from consensus_support import DOMAIN, block_id, certify, cheap_set, real_key
from driver_support import on_mock_clock, run_inline
from hypothesis import given, settings
from hypothesis import strategies as st

from flock_chain.consensus.records import BodyRecord
from flock_chain.consensus.signer import MarkRecord
from flock_chain.consensus.types import Kind
from flock_chain.errors import Refused
from flock_peers.driver.journal import Journal, open_journal
from flock_peers.store import signer_file as signer_file_module
from flock_peers.store import wal as wal_module
from flock_peers.store.record_log import CorruptLog, open_record_log, scan
from flock_peers.store.signer_file import SignerFile, open_signer_file
from flock_peers.store.wal import open_wal

KEYS, VALIDATORS = cheap_set(4)


def _filled(path: Path, payloads: list[bytes]) -> bytes:
    log, _ = open_record_log(path)
    for payload in payloads:
        log.append(7, payload)
    log.close()
    return path.read_bytes()


def test_records_are_read_back_after_reopening(tmp_path: Path) -> None:
    _filled(tmp_path / "log", [b"one", b"", b"three"])
    log, records = open_record_log(tmp_path / "log")
    log.close()
    assert records == [(7, b"one"), (7, b""), (7, b"three")]
    assert stat.S_IMODE(os.stat(tmp_path / "log").st_mode) == 0o600


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_torn_tail_is_truncated_and_appending_goes_on(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(_filled(path, [b"one", b"last"])[:-cut])
    log, records = open_record_log(path)
    assert records == [(7, b"one")]
    log.append(7, b"again")
    log.close()
    assert open_record_log(path)[1] == [(7, b"one"), (7, b"again")]


def test_a_tail_of_zeros_is_a_torn_one(tmp_path: Path) -> None:
    data = _filled(tmp_path / "log", [b"one"])
    assert scan(data + bytes(4_096)) == ([(7, b"one")], len(data))


@settings(max_examples=200, deadline=None, database=None)
@given(st.lists(st.binary(max_size=40), min_size=2, max_size=6), st.data())
def test_a_flipped_bit_before_the_last_record_is_never_taken_for_a_torn_tail(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], data: st.DataObject
) -> None:
    whole = bytearray(_filled(tmp_path_factory.mktemp("flip") / "log", payloads))
    end = len(whole) - 9 - len(payloads[-1])
    whole[data.draw(st.integers(0, end - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptLog):
        scan(bytes(whole))


def test_rewriting_replaces_the_file_as_a_whole(tmp_path: Path) -> None:
    log, _ = open_record_log(tmp_path / "log")
    log.append(7, b"old" * 100)
    log.rewrite([(8, b"new")])
    log.append(8, b"newer")
    log.close()
    assert open_record_log(tmp_path / "log")[1] == [(8, b"new"), (8, b"newer")]


def test_the_wal_gives_back_the_running_height_and_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal_module, "COMPACT_BYTES", 5_000)
    wal = open_wal(tmp_path / "wal.log")
    for height in range(1, 50):
        wal.start_height()
        wal.append(certify(KEYS[:3], VALIDATORS, Kind.NOTARIZE, height, 1, block_id(height)))
        wal.append(BodyRecord(height, block_id(height), bytes(500)))
        wal.sync()
        assert (tmp_path / "wal.log").stat().st_size < 7_000
    wal.close()
    wal = open_wal(tmp_path / "wal.log")
    assert [row.block_id for row in wal.certificates(49)] == [block_id(49)]
    assert wal.bodies(49) == (BodyRecord(49, block_id(49), bytes(500)),)
    wal.close()


def _open(path: Path, final_height: int = 0) -> SignerFile:
    return open_signer_file(path / "signer.log", real_key(0), DOMAIN, final_height=final_height)


def _sign(file: SignerFile, kind: Kind, height: int, name: str) -> None:
    _, record = file.signer.sign(kind, height, 1, block_id(name))
    if record:
        file.append(record)
    file.sync(file.signer.records())


def test_a_signer_remembers_across_restarts_what_it_signed(tmp_path: Path) -> None:
    file = _open(tmp_path)
    assert file.signer.may_sign(1)
    _sign(file, Kind.NOTARIZE, 1, "x")
    file.close()
    file = _open(tmp_path)
    assert not file.is_doubtful
    with pytest.raises(Refused):
        file.signer.sign(Kind.NOTARIZE, 1, 1, block_id("y"))
    _sign(file, Kind.NOTARIZE, 1, "x")
    file.close()


def test_a_signer_file_is_compacted_without_forgetting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signer_file_module, "COMPACT_BYTES", 1_000)
    file = _open(tmp_path)
    for height in range(1, 100):
        _sign(file, Kind.NOTARIZE, height, "x")
    file.close()
    assert (tmp_path / "signer.log").stat().st_size < 1_200
    file = _open(tmp_path, 98)
    assert file.signer.mark == 99
    with pytest.raises(Refused):
        file.signer.sign(Kind.NOTARIZE, 99, 1, block_id("y"))
    file.close()


@pytest.mark.parametrize("leave_old", [False, True])
def test_a_missing_or_old_signer_file_waits_for_two_heights(tmp_path: Path, leave_old: bool) -> None:
    if leave_old:
        file = _open(tmp_path)
        _sign(file, Kind.NOTARIZE, 4, "x")
        file.close()
    file = _open(tmp_path, 10)
    assert file.is_doubtful
    assert [file.signer.may_sign(height) for height in (11, 12, 13)] == [False, False, True]
    file.close()
    file = _open(tmp_path, 11)  # the wait survives a restart, and is not begun anew
    assert [file.signer.may_sign(height) for height in (12, 13)] == [False, True]
    file.close()


def test_two_processes_cannot_sign_with_one_file(tmp_path: Path) -> None:
    file = _open(tmp_path)
    with pytest.raises(Refused, match="another process"):
        _open(tmp_path)
    file.close()
    _open(tmp_path).close()


def test_a_vote_below_a_later_mark_does_not_damage_the_file(tmp_path: Path) -> None:
    file = _open(tmp_path)
    _, record = file.signer.sign(Kind.NOTARIZE, 3, 1, block_id("x"))
    mark = file.signer.advance(4)
    assert mark == MarkRecord(4) and record
    file.append(mark)
    file.append(record)
    file.close()
    file = _open(tmp_path, 3)
    assert file.signer.mark == 4 and not file.is_doubtful
    file.close()


@on_mock_clock
async def test_a_journal_makes_signatures_durable_after_what_they_rest_on(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, real_key(0), DOMAIN, final_height=0, run_blocking=run_inline)
    signer = journal.signer
    assert signer is not None
    _, record = signer.sign(Kind.FINALIZE, 1, 1, block_id("x"))
    assert record is not None
    journal.append_signed(record)
    journal.append(certify(KEYS[:3], VALIDATORS, Kind.NOTARIZE, 1, 1, block_id("x")))
    assert open_record_log(tmp_path / "signer.log")[1] == []  # a crash here forgets the vote, which never left
    await journal.sync()
    assert len(open_record_log(tmp_path / "signer.log")[1]) == 1
    journal.close()


@on_mock_clock
async def test_damaged_logs_leave_a_journal_that_cannot_sign(tmp_path: Path) -> None:
    for name in ("wal.log", "signer.log"):
        folder = tmp_path / name
        folder.mkdir()
        data = bytearray(_filled(folder / name, [b"one", b"two"]))
        data[9] ^= 1
        (folder / name).write_bytes(data)
        journal = open_journal(folder, real_key(0), DOMAIN, final_height=0, run_blocking=run_inline)
        assert journal.signer is None
        await journal.sync()
        journal.close()


@on_mock_clock
async def test_doubt_about_a_new_signer_file_ends_with_the_first_height_that_is_decided_here(tmp_path: Path) -> None:
    """It once stayed for the life of the process: who was cut off for two blocks waited for heights that needed it."""
    for settles in (False, True):
        folder = tmp_path / str(settles)
        folder.mkdir()
        journal = open_journal(folder, real_key(0), DOMAIN, final_height=0, run_blocking=run_inline)
        assert journal.signer is not None
        if settles:
            journal.settle()
        await journal.caught_up(7)
        assert journal.signer.may_sign(8) is settles
        journal.close()


@on_mock_clock
async def test_a_home_made_anew_and_killed_while_it_catches_up_still_waits(tmp_path: Path) -> None:
    """Its next start found a file with a mark, and once took it for a memory."""

    def open_at(final_height: int) -> Journal:
        return open_journal(tmp_path, real_key(0), DOMAIN, final_height=final_height, run_blocking=run_inline)

    journal = open_at(0)
    await journal.caught_up(64)
    journal.close()
    journal = open_at(64)
    await journal.caught_up(100)
    assert journal.signer is not None and not journal.signer.may_sign(102) and journal.signer.may_sign(103)
    journal.close()
