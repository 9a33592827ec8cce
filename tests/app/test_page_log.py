"""The log of a page: the end of its file, line by line, whenever that is rotated or cut."""

import json
from pathlib import Path
from typing import Any

from flock_p2p.page.feed import Look, Told
from flock_p2p.page.log_tail import MAX_LINE_CHARS, MAX_LINES, TAIL_BYTES, Tail, read_tail


def test_the_end_of_a_log_is_read_when_it_grew_and_its_lines_are_known_by_their_place(tmp_path: Path) -> None:
    path = tmp_path / "peer.log"
    assert read_tail(path, Tail()) == Tail()
    lines = [f"2026-11-21T15:00:00.{n % 1000:03} INFO    flock_peers.x: line {n}\n" for n in range(3_000)]
    path.write_text("".join(lines) + "2026-11-21T15:00:01.000 INFO    half a l")
    tail = read_tail(path, Tail())
    assert len(tail.rows) == MAX_LINES and tail.rows[-1]["text"] == "line 2999"
    assert read_tail(path, tail) is tail
    with path.open("a") as file:
        file.write("ine\nTraceback (most recent call last):\n" + "x" * 2_000 + "\n")
    grown = read_tail(path, tail)
    new = [row for row in grown.rows if row["id"] > tail.rows[-1]["id"]]
    assert [row["text"][:20] for row in new] == ["2026-11-21T15:00:01.", "Traceback (most rece", "x" * 20]
    assert new[-1]["level"] is None and len(new[-1]["text"]) == MAX_LINE_CHARS
    assert grown.rows[-1]["id"] == path.stat().st_size
    path.write_bytes(b"\xff" * TAIL_BYTES * 2)  # one endless line
    assert read_tail(path, grown).rows == ()
    path.write_text("".join(line.rstrip() + "x" * 900 + "\n" for line in lines[:100]))
    assert {row["level"] for row in read_tail(path, tail).rows} == {"INFO"}  # no half of a line where the end begins


def test_a_log_that_begins_anew_is_told_from_its_first_line_on() -> None:
    told = Told()
    assert told.tell(Look(1, log=Tail(1, 900, ({"id": 900, "text": "old"},), series=1)), 0) is not None
    assert (
        told.tell(Look(2, {"peer": b"1"}, {"peer": 2}, Tail(2, 5, (), series=2)), 0) is not None
    )  # half a line so far
    said = told.tell(Look(3, log=Tail(2, 30, ({"id": 30, "text": "new"},), series=2)), 0)
    assert b'"new"' in (said or b"")


class _RotatedAtOnce(type(Path())):  # type: ignore[misc]
    """A log that is rotated between being opened and being looked at, the first time."""

    def open(self, *arguments: Any, **named: Any) -> Any:
        file = super().open(*arguments, **named)
        old = self.with_name("peer.log.1")
        if not old.exists():
            self.rename(old)
            Path(self).write_bytes(b"old 1\nnew 12\n")  # as long as what is read
        return file


def test_a_log_that_is_rotated_while_it_is_read_is_told_by_the_file_that_was_read(tmp_path: Path) -> None:
    """Or the new file's number would stand for the old one's lines, and its own would never be told."""
    path = _RotatedAtOnce(tmp_path / "peer.log")
    Path(path).write_bytes(b"old 1\nold 12\n")
    first = read_tail(path, Tail())
    assert [row["text"] for row in first.rows] == ["old 1", "old 12"]
    second = read_tail(path, first)
    assert [row["text"] for row in second.rows] == ["old 1", "old 12", "old 1", "new 12"]
    assert second.file != first.file and second.series == first.series
    assert [row["id"] for row in second.rows] == [6, 13, 19, 26]


def write_log(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def test_a_live_page_loses_no_line_and_forgets_none_when_the_log_is_rotated(tmp_path: Path) -> None:
    path, told = tmp_path / "peer.log", Told()

    def look(tail: Tail) -> tuple[Tail, dict[str, Any] | None]:
        tail = read_tail(path, tail)
        said = told.tell(Look(1, log=tail), 0)
        return tail, None if said is None else json.loads(said)["log"]

    write_log(path, "one", "two")
    tail, log = look(Tail())
    assert log == {"reset": True, "rows": list(tail.rows)}
    write_log(path, "the last before the rotation")
    path.rename(tmp_path / "peer.log.1")
    write_log(path, "the first after it")
    tail, log = look(tail)
    assert log is not None and not log["reset"]
    assert [row["text"] for row in log["rows"]] == ["the last before the rotation", "the first after it"]
    assert look(tail)[1] is None
    fresh = read_tail(path, Tail())  # a peer that starts now
    assert [row["text"] for row in fresh.rows] == [row["text"] for row in tail.rows]
    path.write_text("cut\n")  # in place, as `copytruncate` of logrotate
    tail, log = look(tail)
    assert log is not None and not log["reset"] and [row["text"] for row in log["rows"]] == ["cut"]
    for number in (2, 1):  # nobody looked in between
        path.rename(tmp_path / f"peer.log.{number}")
        write_log(path, "much later")
    tail, log = look(tail)
    assert log is not None and log["reset"] and [row["text"] for row in log["rows"]] == ["much later"] * 2
