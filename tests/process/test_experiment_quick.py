"""The experiment at its shortest, whole: FedAvg swallows the backdoor, ours stops it, and nobody honest pays for it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SECONDS = 1_800.0  # five minutes of one core, beside other tests

pytestmark = pytest.mark.process


def run_quick(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    command = [sys.executable, "-m", "flock_p2p", "experiment", "--quick", "--json", "--out", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, timeout=SECONDS, check=True)
    return {(row["method"], row["attack"]): row for row in json.loads(done.stdout)}


def test_the_quick_experiment_shows_what_averaging_swallows_and_ours_does_not(tmp_path: Path) -> None:
    rows = run_quick(tmp_path)
    assert set(rows) == {(method, attack) for method in ("fedavg", "paper", "ours") for attack in ("none", "shared")}
    assert rows["fedavg", "shared"]["asr_final"] >= 0.9  # otherwise the test is void
    ours, clean = rows["ours", "shared"], rows["ours", "none"]
    assert ours["asr_peak"] <= 0.05 and ours["malicious_slashed"] >= 1
    assert ours["honest_slashed"] == clean["honest_slashed"] == 0
    assert clean["clean_loss"] < rows["fedavg", "none"]["clean_loss"] + 0.1
    assert clean["honest_rejected"] <= 6  # of 64
    assert (tmp_path / "rows.csv").exists() and (tmp_path / "rounds.csv").exists()
