"""What becomes of a slice's findings, with a program in the engine's place that leaves what a case wants."""

from pathlib import Path

import pytest

import fuzz

ENGINE = """
import os, sys
from pathlib import Path

name, given, *arguments = sys.argv[2:]
if Path(given).is_file():
    sys.exit({alone} if {limits} <= set(arguments) else 99)
(prefix,) = (text.partition("=")[2] for text in arguments if text.startswith("-artifact_prefix="))
if {file!r}:
    Path(prefix, {file!r}).touch()
if {status} < 0:
    os.kill(os.getpid(), -{status})
sys.exit({status})
"""


@pytest.mark.parametrize(
    ("file", "status", "alone", "is_found", "is_told"),
    [
        ("", 0, 0, False, False),
        ("timeout-1", 70, 0, False, False),  # the machine stood still
        ("timeout-1", 70, 70, True, True),
        ("crash-1", 77, 0, True, True),
        ("", 1, 0, True, True),  # the log is all that there is
        ("", -15, 0, False, True),  # ended from outside
    ],
)
def test_a_slice_keeps_what_is_found_and_nothing_of_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    file: str, status: int, alone: int, is_found: bool, is_told: bool,
) -> None:  # fmt: skip
    engine = tmp_path / "engine.py"
    engine.write_text(ENGINE.format(file=file, status=status, alone=alone, limits=set(fuzz.LIMITS)))
    monkeypatch.setattr(fuzz, "__file__", str(engine))
    state = fuzz.State(tmp_path / "state")
    fuzz.run_slice("decoder", 1, state, [b"seed"], 10)
    logs = [path.name for path in (tmp_path / "state" / "decoder").glob("failure-*.log")]
    assert len(logs) == is_told == (f"decoder: status {status}, " in capsys.readouterr().err)
    assert state.row("decoder")["crashes"] == ([file] if file else logs) * is_found
    assert fuzz.State(tmp_path / "state").rows == state.rows
