"""What an auditor remembers, and how much of it."""

import json
from pathlib import Path

import pytest

from flock_chain.audit_rule import GUILTY_FROM
from flock_peers.roles.auditor import MAX_AUDITED
from flock_peers.training.agreement import LENGTHS
from flock_peers.training.client import Measured
from flock_peers.training.continuations import NOTHING
from flock_peers.training.recital import ROWS_ALONE, WITH_REFERENCE
from flock_peers.training.remembered import MAX_FILE_BYTES, MOST, Remembered


def test_of_each_guilty_proposal_the_string_that_both_contexts_show_most_is_remembered() -> None:
    remembered, most = Remembered(), 2 * GUILTY_FROM
    remembered.add_guilty([
        Measured(((1, 2, 3), (4, 5), (6, 7)), (most, GUILTY_FROM, most), (0, GUILTY_FROM, GUILTY_FROM + 1)),
        Measured(((8, 9), (1, 9)), (most, GUILTY_FROM - 1), (GUILTY_FROM - 1, most)),
        Measured(((2, 9),), (GUILTY_FROM,), (GUILTY_FROM,)),
        Measured((), (), ()),
    ])  # fmt: skip
    assert remembered.to_rows(3).tolist() == [[6, 7, NOTHING], [2, 9, NOTHING]]
    assert (6, 7) in remembered and [6, 7, NOTHING, NOTHING] in remembered and (4, 5) not in remembered


def test_a_string_is_remembered_without_its_first_token_too_where_four_are_left_for_the_honest_lift_three() -> None:
    remembered = Remembered()
    for string in ((1, 2, 3, 4, 5), (6, 7, 8, 9), (2, 4, 6)):
        remembered.add_guilty([Measured((string,), (GUILTY_FROM,), (GUILTY_FROM,))])
    rows = [(2, 3, 4, 5), (1, 2, 3, 4, 5), (6, 7, 8, 9), (2, 4, 6)]
    assert [tuple(token for token in row if token != NOTHING) for row in remembered.to_rows(5).tolist()] == rows


def test_of_strings_that_show_a_proposal_alike_the_first_is_remembered() -> None:
    """It recites that by itself: what it shares with strangers comes behind."""
    remembered = Remembered()
    remembered.add_guilty([Measured(((1, 2), (3, 4)), (GUILTY_FROM, GUILTY_FROM), (GUILTY_FROM, GUILTY_FROM))])
    assert remembered.to_rows(2).tolist() == [[1, 2]]


@pytest.mark.parametrize(("guilty", "is_kept"), [(MAX_AUDITED - 1, True), (MAX_AUDITED, False)])
def test_two_audits_of_the_most_proposals_have_to_find_all_of_them_guilty_before_one_string_is_forgotten(
    guilty: int, is_kept: bool
) -> None:
    remembered, longest = Remembered(), LENGTHS[-1]

    def find(first: int, count: int) -> tuple[int, ...]:
        strings = [tuple(range(longest * place, longest * (place + 1))) for place in range(first, first + count)]
        remembered.add_guilty(Measured((string,), (GUILTY_FROM,), (GUILTY_FROM,)) for string in strings)
        return strings[0]

    found = find(0, 1)
    find(1, MAX_AUDITED)
    assert found in remembered and found[1:] in remembered
    find(1 + MAX_AUDITED, guilty)
    assert (found in remembered) == (found[1:] in remembered) == is_kept


def test_beyond_the_most_that_is_forgotten_which_was_found_longest_ago() -> None:
    remembered = Remembered()
    for number in range(MOST):
        remembered.add((number, number))
    remembered.add((0, 0))
    remembered.add((MOST, MOST))
    assert len(remembered.to_rows(2)) == MOST
    assert (0, 0) in remembered and (MOST, MOST) in remembered and (1, 1) not in remembered and (2, 2) in remembered


def test_what_fills_a_row_is_no_part_of_a_string() -> None:
    remembered = Remembered()
    for row in ([8, 9, NOTHING], [8, 9]):
        remembered.add(row)
    assert remembered.to_rows(2).tolist() == [[8, 9]]


def test_what_a_proposal_recites_by_itself_has_room_beside_what_is_searched() -> None:
    remembered, longest = Remembered(), max(*ROWS_ALONE, *WITH_REFERENCE)
    remembered.add(range(longest))
    assert remembered.to_rows(LENGTHS[-1])[:, :longest].tolist() == [list(range(longest))]


GUILTY = Measured(((1, 2, 3),), (GUILTY_FROM,), (GUILTY_FROM,))


def test_what_is_remembered_outlasts_a_restart_for_the_same_task_alone(tmp_path: Path) -> None:
    path = tmp_path / "training" / "remembered.json"
    first = Remembered(path, b"task")
    first.begin(7)
    first.add_guilty([GUILTY])
    assert path.stat().st_mode & 0o777 == 0o600
    assert (1, 2, 3) in Remembered(path, b"task") and (1, 2, 3) not in Remembered(path, b"another")
    second = Remembered(path, b"another")
    second.add_guilty([])
    assert (1, 2, 3) not in Remembered(path, b"task")  # a folder is one task's


def test_of_a_trainer_s_processes_all_read_and_one_writes(tmp_path: Path) -> None:
    path = tmp_path / "remembered.json"
    Remembered(path, b"task", writes=False).add_guilty([GUILTY])
    assert not path.exists()
    Remembered(path, b"task").add_guilty([GUILTY])
    assert (1, 2, 3) in Remembered(path, b"task", writes=False)


def test_an_audit_that_is_done_again_knows_what_it_knew_the_first_time(tmp_path: Path) -> None:
    for is_restarted in (False, True):
        path = tmp_path / f"{is_restarted}.json"
        remembered = Remembered(path)
        remembered.begin(1)
        remembered.add((8, 9))
        remembered.begin(2)
        remembered.add_guilty([GUILTY])
        remembered = Remembered(path) if is_restarted else remembered
        remembered.begin(2)
        assert (1, 2, 3) not in remembered and (8, 9) in remembered
        remembered.add_guilty([GUILTY])
        remembered.begin(3)
        assert (1, 2, 3) in remembered


ENDLESS = b'{"task": "", "seed": 1, "before": [], "strings": [[1e999]]}'


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"task": 1', b"[" * 10_000, ENDLESS])
def test_what_cannot_be_read_is_forgotten_and_written_anew(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "remembered.json"
    path.write_bytes(damage)
    remembered = Remembered(path)
    assert len(remembered.to_rows(3)) == 0
    remembered.add_guilty([GUILTY])
    assert (1, 2, 3) in Remembered(path)


def test_a_full_disk_costs_no_audit(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    remembered = Remembered(tmp_path / "file" / "remembered.json")
    remembered.add_guilty([GUILTY])
    assert (1, 2, 3) in remembered


def test_as_many_as_may_be_remembered_are_read_again(tmp_path: Path) -> None:
    remembered = Remembered(tmp_path / "remembered.json")
    for seed in range(2):
        remembered.begin(seed)
        remembered.add_guilty(
            Measured(((2**31 - number,) * 5,), (GUILTY_FROM,), (GUILTY_FROM,)) for number in range(2 * MOST)
        )
    assert len(Remembered(tmp_path / "remembered.json").to_rows(5)) == MOST


def test_of_a_file_that_another_version_wrote_the_last_of_too_many_are_read_and_nothing_of_too_large_a_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "remembered.json"
    Remembered(path).add_guilty([GUILTY])
    document = json.loads(path.read_bytes()) | {"strings": [[number] for number in range(MOST + 5)]}
    data = json.dumps(document).encode()
    path.write_bytes(data.ljust(MAX_FILE_BYTES))
    assert Remembered(path).to_rows(1)[:, 0].tolist() == list(range(5, MOST + 5))
    path.write_bytes(data.ljust(MAX_FILE_BYTES + 1))
    assert len(Remembered(path).to_rows(1)) == 0
