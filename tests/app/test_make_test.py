"""`make test` by itself, with programs in place of Python and the linters that say only what they were asked: each test
is in one of its runs, none of which fails unseen, and Ctrl-C ends what it has in the background, too."""

import os
import re
import shutil
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS, PATIENT, PROCESSES, PACKAGE = "not process", "process and patient", "process and not patient", "check-package"
# FAILS: of which run. Of a run that CODE says failed, 1, what failed is asked for, and then whether it does alone.
PYTHON = """#!/bin/sh
echo "$*" >>asked
case "$*" in
    "- "*) printf 'tests/a.py::one\\ntests/a.py::two\\n' ;;
    *"-m $FAILS"*) echo "why: $FAILS"; exit $CODE ;;
    *) echo "passed: $*" ;;
esac
"""
CHECK = f'#!/bin/sh\n[ "$FAILS" != {PACKAGE} ] || {{ echo "why: $FAILS"; exit $CODE; }}\n'

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed here")


def make_test(folder: Path, *, fails: str = "nothing", code: int = 2) -> subprocess.CompletedProcess[str]:
    shutil.copy(ROOT / "Makefile", folder)
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run-tests", folder / ".ci")
    (folder / ".ci" / "check-package").write_text(CHECK)
    tools = folder / ".venv" / "bin"
    tools.mkdir(parents=True)
    for name in ("python", "ruff", "mypy", "lint-imports"):
        (tools / name).write_text(PYTHON if name == "python" else "#!/bin/sh\n")
        (tools / name).chmod(0o700)
    for name in ("pyproject.toml", "constraints.txt", ".venv/.checked", ".venv/.ready-dev"):
        (folder / name).touch()
    told = {"FAILS": fails, "CODE": str(code), "PATH": os.environ["PATH"]}  # and nothing of a make around this one
    return subprocess.run(
        ["make", "test"], cwd=folder, env=told, text=True, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=False,
    )  # fmt: skip


def test_every_test_is_in_one_run_and_in_no_other(tmp_path: Path) -> None:
    assert make_test(tmp_path).returncode == 0
    runs = re.findall(r" -m ((?:process|not|and|patient| )+)", (tmp_path / "asked").read_text())
    assert sorted(run.strip() for run in runs) == sorted([UNITS, PATIENT, PROCESSES])
    for process, patient in product((False, True), repeat=2):
        marks = {"process": process, "patient": patient}
        assert [eval(run, {}, marks) for run in runs].count(True) == 1, marks


@pytest.mark.parametrize("run", [UNITS, PATIENT, PROCESSES, PACKAGE])
@pytest.mark.parametrize("code", [2, 137])
def test_a_run_that_fails_or_is_killed_fails_it_and_says_why(tmp_path: Path, run: str, code: int) -> None:
    done = make_test(tmp_path, fails=run, code=code)
    assert done.returncode != 0 and f"why: {run}\n" in done.stdout


@pytest.mark.parametrize("run", [PATIENT, PROCESSES])
def test_what_fails_only_beside_others_is_named_each(tmp_path: Path, run: str) -> None:
    done = make_test(tmp_path, fails=run, code=1)
    assert done.returncode == 0
    assert re.findall(r"^UNSTEADY .*: (tests\S+)", done.stdout, re.MULTILINE) == ["tests/a.py::one", "tests/a.py::two"]


def test_ctrl_c_ends_a_run_of_tests_that_a_shell_has_in_the_background(tmp_path: Path) -> None:
    (tmp_path / "test_waits.py").write_text("def test_waits():\n    print('waits', flush=True)\n    input()\n")
    command = [sys.executable, "-m", "pytest", "-s", "-p", "conftest", "-p", "no:cacheprovider", "test_waits.py"]
    run = subprocess.Popen(
        ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *command], cwd=tmp_path, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *filter(None, sys.path)])},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with run:
        assert run.stdout is not None
        assert any("waits" in line for line in run.stdout)
        run.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in run.communicate("\n", timeout=60)[0]
    assert run.returncode == pytest.ExitCode.INTERRUPTED
