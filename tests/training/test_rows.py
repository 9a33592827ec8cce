import errno
import json
from pathlib import Path

import pytest

from flock_chain.errors import FlockError, InvalidContent, Misuse
from flock_peers.training.rows import MAX_LINE_BYTES, Refusals, Row, builtin_rows, read_rows, split_rows


def write(path: Path, *values: object) -> Path:
    path.write_text("\n".join(json.dumps(value) for value in values) + "\n")
    return path


def test_three_shapes_of_rows_are_read(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
    values = [{"text": "one"}, {"prompt": "two", "completion": "three"}, chat, {"text": "four"}]
    rows = read_rows(write(tmp_path / "rows.jsonl", *values))
    assert rows[:2] == [Row("", "one"), Row("two", "three")]
    assert rows[2].messages == (("user", "hi"), ("assistant", "hello"))


def test_a_file_without_usable_rows_says_what_is_wrong_with_its_first_line(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidContent, match="no usable rows; line 1: none of the keys text, prompt with completion, mess"
    ):
        read_rows(write(tmp_path / "rows.jsonl", {"content": "x"}, {"txt": "y"}))
    with pytest.raises(InvalidContent, match="line 1: text is no text; line 2: a prompt without a completion; a row"):
        read_rows(write(tmp_path / "rows.jsonl", {"text": 5}, {"prompt": "y"}))
    with pytest.raises(InvalidContent, match="the file is empty"):
        read_rows(write(tmp_path / "empty.jsonl"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00" * 100)
    with pytest.raises(InvalidContent, match="line 1: not UTF-8 at byte 0"):
        read_rows(tmp_path / "binary")


def test_a_row_without_a_word_is_called_empty_and_one_of_other_bytes_not_utf_8(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", {"text": ""}, {"prompt": "", "completion": " "}, {"text": None})
    path.write_bytes(path.read_bytes() + b'{"text": "\xe9t\xe9"}\n')
    reasons = ("1: text is empty", "2: completion is empty", "3: text is no text", "4: not UTF-8 at byte 10")
    with pytest.raises(InvalidContent, match="; ".join(f"line {reason}" for reason in reasons)):
        read_rows(path)


def test_the_first_row_is_read_after_the_mark_that_some_editors_put_before_it(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *[{"text": str(number)} for number in range(4)])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    refusals = Refusals()
    assert [row.completion for row in read_rows(path, refusals)] == ["0", "1", "2", "3"]
    assert refusals.count == 0


def test_too_few_rows_are_refused_because_no_hold_out_could_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(InvalidContent, match="only 2 usable rows"):
        read_rows(write(tmp_path / "rows.jsonl", {"text": "a"}, {"text": "b"}, {"bad": 1}))


def test_too_few_rows_of_which_none_is_left_out_are_not_called_empty(tmp_path: Path) -> None:
    with pytest.raises(InvalidContent, match=r"only 1 usable row \(4 needed\); there is no other; a row is"):
        read_rows(write(tmp_path / "rows.jsonl", {"text": "a"}))


def test_an_empty_folder_is_told_from_one_of_empty_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidContent, match=r"the folder holds no file of \.jsonl, \.txt, \.md, \.rst;"):
        read_rows(tmp_path)
    write(tmp_path / "empty.jsonl")
    with pytest.raises(InvalidContent, match="no usable rows; its files are empty;"):
        read_rows(tmp_path)


def test_a_missing_file_is_a_misuse(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="cannot be read"):
        read_rows(tmp_path / "none.jsonl")


def test_an_oversized_line_is_left_out_and_the_next_one_read(tmp_path: Path) -> None:
    long = {"text": "x" * (3 * MAX_LINE_BYTES)}
    rows = read_rows(write(tmp_path / "rows.jsonl", {"text": "a"}, long, *[{"text": str(n)} for n in range(4)]))
    assert [row.completion for row in rows] == ["a", "0", "1", "2", "3"]


def test_the_split_is_drawn_once_and_kept(tmp_path: Path) -> None:
    rows = builtin_rows("arithmetic", 0)
    first = split_rows(rows, tmp_path / "split.json")
    assert split_rows(rows, tmp_path / "split.json") == first
    assert len(first.hold_out) == len(rows) // 5 and len(first.train) + len(first.hold_out) == len(rows)
    assert set(first.train).isdisjoint(first.hold_out)


def test_a_split_seed_is_whole_on_disk_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of one would be taken for damage, and the peer would leave its task for it."""
    rows = [Row("", str(number)) for number in range(10)]

    def fail(_handle: int) -> None:
        raise OSError(errno.EIO, "killed while writing")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        with pytest.raises(FlockError):
            split_rows(rows, tmp_path / "split.json")
    assert not (tmp_path / "split.json").exists()
    assert split_rows(rows, tmp_path / "split.json") == split_rows(rows, tmp_path / "split.json")


def test_a_damaged_split_seed_is_not_silently_replaced(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text("{}")
    with pytest.raises(Misuse, match="damaged"):
        split_rows(builtin_rows("arithmetic", 0), tmp_path / "split.json")
