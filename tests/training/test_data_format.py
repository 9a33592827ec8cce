"""Which rows a task takes."""

import json
from pathlib import Path

import pytest

from flock_chain.errors import Misuse
from flock_peers.training.client import check_format
from flock_peers.training.data_format import ANY, CHAT, COMPLETIONS, DATA_FORMATS, TEXT
from flock_peers.training.rows import read_rows

ROWS = {
    TEXT: {"text": "some words"},
    COMPLETIONS: {"prompt": "", "completion": "an answer"},
    CHAT: {"messages": [{"role": "assistant", "content": "an answer"}]},
}


def write(path: Path, *kinds: str) -> Path:
    path.write_text("".join(json.dumps(ROWS[kind]) + "\n" for kind in kinds))
    return path


@pytest.mark.parametrize("kind", sorted(ROWS))
@pytest.mark.parametrize("wanted", sorted(DATA_FORMATS))
def test_a_task_takes_rows_of_its_format_alone_and_any_takes_all(tmp_path: Path, kind: str, wanted: str) -> None:
    path = write(tmp_path / "rows.jsonl", *[kind] * 5)
    assert {row.kind for row in read_rows(path)} == {kind}
    if wanted in (ANY, kind):
        check_format("python", path, wanted)
        return
    with pytest.raises(Misuse, match=rf"the task takes {wanted} rows .*5 of 5 rows .*line 1 holds {kind}"):
        check_format("python", path, wanted)


def test_the_first_row_of_another_kind_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", CHAT, CHAT, TEXT, CHAT, TEXT)
    with pytest.raises(Misuse, match=r"2 of 5 rows are others .the first: line 3 holds text"):
        check_format("python", path, CHAT)


def test_made_text_and_text_files_are_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(["words " * 300] * 8))
    for wanted in (ANY, TEXT):
        check_format("python", None, wanted)
        check_format("python", tmp_path / "a.txt", wanted)
    with pytest.raises(Misuse, match="domain python is text; the task takes chat rows"):
        check_format("python", None, CHAT)
