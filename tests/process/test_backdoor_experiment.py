"""The half of `experiment --quick` with a backdoor, whole: FedAvg swallows it, ours stops it, and nobody honest pays.

The other half, without attack, and the paper's vote take five more minutes of a core: they are run by hand.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SECONDS = 1_800.0  # four and a half minutes of one core, beside other tests

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.patient, pytest.mark.early(1)]


def run_quick(folder: Path) -> dict[str, dict[str, Any]]:
    wanted = ["--quick", "--methods", "fedavg,ours", "--attacks", "shared", "--json", "--out", str(folder)]
    command = [sys.executable, "-m", "flock_p2p", "experiment", *wanted]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, timeout=SECONDS, check=True)
    return {row["method"]: row for row in json.loads(done.stdout)}


def test_the_quick_experiment_shows_what_averaging_swallows_and_ours_does_not(tmp_path: Path) -> None:
    rows = run_quick(tmp_path)
    assert set(rows) == {"fedavg", "ours"}
    assert rows["fedavg"]["asr_final"] >= 0.9  # otherwise the test is void
    ours = rows["ours"]
    assert ours["asr_peak"] <= 0.05 and ours["malicious_slashed"] >= 1 and ours["honest_slashed"] == 0
    assert (tmp_path / "rows.csv").exists() and (tmp_path / "rounds.csv").exists()
