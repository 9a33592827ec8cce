"""What a peer measured is kept over a restart, within bounds, and a file that is gone or broken costs nothing else."""

from pathlib import Path

import pytest
import trio
from roles_support import Desk, on_stepped_clock

from flock_chain.crypto import Account
from flock_peers import measurements
from flock_peers.measurements import (
    MAX_AUDITED,
    MAX_AUDITS,
    MAX_LOSSES,
    MAX_PAID,
    MAX_REASON,
    MAX_SKIPPED,
    Measurements,
)
from flock_peers.roles.board import Phase
from flock_peers.roles.jobs import Jobs


def test_a_restart_finds_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    first = Measurements(path)
    first.note_loss(1, 1, "proposer", 2.5, 2.25)
    first.note_loss(1, 1, "voter", 2.5, 2.0)
    first.note_loss(1, 1, "voter", 2.5, 2.125)  # once more, after a restart in the middle of a round
    first.note_loss(2, 1, "voter", 9.0, 9.0)
    first.note_audit(1, 1, 2, {Account(b"\1" * 20): 640_000, Account(b"\2" * 20): 700_000})
    for number, wei in ((1, 10**19), (3, 7), (3, 7), (1, 5)):  # sent again; and its part of what the pot left
        first.note_pay(1, number, wei)
    again = Measurements(path).of(1)
    assert again["pay"] == {"task": 1, "round": 1, "amount": "5", "total": str(10**19 + 12), "is_final": False}
    assert Measurements(path).pay_of(2) is None
    assert [(row["role"], row["after"]) for row in again["losses"]] == [("proposer", 2.25), ("voter", 2.125)]
    assert again["audits"] == [
        {"task": 1, "audit": 1, "round": 2, "values": {"0x" + "02" * 20: 700_000, "0x" + "01" * 20: 640_000}}
    ]
    assert path.stat().st_mode & 0o077 == 0


def test_a_part_of_the_pot_that_is_paid_for_the_same_round_later_is_added_and_what_is_sent_again_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "measured.json"
    totals = []
    for wei, is_final in ((9, False), (9, True), (12, False), (12, False), (4, True), (30, True)):
        found = Measurements(path)
        found.note_pay(1, 2, wei)
        if is_final:
            found.note_claimed(1, 2)
            found.note_claimed(1, 3)
            found.note_claimed(2, 2)
        totals.append(int((Measurements(path).pay_of(1) or {})["total"]))
    assert totals == [9, 9, 21, 21, 25, 55]  # 4 is less than 12, so it is no second try of it


def test_there_is_a_limit_to_everything_and_the_file_keeps_to_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "measured.json"
    found = Measurements(path)
    with monkeypatch.context() as quick:
        quick.setattr(Measurements, "_save", lambda _self: None)  # a sync for each of them
        for number in range(MAX_LOSSES + 20):
            found.note_loss(1, number, "proposer", 1 / 3, 2 / 3)
        for number in range(MAX_AUDITS + 5):
            found.note_audit(1, number, number, {Account(i.to_bytes(20, "big")): i for i in range(MAX_AUDITED + 9)})
        for task in range(1, MAX_PAID + 9):
            found.note_pay(task, 2**53, 2**256 - 1)
    found.note_loss(1, 9_999, "voter", float("nan"), 1.0)  # no number: not kept
    rows = Measurements(path).of(1)
    assert len(rows["losses"]) == MAX_LOSSES and rows["losses"][-1]["round"] == MAX_LOSSES + 19
    assert rows["pay"] is None and Measurements(path).pay_of(MAX_PAID + 8) == found.pay_of(MAX_PAID + 8)
    assert len(rows["audits"]) == MAX_AUDITS and len(rows["audits"][0]["values"]) == MAX_AUDITED
    assert path.stat().st_size < measurements.MAX_FILE_BYTES / 2


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b'{"losses": 5, "audits": []}', b"[" * 100, b"\xff",
        b'{"losses": [{"task": 1, "round": 1, "role": "king", "before": 1, "after": 1}], "audits": []}',
        b'{"losses": [{"task": 1, "round": 1, "role": "voter", "before": NaN, "after": 1}], "audits": []}',
        b'{"losses": [], "audits": [], "pay": [{"task": 1, "round": 1, "amount": "many", "total": "1"}]}',
        b'{"losses": [], "audits": [], "skipped": [{"task": 1, "round": 1}]}',
    ],
)  # fmt: skip
def test_a_broken_file_is_begun_anew(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "measured.json"
    path.write_bytes(data)
    found = Measurements(path)
    assert found.of(1) == {"losses": [], "audits": [], "pay": None, "skipped": None}
    found.note_loss(1, 1, "voter", 1.0, 1.0)
    assert len(Measurements(path).of(1)["losses"]) == 1


def test_the_last_rounds_that_were_skipped_are_kept_with_their_reasons(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    found = Measurements(path)
    for number in range(1, MAX_SKIPPED + 2):
        found.note_skipped(1, number, "x" * 10_000)
    found.note_skipped(2, 9, "no privacy left")
    again = Measurements(path)
    assert again.of(2)["skipped"] == again.skipped_of(2) == {"task": 2, "round": 9, "why": "no privacy left"}
    assert again.skipped_of(1) == {"task": 1, "round": MAX_SKIPPED + 1, "why": "x" * MAX_REASON}
    again.drop_skipped(2, 9)
    assert Measurements(path).skipped_of(2) is None
    assert again.skipped_of(1, 3) is not None and again.skipped_of(1, 2) is None and again.skipped_of(3) is None


def test_a_disk_that_takes_nothing_costs_no_round(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    found = Measurements(tmp_path / "file" / "measured.json")  # a folder that cannot be made
    found.note_loss(1, 1, "voter", 1.0, 1.0)
    assert len(found.of(1)["losses"]) == 1 and "not kept" in caplog.text


@on_stepped_clock
async def test_a_voter_and_a_proposer_write_down_what_they_measured(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        view = desk.view(Phase.ADOPT, [desk.offer(seat) for seat in range(3)], score_revealed=0b11)
        await desk.voter.step(view)
        await trio.sleep(30)
        (row,) = desk.voter._measurements.of(1)["losses"]
        assert (row["round"], row["role"]) == (1, "voter") and row["before"] > 0
        nursery.cancel_scope.cancel()
